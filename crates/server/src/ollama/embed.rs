//! `/api/embed` and the older `/api/embeddings`. Vectors of both have length 1, as in Ollama since it leaves pooling to
//! llama-server.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use whit_engine::Prompt;

use super::describe::ModelOptions;
use super::options::Options;
use crate::body;
use crate::config::KeepAlive;
use crate::embed::{self, Job, Vectors};
use crate::error::ApiError;
use crate::openapi::{Texts, Time};
use crate::own::blocking;
use crate::state::AppState;

/// What `/api/embed` takes.
#[derive(Deserialize, ToSchema)]
pub(super) struct EmbedRequest {
    /// The name of a model that is here.
    #[serde(default)]
    #[schema(required)]
    model: String,
    /// What to embed; nothing loads the model.
    #[serde(default)]
    #[schema(value_type = Option<Texts>)]
    input: Value,
    /// Leave out the end of a text that is longer than the context, rather than refuse it.
    #[schema(default = true)]
    truncate: Option<bool>,
    /// Keep so many values of each vector, brought to length 1 again.
    dimensions: Option<i64>,
    #[schema(value_type = Option<Time>)]
    keep_alive: Option<Value>,
    #[schema(value_type = Option<ModelOptions>)]
    options: Option<Map<String, Value>>,
}

/// The vectors of texts.
#[derive(Serialize, ToSchema)]
pub(super) struct Embedded {
    /// As the request named it.
    model: String,
    /// One for each text, of length 1.
    embeddings: Vec<Vec<f32>>,
    /// Nanoseconds since the request came.
    total_duration: u64,
    /// Nanoseconds until the model was there.
    load_duration: u64,
    /// Tokens of all texts.
    prompt_eval_count: usize,
}

/// What `/api/embeddings` takes.
#[derive(Deserialize, ToSchema)]
pub(super) struct EmbeddingRequest {
    /// The name of a model that is here.
    #[serde(default)]
    #[schema(required)]
    model: String,
    /// What to embed; nothing loads the model.
    prompt: Option<String>,
    #[schema(value_type = Option<Time>)]
    keep_alive: Option<Value>,
    #[schema(value_type = Option<ModelOptions>)]
    options: Option<Map<String, Value>>,
}

/// The vector of a text.
#[derive(Serialize, ToSchema)]
pub(super) struct EmbeddedOne {
    /// Of length 1.
    embedding: Vec<f32>,
}

pub(super) async fn embed(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: EmbedRequest = body::parse(&body)?;
        let dimensions = request.dimensions.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        let entry = state.library.find(&request.model)?;
        let library = state.clone();
        let width = blocking(move || Ok(library.library.facts(&entry)?.info.n_embd)).await?;
        let made = make(
            &state,
            Job {
                truncate: request.truncate.unwrap_or(true),
                // More than there are is as many as there are.
                dimensions: dimensions.map(|n| n.min(width)),
                ..Job::new(&request.model, inputs(request.input)?)
            },
            request.keep_alive,
            request.options,
        )
        .await?;
        Ok::<_, ApiError>(Json(Embedded {
            model: request.model,
            embeddings: made.vectors,
            total_duration: made.total.as_nanos() as u64,
            load_duration: made.load.as_nanos() as u64,
            prompt_eval_count: made.n_tokens,
        }))
    };
    work.await.map_err(|error| error.ollama()).into_response()
}

pub(super) async fn embeddings(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: EmbeddingRequest = body::parse(&body)?;
        // Without a text it loads the model.
        let inputs = request.prompt.filter(|text| !text.is_empty()).map(Prompt::Text).into_iter().collect();
        let job = Job::new(&request.model, inputs);
        let mut made = make(&state, job, request.keep_alive, request.options).await?;
        Ok::<_, ApiError>(Json(EmbeddedOne { embedding: made.vectors.pop().unwrap_or_default() }))
    };
    work.await.map_err(|error| error.ollama()).into_response()
}

async fn make(
    state: &AppState,
    mut job: Job,
    keep_alive: Option<Value>,
    options: Option<Map<String, Value>>,
) -> Result<Vectors, ApiError> {
    let entry = state.library.find(&job.model)?;
    job.n_ctx = Options::of(state, &entry, options.as_ref())?.n_ctx;
    job.keep_alive = keep_alive.as_ref().map(KeepAlive::from_json).transpose()?;
    embed::run(state, job).await.map_err(|error| match error {
        ApiError::ContextLength { n_tokens, n_ctx } => ApiError::BadRequest(format!(
            "the input length exceeds the context length: {n_tokens} tokens, and the context has {n_ctx}"
        )),
        error => error,
    })
}

/// An empty text is none.
fn inputs(value: Value) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || ApiError::BadRequest("invalid input type".to_owned());
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Prompt::Text(text)]),
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(Prompt::Text(text)),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}
