//! `/v1/responses`: text in, text out, nothing kept.
//!
//! Left out: tools, stored responses (`previous_response_id`, `conversation`), and background work.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use whit_engine::{FinishReason, Message, Usage};
use whit_sample::Grammar;

use super::answer::{self, Manner, Part, Reader};
use super::describe::{Reasoning, ResponseInput, ResponseText};
use super::sampling::{self, Settings};
use super::{messages, new_id, sse};
use crate::error::ApiError;
use crate::generate::{self, Job, Stream};
use crate::prompt::{Chat, Input};
use crate::state::AppState;
use crate::{body, clock};

#[derive(Deserialize, ToSchema)]
#[schema(as = ResponseRequest)]
pub(super) struct Request {
    /// The name of a model that is here.
    model: String,
    #[serde(default)]
    #[schema(required, value_type = ResponseInput)]
    input: Value,
    /// A system message.
    instructions: Option<String>,
    #[serde(flatten)]
    settings: Settings,
    /// Answer in events as tokens come.
    #[schema(default = false)]
    stream: Option<bool>,
    /// Most tokens of the answer. Default: until the context is full.
    #[schema(minimum = 1)]
    max_output_tokens: Option<i64>,
    #[serde(default)]
    #[schema(value_type = Option<ResponseText>)]
    text: Value,
    #[serde(default)]
    #[schema(value_type = Option<Reasoning>)]
    reasoning: Value,
    /// Not yet called by this endpoint: must be empty.
    #[schema(value_type = Option<Vec<Object>>, max_items = 0)]
    tools: Option<Vec<Value>>,
    /// Responses are not kept yet: must not be there.
    previous_response_id: Option<String>,
    /// Comes back as it is.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Value,
}

pub(super) async fn create(State(state): State<AppState>, body: Bytes) -> Response {
    answer(state, &body).await.unwrap_or_else(|error| error.openai())
}

/// What stays the same from the first event to the last.
struct Frame {
    id: String,
    message_id: String,
    created: u64,
    model: String,
    instructions: Option<String>,
    metadata: Value,
}

impl Frame {
    /// The response object. `end`: the text, why it ended, and what it cost.
    fn json(&self, end: Option<(&str, FinishReason, Usage)>) -> Value {
        let status = match end {
            None => "in_progress",
            Some((_, FinishReason::Length | FinishReason::ContextFull, _)) => "incomplete",
            Some(_) => "completed",
        };
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status,
            "model": self.model, "instructions": self.instructions, "error": null,
            "incomplete_details": (status == "incomplete").then(|| json!({"reason": "max_output_tokens"})),
            "output": end.iter().map(|(text, ..)| self.message(status, Some(text))).collect::<Vec<_>>(),
            "usage": end.map(|(_, _, usage)| json!({
                "input_tokens": usage.prompt_tokens, "output_tokens": usage.generated_tokens,
                "total_tokens": usage.prompt_tokens + usage.generated_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens_details": {"reasoning_tokens": 0},
            })),
            "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "metadata": self.metadata,
            "previous_response_id": null, "store": false, "temperature": null, "top_p": null,
        })
    }

    fn message(&self, status: &str, text: Option<&str>) -> Value {
        json!({
            "id": self.message_id, "type": "message", "role": "assistant", "status": status,
            "content": text.iter().map(|text| part(text)).collect::<Vec<_>>(),
        })
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

async fn answer(state: AppState, body: &Bytes) -> Result<Response, ApiError> {
    let request: Request = body::parse(body)?;
    let unsupported = |text: &str| Err(ApiError::NotSupported(text.to_owned()));
    if request.previous_response_id.is_some() {
        return unsupported("responses are not kept: send the whole conversation as `input`");
    }
    if request.tools.is_some_and(|tools| !tools.is_empty()) {
        return unsupported("tools work with /v1/chat/completions, not yet with /v1/responses");
    }
    let manner = Manner::of(&state, &request.model).await?;
    let mut chat = Chat { messages: input(&request.input)?, ..Chat::default() };
    if let Some(instructions) = &request.instructions {
        chat.messages.insert(0, Message::system(instructions));
    }
    if let Some(effort) = request.reasoning.get("effort").and_then(Value::as_str) {
        manner.think(&mut chat, !matches!(effort, "none" | "minimal"));
    }
    let grammar = format(&request.text)?;
    if grammar.is_some() {
        manner.think(&mut chat, false);
    }
    let mut job = Job::new(&request.model, Input::Chat(chat));
    request.settings.apply(&mut job, 0)?;
    job.max_tokens = sampling::max_tokens(request.max_output_tokens, "max_output_tokens")?;
    job.grammar = grammar;
    let mut stream = generate::start(&state, job).await?;
    let mut reader = manner.reader(&stream, &[], true);
    let frame = Frame {
        id: new_id("resp_"),
        message_id: new_id("msg_"),
        created: clock::unix_now(),
        model: request.model,
        instructions: request.instructions,
        metadata: if request.metadata.is_null() { json!({}) } else { request.metadata },
    };
    if request.stream.unwrap_or(false) {
        return Ok(sse::respond(|sender| events(frame, stream, reader, sender)));
    }
    let mut text = String::new();
    let mut end = (FinishReason::Eos, Usage::default());
    while let Some(step) = answer::step(&mut stream, &mut reader).await? {
        text.extend(step.parts.into_iter().filter(|part| matches!(part, Part::Text(_))).map(Part::into_text));
        end = step.done.unwrap_or(end);
    }
    Ok(Json(frame.json(Some((&text, end.0, end.1)))).into_response())
}

/// Writes events, numbered, each with its type.
struct Events {
    sender: sse::Sender,
    n_sent: u64,
}

impl Events {
    async fn send(&mut self, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["sequence_number"] = self.n_sent.into();
        self.n_sent += 1;
        self.sender.event(kind, &event).await;
    }
}

async fn events(frame: Frame, mut stream: Stream, mut reader: Reader, sender: sse::Sender) {
    let mut events = Events { sender, n_sent: 0 };
    let place = |mut event: Value| {
        event["item_id"] = frame.message_id.as_str().into();
        event["output_index"] = 0.into();
        event["content_index"] = 0.into();
        event
    };
    events.send("response.created", json!({"response": frame.json(None)})).await;
    events.send("response.in_progress", json!({"response": frame.json(None)})).await;
    let item = json!({"output_index": 0, "item": frame.message("in_progress", None)});
    events.send("response.output_item.added", item).await;
    events.send("response.content_part.added", place(json!({"part": part("")}))).await;
    let mut all = String::new();
    let mut end = (FinishReason::Eos, Usage::default());
    loop {
        match answer::step(&mut stream, &mut reader).await {
            Ok(Some(step)) => {
                for part in step.parts {
                    if let Part::Text(text) = part {
                        all.push_str(&text);
                        let event = place(json!({"delta": text, "logprobs": []}));
                        events.send("response.output_text.delta", event).await;
                    }
                }
                end = step.done.unwrap_or(end);
            }
            Ok(None) => break,
            Err(error) => {
                let mut response = frame.json(None);
                response["status"] = "failed".into();
                response["error"] = json!({"code": "server_error", "message": error.to_string()});
                return events.send("response.failed", json!({"response": response})).await;
            }
        }
    }
    let response = frame.json(Some((&all, end.0, end.1)));
    events.send("response.output_text.done", place(json!({"text": all, "logprobs": []}))).await;
    events.send("response.content_part.done", place(json!({"part": part(&all)}))).await;
    let item = json!({"output_index": 0, "item": response["output"][0]});
    events.send("response.output_item.done", item).await;
    let kind = if response["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
    events.send(kind, json!({"response": response})).await;
}

/// The conversation: a text, or messages.
fn input(value: &Value) -> Result<Vec<Message>, ApiError> {
    let bad = |text: String| Err(ApiError::BadRequest(text));
    match value {
        Value::String(text) => Ok(vec![Message::user(text)]),
        Value::Array(items) if !items.is_empty() => {
            let mut read = Vec::with_capacity(items.len());
            for item in items {
                match item.get("type").and_then(Value::as_str) {
                    None | Some("message") => {}
                    Some("reasoning") => continue,
                    Some(kind) => {
                        return bad(format!("items of type `{kind}` cannot be read; send messages"));
                    }
                }
                let role = match item.get("role").and_then(Value::as_str) {
                    Some("developer") => "system",
                    Some(role @ ("system" | "user" | "assistant")) => role,
                    _ => return bad("a message of `input` has no role that is known".to_owned()),
                };
                read.push(Message::new(role, messages::text(item.get("content").unwrap_or(&Value::Null))?));
            }
            Ok(read)
        }
        _ => bad("input must be a text or a list of messages".to_owned()),
    }
}

/// The grammar that `text.format` demands.
fn format(text: &Value) -> Result<Option<Grammar>, ApiError> {
    let format = text.get("format").unwrap_or(&Value::Null);
    match format.get("type").and_then(Value::as_str) {
        None | Some("text") => Ok(None),
        Some("json_object") => answer::grammar(Grammar::json()).map(Some),
        Some("json_schema") => match format.get("schema") {
            Some(schema) => answer::grammar(Grammar::json_schema(schema)).map(Some),
            None => Err(ApiError::BadRequest("text.format has no `schema`".to_owned())),
        },
        Some(other) => Err(ApiError::BadRequest(format!("text.format.type `{other}` is not known"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs() {
        let roles = |value: &Value| -> Option<Vec<(String, String)>> {
            let read = input(value).ok()?;
            Some(read.iter().map(|m| (m.role.clone(), m.text().unwrap_or_default().to_owned())).collect())
        };
        let pair = |role: &str, text: &str| (role.to_owned(), text.to_owned());
        for (value, expected) in [
            (json!("hi"), Some(vec![pair("user", "hi")])),
            (
                json!([{"role": "developer", "content": "s"},
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}]},
                    {"type": "reasoning", "summary": []},
                    {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]),
                Some(vec![pair("system", "s"), pair("user", "u"), pair("assistant", "a")]),
            ),
            (json!([]), None),
            (json!(null), None),
            (json!([{"type": "function_call"}]), None),
            (json!([{"role": "user", "content": [{"type": "input_image"}]}]), None),
        ] {
            assert_eq!(roles(&value), expected, "{value}");
        }
    }
}
