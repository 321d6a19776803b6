//! What stands between a wire request with tools and a job, and between a stream and a wire answer: shared by the APIs
//! that know thoughts and tool calls.

use serde_json::{Map, Value};
use whit_engine::{CallChoice, Calls, Event, FinishReason, Message, Usage};
use whit_sample::{Grammar, SampleError};
pub(crate) use whit_text::tools::{AnswerPart as Part, AnswerReader as Reader};
use whit_text::tools::{ThinkSplitter, ThinkTags, ToolFormat, ToolParser, think_switches};

use crate::error::ApiError;
use crate::generate::{Job, Stream};
use crate::own::blocking;
use crate::prompt::Chat;
use crate::state::AppState;

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
    format: ToolFormat,
    think: Option<ThinkTags>,
    knows_tools: bool,
    /// The variables by which the template lets thinking be switched.
    switches: Vec<&'static str>,
    /// The template knows how hard to think.
    knows_effort: bool,
    /// The model's own options.
    parameters: Map<String, Value>,
}

impl Manner {
    /// Of the model of this name.
    pub(crate) async fn of(state: &AppState, model: &str) -> Result<Manner, ApiError> {
        let (state, model) = (state.clone(), model.to_owned());
        blocking(move || {
            let entry = state.find(&model)?;
            let facts = state.library.facts(&entry)?;
            let own = entry.recipe.as_ref().and_then(|recipe| recipe.extras.template.as_deref());
            let manner = Manner::read(own.or(facts.template.as_deref()), &facts.info.architecture);
            Ok(Manner { parameters: entry.parameters(), ..manner })
        })
        .await
    }

    fn read(template: Option<&str>, architecture: &str) -> Manner {
        let knows_tools = template.is_some_and(|template| template.contains("tools"));
        let mentions = |word: &str| template.is_some_and(|template| template.contains(word));
        Manner {
            // A model that is told of tools in words answers in JSON.
            format: if knows_tools { ToolFormat::detect(template, architecture) } else { ToolFormat::Json },
            think: template.and_then(ThinkTags::detect),
            knows_tools,
            switches: template.map(think_switches).unwrap_or_default(),
            knows_effort: mentions("reasoning_effort"),
            parameters: Map::new(),
        }
    }

    /// The options that the model brings.
    pub(crate) fn parameters(&self) -> &Map<String, Value> {
        &self.parameters
    }

    /// Takes thoughts for text from now on.
    pub(crate) fn forget_thoughts(&mut self) {
        self.think = None;
    }

    /// Switches thinking on or off, where the template can.
    pub(crate) fn think(&self, chat: &mut Chat, on: bool) {
        for switch in &self.switches {
            chat.variables.insert((*switch).to_owned(), Value::Bool(on));
        }
    }

    /// Says how hard to think, in OpenAI's words.
    pub(crate) fn effort(&self, chat: &mut Chat, effort: &str) -> Result<(), ApiError> {
        const KNOWN: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
        if !KNOWN.contains(&effort) {
            let text = format!("reasoning effort is `{effort}`, but must be one of {}", KNOWN.join(", "));
            return Err(ApiError::BadRequest(text));
        }
        let thinks = !matches!(effort, "none" | "minimal");
        self.think(chat, thinks);
        if self.knows_effort && thinks {
            // Templates know three.
            let effort = if matches!(effort, "xhigh" | "max") { "high" } else { effort };
            chat.variables.insert("reasoning_effort".to_owned(), effort.into());
        }
        Ok(())
    }

    /// Binds the answer: thoughts first, then a call if `choice` demands one, or whatever the job's own grammar says. Calls
    /// are bound to the tools and the schemas of their arguments; `parallel`: there may be several.
    pub(crate) fn bind(
        &self,
        job: &mut Job,
        choice: &ToolChoice,
        tools: &[Value],
        parallel: bool,
    ) -> Result<(), ApiError> {
        job.thoughts.clone_from(&self.think);
        let choice = match choice {
            ToolChoice::None => return Ok(()),
            ToolChoice::Auto => CallChoice::May,
            ToolChoice::Required if tools.is_empty() => {
                let text = "tool_choice demands a call, but there are no tools";
                return Err(ApiError::BadRequest(text.to_owned()));
            }
            ToolChoice::Required => CallChoice::Must,
            ToolChoice::Named(name) => {
                let names = |tool: &Value| {
                    tool.get("function").unwrap_or(tool).get("name") == Some(&name.as_str().into())
                };
                if !tools.iter().any(names) {
                    let text = format!("tool_choice names `{name}`, which is not among the tools");
                    return Err(ApiError::BadRequest(text));
                }
                CallChoice::MustBe(name.clone())
            }
        };
        if !tools.is_empty() {
            job.calls = Some(Calls { format: self.format, tools: tools.to_vec(), choice, parallel });
        }
        Ok(())
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

    /// A reader of the answer that `stream` will give. `tools`: those that the model may call.
    pub(crate) fn reader(&self, stream: &Stream, tools: &[Value], streams: bool) -> Reader {
        let think = self.think.clone().map(|tags| {
            let inside = tags.opened_by(&stream.prompt_end());
            ThinkSplitter::new(tags, inside)
        });
        let parser = (!tools.is_empty()).then(|| ToolParser::new(self.format, tools));
        let tools = if streams { parser } else { parser.map(ToolParser::whole_calls) };
        Reader::new(think, tools)
    }
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
    use serde_json::json;

    use super::*;
    use crate::prompt::Input;

    fn manner(knows_tools: bool) -> Manner {
        Manner::read(Some(if knows_tools { "{{ tools }}<tool_call>" } else { "" }), "llama")
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
        let bind = |choice: ToolChoice, tools: &[Value]| {
            let mut job = Job::new("m", Input::Text(String::new()));
            manner(true).bind(&mut job, &choice, tools, true).map(|()| job.calls.map(|calls| calls.choice))
        };
        assert_eq!(bind(ToolChoice::Auto, &[]).unwrap(), None);
        assert_eq!(bind(ToolChoice::None, &tools()).unwrap(), None);
        assert_eq!(bind(ToolChoice::Auto, &tools()).unwrap(), Some(CallChoice::May));
        assert_eq!(bind(ToolChoice::Required, &tools()).unwrap(), Some(CallChoice::Must));
        let named = |name: &str| ToolChoice::Named(name.to_owned());
        assert_eq!(bind(named("f"), &tools()).unwrap(), Some(CallChoice::MustBe("f".to_owned())));
        assert!(bind(named("g"), &tools()).is_err());
        assert!(bind(ToolChoice::Required, &[]).is_err());
    }

    #[test]
    fn templates_say_how_they_think() {
        for (template, effort, expected) in [
            (
                "{% if enable_thinking %}<think></think>{% endif %}",
                "none",
                Some(json!({"enable_thinking": false})),
            ),
            (
                "{% if enable_thinking %}<think></think>{% endif %}",
                "high",
                Some(json!({"enable_thinking": true})),
            ),
            ("{% if thinking %}{% endif %}", "low", Some(json!({"thinking": true}))),
            ("{{ reasoning_effort }}", "xhigh", Some(json!({"reasoning_effort": "high"}))),
            ("{{ reasoning_effort }}", "minimal", Some(json!({}))),
            ("{{ messages }}", "medium", Some(json!({}))),
            ("{{ messages }}", "hard", None),
        ] {
            let mut chat = Chat::default();
            let result = Manner::read(Some(template), "llama").effort(&mut chat, effort);
            assert_eq!(result.ok().map(|()| Value::Object(chat.variables)), expected, "{template} {effort}");
        }
    }
}
