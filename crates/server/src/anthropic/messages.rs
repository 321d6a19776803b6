//! `/v1/messages`: whole, or as named events; and `/v1/messages/count_tokens`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use whit_engine::{FinishReason, Usage};

use super::request::Request;
use crate::body;
use crate::error::ApiError;
use crate::generate::{self, Stream};
use crate::library;
use crate::openai::answer::{self, Manner, Part, Reader};
use crate::openai::{new_id, sse};
use crate::own::{self, blocking};
use crate::prompt::{self, Input};
use crate::state::AppState;

pub(super) async fn create(State(state): State<AppState>, body: Bytes) -> Response {
    answer(state, &body).await.unwrap_or_else(|error| error.anthropic())
}

pub(super) async fn count_tokens(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let mut request: Request = body::parse(&body)?;
        let manner = Manner::of(&state, &request.model).await?;
        request.parameters(&manner)?;
        let tools = request.tools()?;
        let input = Input::Chat(request.chat(&manner, &tools)?);
        let entry = state.find(&request.model)?;
        let input = match &entry.recipe {
            Some(recipe) => library::begin(&recipe.extras, input),
            None => input,
        };
        let model = own::open(&state, entry).await?;
        let n = blocking(move || prompt::count(&model, input)).await?;
        Ok::<_, ApiError>(Json(json!({"input_tokens": n})).into_response())
    };
    work.await.unwrap_or_else(|error| error.anthropic())
}

/// What stays the same from the first event to the last.
struct Frame {
    id: String,
    model: String,
    stop_sequences: Vec<String>,
}

impl Frame {
    fn json(&self, content: Value, stop: (Value, Value), usage: Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": stop.0, "stop_sequence": stop.1, "usage": usage,
        })
    }

    /// Why an answer ended, and at which text.
    fn stop(&self, reason: FinishReason, called: bool) -> (Value, Value) {
        match reason {
            FinishReason::Stop(at) => match self.stop_sequences.get(at) {
                Some(text) => ("stop_sequence".into(), text.clone().into()),
                // One that the model brought; the client knows of none.
                None => ("end_turn".into(), Value::Null),
            },
            FinishReason::Length => ("max_tokens".into(), Value::Null),
            FinishReason::ContextFull => ("model_context_window_exceeded".into(), Value::Null),
            _ if called => ("tool_use".into(), Value::Null),
            FinishReason::Eos | FinishReason::Cancelled => ("end_turn".into(), Value::Null),
        }
    }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens),
        "output_tokens": usage.generated_tokens,
        "cache_read_input_tokens": usage.cached_tokens, "cache_creation_input_tokens": 0,
    })
}

async fn answer(state: AppState, body: &Bytes) -> Result<Response, ApiError> {
    let mut request: Request = body::parse(body)?;
    let manner = Manner::of(&state, &request.model).await?;
    let tools = request.tools()?;
    let job = request.job(&manner, &tools)?;
    let streams = request.stream.unwrap_or(false);
    let stream = generate::start(&state, job).await?;
    let reader = manner.reader(&stream, &tools, streams);
    let frame = Frame {
        id: new_id("msg_"),
        model: request.model,
        stop_sequences: request.stop_sequences.unwrap_or_default(),
    };
    if streams {
        return Ok(sse::respond(|sender| events(frame, stream, reader, sender)));
    }
    whole(frame, stream, reader).await
}

async fn whole(frame: Frame, mut stream: Stream, mut reader: Reader) -> Result<Response, ApiError> {
    let mut content: Vec<Value> = Vec::new();
    let mut arguments = String::new();
    let mut called = false;
    let mut end = (FinishReason::Eos, Usage::default());
    while let Some(step) = answer::step(&mut stream, &mut reader).await? {
        for part in step.parts {
            let (kind, text) = match part {
                Part::Thinking(text) => ("thinking", text),
                Part::Text(text) => ("text", text),
                Part::CallStart { name, .. } => {
                    called = true;
                    arguments.clear();
                    content
                        .push(json!({"type": "tool_use", "id": new_id("toolu_"), "name": name, "input": {}}));
                    continue;
                }
                Part::CallArguments(text) => {
                    arguments.push_str(&text);
                    continue;
                }
                Part::CallEnd => {
                    if let (Some(call), Ok(input)) =
                        (content.last_mut(), serde_json::from_str::<Value>(&arguments))
                    {
                        call["input"] = input;
                    }
                    continue;
                }
            };
            match content.last_mut() {
                Some(last) if last["type"] == kind => {
                    if let Value::String(before) = &mut last[kind] {
                        before.push_str(&text);
                    }
                }
                _ => {
                    let mut block = json!({"type": kind, kind: text});
                    if kind == "thinking" {
                        block["signature"] = "".into();
                    }
                    content.push(block);
                }
            }
        }
        end = step.done.unwrap_or(end);
    }
    let stop = frame.stop(end.0, called);
    let mut body = frame.json(Value::Array(content), stop, usage(&end.1));
    if stream.dropped.is_any() {
        body["dropped"] = stream.dropped.json();
    }
    Ok(Json(body).into_response())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    Call,
}

/// Writes blocks: each is opened, filled and closed before the next.
struct Blocks {
    sender: sse::Sender,
    open: Option<Block>,
    /// Blocks closed so far.
    index: usize,
}

impl Blocks {
    async fn send(&self, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        self.sender.event(kind, &event).await;
    }

    async fn open(&mut self, block: Block, content: Value) {
        self.close().await;
        self.open = Some(block);
        self.send("content_block_start", json!({"index": self.index, "content_block": content})).await;
    }

    async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            if open == Block::Thinking {
                // Clients put together what a block has out of its deltas; we sign nothing.
                self.delta(json!({"type": "signature_delta", "signature": ""})).await;
            }
            self.send("content_block_stop", json!({"index": self.index})).await;
            self.index += 1;
        }
    }

    async fn delta(&self, delta: Value) {
        self.send("content_block_delta", json!({"index": self.index, "delta": delta})).await;
    }

    async fn part(&mut self, part: Part) {
        match part {
            Part::Text(text) => {
                if self.open != Some(Block::Text) {
                    self.open(Block::Text, json!({"type": "text", "text": ""})).await;
                }
                self.delta(json!({"type": "text_delta", "text": text})).await;
            }
            Part::Thinking(text) => {
                if self.open != Some(Block::Thinking) {
                    self.open(Block::Thinking, json!({"type": "thinking", "thinking": "", "signature": ""}))
                        .await;
                }
                self.delta(json!({"type": "thinking_delta", "thinking": text})).await;
            }
            Part::CallStart { name, .. } => {
                let call = json!({"type": "tool_use", "id": new_id("toolu_"), "name": name, "input": {}});
                self.open(Block::Call, call).await;
            }
            Part::CallArguments(text) => {
                self.delta(json!({"type": "input_json_delta", "partial_json": text})).await;
            }
            Part::CallEnd => self.close().await,
        }
    }
}

async fn events(frame: Frame, mut stream: Stream, mut reader: Reader, sender: sse::Sender) {
    let mut blocks = Blocks { sender, open: None, index: 0 };
    let begun = json!({"input_tokens": stream.prompt.len(), "output_tokens": 0,
        "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0});
    let message = frame.json(json!([]), (Value::Null, Value::Null), begun);
    blocks.send("message_start", json!({"message": message})).await;
    blocks.send("ping", json!({})).await;
    let mut called = false;
    loop {
        match answer::step(&mut stream, &mut reader).await {
            Ok(Some(step)) => {
                for part in step.parts {
                    called |= matches!(part, Part::CallStart { .. });
                    blocks.part(part).await;
                }
                if let Some((reason, used)) = step.done {
                    blocks.close().await;
                    let (stop_reason, stop_sequence) = frame.stop(reason, called);
                    let delta = json!({"stop_reason": stop_reason, "stop_sequence": stop_sequence});
                    let mut event = json!({"delta": delta, "usage": usage(&used)});
                    if stream.dropped.is_any() {
                        event["dropped"] = stream.dropped.json();
                    }
                    blocks.send("message_delta", event).await;
                    blocks.send("message_stop", json!({})).await;
                }
            }
            Ok(None) => return,
            Err(error) => return blocks.sender.event("error", &error.anthropic_json()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let frame = Frame { id: String::new(), model: String::new(), stop_sequences: vec!["END".to_owned()] };
        for (reason, called, expected) in [
            (FinishReason::Eos, false, ("end_turn".into(), Value::Null)),
            (FinishReason::Eos, true, ("tool_use".into(), Value::Null)),
            (FinishReason::Stop(0), false, ("stop_sequence".into(), "END".into())),
            (FinishReason::Length, true, ("max_tokens".into(), Value::Null)),
        ] {
            assert_eq!(frame.stop(reason, called), expected);
        }
    }
}
