//! An answer on its way out: events become the objects of `/api/generate` and `/api/chat`, one a line, or one for all.

use std::convert::Infallible;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, Value, json};
use whit_engine::{Done, Event, FinishReason};
use whit_text::tools::{AnswerPart, AnswerReader};

use crate::clock;
use crate::error::ApiError;
use crate::generate::Stream;

/// Which of the two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Generate,
    Chat,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) shape: Shape,
    /// As the client named it.
    pub(crate) model: String,
    pub(crate) stream: Stream,
    pub(crate) reader: AnswerReader,
    pub(crate) wants_logprobs: bool,
    /// Ids so far: what `/api/generate` gives as `context`.
    pub(crate) ids: Vec<u32>,
    /// The call whose arguments are still coming.
    pub(crate) call: Option<Call>,
    pub(crate) n_calls: usize,
}

/// A tool call.
pub(crate) struct Call {
    name: String,
    arguments: String,
}

/// A part of an answer.
#[derive(Default)]
struct Part {
    content: String,
    thinking: String,
    calls: Vec<Value>,
    logprobs: Vec<Value>,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.content.is_empty()
            && self.thinking.is_empty()
            && self.calls.is_empty()
            && self.logprobs.is_empty()
    }

    fn append(&mut self, other: Part) {
        self.content.push_str(&other.content);
        self.thinking.push_str(&other.thinking);
        self.calls.extend(other.calls);
        self.logprobs.extend(other.logprobs);
    }
}

/// What comes next.
enum Step {
    Part(Part),
    Done(Part, Done),
}

impl Answer {
    /// As NDJSON, or as one object.
    pub(crate) async fn respond(self, streaming: bool) -> Response {
        if streaming { self.lines() } else { self.whole().await.unwrap_or_else(|error| error.ollama()) }
    }

    fn lines(self) -> Response {
        let lines = stream::unfold(Some(self), |answer| async move {
            let mut answer = answer?;
            match answer.step().await {
                Some(Ok(Step::Part(part))) => {
                    let line = line(&answer.object(part, None));
                    Some((line, Some(answer)))
                }
                // What was held back until the end comes in a line of its own: clients ignore the text of the last.
                Some(Ok(Step::Done(part, done))) => {
                    let mut bytes = Vec::new();
                    if !part.is_empty() {
                        bytes.extend(line(&answer.object(part, None)).unwrap_or_default());
                    }
                    bytes.extend(line(&answer.object(Part::default(), Some(done))).unwrap_or_default());
                    Some((Ok(Bytes::from(bytes)), None))
                }
                Some(Err(error)) => Some((line(&error.ollama_json()), None)),
                None => None,
            }
        });
        ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
    }

    async fn whole(mut self) -> Result<Response, ApiError> {
        let mut whole = Part::default();
        while let Some(step) = self.step().await {
            match step? {
                Step::Part(part) => whole.append(part),
                Step::Done(part, done) => {
                    whole.append(part);
                    return Ok(Json(self.object(whole, Some(done))).into_response());
                }
            }
        }
        Err(ApiError::ShuttingDown)
    }

    /// The next thing worth a line; `None` after the end.
    async fn step(&mut self) -> Option<Result<Step, ApiError>> {
        loop {
            match self.stream.next().await? {
                Ok(Event::Token { id, text, logprob, top }) => {
                    self.ids.push(id);
                    let mut parts = self.reader.push(&text);
                    if let Some(spelling) = self.stream.control(id) {
                        parts.extend(self.reader.control(spelling));
                    }
                    let mut part = self.gather(parts);
                    if let (true, Some(logprob)) = (self.wants_logprobs, logprob)
                        && !self.stream.ends_answer(id)
                    {
                        part.logprobs.push(self.logprob(id, logprob, &top));
                    }
                    if !part.is_empty() {
                        return Some(Ok(Step::Part(part)));
                    }
                }
                Ok(Event::Shifted { .. } | Event::Prompt(_) | Event::Embedding(_)) => {}
                Ok(Event::Done(done)) => {
                    let rest = self.reader.finish();
                    return Some(Ok(Step::Done(self.gather(rest), done)));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Puts together what came, calls whole.
    fn gather(&mut self, parts: Vec<AnswerPart>) -> Part {
        let mut part = Part::default();
        for piece in parts {
            match piece {
                AnswerPart::Thinking(text) => part.thinking.push_str(&text),
                AnswerPart::Text(text) => part.content.push_str(&text),
                AnswerPart::CallStart { name, .. } => {
                    self.call = Some(Call { name, arguments: String::new() });
                }
                AnswerPart::CallArguments(text) => {
                    if let Some(call) = &mut self.call {
                        call.arguments.push_str(&text);
                    }
                }
                AnswerPart::CallEnd => {
                    if let Some(call) = self.call.take() {
                        // An object in this API; the parser hands on whole calls only.
                        let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
                        let index = self.n_calls;
                        self.n_calls += 1;
                        let function = json!({"index": index, "name": call.name, "arguments": arguments});
                        part.calls.push(json!({"id": format!("call_{index}"), "function": function}));
                    }
                }
            }
        }
        part
    }

    fn logprob(&self, id: u32, logprob: f32, top: &[(u32, f32)]) -> Value {
        let describe = |id: u32, logprob: f32| {
            let bytes = self.stream.token_bytes(id);
            let mut object = Map::new();
            object.insert("token".to_owned(), String::from_utf8_lossy(&bytes).into());
            object.insert("logprob".to_owned(), json!(logprob));
            object.insert("bytes".to_owned(), json!(bytes));
            object
        };
        let mut object = describe(id, logprob);
        if !top.is_empty() {
            let top: Vec<Value> = top.iter().map(|&(id, logprob)| describe(id, logprob).into()).collect();
            object.insert("top_logprobs".to_owned(), top.into());
        }
        object.into()
    }

    fn object(&self, part: Part, done: Option<Done>) -> Value {
        let mut object = Map::new();
        let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
        set("model", self.model.as_str().into());
        set("created_at", clock::now().into());
        match self.shape {
            Shape::Generate => {
                set("response", part.content.into());
                if !part.thinking.is_empty() {
                    set("thinking", part.thinking.into());
                }
                if !part.calls.is_empty() {
                    set("tool_calls", part.calls.into());
                }
            }
            Shape::Chat => {
                let mut message = Map::new();
                message.insert("role".to_owned(), "assistant".into());
                message.insert("content".to_owned(), part.content.into());
                if !part.thinking.is_empty() {
                    message.insert("thinking".to_owned(), part.thinking.into());
                }
                if !part.calls.is_empty() {
                    message.insert("tool_calls".to_owned(), part.calls.into());
                }
                set("message", message.into());
            }
        }
        if !part.logprobs.is_empty() {
            set("logprobs", part.logprobs.into());
        }
        set("done", done.is_some().into());
        let Some(done) = done else { return object.into() };
        let reason = match done.reason {
            FinishReason::Length | FinishReason::ContextFull => "length",
            FinishReason::Eos | FinishReason::Stop(_) | FinishReason::Cancelled => "stop",
        };
        set("done_reason", reason.into());
        if self.shape == Shape::Generate {
            let context: Vec<u32> = self.stream.prompt.iter().chain(&self.ids).copied().collect();
            set("context", context.into());
        }
        set("total_duration", clock::nanos(self.stream.elapsed()).into());
        set("load_duration", clock::nanos(self.stream.load).into());
        set("prompt_eval_count", done.usage.prompt_tokens.into());
        set("prompt_eval_duration", clock::nanos(done.timings.prompt).into());
        set("eval_count", done.usage.generated_tokens.into());
        set("eval_duration", clock::nanos(done.timings.generation).into());
        if self.stream.dropped.is_any() {
            set("dropped", self.stream.dropped.json());
        }
        object.into()
    }
}

/// An object and the end of its line.
pub(crate) fn line(object: &Value) -> Result<Bytes, Infallible> {
    let mut bytes = object.to_string().into_bytes();
    bytes.push(b'\n');
    Ok(bytes.into())
}
