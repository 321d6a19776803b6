//! `/api/pull`: gets a model into the store, and says how far it is. A client that goes away does not end the pull.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use utoipa::ToSchema;
use whit_hub::{HubError, Phase, Progress, Reference, catalog};

use super::answer::line;
use crate::body;
use crate::error::ApiError;
use crate::state::AppState;

/// Reports that a client may be behind; then some are left out.
const BACKLOG: usize = 64;

#[derive(Deserialize, ToSchema)]
pub(super) struct PullRequest {
    /// A name of the catalog, or a source such as `pypi:…`.
    #[serde(default, alias = "name")]
    #[schema(required)]
    model: String,
    /// Answer in lines.
    #[schema(default = true)]
    stream: Option<bool>,
}

enum Report {
    Progress(Progress),
    End(Result<String, ApiError>),
}

pub(super) async fn pull(State(state): State<AppState>, body: Bytes) -> Response {
    let started = body::parse(&body).and_then(|request: PullRequest| {
        let reference = reference(&request.model)?;
        Ok((request.stream.unwrap_or(true), reference))
    });
    let (streaming, reference) = match started {
        Ok(started) => started,
        Err(error) => return error.ollama(),
    };
    let digest = digest(&reference);
    let (sender, mut reports) = mpsc::channel(BACKLOG);
    let name = reference.to_string();
    std::mem::drop(tokio::task::spawn_blocking(move || {
        let mut report = |progress| drop(sender.try_send(Report::Progress(progress)));
        let result = state.library.store().pull(&reference, &mut report);
        let result = result.map(|model| model.manifest.map_or_else(String::new, |m| m.sha256));
        let result = result.map_err(|error| match error {
            HubError::UnknownModel { .. } => ApiError::ModelNotFound(name),
            HubError::Io { .. } | HubError::DiskFull { .. } | HubError::Damaged { .. } => {
                ApiError::internal(&error)
            }
            // What the package index says helps, and holds no path.
            error => ApiError::Internal(error.to_string()),
        });
        // The last report waits for its reader, if there still is one.
        let _ = sender.blocking_send(Report::End(result));
    }));
    if !streaming {
        while let Some(report) = reports.recv().await {
            if let Report::End(result) = report {
                return match result {
                    Ok(_) => Json(json!({"status": "success"})).into_response(),
                    Err(error) => error.ollama(),
                };
            }
        }
        return ApiError::ShuttingDown.ollama();
    }
    let first = line(&json!({"status": "pulling manifest"}));
    let rest = stream::unfold((reports, digest), |(mut reports, digest)| async move {
        let bytes = match reports.recv().await? {
            Report::Progress(progress) => line(&status(&progress, digest.as_deref())),
            Report::End(Ok(_)) => {
                let lines = ["verifying sha256 digest", "writing manifest", "success"]
                    .map(|status| format!("{}\n", json!({"status": status})));
                Ok(Bytes::from(lines.concat()))
            }
            Report::End(Err(error)) => line(&error.ollama_json()),
        };
        Some((bytes, (reports, digest)))
    });
    let lines = futures_util::StreamExt::chain(stream::iter([first]), rest);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// What may be pulled: names and sources, no paths of this machine.
fn reference(name: &str) -> Result<Reference, ApiError> {
    let name = name.trim();
    let name = name.strip_suffix(":latest").unwrap_or(name);
    match name.parse::<Reference>()? {
        Reference::Path(_) => Err(ApiError::BadRequest("invalid model name".to_owned())),
        reference => Ok(reference),
    }
}

/// The digest of what is coming, where the catalog knows it.
fn digest(reference: &Reference) -> Option<String> {
    let Reference::Name(name, tag) = reference else { return None };
    let is_meant = |entry: &&catalog::Entry| {
        entry.name == name && tag.as_deref().map_or(entry.default, |tag| entry.tag == tag)
    };
    catalog::CATALOG.iter().find(is_meant).map(|entry| entry.sha256.to_owned())
}

fn status(progress: &Progress, digest: Option<&str>) -> Value {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    match progress.phase {
        Phase::Waiting => set("status", "waiting for another pull of this model".into()),
        Phase::Checking => set("status", "checking what is here".into()),
        Phase::Finishing => set("status", "verifying sha256 digest".into()),
        Phase::Downloading => {
            let short = digest.and_then(|digest| digest.get(..12)).unwrap_or("model");
            set("status", format!("pulling {short}").into())
        }
    };
    if progress.phase == Phase::Downloading {
        // Clients key their bars on it.
        set("digest", format!("sha256:{}", digest.unwrap_or_default()).into());
        if let Some(total) = progress.total {
            set("total", total.into());
        }
        set("completed", progress.done.into());
    }
    object.into()
}
