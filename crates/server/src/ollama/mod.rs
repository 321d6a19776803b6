//! The API of Ollama: shapes, defaults, error texts and statuses as its clients know them. Facts are those of its source
//! of August 2026 (0.32). Left out: image input, its cloud; each says so.

mod answer;
mod ask;
mod create;
mod describe;
mod embed;
mod manage;
mod options;
mod progress;
mod pull;
mod push;
mod show;

use axum::routing::{delete, get, head, post};
use axum::{Json, Router};
use serde_json::json;

use crate::state::AppState;

pub(crate) use describe::endpoints;

/// A plain version as clients compare it: what of Ollama this is like, not our own.
const VERSION: &str = "0.32.0";

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route(
            "/api/version",
            get(|| async { Json(json!({"version": VERSION, "whit": env!("CARGO_PKG_VERSION")})) }),
        )
        .route("/api/generate", post(ask::generate))
        .route("/api/chat", post(ask::chat))
        .route("/api/tags", get(manage::tags))
        .route("/api/ps", get(manage::ps))
        .route("/api/show", post(show::show))
        .route("/api/copy", post(manage::copy))
        .route("/api/delete", delete(manage::delete))
        .route("/api/pull", post(pull::pull))
        .route("/api/push", post(push::push))
        .route("/api/create", post(create::create))
        .route("/api/blobs/{digest}", head(create::probe).post(create::upload))
        .route("/api/embed", post(embed::embed))
        .route("/api/embeddings", post(embed::embeddings))
}
