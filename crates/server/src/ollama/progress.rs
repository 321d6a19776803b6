//! Work that takes a while and tells how far it is, a line for each report: pulls and pushes. A client that goes away does
//! not end the work.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use whit_hub::HubError;

use super::answer::line;
use crate::error::ApiError;

/// Reports that a client may be behind; then some are left out.
const BACKLOG: usize = 64;

/// Where the work reports.
pub(super) struct Reports(mpsc::Sender<Result<Value, ApiError>>);

impl Reports {
    /// A report that the next one replaces: left out for a client that does not keep up.
    pub(super) fn passing(&self, report: Value) {
        let _ = self.0.try_send(Ok(report));
    }

    /// A report that waits for its reader, if there still is one.
    pub(super) fn lasting(&self, status: &str) {
        let _ = self.0.blocking_send(Ok(json!({"status": status})));
    }
}

/// Runs the work on a thread of its own. The answer is its reports, or, without streaming, how it ended.
pub(super) async fn respond(
    streaming: bool,
    work: impl FnOnce(&Reports) -> Result<(), HubError> + Send + 'static,
) -> Response {
    let (sender, mut reports) = mpsc::channel(BACKLOG);
    std::mem::drop(tokio::task::spawn_blocking(move || {
        let reports = Reports(sender);
        match work(&reports) {
            Ok(()) => reports.lasting("success"),
            // The last report waits for its reader as well.
            Err(error) => drop(reports.0.blocking_send(Err(told(error)))),
        }
    }));
    if streaming {
        let lines = stream::unfold(reports, |mut reports| async move {
            let bytes: Result<Bytes, _> = match reports.recv().await? {
                Ok(report) => line(&report),
                Err(error) => line(&error.ollama_json()),
            };
            Some((bytes, reports))
        });
        return ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response();
    }
    let mut last = None;
    while let Some(report) = reports.recv().await {
        last = Some(report);
    }
    match last {
        Some(Ok(report)) => Json(report).into_response(),
        Some(Err(error)) => error.ollama(),
        None => ApiError::ShuttingDown.ollama(),
    }
}

/// What a client is told: what registries and package indexes say helps; a path of this machine does not.
fn told(error: HubError) -> ApiError {
    match error {
        HubError::UnknownModel { name, .. } => ApiError::ModelNotFound(name),
        HubError::Io { .. }
        | HubError::DiskFull { .. }
        | HubError::Damaged { .. }
        | HubError::Setting { .. } => ApiError::internal(&error),
        HubError::BadReference { .. } => ApiError::BadRequest(error.to_string()),
        HubError::Forbidden { .. } | HubError::NetworkOff { .. } => ApiError::Forbidden(error.to_string()),
        HubError::NotThere { .. } => ApiError::NotFound(error.to_string()),
        HubError::NoPip { .. } => ApiError::Internal(error.to_string()),
        error => ApiError::Upstream(error.to_string()),
    }
}
