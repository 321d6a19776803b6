//! What a chat template is given.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::TemplateTokens;

/// Names by which messages carry a model's thoughts. Templates read the first, those of gpt-oss the second: as
/// `transformers` does it, they find what any of the three holds.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// One message of a conversation. Everything beyond role and content (`tool_calls`, `reasoning_content`, `name`, ..) goes
/// through as it is: templates differ in what they read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// Text; a list of parts, for templates that take one; null for an answer that only calls tools.
    #[serde(default)]
    pub content: Value,
    /// All other fields.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Value::String(content.into()), extra: Map::new() }
    }

    /// The system's instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// The content, if it is plain text.
    pub fn text(&self) -> Option<&str> {
        self.content.as_str()
    }
}

/// A conversation, and how to render it.
#[derive(Clone, Debug)]
pub struct ChatInput<'a> {
    /// The messages so far.
    pub messages: &'a [Message],
    /// Tool definitions as JSON schemas; empty means that the template is told of none.
    pub tools: &'a [Value],
    /// End with the opening of an answer.
    pub add_generation_prompt: bool,
    /// More variables for the template, e.g. `enable_thinking`.
    pub extra: Map<String, Value>,
    /// Seconds since 1970 in local time, for templates that print the date; none: the system's clock, in UTC.
    pub now: Option<i64>,
}

impl<'a> ChatInput<'a> {
    /// A conversation that the model is to answer.
    pub fn new(messages: &'a [Message]) -> Self {
        Self { messages, tools: &[], add_generation_prompt: true, extra: Map::new(), now: None }
    }

    /// The template's variables, every string of messages and tools passed through `protect`, and the bytes of these.
    pub(super) fn context(
        &self,
        tokens: &TemplateTokens,
        protect: &dyn Fn(String) -> String,
    ) -> (minijinja::Value, usize) {
        let mut bytes = self.messages.len() * 64;
        let mut context: Vec<(&str, minijinja::Value)> = Vec::new();
        let messages = self.messages.iter().map(|message| {
            let mut fields = vec![
                ("role".to_owned(), minijinja::Value::from(message.role.as_str())),
                ("content".to_owned(), protected(&message.content, protect, &mut bytes)),
            ];
            let reasoning =
                REASONING.iter().find_map(|&name| message.extra.get(name).filter(|v| !v.is_null()));
            if let Some(reasoning) = reasoning {
                fields.push(("thinking".to_owned(), protected(reasoning, protect, &mut bytes)));
            }
            let extra = message.extra.iter();
            fields.extend(
                extra.map(|(key, value)| (protect(key.clone()), protected(value, protect, &mut bytes))),
            );
            if let Some(reasoning) = reasoning {
                fields.push((REASONING[0].to_owned(), protected(reasoning, protect, &mut bytes)));
            }
            minijinja::Value::from_pairs(fields)
        });
        context.push(("messages", messages.collect()));
        let tools = self.tools.iter().map(|tool| protected(tool, protect, &mut bytes)).collect::<Vec<_>>();
        context.push(("tools", if tools.is_empty() { minijinja::Value::from(()) } else { tools.into() }));
        context.push(("documents", minijinja::Value::from(())));
        context.push(("add_generation_prompt", self.add_generation_prompt.into()));
        for (name, text) in [
            ("bos_token", &tokens.bos),
            ("eos_token", &tokens.eos),
            ("unk_token", &tokens.unk),
            ("pad_token", &tokens.pad),
        ] {
            context.extend(text.as_deref().map(|text| (name, minijinja::Value::from(text))));
        }
        for (name, value) in &self.extra {
            context.push((name, protected(value, protect, &mut bytes)));
        }
        (minijinja::Value::from_pairs(context), bytes)
    }
}

/// The value for the template, every string passed through `protect`; counts the bytes of the strings.
fn protected(value: &Value, protect: &dyn Fn(String) -> String, bytes: &mut usize) -> minijinja::Value {
    *bytes += 16;
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(yes) => minijinja::Value::from(*yes),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), _, _) => minijinja::Value::from(n),
            (_, Some(n), _) => minijinja::Value::from(n),
            (_, _, x) => minijinja::Value::from(x.unwrap_or(f64::NAN)),
        },
        Value::String(text) => {
            *bytes += text.len();
            minijinja::Value::from(protect(text.clone()))
        }
        Value::Array(items) => items.iter().map(|item| protected(item, protect, bytes)).collect(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| {
                *bytes += key.len();
                (protect(key.clone()), protected(value, protect, bytes))
            });
            minijinja::Value::from_pairs(pairs.collect::<Vec<_>>())
        }
    }
}
