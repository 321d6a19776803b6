//! The Anthropic API: messages, and counting their tokens.
//!
//! Shapes are those of the API reference (docs.anthropic.com/en/api/messages) as the official clients read them. Fields
//! that it does not know are accepted. Left out: images and documents, prompt-caching marks, citations, server tools.

use axum::Router;
use axum::routing::post;

use crate::state::AppState;

mod describe;
mod messages;
mod request;

pub(crate) use describe::endpoints;

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/messages", post(messages::create))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
}
