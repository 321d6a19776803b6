//! A request of `/v1/messages`, made into a conversation.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use utoipa::ToSchema;
use whit_engine::{Message, Parameters, SamplerConfig};
use whit_sample::Grammar;

use super::describe::{Choice, Content, OutputConfig, Role, Text, Thinking, Tool};
use crate::config::OverflowPolicy;
use crate::error::ApiError;
use crate::generate::{Job, top_k};
use crate::openai::answer::{self, Manner, ToolChoice};
use crate::openai::messages::{text, tool_call};
use crate::prompt::{Chat, Input};

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicRequest)]
pub(super) struct Request {
    /// The name of a model that is here.
    pub(super) model: String,
    #[schema(min_items = 1)]
    pub(super) messages: Vec<WireMessage>,
    /// Most tokens of the answer. Counting tokens does not ask for it, answering does.
    #[schema(minimum = 1)]
    pub(super) max_tokens: Option<i64>,
    #[serde(default)]
    #[schema(value_type = Option<Text>)]
    system: Value,
    /// 0: always the likeliest token.
    #[schema(minimum = 0, maximum = 1, default = 1.0)]
    temperature: Option<f32>,
    /// Keep the likeliest tokens that together have this probability.
    #[schema(minimum = 0, maximum = 1, default = 1.0)]
    top_p: Option<f32>,
    /// Keep this many of the likeliest tokens; 0 or less: all.
    #[schema(default = 0)]
    top_k: Option<i64>,
    /// Where the answer ends.
    pub(super) stop_sequences: Option<Vec<String>>,
    /// Answer in events as tokens come.
    #[schema(default = false)]
    pub(super) stream: Option<bool>,
    #[schema(value_type = Option<Vec<Tool>>)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    #[schema(value_type = Option<Choice>)]
    tool_choice: Value,
    #[serde(default)]
    #[schema(value_type = Option<Thinking>)]
    thinking: Value,
    #[serde(default)]
    #[schema(value_type = Option<OutputConfig>)]
    output_config: Value,
}

/// One turn.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicMessage)]
pub(super) struct WireMessage {
    #[schema(value_type = Role)]
    role: String,
    #[schema(value_type = Content)]
    content: Value,
}

fn bad(text: impl Into<String>) -> ApiError {
    ApiError::BadRequest(text.into())
}

impl Request {
    /// The tools that the model may call, as OpenAI writes them.
    pub(super) fn tools(&self) -> Result<Vec<Value>, ApiError> {
        if self.choice()? == ToolChoice::None {
            return Ok(Vec::new());
        }
        let read = |tool: &Value| {
            let name = tool
                .get("name")
                .and_then(Value::as_str)
                .ok_or_else(|| bad("tools: each must have a name"))?;
            let Some(schema) = tool.get("input_schema").filter(|schema| schema.is_object()) else {
                return Err(bad(format!(
                    "tools: `{name}` has no `input_schema`; tools of the server are not offered"
                )));
            };
            let mut function = Map::new();
            function.insert("name".to_owned(), name.into());
            if let Some(description) = tool.get("description").filter(|text| !text.is_null()) {
                if !description.is_string() {
                    return Err(bad(format!("tools: the description of `{name}` must be a string")));
                }
                function.insert("description".to_owned(), description.clone());
            }
            function.insert("parameters".to_owned(), schema.clone());
            Ok(json!({"type": "function", "function": function}))
        };
        self.tools.iter().flatten().map(read).collect()
    }

    fn choice(&self) -> Result<ToolChoice, ApiError> {
        let name = self.tool_choice.get("name").filter(|name| !name.is_null());
        if name.is_some_and(|name| !name.is_string()) {
            return Err(bad("tool_choice: `name` must be a string"));
        }
        match self.tool_choice.get("type").and_then(Value::as_str) {
            None if self.tool_choice.is_null() => Ok(ToolChoice::Auto),
            Some("auto") => Ok(ToolChoice::Auto),
            Some("none") => Ok(ToolChoice::None),
            Some("any") => Ok(ToolChoice::Required),
            Some("tool") => match name.and_then(Value::as_str) {
                Some(name) => Ok(ToolChoice::Named(name.to_owned())),
                None => Err(bad("tool_choice: `tool` needs a name")),
            },
            _ => Err(bad("tool_choice: type must be `auto`, `any`, `tool` or `none`")),
        }
    }

    /// The grammar that `output_config.format` demands.
    fn format(&self) -> Result<Option<Grammar>, ApiError> {
        let format = self.output_config.get("format").unwrap_or(&Value::Null);
        match format.get("type").and_then(Value::as_str) {
            None if format.is_null() => Ok(None),
            Some("json_schema") => match format.get("schema") {
                Some(schema) => answer::grammar(Grammar::json_schema(schema)).map(Some),
                None => Err(bad("output_config.format: has no `schema`")),
            },
            _ => Err(bad("output_config.format: type must be `json_schema`")),
        }
    }

    /// The conversation, with what the model is told of its tools.
    pub(super) fn chat(&mut self, manner: &Manner, tools: &[Value]) -> Result<Chat, ApiError> {
        let mut messages = Vec::with_capacity(self.messages.len() + 1);
        let system = text(&self.system)?;
        if !system.is_empty() {
            messages.push(Message::system(system));
        }
        if self.messages.is_empty() {
            return Err(bad("messages: at least one message is required"));
        }
        let mut names = HashMap::new();
        for message in std::mem::take(&mut self.messages) {
            turn(&message, &mut names, &mut messages)?;
        }
        let mut chat = Chat { messages, ..Chat::default() };
        manner.offer(&mut chat, tools);
        if let Some(kind) = self.thinking.get("type").and_then(Value::as_str) {
            manner.think(&mut chat, kind != "disabled");
        }
        Ok(chat)
    }

    /// How tokens are to be chosen, and where to stop: what is asked for, or else what the model brings.
    pub(super) fn parameters(&self, manner: &Manner) -> Result<Parameters, ApiError> {
        if let Some(temperature) = self.temperature.filter(|t| !(0.0..=1.0).contains(t)) {
            return Err(bad(format!("temperature: is {temperature}, but must be from 0 to 1")));
        }
        let defaults = SamplerConfig { temperature: 1.0, top_p: 1.0, top_k: 0, ..SamplerConfig::default() };
        let own = Parameters::read_over(defaults, &[manner.parameters()])?;
        let sampling = SamplerConfig {
            temperature: self.temperature.unwrap_or(own.sampling.temperature),
            top_p: self.top_p.unwrap_or(own.sampling.top_p),
            top_k: self.top_k.map_or(own.sampling.top_k, top_k),
            ..own.sampling
        };
        sampling.validate()?;
        let stop = self.stop_sequences.clone().unwrap_or(own.stop);
        Ok(Parameters { sampling, stop, ..own })
    }

    /// All of it.
    pub(super) fn job(&mut self, manner: &Manner, tools: &[Value]) -> Result<Job, ApiError> {
        let max_tokens = match self.max_tokens {
            Some(n) if n >= 1 => usize::try_from(n).unwrap_or(usize::MAX),
            Some(n) => return Err(bad(format!("max_tokens: is {n}, but must be at least 1"))),
            None => return Err(bad("max_tokens: Field required")),
        };
        let own = self.parameters(manner)?;
        let grammar = self.format()?;
        let chat = self.chat(manner, tools)?;
        let mut job = Job::new(&self.model, Input::Chat(chat));
        job.sampling = own.sampling;
        job.stop = own.stop;
        job.n_keep = own.n_keep;
        job.n_ctx = own.n_ctx;
        job.max_draft = own.max_draft;
        job.overflow = own.overflow.map(|policy| OverflowPolicy::parse(&policy)).transpose()?;
        job.max_tokens = Some(max_tokens);
        job.grammar = grammar;
        let is_single = self.tool_choice.get("disable_parallel_tool_use") == Some(&Value::Bool(true));
        manner.bind(&mut job, &self.choice()?, tools, !is_single)?;
        Ok(job)
    }
}

/// One turn, as one message or several: results of tools are messages of their own.
fn turn(
    message: &WireMessage,
    names: &mut HashMap<String, String>,
    out: &mut Vec<Message>,
) -> Result<(), ApiError> {
    let role = match message.role.as_str() {
        role @ ("user" | "assistant" | "system") => role,
        other => return Err(bad(format!("messages: `{other}` is no role"))),
    };
    let Value::Array(blocks) = &message.content else {
        out.push(Message::new(role, text(&message.content)?));
        return Ok(());
    };
    let field =
        |block: &Value, name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut texts = Vec::new();
    let mut thoughts = Vec::new();
    let mut calls = Vec::new();
    let mut has_results = false;
    for block in blocks {
        match block.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text" => texts.push(field(block, "text")),
            "thinking" => thoughts.push(field(block, "thinking")),
            "redacted_thinking" => {}
            "tool_use" => {
                let (id, name) = (field(block, "id"), field(block, "name"));
                calls.push(tool_call(&id, &name, block.get("input").cloned().unwrap_or_else(|| json!({}))));
                names.insert(id, name);
            }
            "tool_result" => {
                has_results = true;
                let id = field(block, "tool_use_id");
                let mut result = Message::new("tool", text(block.get("content").unwrap_or(&Value::Null))?);
                if let Some(name) = names.get(&id) {
                    result.extra.insert("name".to_owned(), name.as_str().into());
                }
                result.extra.insert("tool_call_id".to_owned(), id.into());
                out.push(result);
            }
            kind => {
                return Err(bad(format!(
                    "messages: this model reads text only, not content of type `{kind}`"
                )));
            }
        }
    }
    if has_results && texts.is_empty() && calls.is_empty() {
        return Ok(());
    }
    let mut read = Message::new(role, texts.join("\n"));
    if !calls.is_empty() {
        read.extra.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    if !thoughts.is_empty() {
        read.extra.insert("reasoning_content".to_owned(), thoughts.join("\n").into());
    }
    out.push(read);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn turns(messages: Value) -> Result<Value, ApiError> {
        let messages: Vec<WireMessage> = serde_json::from_value(messages).unwrap();
        let (mut names, mut out) = (HashMap::new(), Vec::new());
        for message in &messages {
            turn(message, &mut names, &mut out)?;
        }
        Ok(serde_json::to_value(out).unwrap())
    }

    #[test]
    fn turns_as_templates_read_them() {
        let read = turns(json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "I'll look."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "21"}]},
                {"type": "text", "text": "Well?"}]},
        ]));
        assert_eq!(
            read.unwrap(),
            json!([
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": "I'll look.", "reasoning_content": "hm", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
                {"role": "tool", "content": "21", "name": "f", "tool_call_id": "t1"},
                {"role": "user", "content": "Well?"},
            ])
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (wrong, word) in [
            (json!([{"role": "robot", "content": "x"}]), "robot"),
            (json!([{"role": "user", "content": [{"type": "image"}]}]), "image"),
            (json!([{"role": "user", "content": 1}]), "string"),
        ] {
            assert!(turns(wrong).is_err_and(|error| error.to_string().contains(word)), "{word}");
        }
    }

    #[test]
    fn tools_as_openai_writes_them() {
        let request = |tools: Value, choice: Value| -> Request {
            let body = json!({"model": "m", "messages": [], "tools": tools, "tool_choice": choice});
            serde_json::from_value(body).unwrap()
        };
        let tool = json!([{"name": "f", "description": "d", "input_schema": {"type": "object"}}]);
        let expected = json!([{"type": "function", "function":
            {"name": "f", "description": "d", "parameters": {"type": "object"}}}]);
        assert_eq!(Value::from(request(tool.clone(), json!(null)).tools().unwrap()), expected);
        assert!(request(tool.clone(), json!({"type": "none"})).tools().unwrap().is_empty());
        assert!(request(json!([{"type": "web_search", "name": "w"}]), json!(null)).tools().is_err());
        assert!(request(tool, json!({"type": "tool"})).tools().is_err());
    }
}
