//! `/api/tags`, `/api/ps`, `/api/copy`, `/api/delete`.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::library::{Entry, Facts};
use crate::own::blocking;
use crate::state::AppState;
use crate::{body, clock};

/// How far away a model's end is that never comes.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(super) async fn tags(State(state): State<AppState>) -> Response {
    let list = move || {
        let models: Vec<Value> = state
            .library
            .list()?
            .iter()
            .filter_map(|entry| match state.library.facts(entry) {
                Ok(facts) => Some(json!({
                    "name": entry.name,
                    "model": entry.name,
                    "modified_at": clock::rfc3339(entry.modified),
                    "size": entry.size,
                    "digest": entry.digest,
                    "details": details(entry, &facts),
                    "capabilities": facts.capabilities,
                })),
                // One broken file must not hide the others; the log has it.
                Err(_) => None,
            })
            .collect();
        Ok(Json(json!({"models": models})))
    };
    blocking(list).await.map_err(|error| error.ollama()).into_response()
}

pub(super) async fn ps(State(state): State<AppState>) -> Response {
    let list = move || {
        let mut models = Vec::new();
        for loaded in state.manager.loaded() {
            let facts = state.library.facts(&loaded.entry)?;
            let expires = loaded.expires.unwrap_or_else(|| SystemTime::now() + NEVER);
            models.push(json!({
                "name": loaded.entry.name,
                "model": loaded.entry.name,
                "size": loaded.service.memory().total(),
                "digest": loaded.entry.digest,
                "details": details(&loaded.entry, &facts),
                "expires_at": clock::rfc3339(expires),
                "size_vram": 0,
                "context_length": loaded.service.n_ctx(),
            }));
        }
        Ok(Json(json!({"models": models})))
    };
    blocking(list).await.map_err(|error| error.ollama()).into_response()
}

/// What `/api/tags`, `/api/ps` and `/api/show` say of a model alike.
pub(super) fn details(entry: &Entry, facts: &Facts) -> Value {
    let info = &facts.info;
    let quantization = info
        .file_type
        .clone()
        .or_else(|| info.formats.first().map(|share| share.dtype.to_string()))
        .unwrap_or_default();
    json!({
        "parent_model": entry.parent.as_deref().unwrap_or_default(),
        "format": if entry.path.is_dir() { "safetensors" } else { "gguf" },
        "family": info.architecture,
        "families": [info.architecture],
        "parameter_size": parameter_size(info.n_params),
        "quantization_level": quantization,
        "context_length": info.n_ctx_train,
        "embedding_length": info.n_embd,
    })
}

/// `134.5M`, `1.5B`.
fn parameter_size(n: u64) -> String {
    let scaled = |unit: u64| n as f64 / unit as f64;
    match n {
        n if n >= 1_000_000_000 => format!("{:.1}B", scaled(1_000_000_000)),
        n if n >= 1_000_000 => format!("{:.2}M", scaled(1_000_000)),
        n if n >= 1000 => format!("{:.0}K", scaled(1000)),
        n => n.to_string(),
    }
}

#[derive(Deserialize, ToSchema)]
pub(super) struct CopyRequest {
    /// The name of a model that is here.
    source: String,
    /// Its other name.
    destination: String,
}

pub(super) async fn copy(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: CopyRequest = body::parse(&body)?;
        blocking(move || state.library.copy(&request.source, &request.destination)).await
    };
    empty(work.await)
}

#[derive(Deserialize, ToSchema)]
pub(super) struct DeleteRequest {
    /// The name of a model that is here.
    #[serde(alias = "name")]
    model: String,
}

pub(super) async fn delete(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: DeleteRequest = body::parse(&body)?;
        let entry = state.library.find(&request.model)?;
        // A recipe of another model goes alone; what it was made from stays loaded.
        if entry.parent.is_none() {
            state.manager.unload(&entry);
        }
        blocking(move || state.library.remove(&request.model)).await
    };
    empty(work.await)
}

fn empty(result: Result<(), ApiError>) -> Response {
    match result {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.ollama(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sizes() {
        // As Ollama writes them: format.HumanNumber.
        for (n, expected) in
            [(999, "999"), (11_000, "11K"), (134_515_008, "134.52M"), (1_543_714_304, "1.5B")]
        {
            assert_eq!(parameter_size(n), expected);
        }
    }
}
