//! `/v1/completions`: text that goes on from text.
//!
//! `echo` with `logprobs` tells how likely each token of the prompt was, as evaluation harnesses want it, also with
//! `max_tokens` 0. Left out: `best_of`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use utoipa::ToSchema;
use whit_engine::{Event, PromptToken, Usage};

use super::chat::{StreamOptions, Totals, finish_reason};
use super::prompts::{self, Prompt};
use super::sampling::{self, MAX_TOP, Settings};
use super::{new_id, sse};
use crate::config::OverflowPolicy;
use crate::error::ApiError;
use crate::generate::{self, Job, Stream};
use crate::prompt::{Dropped, Gap, Input};
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
    /// Most tokens of the answer. 0 goes with `echo`.
    #[schema(minimum = 0, default = 16)]
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
    /// Whether the prompt's tokens are told of, too: then all that was chosen is, so that there is one for each.
    is_scored: bool,
    stream: Stream,
}

async fn answer(state: AppState, body: &Bytes) -> Result<Response, ApiError> {
    let request: Request = body::parse(body)?;
    let prompts = match &request.prompt {
        // What OpenAI takes when there is none: the beginning of a text.
        Value::Null => vec![Prompt::Text(String::new())],
        prompt => prompts::read(prompt, "prompt")?,
    };
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
    if echo && request.suffix.is_some() {
        return bad("`echo` and `suffix` do not go together".to_owned());
    }
    if prompts.len() * n > MAX_PROMPTS {
        return bad(format!("{} prompts times {n} answers are more than {MAX_PROMPTS}", prompts.len()));
    }
    let max_tokens = match request.max_tokens.unwrap_or(DEFAULT_TOKENS) {
        // The prompt alone.
        0 if echo => Some(0),
        n => sampling::max_tokens(Some(n), "max_tokens")?,
    };
    let of_model = state.find(&request.model)?.parameters();
    let mut running = Vec::with_capacity(prompts.len() * n);
    for (at, prompt) in prompts.iter().enumerate() {
        for choice in 0..n {
            let input = match (prompt, &request.suffix) {
                (Prompt::Text(prefix), Some(suffix)) if !suffix.is_empty() => {
                    Input::Infill(Gap { prefix: prefix.clone(), suffix: suffix.clone(), files: Vec::new() })
                }
                (Prompt::Text(text), _) => Input::Text(text.clone()),
                (Prompt::Tokens(tokens), _) => Input::Tokens(tokens.clone()),
            };
            let mut job = Job::new(&request.model, input);
            job.sampling.logprobs = request.logprobs;
            request.settings.apply(&mut job, choice, &of_model)?;
            if request.max_tokens.is_some() || job.max_tokens.is_none() {
                job.max_tokens = max_tokens;
            }
            if echo && request.logprobs.is_some() {
                job.prompt_logprobs = request.logprobs;
                // Of a prompt that was cut, nothing could be said of the whole.
                job.overflow = Some(OverflowPolicy::Error);
            }
            let stream = generate::start(&state, job).await?;
            let is_scored = echo && request.logprobs.is_some();
            let echo = match prompt {
                Prompt::Text(text) if echo => text.clone(),
                Prompt::Tokens(tokens) if echo => {
                    let bytes: Vec<u8> = tokens.iter().flat_map(|&id| stream.token_bytes(id)).collect();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                _ => String::new(),
            };
            running.push(Running { index: at * n + choice, echo, is_scored, stream });
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
    let stream = &mut running.stream;
    while let Some(event) = stream.next().await {
        match event? {
            Event::Prompt(tokens) => logprobs.get_or_insert_default().push_prompt(stream, tokens),
            Event::Token { id, text: piece, logprob, top } => {
                if let Some(logprob) = logprob.filter(|_| running.is_scored || !is_control(stream, id)) {
                    let offset = text.chars().count();
                    logprobs.get_or_insert_default().push(stream, id, Some(logprob), &top, offset);
                }
                text.push_str(&piece);
            }
            Event::Done(done) => end = (finish_reason(done.reason, false).into(), done.usage),
            Event::Shifted { .. } | Event::Embedding(_) => {}
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
    // Characters of the prompt's tokens that were told of.
    let mut n_chars = 0;
    let stream = &mut running.stream;
    while let Some(event) = stream.next().await {
        match event? {
            Event::Prompt(tokens) => {
                let mut logprobs = Logprobs { n_chars, ..Logprobs::default() };
                logprobs.push_prompt(stream, tokens);
                n_chars = logprobs.n_chars;
                sender.data(&chunk("", logprobs.json(), Value::Null)).await;
            }
            Event::Token { id, text, logprob, top } => {
                let wanted = logprob.filter(|_| running.is_scored || !is_control(stream, id));
                let logprobs = wanted.map_or(Value::Null, |logprob| {
                    let mut logprobs = Logprobs::default();
                    logprobs.push(stream, id, Some(logprob), &top, offset);
                    logprobs.json()
                });
                offset += text.chars().count();
                if !text.is_empty() || !logprobs.is_null() {
                    sender.data(&chunk(&text, logprobs, Value::Null)).await;
                }
            }
            Event::Done(done) => {
                total = done.usage;
                let mut chunk = chunk("", Value::Null, finish_reason(done.reason, false).into());
                if stream.dropped.is_any() {
                    chunk["dropped"] = stream.dropped.json();
                }
                sender.data(&chunk).await;
            }
            Event::Shifted { .. } | Event::Embedding(_) => {}
        }
    }
    Ok((index, total))
}

/// The token that ends an answer is no part of it, unless its reader counts tokens.
fn is_control(stream: &Stream, id: u32) -> bool {
    stream.control(id).is_some()
}

/// Log-probabilities in the arrays of the old API.
#[derive(Default)]
struct Logprobs {
    tokens: Vec<String>,
    logprobs: Vec<Option<f64>>,
    top: Vec<Value>,
    offsets: Vec<usize>,
    /// Characters of the prompt's tokens so far.
    n_chars: usize,
}

impl Logprobs {
    fn push(&mut self, stream: &Stream, id: u32, logprob: Option<f32>, top: &[(u32, f32)], offset: usize) {
        let spell = |id: u32| String::from_utf8_lossy(&stream.token_bytes(id)).into_owned();
        let finite = |logprob: f32| f64::from(logprob).max(-9999.0);
        self.tokens.push(spell(id));
        self.logprobs.push(logprob.map(finite));
        self.offsets.push(offset);
        let Some(own) = logprob else { return self.top.push(Value::Null) };
        let mut likeliest: Map<String, Value> =
            top.iter().map(|&(id, logprob)| (spell(id), finite(logprob).into())).collect();
        if !top.is_empty() {
            likeliest.insert(spell(id), finite(own).into());
        }
        self.top.push(Value::Object(likeliest));
    }

    fn push_prompt(&mut self, stream: &Stream, tokens: Vec<PromptToken>) {
        for token in tokens {
            self.push(stream, token.id, token.logprob, &token.top, self.n_chars);
            if !is_control(stream, token.id) {
                // Bytes that begin a character.
                let begins = |byte: &&u8| **byte & 0xc0 != 0x80;
                self.n_chars += stream.token_bytes(token.id).iter().filter(begins).count();
            }
        }
    }

    fn json(self) -> Value {
        json!({
            "tokens": self.tokens, "token_logprobs": self.logprobs, "top_logprobs": self.top,
            "text_offset": self.offsets,
        })
    }
}
