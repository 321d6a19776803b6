//! `/v1/batches`: many requests out of a file, answered one after another beside live ones. A batch outlives the server:
//! what is answered is written down at once (`journal`), and the next start goes on with the rest (`runner`).
//!
//! Shapes, states and codes of errors are those of the API reference. Unlike there, a file may name several models, and the
//! completion window may be any duration. Left out: `output_expires_after`, and sums of usage.

mod journal;
mod lines;
mod runner;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use utoipa::ToSchema;

use super::files;
use super::metadata::{self, Metadata};
use super::page::PageQuery;
use crate::config::KeepAlive;
use crate::error::ApiError;
use crate::keep::{self, Keep, Limits, WhenFull};
use crate::own::blocking;
use crate::state::AppState;
use crate::{body, clock};
pub(crate) use runner::run;

/// What a line may ask for.
const ENDPOINTS: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];
/// Batches that are kept. When there are more, the oldest that has ended goes.
const MAX_BATCHES: usize = 1000;
/// The longest a batch may take.
const MAX_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
/// Batches on a page: when the client does not say, and at most.
const PAGE: (usize, usize) = (20, 100);

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BatchStatus {
    /// It waits for those before it, then its input is read.
    Validating,
    /// Its input is wrong.
    Failed,
    InProgress,
    /// All is answered; the files are being written.
    Finalizing,
    Completed,
    /// It took longer than its window.
    Expired,
    Cancelling,
    Cancelled,
}

impl BatchStatus {
    fn has_ended(self) -> bool {
        use BatchStatus::{Cancelled, Completed, Expired, Failed};
        matches!(self, Failed | Completed | Expired | Cancelled)
    }
}

/// A batch as the API describes it, and as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Batch {
    id: String,
    object: String,
    endpoint: String,
    errors: Option<BatchErrors>,
    input_file_id: String,
    completion_window: String,
    status: BatchStatus,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    created_at: u64,
    in_progress_at: Option<u64>,
    expires_at: u64,
    finalizing_at: Option<u64>,
    completed_at: Option<u64>,
    failed_at: Option<u64>,
    expired_at: Option<u64>,
    cancelling_at: Option<u64>,
    cancelled_at: Option<u64>,
    request_counts: RequestCounts,
    metadata: Option<Metadata>,
}

impl Batch {
    /// Enters a state, and writes down when.
    fn enter(&mut self, status: BatchStatus) {
        self.status = status;
        let at = match status {
            BatchStatus::Validating => return,
            BatchStatus::Failed => &mut self.failed_at,
            BatchStatus::InProgress => &mut self.in_progress_at,
            BatchStatus::Finalizing => &mut self.finalizing_at,
            BatchStatus::Completed => &mut self.completed_at,
            BatchStatus::Expired => &mut self.expired_at,
            BatchStatus::Cancelling => &mut self.cancelling_at,
            BatchStatus::Cancelled => &mut self.cancelled_at,
        };
        *at = Some(clock::unix_now());
    }
}

/// Requests of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RequestCounts {
    total: usize,
    completed: usize,
    failed: usize,
}

/// What is wrong with the input of a batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct BatchErrors {
    object: String,
    data: Vec<BatchError>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BatchError {
    code: String,
    message: String,
    param: Option<String>,
    /// Counted from 1.
    line: Option<usize>,
}

/// The batches that there are.
pub(crate) struct Batches {
    keep: Keep,
    /// Held from reading a batch to writing it changed.
    change: Mutex<()>,
    /// Something is new: for the runner.
    wake: Notify,
    /// How far the batch in progress is.
    progress: Mutex<Option<(String, RequestCounts)>>,
}

impl Batches {
    pub(crate) fn open(folder: PathBuf) -> Batches {
        let limits = Limits {
            n_documents: MAX_BATCHES,
            one: 1 << 20,
            // Bounded by the number of batches and the size of their input.
            total: u64::MAX,
            when_full: WhenFull::Refuse,
            durable: true,
        };
        Batches {
            keep: Keep::open(folder, limits),
            change: Mutex::new(()),
            wake: Notify::new(),
            progress: Mutex::default(),
        }
    }

    fn find(&self, id: &str) -> Result<Batch, ApiError> {
        self.keep.get(id)?.ok_or_else(|| ApiError::NotFound(format!("there is no batch `{id}`")))
    }

    /// As [`find`](Self::find), with what has been answered until now.
    fn describe(&self, id: &str) -> Result<Batch, ApiError> {
        let mut batch = self.find(id)?;
        if let Some((of, counts)) = &*lock(&self.progress)
            && of == id
            && !batch.status.has_ended()
        {
            batch.request_counts = *counts;
        }
        Ok(batch)
    }

    fn update(
        &self,
        id: &str,
        change: impl FnOnce(&mut Batch) -> Result<(), ApiError>,
    ) -> Result<Batch, ApiError> {
        let _changing = lock(&self.change);
        let mut batch = self.find(id)?;
        change(&mut batch)?;
        self.keep.put(id, &batch)?;
        Ok(batch)
    }

    fn add(&self, batch: &Batch) -> Result<(), ApiError> {
        let _changing = lock(&self.change);
        let mut ids = self.keep.ids();
        if ids.len() >= MAX_BATCHES {
            ids.reverse();
            let ended = ids.iter().find(|id| self.find(id).is_ok_and(|batch| batch.status.has_ended()));
            if let Some(ended) = ended {
                self.keep.delete(ended)?;
            }
        }
        self.keep.put(&batch.id, batch)?;
        self.wake.notify_one();
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = BatchRequest)]
pub(crate) struct CreateBatch {
    /// A file that was uploaded for batches.
    input_file_id: String,
    /// What its lines ask for, such as `/v1/chat/completions`.
    endpoint: String,
    /// How long it may take, such as `24h`; at most `720h`.
    #[schema(example = "24h")]
    completion_window: String,
    /// Comes back as it is.
    metadata: Option<Metadata>,
}

impl CreateBatch {
    /// The batch, when all of it makes sense.
    fn read(self, state: &AppState) -> Result<Batch, ApiError> {
        let bad = |text: String| Err(ApiError::BadRequest(text));
        if !ENDPOINTS.contains(&self.endpoint.as_str()) {
            return bad(format!(
                "endpoint is `{}`, but must be one of {}",
                self.endpoint,
                ENDPOINTS.join(", ")
            ));
        }
        let window = match KeepAlive::parse(&self.completion_window) {
            Ok(KeepAlive::For(window)) if !window.is_zero() && window <= MAX_WINDOW => window,
            _ => {
                return bad(format!(
                    "completion_window is `{}`, but must be a duration such as `24h`, of at most 720h",
                    self.completion_window
                ));
            }
        };
        self.metadata.as_ref().map_or(Ok(()), metadata::check)?;
        if files::find(&state.files, &self.input_file_id)?.purpose != files::Purpose::Batch {
            return bad(format!("the file `{}` was not uploaded for batches", self.input_file_id));
        }
        let created_at = clock::unix_now();
        Ok(Batch {
            id: keep::new_id("batch_"),
            object: "batch".to_owned(),
            endpoint: self.endpoint,
            errors: None,
            input_file_id: self.input_file_id,
            completion_window: self.completion_window,
            status: BatchStatus::Validating,
            output_file_id: None,
            error_file_id: None,
            created_at,
            in_progress_at: None,
            expires_at: created_at + window.as_secs(),
            finalizing_at: None,
            completed_at: None,
            failed_at: None,
            expired_at: None,
            cancelling_at: None,
            cancelled_at: None,
            request_counts: RequestCounts::default(),
            metadata: self.metadata,
        })
    }
}

pub(crate) async fn create(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: CreateBatch = body::parse(&body)?;
        blocking(move || {
            if !state.batches.keep.is_keeper() {
                return Err(ApiError::Conflict(
                    "another server with the same home runs the batches, or its folder cannot be written; ask that \
                     server, or give this one a home of its own (WHIT_HOME)"
                        .to_owned(),
                ));
            }
            let batch = request.read(&state)?;
            state.batches.add(&batch)?;
            Ok(Json(batch))
        })
        .await
    };
    work.await.map_err(|error| error.openai()).into_response()
}

pub(crate) async fn show(State(state): State<AppState>, Path(id): Path<String>) -> Response {
    let batch = blocking(move || state.batches.describe(&id)).await;
    batch.map(Json).map_err(|error| error.openai()).into_response()
}

pub(crate) async fn list(
    State(state): State<AppState>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let work = async {
        let Query(query) = query.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
        let batches = move || {
            let describe = |id: &str| state.batches.describe(id).map(Some);
            query.page(state.batches.keep.ids(), PAGE, describe)
        };
        Ok::<_, ApiError>(Json(blocking(batches).await?))
    };
    work.await.map_err(|error| error.openai()).into_response()
}

pub(crate) async fn cancel(State(state): State<AppState>, Path(id): Path<String>) -> Response {
    let cancel = move || {
        let batch = state.batches.update(&id, |batch| match batch.status {
            BatchStatus::Validating | BatchStatus::InProgress => {
                batch.enter(BatchStatus::Cancelling);
                Ok(())
            }
            BatchStatus::Cancelling => Ok(()),
            _ => Err(ApiError::Conflict(format!("the batch `{id}` has ended, so it cannot be cancelled"))),
        })?;
        state.batches.wake.notify_one();
        Ok(Json(batch))
    };
    blocking(cancel).await.map_err(|error| error.openai()).into_response()
}
