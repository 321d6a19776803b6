//! An answer from its first token to its last: thoughts, then text and calls.

use super::{ThinkSplitter, Thought, ToolEvent, ToolParser};

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPart {
    /// Of the thoughts.
    Thinking(String),
    /// Of the text.
    Text(String),
    /// A call begins.
    CallStart {
        /// The how-manieth of this answer, from 0.
        index: usize,
        /// The function.
        name: String,
    },
    /// The next part of the arguments of the call that began last.
    CallArguments(String),
    /// The call that began last is over.
    CallEnd,
}

impl AnswerPart {
    /// Its text, of whatever kind.
    pub fn into_text(self) -> String {
        match self {
            AnswerPart::Thinking(text) | AnswerPart::Text(text) | AnswerPart::CallArguments(text) => text,
            AnswerPart::CallStart { .. } | AnswerPart::CallEnd => String::new(),
        }
    }
}

/// Parts thoughts, text and calls.
///
/// Control tokens are no text; those that a family writes around its thoughts and calls are given by
/// [`control`](Self::control), and none ever comes out.
///
/// ```
/// use whit_text::tools::{AnswerPart, AnswerReader, ToolFormat, ToolParser};
///
/// let tools = [serde_json::json!({"type": "function", "function": {"name": "now", "parameters": {}}})];
/// let mut reader = AnswerReader::new(None, Some(ToolParser::new(ToolFormat::Mistral, &tools)));
/// let mut parts = reader.control("[TOOL_CALLS]");
/// parts.extend(reader.push("now"));
/// parts.extend(reader.control("[ARGS]"));
/// parts.extend(reader.push("{}"));
/// parts.extend(reader.finish());
/// assert_eq!(parts, [
///     AnswerPart::CallStart { index: 0, name: "now".into() },
///     AnswerPart::CallArguments("{}".into()),
///     AnswerPart::CallEnd,
/// ]);
/// ```
#[derive(Clone, Debug)]
pub struct AnswerReader {
    think: Option<ThinkSplitter>,
    tools: Option<ToolParser>,
    thoughts: Vec<Thought>,
    events: Vec<ToolEvent>,
}

impl AnswerReader {
    /// A reader of one answer. Without `think` thoughts are text, without `tools` calls are.
    pub fn new(think: Option<ThinkSplitter>, tools: Option<ToolParser>) -> AnswerReader {
        AnswerReader { think, tools, thoughts: Vec::new(), events: Vec::new() }
    }

    /// Takes text; gives what is certain.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        match &mut self.think {
            Some(think) => think.push(text, &mut self.thoughts),
            None => self.thoughts.push(Thought::Answer(text.to_owned())),
        }
        self.parts()
    }

    /// Takes a control token, as it is spelled.
    pub fn control(&mut self, spelling: &str) -> Vec<AnswerPart> {
        if let Some(think) = &mut self.think {
            // A model that forgets to end its thoughts still means its call.
            let calls = self.tools.as_ref().is_some_and(|tools| tools.begins_with(spelling));
            if think.control(spelling, calls, &mut self.thoughts) {
                return self.parts();
            }
        }
        let mut parts = self.parts();
        if let Some(tools) = &mut self.tools {
            tools.control(spelling, &mut self.events);
            parts.extend(self.parts());
        }
        parts
    }

    /// The rest.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        if let Some(think) = &mut self.think {
            think.finish(&mut self.thoughts);
        }
        let mut parts = self.parts();
        if let Some(tools) = &mut self.tools {
            tools.finish(&mut self.events);
            parts.extend(self.parts());
        }
        parts
    }

    fn parts(&mut self) -> Vec<AnswerPart> {
        let mut parts = Vec::new();
        for thought in self.thoughts.drain(..) {
            match (thought, &mut self.tools) {
                (Thought::Thinking(text), _) => parts.push(AnswerPart::Thinking(text)),
                (Thought::Answer(text), Some(tools)) => tools.push(&text, &mut self.events),
                (Thought::Answer(text), None) => parts.push(AnswerPart::Text(text)),
            }
        }
        parts.extend(self.events.drain(..).map(|event| match event {
            ToolEvent::Content(text) => AnswerPart::Text(text),
            ToolEvent::ToolCallStart { index, name } => AnswerPart::CallStart { index, name },
            ToolEvent::ToolCallArguments(text) => AnswerPart::CallArguments(text),
            ToolEvent::ToolCallEnd => AnswerPart::CallEnd,
        }));
        parts.retain(
            |part| !matches!(part, AnswerPart::Thinking(text) | AnswerPart::Text(text) if text.is_empty()),
        );
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::{ThinkTags, ToolFormat};
    use serde_json::json;

    /// An answer as tokens: text, or control tokens with `!` before.
    fn read(think: Option<(&str, &str, bool)>, format: ToolFormat, tokens: &[&str]) -> Vec<AnswerPart> {
        let tools = [json!({"type": "function", "function": {"name": "f", "parameters": {}}})];
        let think = think.map(|(open, close, inside)| {
            ThinkSplitter::new(ThinkTags { open: open.to_owned(), close: close.to_owned() }, inside)
        });
        let mut reader = AnswerReader::new(think, Some(ToolParser::new(format, &tools)));
        let mut parts: Vec<AnswerPart> = Vec::new();
        for token in tokens {
            parts.extend(match token.strip_prefix('!') {
                Some(spelling) => reader.control(spelling),
                None => reader.push(token),
            });
        }
        parts.extend(reader.finish());
        let mut joined: Vec<AnswerPart> = Vec::new();
        for part in parts {
            match (joined.last_mut(), part) {
                (Some(AnswerPart::Text(before)), AnswerPart::Text(text))
                | (Some(AnswerPart::Thinking(before)), AnswerPart::Thinking(text))
                | (Some(AnswerPart::CallArguments(before)), AnswerPart::CallArguments(text)) => {
                    before.push_str(&text);
                }
                (_, part) => joined.push(part),
            }
        }
        joined
    }

    fn call(index: usize, arguments: &str) -> [AnswerPart; 3] {
        let name = "f".to_owned();
        [
            AnswerPart::CallStart { index, name },
            AnswerPart::CallArguments(arguments.to_owned()),
            AnswerPart::CallEnd,
        ]
    }

    #[test]
    fn markers_that_are_control_tokens() {
        let text = |text: &str| AnswerPart::Text(text.to_owned());
        let thinking = |text: &str| AnswerPart::Thinking(text.to_owned());
        let magistral = Some(("[THINK]", "[/THINK]", false));
        let json = "{\"name\": \"f\", \"arguments\": {\"a\": 1}}";
        let list = format!("[{json}]");
        let two = [call(0, "{\"a\": 1}"), call(1, "{\"a\": 1}")].concat();
        let one = call(0, "{\"a\": 1}").to_vec();
        let llama = json.replace("arguments", "parameters");
        for (think, format, tokens, expected) in [
            (None, ToolFormat::Mistral, vec!["!<s>", "!<pad>", " ", "!</s>"], vec![text(" ")]),
            (
                None,
                ToolFormat::Mistral,
                vec!["!<s>", " ", "!<pad>", &list[..9], &list[9..], "!</s>"],
                one.clone(),
            ),
            (None, ToolFormat::Mistral, vec!["![TOOL_CALLS]", " ", &list, "!</s>"], one.clone()),
            (
                None,
                ToolFormat::Mistral,
                vec![
                    "![TOOL_CALLS]",
                    "f",
                    "![ARGS]",
                    "{\"a\"",
                    ": 1}",
                    "![TOOL_CALLS]",
                    "f",
                    "![ARGS]",
                    "{\"a\": 1}",
                ],
                two.clone(),
            ),
            (
                None,
                ToolFormat::Mistral,
                vec!["Yes. ", "![TOOL_CALLS]", "f", "![CALL_ID]", "9aB", "![ARGS]", "{\"a\": 1}", "!</s>"],
                [vec![text("Yes.")], one.clone()].concat(),
            ),
            // The words of a broken call are not lost; the markers are not words.
            (
                None,
                ToolFormat::Mistral,
                vec!["![TOOL_CALLS]", "no", "![ARGS]", " call"],
                vec![text("no call")],
            ),
            (None, ToolFormat::Mistral, vec!["a ", "![ARGS]", "b", "![TOOL_CALLS]"], vec![text("a b")]),
            (
                magistral,
                ToolFormat::Mistral,
                vec!["![THINK]", "hm", "m ", "![/THINK]", "![TOOL_CALLS]", "f", "![ARGS]", "{\"a\": 1}"],
                [vec![thinking("hmm")], one.clone()].concat(),
            ),
            (
                magistral,
                ToolFormat::Mistral,
                vec!["![THINK]", "hm ![/THINK", "!<x>", "![TOOL_CALLS]", "f", "![ARGS]", "{\"a\": 1}"],
                [vec![thinking("hm ![/THINK")], one.clone()].concat(),
            ),
            (magistral, ToolFormat::Mistral, vec!["!<s>", "No [THINK] here"], vec![text("No [THINK] here")]),
            (
                Some(("<think>", "</think>", true)),
                ToolFormat::Json,
                vec!["a </", "!</think>", " b"],
                vec![thinking("a </"), text("b")],
            ),
            (
                None,
                ToolFormat::Phi4,
                vec!["!<|tool_call|>", &list, "!<|/tool_call|>", "!<|end|>"],
                one.clone(),
            ),
            (None, ToolFormat::Llama3, vec!["!<|python_tag|>", &llama, "!<|eom_id|>"], one.clone()),
            (
                None,
                ToolFormat::Llama3,
                vec!["!<|python_tag|>", "f(a=1", ")", "!<|eom_id|>"],
                call(0, "{\"a\":1}").to_vec(),
            ),
            (
                None,
                ToolFormat::Lfm2,
                vec!["!<|tool_call_start|>", "[f(a=1)]", "!<|tool_call_end|>", " Done."],
                [call(0, "{\"a\":1}").to_vec(), vec![text(" Done.")]].concat(),
            ),
        ] {
            assert_eq!(read(think, format, &tokens), expected, "{format:?} {tokens:?}");
        }
    }
}
