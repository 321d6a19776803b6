//! `/v1/completions`: text that goes on from text.
//!
//! Left out: `best_of`, and log-probabilities of the prompt (`echo` with `logprobs`), which the engine's service does not
//! give.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use utoipa::ToSchema;
use whit_engine::Usage;

use super::answer::{self, Token};
use super::chat::{StreamOptions, Totals, finish_reason};
use super::sampling::{self, MAX_TOP, Settings};
use super::{new_id, sse};
use crate::error::ApiError;
use crate::generate::{self, Job, Stream};
use crate::prompt::{Dropped, Input};
use crate::state::AppState;
use crate::{body, clock};

/// Most prompts of one request.
const MAX_PROMPTS: usize = 128;
/// Tokens of an answer when the request does not say, as with OpenAI.
const DEFAULT_TOKENS: i64 = 16;

#[derive(Deserialize, ToSchema)]
#[schema(as = CompletionRequest)]
pub(super) struct Request {
    /// The name of a model that is here.
    model: String,
    #[serde(default)]
    #[schema(value_type = Option<super::describe::Prompt>)]
    prompt: Value,
    #[serde(flatten)]
    settings: Settings,
    /// Answer in events as tokens come.
    #[schema(default = false)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Most tokens of the answer.
    #[schema(minimum = 1, default = 16)]
    max_tokens: Option<i64>,
    /// Say how likely each token was, and how many of the likeliest.
    #[schema(maximum = 20)]
    logprobs: Option<usize>,
    /// Begin the answer with the prompt.
    #[schema(default = false)]
    echo: Option<bool>,
    /// What comes after the answer, for models that fill in.
    suffix: Option<String>,
    /// Answers are not ranked here: at most `n`.
    best_of: Option<usize>,
}

pub(super) async fn create(State(state): State<AppState>, body: Bytes) -> Response {
    answer(state, &body).await.unwrap_or_else(|error| error.openai())
}

/// A prompt as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

#[derive(Clone)]
struct Frame {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
}

impl Frame {
    fn json(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.model,
            "system_fingerprint": "whit", "choices": choices,
        })
    }
}

/// One choice that is being generated.
struct Running {
    index: usize,
    /// What the answer begins with: the prompt, if it shall be echoed.
    echo: String,
    stream: Stream,
}

async fn answer(state: AppState, body: &Bytes) -> Result<Response, ApiError> {
    let request: Request = body::parse(body)?;
    let prompts = prompts(&request.prompt)?;
    let bad = |text: String| Err(ApiError::BadRequest(text));
    let n = request.settings.n_choices()?;
    if let Some(best_of) = request.best_of.filter(|&best_of| best_of > n) {
        return bad(format!(
            "best_of is {best_of}, but answers are not ranked here; ask for as many with `n`"
        ));
    }
    if let Some(logprobs) = request.logprobs.filter(|&logprobs| logprobs > MAX_TOP) {
        return bad(format!("logprobs is {logprobs}, but may be at most {MAX_TOP}"));
    }
    let echo = request.echo.unwrap_or(false);
    if echo && request.logprobs.is_some() {
        return bad("log-probabilities of the prompt (`echo` with `logprobs`) are not given yet".to_owned());
    }
    if echo && request.suffix.is_some() {
        return bad("`echo` and `suffix` do not go together".to_owned());
    }
    if prompts.len() * n > MAX_PROMPTS {
        return bad(format!("{} prompts times {n} answers are more than {MAX_PROMPTS}", prompts.len()));
    }
    let max_tokens = sampling::max_tokens(Some(request.max_tokens.unwrap_or(DEFAULT_TOKENS)), "max_tokens")?;
    let mut running = Vec::with_capacity(prompts.len() * n);
    for (at, prompt) in prompts.iter().enumerate() {
        for choice in 0..n {
            let input = match (prompt, &request.suffix) {
                (Prompt::Text(prefix), Some(suffix)) if !suffix.is_empty() => {
                    Input::Infill { prefix: prefix.clone(), suffix: suffix.clone() }
                }
                (Prompt::Text(text), _) => Input::Text(text.clone()),
                (Prompt::Tokens(tokens), _) => Input::Tokens(tokens.clone()),
            };
            let mut job = Job::new(&request.model, input);
            job.sampling.logprobs = request.logprobs;
            request.settings.apply(&mut job, choice)?;
            job.max_tokens = max_tokens;
            let stream = generate::start(&state, job).await?;
            let echo = match prompt {
                Prompt::Text(text) if echo => text.clone(),
                Prompt::Tokens(tokens) if echo => {
                    let bytes: Vec<u8> = tokens.iter().flat_map(|&id| stream.token_bytes(id)).collect();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                _ => String::new(),
            };
            running.push(Running { index: at * n + choice, echo, stream });
        }
    }
    let streams = request.stream.unwrap_or(false);
    let frame = Frame {
        id: new_id("cmpl-"),
        created: clock::unix_now(),
        model: request.model,
        include_usage: request.stream_options.unwrap_or_default().include_usage.unwrap_or(false),
    };
    if streams {
        return Ok(sse::respond(|sender| stream_all(frame, running, n, sender)));
    }
    let n_running = running.len();
    let mut tasks = JoinSet::new();
    for one in running {
        tasks.spawn(collect(one));
    }
    let mut choices = vec![Value::Null; n_running];
    let mut usages = vec![Usage::default(); n_running];
    let mut dropped = Dropped::default();
    while let Some(result) = tasks.join_next().await {
        let one = result.map_err(|error| ApiError::internal(&error))??;
        choices[one.index] = one.json;
        usages[one.index] = one.usage;
        if one.dropped.is_any() {
            dropped = one.dropped;
        }
    }
    let mut body = frame.json(Value::Array(choices));
    body["usage"] = totals(&usages, n).json();
    if dropped.is_any() {
        body["dropped"] = dropped.json();
    }
    Ok(Json(body).into_response())
}

/// Usage over prompts with `n` choices each.
fn totals(usages: &[Usage], n: usize) -> Totals {
    let mut total = Totals::default();
    for group in usages.chunks(n) {
        let mut one = Totals::default();
        group.iter().for_each(|usage| one.add(usage));
        total.add_prompt(&one);
    }
    total
}

/// A finished choice.
struct Choice {
    index: usize,
    json: Value,
    usage: Usage,
    dropped: Dropped,
}

async fn collect(mut running: Running) -> Result<Choice, ApiError> {
    let mut text = running.echo;
    let mut logprobs: Option<Logprobs> = None;
    let mut end = (Value::Null, Usage::default());
    while let Some(step) = step(&mut running.stream).await? {
        if let Some(token) = &step.token {
            logprobs.get_or_insert_default().push(&running.stream, token, text.chars().count());
        }
        text.push_str(&step.text);
        if let Some((reason, usage)) = step.done {
            end = (finish_reason(reason, false).into(), usage);
        }
    }
    let (reason, usage) = end;
    let logprobs = logprobs.map(Logprobs::json);
    let json = json!({"index": running.index, "text": text, "logprobs": logprobs, "finish_reason": reason});
    Ok(Choice { index: running.index, json, usage, dropped: running.stream.dropped })
}

async fn stream_all(frame: Frame, running: Vec<Running>, n: usize, sender: sse::Sender) {
    let mut usages = vec![Usage::default(); running.len()];
    let mut tasks = JoinSet::new();
    for one in running {
        tasks.spawn(stream_one(frame.clone(), one, sender.clone()));
    }
    while let Some(result) = tasks.join_next().await {
        match result.map_err(|error| ApiError::internal(&error)).flatten() {
            Ok((index, usage)) => usages[index] = usage,
            Err(error) => return sender.data(&error.openai_json()).await,
        }
    }
    if frame.include_usage {
        let mut chunk = frame.json(json!([]));
        chunk["usage"] = totals(&usages, n).json();
        sender.data(&chunk).await;
    }
    sender.done().await;
}

async fn stream_one(
    frame: Frame,
    mut running: Running,
    sender: sse::Sender,
) -> Result<(usize, Usage), ApiError> {
    let index = running.index;
    let chunk = |text: &str, logprobs: Value, reason: Value| {
        frame.json(json!([{"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}]))
    };
    if !running.echo.is_empty() {
        sender.data(&chunk(&running.echo, Value::Null, Value::Null)).await;
    }
    let mut offset = running.echo.chars().count();
    let mut total = Usage::default();
    while let Some(step) = step(&mut running.stream).await? {
        let logprobs = step.token.as_ref().map_or(Value::Null, |token| {
            let mut logprobs = Logprobs::default();
            logprobs.push(&running.stream, token, offset);
            logprobs.json()
        });
        offset += step.text.chars().count();
        if let Some((reason, usage)) = step.done {
            total = usage;
            let mut chunk = chunk(&step.text, logprobs, finish_reason(reason, false).into());
            if running.stream.dropped.is_any() {
                chunk["dropped"] = running.stream.dropped.json();
            }
            sender.data(&chunk).await;
        } else if !step.text.is_empty() || !logprobs.is_null() {
            sender.data(&chunk(&step.text, logprobs, Value::Null)).await;
        }
    }
    Ok((index, total))
}

struct Step {
    text: String,
    token: Option<Token>,
    done: Option<(whit_engine::FinishReason, Usage)>,
}

async fn step(stream: &mut Stream) -> Result<Option<Step>, ApiError> {
    let mut plain = answer::Reader::new(None, None);
    let step = answer::step(stream, &mut plain).await?;
    Ok(step.map(|step| Step {
        text: step.parts.into_iter().map(answer::Part::into_text).collect(),
        token: step.token,
        done: step.done,
    }))
}

/// Log-probabilities in the arrays of the old API.
#[derive(Default)]
struct Logprobs {
    tokens: Vec<String>,
    logprobs: Vec<f64>,
    top: Vec<Value>,
    offsets: Vec<usize>,
}

impl Logprobs {
    fn push(&mut self, stream: &Stream, token: &Token, offset: usize) {
        let spell = |id: u32| String::from_utf8_lossy(&stream.token_bytes(id)).into_owned();
        let finite = |logprob: f32| f64::from(logprob).max(-9999.0);
        self.tokens.push(spell(token.id));
        self.logprobs.push(finite(token.logprob));
        let mut top: Map<String, Value> =
            token.top.iter().map(|&(id, logprob)| (spell(id), finite(logprob).into())).collect();
        if !token.top.is_empty() {
            top.insert(spell(token.id), finite(token.logprob).into());
        }
        self.top.push(Value::Object(top));
        self.offsets.push(offset);
    }

    fn json(self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.logprobs, "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }
}

/// A prompt is a text, a list of token ids, or a list of either.
fn prompts(value: &Value) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || {
        let text = "prompt must be a string, a list of token ids, or a list of either";
        ApiError::BadRequest(text.to_owned())
    };
    let tokens = |items: &[Value]| -> Option<Vec<u32>> {
        items.iter().map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
    };
    match value {
        // What OpenAI takes when there is none: the beginning of a text.
        Value::Null => Ok(vec![Prompt::Text(String::new())]),
        Value::String(text) => Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(items) if items.is_empty() => Err(wrong()),
        Value::Array(items) if items[0].is_number() => {
            Ok(vec![Prompt::Tokens(tokens(items).ok_or_else(wrong)?)])
        }
        Value::Array(items) => {
            let read = |item: &Value| match item {
                Value::String(text) => Some(Prompt::Text(text.clone())),
                Value::Array(items) => tokens(items).map(Prompt::Tokens),
                _ => None,
            };
            items.iter().map(|item| read(item).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_prompts() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        for (value, expected) in [
            (json!("a"), Some(vec![text("a")])),
            (json!(["a", "b"]), Some(vec![text("a"), text("b")])),
            (json!([1, 2]), Some(vec![Prompt::Tokens(vec![1, 2])])),
            (json!([[1], "b"]), Some(vec![Prompt::Tokens(vec![1]), text("b")])),
            (json!(null), Some(vec![text("")])),
            (json!([]), None),
            (json!([1, "a"]), None),
            (json!([1.5]), None),
            (json!([-1]), None),
            (json!({}), None),
        ] {
            assert_eq!(prompts(&value).ok(), expected, "{value}");
        }
    }
}
