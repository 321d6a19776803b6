//! Messages as OpenAI writes them, made into messages as chat templates read them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use whit_engine::Message;

use super::describe::{Content, PastCall, Role};
use crate::error::ApiError;

/// One message of a request.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ChatMessage)]
pub(super) struct WireMessage {
    #[schema(value_type = Role)]
    role: String,
    #[serde(default)]
    #[schema(value_type = Option<Content>)]
    content: Value,
    /// Calls that the assistant made, as answers have them.
    #[schema(value_type = Option<Vec<PastCall>>)]
    tool_calls: Option<Vec<Value>>,
    /// Of the call whose result this is.
    tool_call_id: Option<String>,
    name: Option<String>,
    /// What the assistant thought.
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
}

/// Text, from a string or from parts. Nothing but text can be read.
pub(crate) fn text(content: &Value) -> Result<String, ApiError> {
    let bad = |what: &str| Err(ApiError::BadRequest(what.to_owned()));
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let mut texts = Vec::with_capacity(parts.len());
            for part in parts {
                match part.get("type").and_then(Value::as_str) {
                    Some("text" | "input_text" | "output_text") | None => {
                        match part.get("text").and_then(Value::as_str) {
                            Some(text) => texts.push(text),
                            None => return bad("a part of a message has no `text`"),
                        }
                    }
                    Some("refusal") => texts.extend(part.get("refusal").and_then(Value::as_str)),
                    Some(kind) => {
                        return bad(&format!(
                            "this model reads text only, but a message has a part of type `{kind}`"
                        ));
                    }
                }
            }
            Ok(texts.join("\n"))
        }
        _ => bad("the content of a message must be a string or a list of parts"),
    }
}

/// The messages as templates read them: arguments as objects, each result with the name of its function.
pub(super) fn read(messages: Vec<WireMessage>) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::BadRequest("messages must have at least one message".to_owned()));
    }
    let mut names: HashMap<String, String> = HashMap::new();
    let mut read = Vec::with_capacity(messages.len());
    for message in messages {
        let role = match message.role.as_str() {
            "developer" => "system",
            "function" => "tool",
            role @ ("system" | "user" | "assistant" | "tool") => role,
            other => return Err(ApiError::BadRequest(format!("`{other}` is no role of a message"))),
        };
        let mut extra = Map::new();
        if let Some(calls) = message.tool_calls.filter(|calls| !calls.is_empty()) {
            let mut known = Vec::with_capacity(calls.len());
            for call in calls {
                let function = call.get("function").unwrap_or(&Value::Null);
                let Some(name) = function.get("name").and_then(Value::as_str) else {
                    return Err(ApiError::BadRequest("a tool call has no function name".to_owned()));
                };
                let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
                names.insert(id.to_owned(), name.to_owned());
                known.push(tool_call(id, name, arguments(function.get("arguments"))));
            }
            extra.insert("tool_calls".to_owned(), Value::Array(known));
        }
        if role == "tool" {
            let id = message.tool_call_id.unwrap_or_default();
            let name = message.name.or_else(|| names.get(&id).cloned());
            extra.extend(name.map(|name| ("name".to_owned(), Value::String(name))));
            extra.insert("tool_call_id".to_owned(), Value::String(id));
        } else if let Some(name) = message.name {
            extra.insert("name".to_owned(), Value::String(name));
        }
        if let Some(reasoning) = message.reasoning_content {
            extra.insert("reasoning_content".to_owned(), Value::String(reasoning));
        }
        read.push(Message { role: role.to_owned(), content: Value::String(text(&message.content)?), extra });
    }
    Ok(read)
}

/// A call as templates read it.
pub(crate) fn tool_call(id: &str, name: &str, arguments: Value) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

/// Arguments as an object. What is none, because a model wrote it so, stays text.
pub(super) fn arguments(value: Option<&Value>) -> Value {
    match value {
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
        }
        Some(value) => value.clone(),
        None => json!({}),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn as_templates_read_them() {
        let wire: Vec<WireMessage> = serde_json::from_value(json!([
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        ]))
        .unwrap();
        let read = serde_json::to_value(read(wire).unwrap()).unwrap();
        assert_eq!(
            read,
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "a\nb"},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
                {"role": "tool", "content": "2", "name": "f", "tool_call_id": "call_1"},
            ])
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (wrong, word) in [
            (json!([]), "at least one"),
            (json!([{"role": "robot", "content": "x"}]), "robot"),
            (json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]), "image_url"),
            (json!([{"role": "user", "content": 3}]), "string"),
            (json!([{"role": "assistant", "tool_calls": [{}]}]), "function name"),
        ] {
            let wire: Vec<WireMessage> = serde_json::from_value(wrong).unwrap();
            let message = read(wire).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
