//! `/infill`: code that fills a gap, as llama-server's endpoint of that name, which editors' plugins ask.
//!
//! Left out: settings of llama-server's own (`samplers`, `t_max_predict_ms`, `cache_prompt` and their like); they are
//! accepted and do nothing. A prompt longer than the context is an error that says so; llama-server cuts it in silence.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use whit_engine::{Done, Event, FinishReason, SamplerConfig};

use crate::body;
use crate::error::ApiError;
use crate::generate::{self, Job, Stream, top_k};
use crate::openai::sse;
use crate::prompt::{Gap, Input};
use crate::state::AppState;

/// Most other files of one request.
const MAX_FILES: usize = 256;

#[derive(Deserialize, ToSchema)]
#[schema(as = InfillRequest)]
pub(super) struct Request {
    /// The name of a model that is here. Default: the one that is loaded, if it is the only one.
    model: Option<String>,
    /// What stands before the gap.
    input_prefix: String,
    /// What stands after it.
    input_suffix: String,
    /// Other files, to go by.
    input_extra: Option<Vec<Extra>>,
    /// What the answer has begun with: it stands at the end of `input_prefix`.
    prompt: Option<String>,
    /// Most tokens of the answer; negative: until the model ends. 0 only reads.
    #[schema(default = -1)]
    n_predict: Option<i64>,
    /// Answer in events as tokens come.
    #[schema(default = false)]
    stream: Option<bool>,
    #[schema(minimum = 0, default = 0.8)]
    temperature: Option<f32>,
    #[schema(minimum = 0, default = 40)]
    top_k: Option<i64>,
    #[schema(minimum = 0, maximum = 1, default = 0.95)]
    top_p: Option<f32>,
    #[schema(minimum = 0, maximum = 1, default = 0.05)]
    min_p: Option<f32>,
    /// The same seed gives the same answer; negative: any.
    seed: Option<i64>,
    /// Where the answer ends.
    stop: Option<Vec<String>>,
    /// Most tokens drafted for one step; 0: none. It changes how long the answer takes, not what it is.
    #[serde(rename = "speculative.n_max")]
    speculative_n_max: Option<i64>,
}

#[derive(Deserialize, ToSchema)]
struct Extra {
    filename: Option<String>,
    text: String,
}

/// An answer, or a part of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Filled {
    index: usize,
    content: String,
    /// The ids of a part's tokens.
    tokens: Vec<u32>,
    /// Whether this is the end. What follows comes with it.
    stop: bool,
    /// Tokens of the answer so far.
    tokens_predicted: usize,
    /// Tokens of the prompt.
    tokens_evaluated: usize,
    #[serde(flatten)]
    end: Option<End>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = InfillEnd)]
struct End {
    model: String,
    /// `eos`, `word` or `limit`.
    stop_type: &'static str,
    /// The text at which it stopped.
    stopping_word: String,
    /// Tokens of the prompt that were found in the cache.
    tokens_cached: usize,
    /// Whether the prompt was cut: never.
    truncated: bool,
    timings: Timings,
}

#[derive(Serialize, ToSchema)]
#[schema(as = InfillTimings)]
struct Timings {
    prompt_n: usize,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: usize,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
    /// Tokens drafted and verified, if any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_n: Option<usize>,
    /// Of these, those accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    draft_n_accepted: Option<usize>,
}

impl Timings {
    fn of(done: &Done) -> Timings {
        let (usage, times) = (&done.usage, &done.timings);
        let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let prompt_n = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        let (prompt_ms, predicted_ms) = (milliseconds(times.prompt), milliseconds(times.generation));
        let drafted = Some(usage.drafted_tokens).filter(|&n| n > 0);
        Timings {
            prompt_n,
            prompt_ms,
            prompt_per_token_ms: prompt_ms / prompt_n.max(1) as f64,
            prompt_per_second: times.prompt_tokens_per_second(usage),
            predicted_n: usage.generated_tokens,
            predicted_ms,
            predicted_per_token_ms: predicted_ms / usage.generated_tokens.max(1) as f64,
            predicted_per_second: times.generated_tokens_per_second(usage),
            draft_n: drafted,
            draft_n_accepted: drafted.map(|_| usage.accepted_tokens),
        }
    }
}

/// A request that is being answered.
struct Running {
    stream: Stream,
    model: String,
    stop: Vec<String>,
    n_predicted: usize,
}

pub(super) async fn infill(State(state): State<AppState>, body: Bytes) -> Response {
    fill(state, &body).await.unwrap_or_else(|error| error.openai())
}

async fn fill(state: AppState, body: &Bytes) -> Result<Response, ApiError> {
    let request: Request = body::parse(body)?;
    let model = match request.model {
        Some(model) => model,
        None => only_model(&state)?,
    };
    let extra = request.input_extra.unwrap_or_default();
    if extra.len() > MAX_FILES {
        let text = format!("input_extra has {} files, but may have at most {MAX_FILES}", extra.len());
        return Err(ApiError::BadRequest(text));
    }
    let name = |name: Option<String>| name.unwrap_or_else(|| "tmp".to_owned());
    let gap = Gap {
        prefix: request.input_prefix + request.prompt.as_deref().unwrap_or_default(),
        suffix: request.input_suffix,
        files: extra.into_iter().map(|extra| (name(extra.filename), extra.text)).collect(),
    };
    let stop = request.stop.unwrap_or_default();
    let job = Job {
        sampling: SamplerConfig {
            temperature: request.temperature.unwrap_or(0.8),
            top_k: top_k(request.top_k.unwrap_or(40)),
            top_p: request.top_p.unwrap_or(0.95),
            min_p: request.min_p.unwrap_or(0.05),
            seed: request.seed.and_then(|seed| u64::try_from(seed).ok()),
            ..SamplerConfig::default()
        },
        stop: stop.clone(),
        max_tokens: usize::try_from(request.n_predict.unwrap_or(-1)).ok(),
        max_draft: request.speculative_n_max.and_then(|n| usize::try_from(n).ok()),
        ..Job::new(&model, Input::Infill(gap))
    };
    let stream = generate::start(&state, job).await?;
    let mut running = Running { stream, model, stop, n_predicted: 0 };
    if request.stream == Some(true) {
        return Ok(sse::respond(|sender| async move {
            loop {
                match running.next().await {
                    Ok(Some(part)) => match serde_json::to_value(&part) {
                        Ok(value) => sender.data(&value).await,
                        Err(error) => return sender.data(&ApiError::internal(&error).openai_json()).await,
                    },
                    Ok(None) => return,
                    Err(error) => return sender.data(&error.openai_json()).await,
                }
            }
        }));
    }
    let mut content = String::new();
    let mut last = None;
    while let Some(part) = running.next().await? {
        content.push_str(&part.content);
        last = Some(part);
    }
    let whole = last.ok_or(ApiError::ShuttingDown)?;
    Ok(Json(Filled { content, ..whole }).into_response())
}

/// The model that is meant where none is named.
fn only_model(state: &AppState) -> Result<String, ApiError> {
    let mut loaded = state.manager.loaded().into_iter();
    match (loaded.next(), loaded.next()) {
        (Some(only), None) => Ok(only.entry.name.clone()),
        _ => Err(ApiError::BadRequest("model is required, unless exactly one is loaded".to_owned())),
    }
}

impl Running {
    /// The next part; nothing after the end.
    async fn next(&mut self) -> Result<Option<Filled>, ApiError> {
        loop {
            let (content, tokens, end) = match self.stream.next().await {
                None => return Ok(None),
                Some(event) => match event? {
                    Event::Token { id, text, .. } => {
                        self.n_predicted += 1;
                        (text, vec![id], None)
                    }
                    Event::Done(done) => (String::new(), Vec::new(), Some(self.end(&done))),
                    Event::Shifted { .. } | Event::Prompt(_) | Event::Embedding(_) => continue,
                },
            };
            return Ok(Some(Filled {
                index: 0,
                content,
                tokens,
                stop: end.is_some(),
                tokens_predicted: self.n_predicted,
                tokens_evaluated: self.stream.prompt.len(),
                end,
            }));
        }
    }

    fn end(&self, done: &Done) -> End {
        let (stop_type, word) = match done.reason {
            FinishReason::Eos => ("eos", None),
            FinishReason::Stop(index) => ("word", self.stop.get(index).cloned()),
            FinishReason::Length | FinishReason::ContextFull | FinishReason::Cancelled => ("limit", None),
        };
        End {
            model: self.model.clone(),
            stop_type,
            stopping_word: word.unwrap_or_default(),
            tokens_cached: done.usage.cached_tokens,
            truncated: self.stream.dropped.is_any(),
            timings: Timings::of(done),
        }
    }
}
