//! `/v1/models`: which models there are.

use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::library::Entry;
use crate::own::blocking;
use crate::state::AppState;

pub(super) async fn list(State(state): State<AppState>) -> Response {
    let entries = blocking(move || state.library.list()).await;
    let list = entries.map(|entries| {
        let data: Vec<Value> = entries.iter().map(describe).collect();
        Json(json!({"object": "list", "data": data}))
    });
    list.map_err(|error| error.openai()).into_response()
}

pub(super) async fn show(State(state): State<AppState>, id: Result<Path<String>, PathRejection>) -> Response {
    let work = async {
        let Path(id) = id?;
        let entry = blocking(move || state.library.find(&id)).await?;
        Ok::<_, ApiError>(Json(describe(&entry)))
    };
    work.await.map_err(|error| error.openai()).into_response()
}

/// A model as clients of OpenAI and of Anthropic both read it.
fn describe(entry: &Entry) -> Value {
    let created = entry.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    json!({
        "id": entry.name, "object": "model", "created": created, "owned_by": "library",
        "type": "model", "display_name": entry.name, "created_at": crate::clock::rfc3339(entry.modified),
    })
}
