//! Input items: what they say, as messages that templates read; and as they are given back.
//!
//! Left out: images, files and audio, calls of tools that run on a server, and references to items (`item_reference`).

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use whit_engine::Message;

use crate::error::ApiError;
use crate::openai::messages::{arguments, text, tool_call};
use crate::openai::new_id;

fn bad<T>(text: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(text.into()))
}

fn word<'a>(item: &'a Value, name: &str) -> Option<&'a str> {
    item.get(name).and_then(Value::as_str)
}

/// The items of `input`, each whole, with a type and an id.
pub(super) fn normal(input: &Value) -> Result<Vec<Value>, ApiError> {
    match input {
        Value::String(text) => Ok(vec![message("user", vec![json!({"type": "input_text", "text": text})])]),
        Value::Array(items) if !items.is_empty() => items.iter().map(item).collect(),
        _ => bad("input must be a text or a list of items"),
    }
}

fn message(role: &str, content: Vec<Value>) -> Value {
    json!({"id": new_id("msg_"), "type": "message", "role": role, "status": "completed", "content": content})
}

fn item(item: &Value) -> Result<Value, ApiError> {
    let Value::Object(fields) = item else { return bad("each item of input must be an object") };
    let prefix = match word(item, "type") {
        None | Some("message") => "msg_",
        Some("function_call") => "fc_",
        Some("function_call_output") => "fco_",
        Some("reasoning") => "rs_",
        Some(kind) => {
            return bad(format!("items of type `{kind}` cannot be read; send messages and function calls"));
        }
    };
    let mut fields = fields.clone();
    if prefix == "msg_" {
        let role = word(item, "role").unwrap_or_default().to_owned();
        let content = fields.get("content").cloned().unwrap_or(Value::Null);
        let content = match content {
            Value::String(text) if role == "assistant" => {
                vec![json!({"type": "output_text", "text": text, "annotations": []})]
            }
            Value::String(text) => vec![json!({"type": "input_text", "text": text})],
            Value::Array(parts) => parts,
            _ => return bad("the content of a message must be a text or a list of parts"),
        };
        fields.insert("type".to_owned(), "message".into());
        fields.insert("content".to_owned(), content.into());
    }
    if !fields.get("id").is_some_and(Value::is_string) {
        fields.insert("id".to_owned(), new_id(prefix).into());
    }
    if !fields.get("status").is_some_and(Value::is_string) {
        fields.insert("status".to_owned(), "completed".into());
    }
    Ok(Value::Object(fields))
}

/// Items, of input and of earlier output, as messages. What the model thought, said and called in one turn is one message.
pub(super) fn messages<'a>(items: impl Iterator<Item = &'a Value>) -> Result<Vec<Message>, ApiError> {
    let mut read = Read::default();
    for item in items {
        match word(item, "type") {
            Some("message") => read.message(item)?,
            Some("function_call") => read.call(item)?,
            Some("function_call_output") => read.output(item)?,
            _ => read.thought.push_str(&thought(item)),
        }
    }
    Ok(read.messages)
}

#[derive(Default)]
struct Read {
    messages: Vec<Message>,
    /// Names of functions by the ids of their calls.
    names: HashMap<String, String>,
    /// What was thought before the next thing that the model said or called.
    thought: String,
}

impl Read {
    fn message(&mut self, item: &Value) -> Result<(), ApiError> {
        let role = match word(item, "role") {
            Some("developer") => "system",
            Some(role @ ("system" | "user" | "assistant")) => role,
            _ => return bad("a message of input has no role that is known"),
        };
        let content = text(item.get("content").unwrap_or(&Value::Null))?;
        self.messages.push(Message::new(role, content));
        if role == "assistant" {
            self.think();
        }
        Ok(())
    }

    fn call(&mut self, item: &Value) -> Result<(), ApiError> {
        let (Some(id), Some(name)) = (word(item, "call_id"), word(item, "name")) else {
            return bad("a function_call of input needs `call_id`, `name` and `arguments`");
        };
        self.names.insert(id.to_owned(), name.to_owned());
        if self.thought.is_empty() && self.messages.last().is_some_and(|last| last.role == "assistant") {
            // It goes on with the turn.
        } else {
            self.messages.push(Message::new("assistant", String::new()));
            self.think();
        }
        if let Some(last) = self.messages.last_mut()
            && let Value::Array(calls) = last.extra.entry("tool_calls").or_insert_with(|| json!([]))
        {
            calls.push(tool_call(id, name, arguments(item.get("arguments"))));
        }
        Ok(())
    }

    fn output(&mut self, item: &Value) -> Result<(), ApiError> {
        let Some(id) = word(item, "call_id") else {
            return bad("a function_call_output of input needs `call_id` and `output`");
        };
        let Some(name) = self.names.get(id) else {
            return bad(format!("No tool call found for function call output with call_id {id}."));
        };
        let content = text(item.get("output").unwrap_or(&Value::Null))?;
        let mut extra = Map::new();
        extra.insert("name".to_owned(), name.as_str().into());
        extra.insert("tool_call_id".to_owned(), id.into());
        self.messages.push(Message { role: "tool".to_owned(), content: content.into(), extra });
        Ok(())
    }

    /// Puts what was thought into the last message.
    fn think(&mut self) {
        let thought = std::mem::take(&mut self.thought);
        if let Some(last) = self.messages.last_mut().filter(|_| !thought.is_empty()) {
            last.extra.insert("reasoning_content".to_owned(), thought.into());
        }
    }
}

/// The text of a reasoning item: all of it, or else its summary.
fn thought(item: &Value) -> String {
    let texts = |name: &str| -> String {
        let parts = item.get(name).and_then(Value::as_array).into_iter().flatten();
        parts.filter_map(|part| word(part, "text")).collect::<Vec<_>>().join("\n")
    };
    let all = texts("content");
    if all.is_empty() { texts("summary") } else { all }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(input: &Value) -> Result<Value, ApiError> {
        let items = normal(input)?;
        assert!(items.iter().all(|item| item["id"].is_string() && item["type"].is_string()));
        Ok(serde_json::to_value(messages(items.iter())?).unwrap())
    }

    #[test]
    fn items_become_messages() {
        let call = |id: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
        for (input, expected) in [
            (json!("hi"), json!([{"role": "user", "content": "hi"}])),
            (
                json!([{"role": "developer", "content": "s"},
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}]},
                    {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]),
                json!([{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
                    {"role": "assistant", "content": "a"}]),
            ),
            // One turn that thinks, speaks and calls twice, and its results; then another that only calls.
            (
                json!([{"role": "user", "content": "u"},
                    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
                    {"role": "assistant", "content": "a"},
                    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\": 1}"},
                    {"type": "function_call", "call_id": "c2", "name": "f", "arguments": ""},
                    {"type": "function_call_output", "call_id": "c2", "output": "two"},
                    {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "one"}]},
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]},
                    {"type": "function_call", "call_id": "c3", "name": "f", "arguments": "{}"}]),
                json!([{"role": "user", "content": "u"},
                    {"role": "assistant", "content": "a", "reasoning_content": "hm",
                        "tool_calls": [call("c1", json!({"x": 1})), call("c2", json!({}))]},
                    {"role": "tool", "content": "two", "name": "f", "tool_call_id": "c2"},
                    {"role": "tool", "content": "one", "name": "f", "tool_call_id": "c1"},
                    {"role": "assistant", "content": "", "reasoning_content": "so",
                        "tool_calls": [call("c3", json!({}))]}]),
            ),
        ] {
            assert_eq!(read(&input).unwrap(), expected, "{input}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (input, word) in [
            (json!([]), "list of items"),
            (json!(null), "list of items"),
            (json!(["hi"]), "object"),
            (json!([{"role": "robot", "content": "x"}]), "role"),
            (json!([{"role": "user"}]), "content"),
            (json!([{"role": "user", "content": [{"type": "input_image"}]}]), "input_image"),
            (json!([{"type": "web_search_call"}]), "web_search_call"),
            (json!([{"type": "function_call", "name": "f"}]), "call_id"),
            (json!([{"type": "function_call_output", "call_id": "c", "output": "x"}]), "No tool call"),
        ] {
            let error = read(&input).unwrap_err().to_string();
            assert!(error.contains(word), "{input}: {error}");
        }
    }

    #[test]
    fn what_was_sent_can_be_seen() {
        let mut items =
            normal(&json!([{"role": "user", "content": "u"}, {"type": "reasoning", "id": "rs_1"}])).unwrap();
        let id = items[0]["id"].take();
        assert!(id.as_str().unwrap().starts_with("msg_"));
        assert_eq!(
            items,
            [
                json!({"role": "user", "content": [{"type": "input_text", "text": "u"}], "type": "message",
                    "id": null, "status": "completed"}),
                json!({"type": "reasoning", "id": "rs_1", "status": "completed"})
            ]
        );
    }
}
