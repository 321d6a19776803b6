//! The OpenAI API: chat completions, completions, responses, models, files and batches.
//!
//! Shapes, defaults and error objects are those of the API reference (platform.openai.com/docs/api-reference) as the
//! official clients read them. Fields that it does not know are accepted, for clients send many. Left out: images and
//! audio, and `best_of`.

use axum::Router;
use axum::routing::{get, post};

use crate::state::AppState;

pub(crate) use describe::endpoints;

pub(crate) mod answer;
mod batches;
mod chat;
mod completions;
pub(crate) mod describe;
mod describe_kept;
mod embeddings;
pub(crate) mod files;
pub(crate) mod messages;
mod metadata;
mod models;
mod page;
mod prompts;
pub(crate) mod responses;
mod sampling;
pub(crate) mod sse;

pub(crate) use batches::{Batches, run as run_batches};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::show))
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/responses", post(responses::create))
        .route("/v1/responses/{id}", get(responses::show).delete(responses::delete))
        .route("/v1/responses/{id}/input_items", get(responses::input_items))
        .route("/v1/files", post(files::upload).get(files::list))
        .route("/v1/files/{id}", get(files::show).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/batches", post(batches::create).get(batches::list))
        .route("/v1/batches/{id}", get(batches::show))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
}

/// A name that nobody used before, e.g. `chatcmpl-…`.
pub(crate) fn new_id(prefix: &str) -> String {
    use std::hash::{BuildHasher, RandomState};
    // Keyed anew for each call, from the system's randomness.
    let half = || RandomState::new().hash_one(prefix);
    format!("{prefix}{:016x}{:08x}", half(), half() as u32)
}
