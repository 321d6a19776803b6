//! What stands between a wire request with tools and a job, and between a stream and a wire answer: shared by the APIs
//! that know thoughts and tool calls.

use serde_json::{Map, Value, json};
use whit_engine::{Event, FinishReason, Message, Usage};
use whit_sample::{Grammar, SampleError};
pub(crate) use whit_text::tools::{AnswerPart as Part, AnswerReader as Reader};
use whit_text::tools::{ThinkSplitter, ThinkTags, ToolFormat, ToolParser};

use crate::error::ApiError;
use crate::generate::Stream;
use crate::own::blocking;
use crate::prompt::Chat;
use crate::state::AppState;

/// Tokens at the end of a prompt among which a thought may begin.
const PROMPT_TAIL: usize = 16;

/// Whether the model has to call a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// It may.
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(String),
}

/// How a model speaks of tools and thoughts, by its template.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) format: ToolFormat,
    think: Option<ThinkTags>,
    knows_tools: bool,
    can_switch_thinking: bool,
}

impl Manner {
    /// Of the model of this name.
    pub(crate) async fn of(state: &AppState, model: &str) -> Result<Manner, ApiError> {
        let (state, model) = (state.clone(), model.to_owned());
        blocking(move || {
            let entry = state.find(&model)?;
            let facts = state.library.facts(&entry)?;
            let own = entry.recipe.as_ref().and_then(|recipe| recipe.template.as_deref());
            let template = own.or(facts.template.as_deref());
            Ok(Manner {
                format: ToolFormat::detect(template, &facts.info.architecture),
                think: template.and_then(ThinkTags::detect),
                knows_tools: template.is_some_and(|template| template.contains("tools")),
                can_switch_thinking: template.is_some_and(|template| template.contains("enable_thinking")),
            })
        })
        .await
    }

    /// Switches thinking on or off, where the template can.
    pub(crate) fn think(&self, chat: &mut Chat, on: bool) {
        if self.can_switch_thinking {
            chat.variables.insert("enable_thinking".to_owned(), Value::Bool(on));
        }
    }

    /// Tells the model of its tools. To a model whose template knows of none they are told in words.
    pub(crate) fn offer(&self, chat: &mut Chat, tools: &[Value]) {
        if self.knows_tools {
            chat.tools = tools.to_vec();
            return;
        }
        for message in &mut chat.messages {
            in_words(message);
        }
        if tools.is_empty() {
            return;
        }
        let mut text = String::from("You can call these functions, one JSON schema per line:\n");
        for tool in tools {
            text.push_str(&format!("{}\n", tool.get("function").unwrap_or(tool)));
        }
        text.push_str(
            "To call one, answer with nothing but JSON like {\"name\": \"function\", \"arguments\": {\"key\": \"value\"}}.",
        );
        match chat.messages.first_mut().filter(|first| first.role == "system") {
            Some(system) => {
                let before = system.text().unwrap_or_default();
                *system = Message::system(format!("{before}\n\n{text}"));
            }
            None => chat.messages.insert(0, Message::system(text)),
        }
    }

    /// The grammar of an answer that must be a call.
    pub(crate) fn forced(&self, choice: &ToolChoice, tools: &[Value]) -> Result<Option<Grammar>, ApiError> {
        let name = match choice {
            ToolChoice::Auto | ToolChoice::None => return Ok(None),
            ToolChoice::Required => None,
            ToolChoice::Named(name) => Some(name.as_str()),
        };
        let key = if self.format == ToolFormat::Llama3 { "parameters" } else { "arguments" };
        let mut calls = Vec::new();
        let mut shared = Map::new();
        for tool in tools {
            let function = tool.get("function").unwrap_or(tool);
            let this = function.get("name").and_then(Value::as_str).unwrap_or_default();
            if name.is_none_or(|name| name == this) {
                let parameters = parameters(function, &mut shared)?;
                calls.push(json!({
                    "type": "object",
                    "properties": {"name": {"const": this}, key: parameters},
                    "required": ["name", key],
                    "additionalProperties": false,
                }));
            }
        }
        let mut schema = match (calls.len(), name) {
            (0, Some(name)) => {
                let text = format!("tool_choice names `{name}`, which is not among the tools");
                return Err(ApiError::BadRequest(text));
            }
            (0, None) => {
                let text = "tool_choice demands a call, but there are no tools";
                return Err(ApiError::BadRequest(text.to_owned()));
            }
            (1, _) => calls.remove(0),
            _ => json!({"anyOf": calls}),
        };
        for (place, definitions) in shared {
            schema[place] = definitions;
        }
        grammar(Grammar::json_schema(&schema)).map(Some)
    }

    /// A reader of the answer that `stream` will give. `tools`: those that the model may call.
    pub(crate) fn reader(&self, stream: &Stream, tools: &[Value], streams: bool) -> Reader {
        let think = self.think.clone().map(|tags| {
            let from = stream.prompt.len().saturating_sub(PROMPT_TAIL);
            let tail: Vec<u8> = stream.prompt[from..].iter().flat_map(|&id| stream.token_bytes(id)).collect();
            let inside = tags.opened_by(&String::from_utf8_lossy(&tail));
            ThinkSplitter::new(tags, inside)
        });
        let parser = (!tools.is_empty()).then(|| ToolParser::new(self.format, tools));
        let tools = if streams { parser } else { parser.map(ToolParser::whole_calls) };
        Reader::new(think, tools)
    }
}

/// The schema of a function's arguments, to be put into a larger one. What it refers to goes to `shared`, for references
/// count from the root. A model that is free to invent parameters does so without end; it gets those named and no more,
/// unless the schema says otherwise.
fn parameters(function: &Value, shared: &mut Map<String, Value>) -> Result<Value, ApiError> {
    let Some(Value::Object(schema)) = function.get("parameters") else {
        return Ok(json!({"type": "object"}));
    };
    let mut schema = schema.clone();
    for place in ["$defs", "definitions"] {
        let Some(Value::Object(definitions)) = schema.remove(place) else { continue };
        let known = shared.entry(place).or_insert_with(|| json!({}));
        for (name, definition) in definitions {
            if known.get(&name).is_some_and(|other| *other != definition) {
                let text = format!("two of the tools define `{place}/{name}` differently; rename one");
                return Err(ApiError::BadRequest(text));
            }
            known[name] = definition;
        }
    }
    if schema.contains_key("properties") && !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Ok(Value::Object(schema))
}

/// A grammar, or why there is none.
pub(crate) fn grammar(grammar: Result<Grammar, SampleError>) -> Result<Grammar, ApiError> {
    grammar.map_err(|error| ApiError::BadRequest(error.to_string()))
}

/// Calls and results as plain text, for templates that know of none.
fn in_words(message: &mut Message) {
    if let Some(Value::Array(calls)) = message.extra.remove("tool_calls") {
        let mut text = message.text().unwrap_or_default().to_owned();
        for call in &calls {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&call.get("function").unwrap_or(call).to_string());
        }
        message.content = Value::String(text);
    }
    if message.role == "tool" {
        let name = message.extra.remove("name");
        let name = name.as_ref().and_then(Value::as_str).unwrap_or("the function");
        *message = Message::user(format!("Result of {name}:\n{}", message.text().unwrap_or_default()));
    }
}

/// One step of an answer.
pub(crate) struct Step {
    pub(crate) parts: Vec<Part>,
    /// The token, its log-probability and the likeliest ones, if they were asked for.
    pub(crate) token: Option<Token>,
    /// The end.
    pub(crate) done: Option<(FinishReason, Usage)>,
}

/// A token with its log-probability.
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) logprob: f32,
    pub(crate) top: Vec<(u32, f32)>,
}

/// The next step; nothing after the end.
pub(crate) async fn step(stream: &mut Stream, reader: &mut Reader) -> Result<Option<Step>, ApiError> {
    loop {
        return Ok(Some(match stream.next().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(error),
            Some(Ok(Event::Shifted { .. } | Event::Prompt(_) | Event::Embedding(_))) => continue,
            Some(Ok(Event::Token { id, text, logprob, top })) => {
                let mut parts = reader.push(&text);
                let control = stream.control(id);
                // The token that ends the answer is no part of it.
                let token = logprob.filter(|_| control.is_none()).map(|logprob| Token { id, logprob, top });
                parts.extend(control.into_iter().flat_map(|spelling| reader.control(spelling)));
                Step { parts, token, done: None }
            }
            Some(Ok(Event::Done(done))) => {
                Step { parts: reader.finish(), token: None, done: Some((done.reason, done.usage)) }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn manner(knows_tools: bool) -> Manner {
        Manner { format: ToolFormat::Hermes, think: None, knows_tools, can_switch_thinking: true }
    }

    fn tools() -> Vec<Value> {
        vec![
            json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}),
        ]
    }

    #[test]
    fn a_template_without_tools_is_told_in_words() {
        let mut chat = Chat {
            messages: vec![
                Message::user("hi"),
                serde_json::from_value(json!({"role": "assistant", "content": "", "tool_calls":
                    [{"function": {"name": "f", "arguments": {}}}]}))
                .unwrap(),
                serde_json::from_value(json!({"role": "tool", "content": "4", "name": "f"})).unwrap(),
            ],
            ..Chat::default()
        };
        manner(false).offer(&mut chat, &tools());
        let roles: Vec<&str> = chat.messages.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        assert!(chat.messages[0].text().unwrap().contains("\"name\":\"f\""));
        let call: Value = serde_json::from_str(chat.messages[2].text().unwrap()).unwrap();
        assert_eq!(call, json!({"name": "f", "arguments": {}}));
        assert_eq!(chat.messages[3].text().unwrap(), "Result of f:\n4");
        assert!(chat.tools.is_empty());
    }

    #[test]
    fn forced_calls_need_tools() {
        let manner = manner(true);
        assert!(manner.forced(&ToolChoice::Auto, &[]).unwrap().is_none());
        assert!(manner.forced(&ToolChoice::Required, &tools()).unwrap().is_some());
        assert!(manner.forced(&ToolChoice::Named("f".to_owned()), &tools()).unwrap().is_some());
        assert!(manner.forced(&ToolChoice::Named("g".to_owned()), &tools()).is_err());
        assert!(manner.forced(&ToolChoice::Required, &[]).is_err());
    }

    #[test]
    fn schemas_of_arguments_move() {
        let function = |kind: &str| {
            json!({"name": "f", "parameters": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}},
                "$defs": {"A": {"type": kind}}}})
        };
        let mut shared = Map::new();
        let moved = parameters(&function("string"), &mut shared).unwrap();
        assert_eq!(
            moved,
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "additionalProperties": false})
        );
        assert_eq!(Value::Object(shared.clone()), json!({"$defs": {"A": {"type": "string"}}}));
        assert!(parameters(&function("string"), &mut shared).is_ok());
        assert!(parameters(&function("integer"), &mut shared).is_err());
        let tools = [json!({"type": "function", "function": function("string")})];
        assert!(manner(true).forced(&ToolChoice::Required, &tools).unwrap().is_some());
    }
}
