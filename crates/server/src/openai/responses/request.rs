//! A request of `/v1/responses`, made into a job, and described as the response repeats it.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use whit_engine::{Message, SamplerConfig};
use whit_sample::Grammar;

use super::items;
use crate::config::OverflowPolicy;
use crate::error::ApiError;
use crate::generate::Job;
use crate::openai::answer::{self, Manner, ToolChoice};
use crate::openai::describe::{ResponseInput, ResponseTextFormat, ResponseTool, ResponseToolChoice};
use crate::openai::metadata::{self, Metadata};
use crate::openai::sampling::{self, Settings};
use crate::prompt::{Chat, Input};

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseRequest)]
pub(crate) struct CreateResponse {
    /// The name of a model that is here.
    pub(super) model: String,
    /// A text, or a list of items: messages, calls of functions and their results, thoughts.
    #[serde(default)]
    #[schema(required, value_type = ResponseInput)]
    pub(super) input: Value,
    /// The system message of this response alone.
    instructions: Option<String>,
    #[serde(flatten)]
    settings: Settings,
    /// Answer in events as tokens come.
    #[schema(default = false)]
    pub(super) stream: Option<bool>,
    /// Most tokens of the answer. Default: until the context is full.
    #[schema(minimum = 1)]
    max_output_tokens: Option<i64>,
    text: Option<TextConfig>,
    reasoning: Option<ReasoningConfig>,
    #[schema(value_type = Option<Vec<ResponseTool>>)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    #[schema(value_type = Option<ResponseToolChoice>)]
    tool_choice: Value,
    /// Whether there may be several calls in one answer.
    #[schema(default = true)]
    pub(super) parallel_tool_calls: Option<bool>,
    truncation: Option<Truncation>,
    /// The response that this one goes on from.
    pub(super) previous_response_id: Option<String>,
    /// Keep it.
    #[schema(default = true)]
    pub(super) store: Option<bool>,
    /// Comes back as it is.
    metadata: Option<Metadata>,
    /// Not offered: must not be true.
    background: Option<bool>,
    /// Not offered: must not be there.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    conversation: Value,
    /// Not offered: must not be there.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    prompt: Value,
}

/// How the text shall be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ResponseText)]
struct TextConfig {
    #[schema(value_type = Option<ResponseTextFormat>)]
    format: Value,
}

/// How much the model shall think.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = Reasoning)]
struct ReasoningConfig {
    /// `none` and `minimal` switch thinking off, all others on.
    effort: Option<String>,
}

/// What happens to a conversation that outgrows the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Truncation {
    /// The oldest messages go.
    Auto,
    /// It is refused.
    Disabled,
}

fn bad<T>(text: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(text.into()))
}

impl CreateResponse {
    /// The job, and the tools that the model may call, as chat completions write them. `items`: the conversation.
    pub(super) fn job<'a>(
        &self,
        manner: &Manner,
        items: impl Iterator<Item = &'a Value>,
    ) -> Result<(Job, Vec<Value>), ApiError> {
        for (name, asked) in [
            ("background", self.background == Some(true)),
            ("conversation", !self.conversation.is_null()),
            ("prompt", !self.prompt.is_null()),
        ] {
            if asked {
                return bad(format!("`{name}` is not offered by this server"));
            }
        }
        self.metadata.as_ref().map_or(Ok(()), metadata::check)?;
        let (tools, choice) = self.tools()?;
        let grammar = self.text.as_ref().map_or(Ok(None), |text| format(&text.format))?;
        let mut chat = Chat { messages: items::messages(items)?, ..Chat::default() };
        if let Some(instructions) = &self.instructions {
            chat.messages.insert(0, Message::system(instructions));
        }
        manner.offer(&mut chat, &tools);
        if let Some(effort) = self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref()) {
            manner.effort(&mut chat, effort)?;
        }
        let mut job = Job::new(&self.model, Input::Chat(chat));
        self.settings.apply(&mut job, 0, manner.parameters())?;
        job.max_tokens =
            sampling::max_tokens(self.max_output_tokens, "max_output_tokens")?.or(job.max_tokens);
        job.grammar = grammar;
        manner.bind(&mut job, &choice, &tools, self.parallel_tool_calls.unwrap_or(true))?;
        job.overflow = job.overflow.or(self.truncation.map(|truncation| match truncation {
            Truncation::Auto => OverflowPolicy::DropOldest,
            Truncation::Disabled => OverflowPolicy::Error,
        }));
        Ok((job, tools))
    }

    /// The tools and whether one has to be called.
    fn tools(&self) -> Result<(Vec<Value>, ToolChoice), ApiError> {
        let mut tools = Vec::new();
        for tool in self.tools.iter().flatten() {
            let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
            if kind != "function" {
                return bad(format!("tools of type `{kind}` are not offered by this server; give functions"));
            }
            if tool.get("name").and_then(Value::as_str).is_none() {
                return bad("each of the tools must have a name");
            }
            let fields = ["name", "description", "parameters"];
            let function: Map<String, Value> = fields
                .iter()
                .filter_map(|&field| Some((field.to_owned(), tool.get(field)?.clone())))
                .filter(|(_, value)| !value.is_null())
                .collect();
            tools.push(json!({"type": "function", "function": function}));
        }
        let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
        let choice = match (self.tool_choice.as_str(), self.tool_choice.get("type").and_then(Value::as_str)) {
            (Some("auto"), _) => ToolChoice::Auto,
            (Some("none"), _) => ToolChoice::None,
            (Some("required" | "any"), _) => ToolChoice::Required,
            (None, Some("function")) => match name(&self.tool_choice) {
                Some(name) => ToolChoice::Named(name),
                None => return bad("tool_choice names no function"),
            },
            (None, Some("allowed_tools")) => {
                let allowed = self.tool_choice.get("tools").and_then(Value::as_array);
                let allowed: Vec<String> = allowed.into_iter().flatten().filter_map(name).collect();
                tools.retain(|tool| {
                    tool.pointer("/function/name")
                        .and_then(Value::as_str)
                        .is_some_and(|name| allowed.iter().any(|allowed| allowed == name))
                });
                match self.tool_choice.get("mode").and_then(Value::as_str) {
                    Some("required") => ToolChoice::Required,
                    _ => ToolChoice::Auto,
                }
            }
            (None, None) if self.tool_choice.is_null() => ToolChoice::Auto,
            _ => return bad("tool_choice must be `none`, `auto`, `required`, or name a function"),
        };
        if choice == ToolChoice::None {
            tools.clear();
        }
        Ok((tools, choice))
    }

    /// The response as it is before there is an answer.
    pub(super) fn describe(&self, id: &str, created: u64, sampling: &SamplerConfig) -> Value {
        let choice = if self.tool_choice.is_null() { json!("auto") } else { self.tool_choice.clone() };
        let format = self.text.as_ref().map(|text| &text.format).filter(|format| !format.is_null());
        let effort = self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref());
        json!({
            "id": id, "object": "response", "created_at": created, "status": "in_progress", "background": false,
            "error": null, "incomplete_details": null, "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens, "model": self.model, "output": [],
            "parallel_tool_calls": self.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": self.previous_response_id,
            "reasoning": {"effort": effort, "summary": null},
            "store": self.store.unwrap_or(true),
            "temperature": sampling.temperature, "top_p": sampling.top_p,
            "text": {"format": format.unwrap_or(&json!({"type": "text"}))},
            "tool_choice": choice, "tools": self.tools.as_deref().unwrap_or_default(),
            "truncation": match self.truncation {
                Some(Truncation::Auto) => "auto",
                _ => "disabled",
            },
            "usage": null, "metadata": self.metadata.clone().unwrap_or_default(),
        })
    }
}

/// The grammar that `text.format` demands.
fn format(format: &Value) -> Result<Option<Grammar>, ApiError> {
    match format.get("type").and_then(Value::as_str) {
        None if format.is_null() => Ok(None),
        Some("text") => Ok(None),
        Some("json_object") => answer::grammar(Grammar::json()).map(Some),
        Some("json_schema") => match format.get("schema") {
            Some(schema) => answer::grammar(Grammar::json_schema(schema)).map(Some),
            None => bad("text.format has no `schema`"),
        },
        _ => bad("text.format.type must be `text`, `json_object` or `json_schema`"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn tools(tools: Value, choice: Value) -> Option<(Vec<String>, ToolChoice)> {
        let request = json!({"model": "m", "input": "hi", "tools": tools, "tool_choice": choice});
        let request: CreateResponse = serde_json::from_value(request).unwrap();
        let (tools, choice) = request.tools().ok()?;
        let name = |tool: &Value| tool["function"]["name"].as_str().unwrap().to_owned();
        Some((tools.iter().map(name).collect(), choice))
    }

    #[test]
    fn tools_and_choices() {
        let two = || json!([{"type": "function", "name": "f", "parameters": {}, "strict": true}, {"type": "function", "name": "g"}]);
        let both = || vec!["f".to_owned(), "g".to_owned()];
        let allowed = |mode: &str| json!({"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "g"}]});
        for (choice, expected) in [
            (json!(null), Some((both(), ToolChoice::Auto))),
            (json!("auto"), Some((both(), ToolChoice::Auto))),
            (json!("none"), Some((vec![], ToolChoice::None))),
            (json!("required"), Some((both(), ToolChoice::Required))),
            (json!({"type": "function", "name": "g"}), Some((both(), ToolChoice::Named("g".to_owned())))),
            (allowed("auto"), Some((vec!["g".to_owned()], ToolChoice::Auto))),
            (allowed("required"), Some((vec!["g".to_owned()], ToolChoice::Required))),
            (json!({"type": "function"}), None),
            (json!({"type": "web_search"}), None),
            (json!("sometimes"), None),
            (json!(1), None),
        ] {
            assert_eq!(tools(two(), choice.clone()), expected, "{choice}");
        }
        for wrong in [json!([{"type": "web_search"}]), json!([{"type": "function"}]), json!([1])] {
            assert_eq!(tools(wrong.clone(), json!(null)), None, "{wrong}");
        }
    }

    #[test]
    fn formats() {
        for (value, expected) in [
            (json!(null), Some(false)),
            (json!({"type": "text"}), Some(false)),
            (json!({"type": "json_object"}), Some(true)),
            (json!({"type": "json_schema", "name": "x", "schema": {"type": "object"}}), Some(true)),
            (json!({"type": "json_schema", "name": "x"}), None),
            (json!({"type": "xml"}), None),
            (json!("json"), None),
        ] {
            assert_eq!(format(&value).ok().map(|grammar| grammar.is_some()), expected, "{value}");
        }
    }
}
