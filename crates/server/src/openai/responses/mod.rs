//! `/v1/responses`: conversations of items, kept so that one response can go on from another.
//!
//! A response is kept with what was said to it, not with what came before: a conversation is put together again from the
//! chain of `previous_response_id`. Left out: tools that run on a server, background work, `conversation` objects, stored
//! prompts, and log-probabilities.

mod items;
mod output;
mod request;

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use whit_engine::{FinishReason, Usage};

use super::answer::{self, Manner, Reader};
use super::page::PageQuery;
use super::sse;
use crate::error::ApiError;
use crate::generate::{self, Stream};
use crate::keep::{self, Limits, WhenFull};
use crate::own::blocking;
use crate::state::AppState;
use crate::{body, clock};
use output::Output;
pub(super) use request::CreateResponse;

/// What is kept. When there are more, the oldest go.
pub(crate) const LIMITS: Limits = Limits {
    n_documents: 10_000,
    one: 64 << 20,
    total: 1 << 30,
    when_full: WhenFull::DropOldest,
    durable: false,
};
/// Responses in a row.
const MAX_TURNS: usize = 1000;
/// Items on a page: when the client does not say, and at most.
const PAGE: (usize, usize) = (20, 100);

/// A response as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    response: Value,
    /// The items of its own input.
    input: Vec<Value>,
}

impl Stored {
    fn find(state: &AppState, id: &str) -> Result<Stored, ApiError> {
        state.responses.get(id)?.ok_or_else(|| missing(id))
    }
}

fn missing(id: &str) -> ApiError {
    ApiError::NotFound(format!("Response with id '{id}' not found."))
}

pub(crate) async fn create(State(state): State<AppState>, body: Bytes) -> Response {
    answer(state, &body).await.unwrap_or_else(|error| error.openai())
}

async fn answer(state: AppState, body: &Bytes) -> Result<Response, ApiError> {
    let request: CreateResponse = body::parse(body)?;
    let input = items::normal(&request.input)?;
    let before = match request.previous_response_id.clone() {
        Some(id) => {
            let state = state.clone();
            blocking(move || conversation(&state, id)).await?
        }
        None => Vec::new(),
    };
    let manner = Manner::of(&state, &request.model).await?;
    let (job, tools) = request.job(&manner, before.iter().chain(&input))?;
    let streams = request.stream.unwrap_or(false);
    let response = request.describe(&keep::new_id("resp_"), clock::unix_now(), &job.sampling);
    let stream = generate::start(&state, job).await?;
    let reader = manner.reader(&stream, &tools, streams);
    let answering = Answering {
        state,
        response,
        input,
        output: Output::new(request.parallel_tool_calls == Some(false)),
        stream,
        reader,
        end: None,
        n_thinking: 0,
    };
    if streams {
        return Ok(sse::respond(|sender| events(answering, Events { sender, n_sent: 0 })));
    }
    Ok(Json(whole(answering).await?).into_response())
}

/// What was said up to and in a response.
fn conversation(state: &AppState, id: String) -> Result<Vec<Value>, ApiError> {
    let mut turns = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next {
        if turns.len() == MAX_TURNS {
            return Err(ApiError::BadRequest(format!(
                "a conversation may have at most {MAX_TURNS} responses"
            )));
        }
        let Some(turn) = state.responses.get::<Stored>(&id)? else {
            return Err(ApiError::BadRequest(format!("Previous response with id '{id}' not found.")));
        };
        next = turn.response["previous_response_id"].as_str().map(str::to_owned);
        turns.push(turn);
    }
    let items = |mut turn: Stored| match turn.response["output"].take() {
        Value::Array(output) => turn.input.into_iter().chain(output),
        _ => turn.input.into_iter().chain(Vec::new()),
    };
    Ok(turns.into_iter().rev().flat_map(items).collect())
}

/// A response on its way.
struct Answering {
    state: AppState,
    /// As it is told of; the answer is put in at the end.
    response: Value,
    input: Vec<Value>,
    output: Output,
    stream: Stream,
    reader: Reader,
    end: Option<(FinishReason, Usage)>,
    /// Tokens of thoughts.
    n_thinking: usize,
}

impl Answering {
    /// Takes the next token; false at the end.
    async fn step(&mut self) -> Result<bool, ApiError> {
        let Some(step) = answer::step(&mut self.stream, &mut self.reader).await? else { return Ok(false) };
        step.parts.into_iter().for_each(|part| self.output.push(part));
        self.n_thinking += usize::from(step.done.is_none() && self.output.is_thinking());
        if let Some(end) = step.done {
            self.output.finish(!is_cut(&end.0));
            self.end = Some(end);
        }
        Ok(true)
    }

    /// The whole response. It is kept before anybody hears of it.
    async fn finish(mut self) -> Value {
        let (reason, usage) = self.end.unwrap_or((FinishReason::Eos, Usage::default()));
        let response = &mut self.response;
        response["output"] = Value::Array(self.output.items);
        if is_cut(&reason) {
            response["status"] = "incomplete".into();
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        } else {
            response["status"] = "completed".into();
            response["completed_at"] = clock::unix_now().into();
        }
        response["usage"] = json!({
            "input_tokens": usage.prompt_tokens, "output_tokens": usage.generated_tokens,
            "total_tokens": usage.prompt_tokens + usage.generated_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": self.n_thinking},
        });
        if self.stream.dropped.is_any() {
            response["dropped"] = self.stream.dropped.json();
        }
        if response["store"] == false {
            return self.response;
        }
        let (state, stored) = (self.state, Stored { response: self.response, input: self.input });
        let kept = blocking(move || {
            let id = stored.response["id"].as_str().unwrap_or_default();
            let kept = state.responses.put(id, &stored).is_ok();
            Ok((stored.response, kept))
        });
        match kept.await {
            Ok((mut response, kept)) => {
                // An answer is worth giving also when it cannot be kept.
                response["store"] = kept.into();
                response
            }
            Err(error) => error.openai_json(),
        }
    }
}

/// Whether an answer ended before it was done.
fn is_cut(reason: &FinishReason) -> bool {
    matches!(reason, FinishReason::Length | FinishReason::ContextFull)
}

async fn whole(mut answering: Answering) -> Result<Value, ApiError> {
    while answering.step().await? {}
    Ok(answering.finish().await)
}

/// Writes events, numbered.
struct Events {
    sender: sse::Sender,
    n_sent: u64,
}

impl Events {
    async fn send(&mut self, mut event: Value) {
        event["sequence_number"] = self.n_sent.into();
        self.n_sent += 1;
        let kind = event["type"].as_str().unwrap_or_default();
        self.sender.event(kind, &event).await;
    }
}

async fn events(mut answering: Answering, mut events: Events) {
    events.send(json!({"type": "response.created", "response": answering.response})).await;
    events.send(json!({"type": "response.in_progress", "response": answering.response})).await;
    loop {
        match answering.step().await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let mut response = answering.response;
                response["status"] = "failed".into();
                response["error"] = json!({"code": "server_error", "message": error.to_string()});
                response["output"] = Value::Array(answering.output.items);
                return events.send(json!({"type": "response.failed", "response": response})).await;
            }
        }
        for event in answering.output.take_events() {
            events.send(event).await;
        }
    }
    let response = answering.finish().await;
    let kind = if response["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
    events.send(json!({"type": kind, "response": response})).await;
}

pub(crate) async fn show(State(state): State<AppState>, Path(id): Path<String>) -> Response {
    let stored = blocking(move || Stored::find(&state, &id)).await;
    stored.map(|stored| Json(stored.response)).map_err(|error| error.openai()).into_response()
}

pub(crate) async fn delete(State(state): State<AppState>, Path(id): Path<String>) -> Response {
    let delete = move || {
        if !state.responses.delete(&id)? {
            return Err(missing(&id));
        }
        Ok(Json(json!({"id": id, "object": "response", "deleted": true})))
    };
    blocking(delete).await.map_err(|error| error.openai()).into_response()
}

pub(crate) async fn input_items(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let work = async {
        let Query(query) = query.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
        let items = blocking(move || Ok(Stored::find(&state, &id)?.input)).await?;
        let name = |item: &Value| item["id"].as_str().unwrap_or_default().to_owned();
        let ids = items.iter().rev().map(name).collect();
        let mut items: HashMap<String, Value> = items.into_iter().map(|item| (name(&item), item)).collect();
        Ok::<_, ApiError>(Json(query.page(ids, PAGE, |id| Ok(items.remove(id)))?))
    };
    work.await.map_err(|error| error.openai()).into_response()
}
