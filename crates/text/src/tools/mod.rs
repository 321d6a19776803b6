//! What a model says besides its answer: tool calls, each family in its own spelling, and thoughts.
//!
//! A [`ToolParser`] takes the pieces of an answer as they come and gives [`ToolEvent`]s. It holds back what may be the
//! beginning of a call, no more, and loses nothing: what turns out to be none is given back as text, only white space
//! around calls is dropped. A [`ThinkSplitter`] parts thoughts from the answer before that, and an [`AnswerReader`] is both.
//! Markers come as text, or as control tokens, by family; what they stand around is the same.
//!
//! ```
//! use whit_text::tools::{ToolEvent, ToolFormat, ToolParser};
//!
//! let tools = [serde_json::json!({"type": "function", "function": {"name": "weather", "parameters": {}}})];
//! let mut parser = ToolParser::new(ToolFormat::Hermes, &tools);
//! let mut events = Vec::new();
//! for piece in ["Let me see.\n<tool_", "call>\n{\"name\": \"weather\", \"arguments\": {\"city\"", ": \"Bern\"}}\n</tool_call>"] {
//!     parser.push(piece, &mut events);
//! }
//! parser.finish(&mut events);
//! assert_eq!(events, [
//!     ToolEvent::Content("Let me see.".into()),
//!     ToolEvent::ToolCallStart { index: 0, name: "weather".into() },
//!     ToolEvent::ToolCallArguments("{\"city\": \"Bern\"}".into()),
//!     ToolEvent::ToolCallEnd,
//! ]);
//! ```

mod body;
mod format;
mod markup;
mod parser;
mod python;
mod reader;
mod scan;
mod think;

use serde_json::Value;

pub use format::ToolFormat;
pub use markup::is_text;
pub use parser::ToolParser;
pub use reader::{AnswerPart, AnswerReader};
pub use think::{ThinkSplitter, ThinkTags, Thought, think_switches};

/// One step of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolEvent {
    /// Text of the answer.
    Content(String),
    /// A call begins.
    ToolCallStart {
        /// The how-manieth of this answer, from 0.
        index: usize,
        /// The function.
        name: String,
    },
    /// The next part of the arguments, a JSON object, of the call that began last.
    ToolCallArguments(String),
    /// The call that began last is over. Its arguments are a whole object, unless the model broke off or wrote what is
    /// no JSON; [`ToolParser::whole_calls`] leaves such calls in the text.
    ToolCallEnd,
}

/// Appends an event; text goes to the event before, if that is of the same kind.
fn emit(out: &mut Vec<ToolEvent>, event: ToolEvent) {
    match (out.last_mut(), event) {
        (_, ToolEvent::Content(text) | ToolEvent::ToolCallArguments(text)) if text.is_empty() => {}
        (Some(ToolEvent::Content(before)), ToolEvent::Content(text))
        | (Some(ToolEvent::ToolCallArguments(before)), ToolEvent::ToolCallArguments(text)) => {
            before.push_str(&text);
        }
        (_, event) => out.push(event),
    }
}

/// A tool that the model was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tool {
    name: String,
    /// Its parameters, the required ones first.
    parameters: Vec<String>,
    /// The schema of all of them.
    schema: Value,
}

impl Tool {
    /// From `{"type": "function", "function": {..}}`, or from what stands inside.
    fn read(definition: &Value) -> Option<Tool> {
        let function = definition.get("function").unwrap_or(definition);
        let schema = function.get("parameters").or_else(|| function.get("input_schema"));
        let required = schema.and_then(|schema| schema.get("required")).and_then(Value::as_array);
        let mut parameters: Vec<String> =
            required.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
        for name in properties.into_iter().flat_map(|properties| properties.keys()) {
            if !parameters.contains(name) {
                parameters.push(name.clone());
            }
        }
        let schema = schema.cloned().unwrap_or_default();
        Some(Tool { name: function.get("name")?.as_str()?.to_owned(), parameters, schema })
    }
}

#[cfg(test)]
mod tests;
