//! Runs the batches, the oldest first: each line through the handler that answers live requests, several at a time. A live
//! request comes first: a line begins only while nobody waits and a place is left over. A server that is full or that
//! has no room for a model just now is asked again later.
//!
//! Every step can be taken again: after a kill the next start goes on from what is written down.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::Response;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::journal::{Journal, Record};
use super::lines::{self, Line, Lines};
use super::{Batch, BatchError, BatchErrors, BatchStatus, lock};
use crate::clock;
use crate::error::ApiError;
use crate::keep::New;
use crate::openai::files::{self, Purpose};
use crate::openai::new_id;
use crate::own::blocking;
use crate::state::{AppState, Stopping};

/// When a place may be free for the next line.
const PAUSE: Duration = Duration::from_millis(20);
/// Before a server that was full is asked again; the longest, and for how long.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
const PATIENCE: Duration = Duration::from_secs(600);
/// Before a batch whose files cannot be read or written is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_BYTES: usize = 256 << 20;

type App = TowerToHyperService<axum::Router>;

/// Runs batches until the server stops.
pub(crate) async fn run(state: AppState) {
    if !state.batches.keep.is_keeper() {
        return;
    }
    let app = TowerToHyperService::new(crate::openai::router().with_state(state.clone()));
    let mut stopping = state.stopping.subscribe();
    let work = async {
        loop {
            let of = state.clone();
            match blocking(move || Ok(next(&of))).await {
                Ok(Some(id)) => {
                    if let Err(error) = work(&state, &app, &id).await {
                        tracing::error!(batch = id, %error, "a batch cannot go on; it is tried again");
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                    *lock(&state.batches.progress) = None;
                }
                _ => state.batches.wake.notified().await,
            }
        }
    };
    tokio::select! {
        () = work => {}
        _ = stopping.wait_for(|stopping| *stopping >= Stopping::Draining) => {}
    }
}

/// The oldest batch that has not ended.
fn next(state: &AppState) -> Option<String> {
    let ids = state.batches.keep.ids();
    ids.into_iter().rev().find(|id| state.batches.find(id).is_ok_and(|batch| !batch.status.has_ended()))
}

fn io_failed(error: &io::Error) -> ApiError {
    ApiError::internal(error)
}

/// From where a batch stands to its end.
async fn work(state: &AppState, app: &App, id: &str) -> Result<(), ApiError> {
    let (of, name) = (state.clone(), id.to_owned());
    let batch = blocking(move || begin(&of, &name)).await?;
    if batch.status.has_ended() {
        return Ok(());
    }
    let (of, name) = (state.clone(), id.to_owned());
    let journal = blocking(move || Journal::open(of.batches.keep.journal(&name)?).map_err(|e| io_failed(&e)));
    let (journal, end) = answer(state, app, &batch, journal.await?).await?;
    let (of, name) = (state.clone(), id.to_owned());
    blocking(move || finish(&of, &name, journal, end)).await
}

/// Checks the input, if that is still to be done.
fn begin(state: &AppState, id: &str) -> Result<Batch, ApiError> {
    let batches = &state.batches;
    let batch = batches.find(id)?;
    let checked = match batch.status {
        BatchStatus::Validating => match input(state, &batch)? {
            Some(lines) => lines::check(lines, &batch.endpoint).map_err(|error| io_failed(&error))?,
            None => Err(vec![missing()]),
        },
        _ => return Ok(batch),
    };
    batches.update(id, |batch| {
        match checked {
            // Cancelled in the meantime.
            _ if batch.status != BatchStatus::Validating => {}
            Ok(total) => {
                batch.request_counts.total = total;
                batch.enter(BatchStatus::InProgress);
            }
            Err(data) => {
                batch.errors = Some(BatchErrors { object: "list".to_owned(), data });
                batch.enter(BatchStatus::Failed);
            }
        }
        Ok(())
    })
}

fn missing() -> BatchError {
    lines::wrong("missing_file", "The input file was deleted.", Some("input_file_id"), None)
}

fn input(state: &AppState, batch: &Batch) -> Result<Option<Lines>, ApiError> {
    let file = state.files.data(&batch.input_file_id)?;
    Ok(file.map(|file| Lines::new(file, state.config.max_body)))
}

/// How the answering ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Expired,
    Cancelled,
    /// The input is gone.
    Missing,
}

/// Answers what is not yet answered.
async fn answer(
    state: &AppState,
    app: &App,
    batch: &Batch,
    mut journal: Journal,
) -> Result<(Journal, End), ApiError> {
    match batch.status {
        BatchStatus::Cancelling => return Ok((journal, End::Cancelled)),
        BatchStatus::Finalizing => return Ok((journal, End::Complete)),
        _ => {}
    }
    let (of, this) = (state.clone(), batch.clone());
    let Some(mut lines) = blocking(move || input(&of, &this)).await? else {
        return Ok((journal, End::Missing));
    };
    let n_places = state.config.num_parallel.saturating_sub(1).max(1);
    let left = Duration::from_secs(batch.expires_at.saturating_sub(clock::unix_now()));
    let mut expired = std::pin::pin!(tokio::time::sleep(left));
    // Dropped, they cancel what they were generating.
    let mut running = JoinSet::new();
    let mut asked: HashMap<tokio::task::Id, (usize, String)> = HashMap::new();
    let mut waiting: Option<Line> = None;
    let mut is_read = false;
    loop {
        *lock(&state.batches.progress) = Some((batch.id.clone(), journal.counts(batch.request_counts.total)));
        while !is_read && running.len() < n_places {
            if waiting.is_none() {
                let endpoint = batch.endpoint.clone();
                (lines, journal, waiting) = blocking(move || {
                    let line =
                        unanswered(&mut lines, &journal, &endpoint).map_err(|error| io_failed(&error))?;
                    Ok((lines, journal, line))
                })
                .await?;
                is_read = waiting.is_none();
            }
            if !waiting.as_ref().is_some_and(|line| has_place(state, line, running.len(), n_places)) {
                break;
            }
            if let Some(line) = waiting.take() {
                let this = (line.number, line.custom_id.clone());
                let task = running.spawn(ask(state.clone(), app.clone(), batch.endpoint.clone(), line));
                asked.insert(task.id(), this);
            }
        }
        if is_read && running.is_empty() {
            return Ok((journal, End::Complete));
        }
        tokio::select! {
            Some(answered) = running.join_next_with_id(), if !running.is_empty() => {
                let (id, record) = match answered {
                    Ok((id, record)) => (id, Some(record)),
                    Err(error) if error.is_panic() => (error.id(), None),
                    Err(error) => return Err(ApiError::internal(&error)),
                };
                let Some((number, custom_id)) = asked.remove(&id) else { continue };
                let record = record.unwrap_or_else(|| broken(number, &custom_id));
                journal = blocking(move || {
                    journal.append(&record).map_err(|error| io_failed(&error))?;
                    Ok(journal)
                })
                .await?;
            }
            () = tokio::time::sleep(PAUSE), if waiting.is_some() => {}
            () = state.batches.wake.notified() => {
                let (of, id) = (state.clone(), batch.id.clone());
                if blocking(move || of.batches.find(&id)).await?.status == BatchStatus::Cancelling {
                    return Ok((journal, End::Cancelled));
                }
            }
            () = &mut expired => return Ok((journal, End::Expired)),
        }
    }
}

/// The next line without an answer.
fn unanswered(lines: &mut Lines, journal: &Journal, endpoint: &str) -> io::Result<Option<Line>> {
    loop {
        match lines.next(endpoint)? {
            Some(line) if journal.has(line.number) => {}
            line => return Ok(line),
        }
    }
}

/// Whether a line may begin beside `n_running` others.
fn has_place(state: &AppState, line: &Line, n_running: usize, n_places: usize) -> bool {
    let model = line.body.get("model").and_then(Value::as_str).unwrap_or_default();
    let Ok(entry) = state.find(model) else { return true };
    let loaded = state.manager.loaded();
    loaded.iter().find(|loaded| loaded.entry.path == entry.path).is_none_or(|loaded| {
        let stats = loaded.service.stats();
        stats.queued == 0 && stats.running.max(n_running) < n_places
    })
}

/// Asks until there is an answer.
async fn ask(state: AppState, app: App, endpoint: String, line: Line) -> Record {
    let body = line.body.to_string();
    let began = tokio::time::Instant::now();
    let mut pause = AGAIN.0;
    loop {
        let request = Request::post(&endpoint)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.clone()));
        let response = match request {
            Ok(request) => app.call(request).await.unwrap_or_else(|never| match never {}),
            Err(error) => ApiError::BadRequest(error.to_string()).openai(),
        };
        let status = response.status();
        if !status.is_success() && *state.stopping.borrow() >= Stopping::Draining {
            // Not an answer but the end of the server. The next start asks again.
            std::future::pending::<()>().await;
        }
        if status == StatusCode::SERVICE_UNAVAILABLE && began.elapsed() < PATIENCE {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
            continue;
        }
        let (status, answer) = read(response).await;
        let response = json!({"status_code": status.as_u16(), "request_id": new_id("req_"), "body": answer});
        return Record {
            number: line.number,
            is_good: status.is_success(),
            answer: result(&line.custom_id, response, Value::Null),
        };
    }
}

/// The record of a request whose handler broke: asked again, it would break again.
fn broken(number: usize, custom_id: &str) -> Record {
    tracing::error!(custom_id, "the handler of a request of a batch broke");
    let error = ApiError::Internal("an internal error; the server's log says more".to_owned());
    let response = json!({"status_code": error.status().as_u16(), "request_id": new_id("req_"),
        "body": error.openai_json()});
    Record { number, is_good: false, answer: result(custom_id, response, Value::Null) }
}

/// A line of the output or of the errors.
fn result(custom_id: &str, response: Value, error: Value) -> Value {
    json!({"id": new_id("batch_req_"), "custom_id": custom_id, "response": response, "error": error})
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body = to_bytes(response.into_body(), ANSWER_BYTES).await;
    match body.ok().and_then(|body| serde_json::from_slice(&body).ok()) {
        Some(body) => (status, body),
        None => {
            let error = ApiError::Internal("the answer is not JSON, or too long".to_owned());
            (error.status(), error.openai_json())
        }
    }
}

/// Writes the files, and says that it is done.
fn finish(state: &AppState, id: &str, mut journal: Journal, end: End) -> Result<(), ApiError> {
    let batches = &state.batches;
    if end == End::Complete {
        batches.update(id, |batch| {
            if batch.status == BatchStatus::InProgress {
                batch.enter(BatchStatus::Finalizing);
            }
            Ok(())
        })?;
    }
    let batch = batches.find(id)?;
    // Named after the batch, so that doing it twice makes no second file.
    let name = id.trim_start_matches("batch_");
    let mut output = Output::new(state, format!("file-{name}-output"), format!("{id}_output.jsonl"));
    for answer in journal.answers(true) {
        output.write(&answer.map_err(|error| io_failed(&error))?)?;
    }
    let mut errors = Output::new(state, format!("file-{name}-error"), format!("{id}_error.jsonl"));
    for answer in journal.answers(false) {
        errors.write(&answer.map_err(|error| io_failed(&error))?)?;
    }
    let why = match end {
        End::Expired => Some((
            "batch_expired",
            "This request could not be executed before the completion window expired.",
        )),
        End::Cancelled => {
            Some(("batch_cancelled", "This request was not executed before the batch was cancelled."))
        }
        End::Complete | End::Missing => None,
    };
    // Before its input was checked, nothing was asked.
    if let Some((code, message)) = why.filter(|_| batch.in_progress_at.is_some())
        && let Some(mut lines) = input(state, &batch)?
    {
        while let Some(line) =
            unanswered(&mut lines, &journal, &batch.endpoint).map_err(|error| io_failed(&error))?
        {
            let error = json!({"code": code, "message": message});
            errors.write(&result(&line.custom_id, Value::Null, error))?;
        }
    }
    let (output_file_id, error_file_id) = (output.finish()?, errors.finish()?);
    batches.update(id, |batch| {
        batch.output_file_id = output_file_id;
        batch.error_file_id = error_file_id;
        batch.request_counts = journal.counts(batch.request_counts.total);
        match end {
            // A cancellation that came when all was answered has nothing to cancel.
            End::Complete => batch.enter(BatchStatus::Completed),
            End::Expired => batch.enter(BatchStatus::Expired),
            End::Cancelled => batch.enter(BatchStatus::Cancelled),
            End::Missing => {
                batch.errors = Some(BatchErrors { object: "list".to_owned(), data: vec![missing()] });
                batch.enter(BatchStatus::Failed);
            }
        }
        Ok(())
    })?;
    batches.keep.delete_data(id)
}

/// A file of results; none, if there are none.
struct Output<'a> {
    state: &'a AppState,
    id: String,
    name: String,
    file: Option<io::BufWriter<New>>,
}

impl Output<'_> {
    fn new(state: &AppState, id: String, name: String) -> Output<'_> {
        Output { state, id, name, file: None }
    }

    fn write(&mut self, line: &Value) -> Result<(), ApiError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let new = self.state.files.create(&self.id)?;
                self.file.insert(io::BufWriter::new(new))
            }
        };
        writeln!(file, "{line}").map_err(|error| io_failed(&error))
    }

    /// Gives the id of the file.
    fn finish(self) -> Result<Option<String>, ApiError> {
        let Some(file) = self.file else { return Ok(None) };
        let new = file.into_inner().map_err(|error| io_failed(error.error()))?;
        files::add(&self.state.files, new, self.name, Purpose::BatchOutput)?;
        Ok(Some(self.id))
    }
}
