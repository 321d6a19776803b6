//! `/v1/chat/completions`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use utoipa::ToSchema;
use whit_engine::{FinishReason, Usage};
use whit_sample::Grammar;

use super::answer::{self, Manner, Part, Reader, Token, ToolChoice};
use super::describe::{ResponseFormat, ToolChoiceShape};
use super::messages::{self, WireMessage};
use super::sampling::{self, MAX_TOP, Settings};
use super::{new_id, sse};
use crate::error::ApiError;
use crate::generate::{self, Job, Stream};
use crate::openapi::Tool;
use crate::prompt::{Chat, Input};
use crate::state::AppState;
use crate::{body, clock};

#[derive(Deserialize, ToSchema)]
#[schema(as = ChatCompletionRequest)]
pub(super) struct Request {
    /// The name of a model that is here.
    model: String,
    #[schema(min_items = 1)]
    messages: Vec<WireMessage>,
    #[serde(flatten)]
    settings: Settings,
    /// Answer in events as tokens come.
    #[schema(default = false)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = 1)]
    max_tokens: Option<i64>,
    /// Most tokens of the answer. Default: until the context is full.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<i64>,
    /// Say how likely each token was.
    #[schema(default = false)]
    logprobs: Option<bool>,
    /// How many of the likeliest tokens to tell of.
    #[schema(maximum = 20, default = 0)]
    top_logprobs: Option<usize>,
    #[schema(value_type = Option<Vec<Tool>>)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    #[schema(value_type = Option<ToolChoiceShape>)]
    tool_choice: Value,
    /// False: at most one call to an answer.
    #[schema(default = true)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    #[schema(value_type = Option<ResponseFormat>)]
    response_format: Value,
    /// `none` and `minimal` switch thinking off, all others on.
    reasoning_effort: Option<String>,
    /// Variables for the template, as vLLM and llama-server take them.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    /// Say in a last event how many tokens there were.
    #[schema(default = false)]
    pub(super) include_usage: Option<bool>,
}

pub(super) async fn create(State(state): State<AppState>, body: Bytes) -> Response {
    answer(state, &body).await.unwrap_or_else(|error| error.openai())
}

/// What all choices of an answer have in common.
#[derive(Clone)]
struct Frame {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    /// At most one call to an answer.
    single_call: bool,
}

impl Frame {
    fn chunk(&self, choice: Value) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "system_fingerprint": "whit", "choices": [choice],
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

async fn answer(state: AppState, body: &Bytes) -> Result<Response, ApiError> {
    let request: Request = body::parse(body)?;
    let manner = Manner::of(&state, &request.model).await?;
    let choice = tool_choice(&request.tool_choice)?;
    let mut tools = request.tools.unwrap_or_default();
    if let Some(wrong) =
        tools.iter().find(|tool| tool.pointer("/function/name").and_then(Value::as_str).is_none())
    {
        let kind = wrong.get("type").and_then(Value::as_str).unwrap_or_default();
        let text =
            format!("each of the tools must be a function with a name, but one of type `{kind}` is none");
        return Err(ApiError::BadRequest(text));
    }
    if choice == ToolChoice::None {
        tools.clear();
    }
    let grammar = response_format(&request.response_format)?;
    let mut chat = Chat { messages: messages::read(request.messages)?, ..Chat::default() };
    manner.offer(&mut chat, &tools);
    if let Some(effort) = &request.reasoning_effort {
        manner.effort(&mut chat, effort)?;
    }
    chat.variables.extend(request.chat_template_kwargs.unwrap_or_default());
    let top = request.top_logprobs.unwrap_or(0);
    if top > MAX_TOP {
        return Err(ApiError::BadRequest(format!("top_logprobs is {top}, but may be at most {MAX_TOP}")));
    }
    let max_tokens = match request.max_completion_tokens {
        Some(n) => sampling::max_tokens(Some(n), "max_completion_tokens")?,
        None => sampling::max_tokens(request.max_tokens, "max_tokens")?,
    };
    let streams = request.stream.unwrap_or(false);
    let n = request.settings.n_choices()?;
    let mut choices = Vec::with_capacity(n);
    for index in 0..n {
        let input = Chat {
            messages: chat.messages.clone(),
            tools: chat.tools.clone(),
            variables: chat.variables.clone(),
            ..Chat::default()
        };
        let mut job = Job::new(&request.model, Input::Chat(input));
        job.sampling.logprobs = request.logprobs.unwrap_or(false).then_some(top);
        request.settings.apply(&mut job, index, manner.parameters())?;
        job.max_tokens = max_tokens.or(job.max_tokens);
        job.grammar.clone_from(&grammar);
        manner.bind(&mut job, &choice, &tools, request.parallel_tool_calls != Some(false))?;
        let stream = generate::start(&state, job).await?;
        let reader = manner.reader(&stream, &tools, streams);
        choices.push((stream, reader));
    }
    let frame = Frame {
        id: new_id("chatcmpl-"),
        created: clock::unix_now(),
        model: request.model,
        include_usage: streams && request.stream_options.unwrap_or_default().include_usage.unwrap_or(false),
        single_call: request.parallel_tool_calls == Some(false),
    };
    if streams {
        Ok(sse::respond(|sender| stream_all(frame, choices, sender)))
    } else {
        whole(frame, choices).await
    }
}

/// All choices, whole.
async fn whole(frame: Frame, choices: Vec<(Stream, Reader)>) -> Result<Response, ApiError> {
    let n = choices.len();
    let mut tasks = JoinSet::new();
    for (index, (stream, reader)) in choices.into_iter().enumerate() {
        let single_call = frame.single_call;
        tasks.spawn(async move { Ok::<_, ApiError>((index, collect(stream, reader, single_call).await?)) });
    }
    let mut choices = vec![Value::Null; n];
    let mut total = Totals::default();
    while let Some(result) = tasks.join_next().await {
        let (index, choice) = result.map_err(|error| ApiError::internal(&error))??;
        total.add(&choice.usage);
        if choice.dropped.is_any() {
            total.dropped = Some(choice.dropped.json());
        }
        choices[index] = choice.json(index);
    }
    let mut body = json!({
        "id": frame.id, "object": "chat.completion", "created": frame.created, "model": frame.model,
        "system_fingerprint": "whit", "choices": choices, "usage": total.json(),
    });
    if let Some(dropped) = total.dropped {
        body["dropped"] = dropped;
    }
    Ok(Json(body).into_response())
}

/// A finished choice.
struct Choice {
    text: String,
    thinking: String,
    calls: Vec<(String, String)>,
    logprobs: Option<Vec<Value>>,
    reason: &'static str,
    usage: Usage,
    dropped: crate::prompt::Dropped,
}

impl Choice {
    fn json(self, index: usize) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text, "refusal": null});
        if !self.thinking.is_empty() {
            message["reasoning_content"] = Value::String(self.thinking);
        }
        if !self.calls.is_empty() {
            if self.text.is_empty() {
                message["content"] = Value::Null;
            }
            let calls = self.calls.into_iter().map(|(name, arguments)| {
                json!({"id": new_id("call_"), "type": "function",
                    "function": {"name": name, "arguments": arguments}})
            });
            message["tool_calls"] = calls.collect();
        }
        let logprobs = self.logprobs.map(|content| json!({"content": content, "refusal": null}));
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.reason})
    }
}

async fn collect(mut stream: Stream, mut reader: Reader, single_call: bool) -> Result<Choice, ApiError> {
    let mut choice = Choice {
        text: String::new(),
        thinking: String::new(),
        calls: Vec::new(),
        logprobs: None,
        reason: "stop",
        usage: Usage::default(),
        dropped: stream.dropped,
    };
    while let Some(step) = answer::step(&mut stream, &mut reader).await? {
        for part in step.parts {
            match part {
                Part::Thinking(text) => choice.thinking.push_str(&text),
                Part::Text(text) => choice.text.push_str(&text),
                Part::CallStart { name, .. } => choice.calls.push((name, String::new())),
                Part::CallArguments(text) => {
                    if let Some((_, arguments)) = choice.calls.last_mut() {
                        arguments.push_str(&text);
                    }
                }
                Part::CallEnd => {}
            }
        }
        if let Some(token) = step.token {
            choice.logprobs.get_or_insert_default().push(logprob(&stream, &token));
        }
        if let Some((reason, usage)) = step.done {
            choice.reason = finish_reason(reason, !choice.calls.is_empty());
            choice.usage = usage;
        }
    }
    if single_call {
        choice.calls.truncate(1);
    }
    choice.dropped = stream.dropped;
    Ok(choice)
}

/// All choices as they come.
async fn stream_all(frame: Frame, choices: Vec<(Stream, Reader)>, sender: sse::Sender) {
    let mut tasks = JoinSet::new();
    for (index, (stream, reader)) in choices.into_iter().enumerate() {
        tasks.spawn(stream_one(frame.clone(), index, stream, reader, sender.clone()));
    }
    let mut total = Totals::default();
    while let Some(result) = tasks.join_next().await {
        match result.map_err(|error| ApiError::internal(&error)).flatten() {
            Ok(usage) => total.add(&usage),
            Err(error) => return sender.data(&error.openai_json()).await,
        }
    }
    if frame.include_usage {
        let chunk = json!({
            "id": frame.id, "object": "chat.completion.chunk", "created": frame.created, "model": frame.model,
            "system_fingerprint": "whit", "choices": [], "usage": total.json(),
        });
        sender.data(&chunk).await;
    }
    sender.done().await;
}

async fn stream_one(
    frame: Frame,
    index: usize,
    mut stream: Stream,
    mut reader: Reader,
    sender: sse::Sender,
) -> Result<Usage, ApiError> {
    let delta = |delta: Value, logprobs: Value| {
        frame.chunk(json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null}))
    };
    sender.data(&delta(json!({"role": "assistant", "content": ""}), Value::Null)).await;
    let mut n_calls = 0;
    let mut total = Usage::default();
    while let Some(step) = answer::step(&mut stream, &mut reader).await? {
        let mut logprobs = match &step.token {
            Some(token) => json!({"content": [logprob(&stream, token)], "refusal": null}),
            None => Value::Null,
        };
        for part in step.parts {
            let content = match part {
                Part::Thinking(text) => json!({"reasoning_content": text}),
                Part::Text(text) => json!({"content": text}),
                Part::CallStart { name, .. } => {
                    n_calls += 1;
                    json!({"tool_calls": [{"index": n_calls - 1, "id": new_id("call_"), "type": "function",
                        "function": {"name": name, "arguments": ""}}]})
                }
                Part::CallArguments(text) => {
                    json!({"tool_calls": [{"index": n_calls - 1, "function": {"arguments": text}}]})
                }
                Part::CallEnd => continue,
            };
            if !(frame.single_call && n_calls > 1) {
                sender.data(&delta(content, logprobs.take())).await;
            }
        }
        if !logprobs.is_null() {
            sender.data(&delta(json!({"content": ""}), logprobs)).await;
        }
        if let Some((reason, usage)) = step.done {
            total = usage;
            let reason = finish_reason(reason, n_calls > 0);
            let choice = json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": reason});
            let mut chunk = frame.chunk(choice);
            if stream.dropped.is_any() {
                chunk["dropped"] = stream.dropped.json();
            }
            sender.data(&chunk).await;
        }
    }
    Ok(total)
}

/// Why an answer ended, in OpenAI's words.
pub(super) fn finish_reason(reason: FinishReason, called: bool) -> &'static str {
    match reason {
        FinishReason::Length | FinishReason::ContextFull => "length",
        _ if called => "tool_calls",
        _ => "stop",
    }
}

/// Tokens of all choices. The prompt is one.
#[derive(Default)]
pub(super) struct Totals {
    prompt: usize,
    cached: usize,
    generated: usize,
    dropped: Option<Value>,
}

impl Totals {
    pub(super) fn add(&mut self, usage: &Usage) {
        self.prompt = usage.prompt_tokens;
        self.cached = self.cached.max(usage.cached_tokens);
        self.generated += usage.generated_tokens;
    }

    /// The same for one more prompt.
    pub(super) fn add_prompt(&mut self, other: &Totals) {
        self.prompt += other.prompt;
        self.cached += other.cached;
        self.generated += other.generated;
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}

/// A token with its log-probability, and the likeliest.
fn logprob(stream: &Stream, token: &Token) -> Value {
    let one = |id: u32, logprob: f32| {
        let bytes = stream.token_bytes(id);
        // JSON knows no infinity; OpenAI writes -9999 for what cannot be.
        let logprob = f64::from(logprob).max(-9999.0);
        json!({"token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes})
    };
    let mut entry = one(token.id, token.logprob);
    entry["top_logprobs"] = token.top.iter().map(|&(id, logprob)| one(id, logprob)).collect();
    entry
}

fn tool_choice(value: &Value) -> Result<ToolChoice, ApiError> {
    match value {
        Value::Null => Ok(ToolChoice::Auto),
        Value::String(text) if text == "auto" => Ok(ToolChoice::Auto),
        Value::String(text) if text == "none" => Ok(ToolChoice::None),
        Value::String(text) if matches!(text.as_str(), "required" | "any") => Ok(ToolChoice::Required),
        value => match value.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => Ok(ToolChoice::Named(name.to_owned())),
            None => Err(ApiError::BadRequest(
                "tool_choice must be `none`, `auto`, `required`, or name a function".to_owned(),
            )),
        },
    }
}

/// The grammar that a response format demands.
fn response_format(value: &Value) -> Result<Option<Grammar>, ApiError> {
    match value.get("type").and_then(Value::as_str) {
        None if value.is_null() => Ok(None),
        Some("text") => Ok(None),
        Some("json_object") => answer::grammar(Grammar::json()).map(Some),
        Some("json_schema") => match value.pointer("/json_schema/schema") {
            Some(schema) => answer::grammar(Grammar::json_schema(schema)).map(Some),
            None => Err(ApiError::BadRequest("response_format has no `json_schema.schema`".to_owned())),
        },
        _ => Err(ApiError::BadRequest(
            "response_format.type must be `text`, `json_object` or `json_schema`".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_of_tools() {
        for (value, expected) in [
            (json!(null), Some(ToolChoice::Auto)),
            (json!("auto"), Some(ToolChoice::Auto)),
            (json!("none"), Some(ToolChoice::None)),
            (json!("required"), Some(ToolChoice::Required)),
            (json!({"type": "function", "function": {"name": "f"}}), Some(ToolChoice::Named("f".to_owned()))),
            (json!("sometimes"), None),
            (json!({"type": "function"}), None),
        ] {
            assert_eq!(tool_choice(&value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn formats_of_answers() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
        for (value, expected) in [
            (json!(null), Some(false)),
            (json!({"type": "text"}), Some(false)),
            (json!({"type": "json_object"}), Some(true)),
            (json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}), Some(true)),
            (json!({"type": "json_schema"}), None),
            (json!({"type": "xml"}), None),
            (json!("json"), None),
            (json!({"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}), None),
        ] {
            assert_eq!(response_format(&value).ok().map(|grammar| grammar.is_some()), expected, "{value}");
        }
    }

    #[test]
    fn ends() {
        assert_eq!(finish_reason(FinishReason::Eos, true), "tool_calls");
        assert_eq!(finish_reason(FinishReason::Stop(0), false), "stop");
        assert_eq!(finish_reason(FinishReason::ContextFull, true), "length");
    }
}
