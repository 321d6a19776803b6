//! Whit's own endpoints: tokens, ranking, filling in, health, metrics.

mod infill;
mod rerank;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use whit_engine::{EncodeOptions, Model};

use crate::body;
use crate::error::ApiError;
use crate::library::Entry;
use crate::openapi::Endpoint;
use crate::state::{AppState, Stopping};

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/tokenize", post(tokenize))
        .route("/api/detokenize", post(detokenize))
        .route("/api/rerank", post(rerank::rerank))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/rerank", post(rerank::rerank))
        .route("/infill", post(infill::infill))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let rerank = |path| {
        Endpoint::post(path, "Order documents by how well they fit a query")
            .takes::<rerank::Request>()
            .gives::<rerank::Ranking>("The best first.")
            .errors(&[404, 503])
    };
    vec![
        Endpoint::post("/api/tokenize", "The tokens of a text")
            .takes::<TokenizeRequest>()
            .gives::<Tokens>("Their ids.")
            .errors(&[404]),
        Endpoint::post("/api/detokenize", "The text of tokens")
            .takes::<DetokenizeRequest>()
            .gives::<Detokenized>("The text.")
            .errors(&[404]),
        rerank("/api/rerank"),
        rerank("/v1/rerank"),
        rerank("/rerank"),
        Endpoint::post("/infill", "Fill a gap in code, as llama-server does")
            .takes::<infill::Request>()
            .gives::<infill::Filled>("The whole answer.")
            .gives_events::<infill::Filled>("With `stream`, parts as they come; the last has `stop`.")
            .errors(&[404, 503]),
        Endpoint::get("/healthz", "Whether the server is alive").gives_text("`ok`."),
        Endpoint::get("/readyz", "Whether the server takes requests").gives_text("`ready`.").errors(&[503]),
        Endpoint::get("/metrics", "Counters for Prometheus").gives_text("Its text format, version 0.0.4."),
    ]
}

#[derive(Deserialize, ToSchema)]
struct TokenizeRequest {
    /// The name of a model that is here.
    model: String,
    #[serde(alias = "content", alias = "prompt")]
    text: String,
    /// Tokens that open or close a text.
    #[schema(default = false)]
    add_special: Option<bool>,
    /// Read control tokens that are spelled out as what they are.
    #[schema(default = false)]
    parse_special: Option<bool>,
}

#[derive(Serialize, ToSchema)]
struct Tokens {
    tokens: Vec<u32>,
}

async fn tokenize(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: TokenizeRequest = body::parse(&body)?;
        let model = model(&state, &request.model).await?;
        let options = EncodeOptions {
            add_special: request.add_special == Some(true),
            parse_special: request.parse_special == Some(true),
        };
        let encode = move || Ok(model.tokenizer()?.encode(&request.text, options)?);
        let tokens: Vec<u32> = blocking(encode).await?;
        Ok::<_, ApiError>(Json(Tokens { tokens }))
    };
    work.await.map_err(|error| error.ollama()).into_response()
}

#[derive(Deserialize, ToSchema)]
struct DetokenizeRequest {
    /// The name of a model that is here.
    model: String,
    tokens: Vec<u32>,
}

#[derive(Serialize, ToSchema)]
struct Detokenized {
    text: String,
    /// The same, as llama-server calls it.
    content: String,
}

async fn detokenize(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: DetokenizeRequest = body::parse(&body)?;
        let model = model(&state, &request.model).await?;
        let decode = move || {
            let tokenizer = model.tokenizer()?;
            let mut bytes = Vec::new();
            for id in request.tokens {
                tokenizer.token_bytes(id, &mut bytes)?;
            }
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = blocking(decode).await?;
        Ok::<_, ApiError>(Json(Detokenized { content: text.clone(), text }))
    };
    work.await.map_err(|error| error.ollama()).into_response()
}

async fn model(state: &AppState, name: &str) -> Result<Model, ApiError> {
    open(state, state.find(name)?).await
}

/// The model, loaded or only opened: its tokenizer needs no weights.
pub(crate) async fn open(state: &AppState, entry: Entry) -> Result<Model, ApiError> {
    let loaded = state.manager.loaded().into_iter().find(|loaded| loaded.entry.path == entry.path);
    match loaded {
        Some(loaded) => Ok(loaded.service.model().clone()),
        None => blocking(move || Ok(Model::open(entry.path)?)).await,
    }
}

/// Work that would hold up other requests.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal(&error))?
}

async fn ready(State(state): State<AppState>) -> Response {
    match *state.stopping.borrow() {
        Stopping::No => "ready".into_response(),
        _ => ApiError::ShuttingDown.ollama(),
    }
}

async fn metrics(State(state): State<AppState>) -> Response {
    let text = state.metrics.render(&state.manager.loaded(), state.manager.n_waiting());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
