//! Calls as patterns, each family in its own syntax: what `whit_text::tools` reads.

use serde_json::{Map, Value, json};
use whit_sample::{Grammar, Pattern, SampleError};
use whit_text::tools::ToolFormat;

use super::arguments::{self, Notation};
use super::{CallChoice, Calls, Spelling};

const KIND: &str = "grammar of tool calls";
/// Most tools of one request.
const MAX_TOOLS: usize = 256;

/// A tool that may be called.
struct Tool {
    name: String,
    /// Of its arguments.
    schema: Value,
}

/// What a call begins with: bound from the start, or after free text.
struct Call {
    bound: Pattern,
    free: Pattern,
}

/// Text, `body` or calls. `loosely`: arguments need not meet schemas that cannot be enforced.
pub(super) fn pattern(
    calls: &Calls,
    body: Option<Pattern>,
    spelling: &Spelling<'_>,
    loosely: bool,
) -> Result<Pattern, SampleError> {
    let tools = tools(calls, loosely)?;
    let call = whole(calls, &tools, spelling)?;
    if calls.choice != CallChoice::May {
        return Ok(call.bound);
    }
    let text = match body {
        Some(body) => return Ok(Pattern::Choice(vec![body, call.bound])),
        // Command R says with a control token that text comes, and with another that it is over.
        None if calls.format == ToolFormat::Cohere => Pattern::Sequence(vec![
            spelling.maybe("<|START_RESPONSE|>"),
            Pattern::Free,
            spelling.maybe("<|END_RESPONSE|>"),
        ]),
        None => Pattern::Free,
    };
    Ok(Pattern::Choice(vec![text, call.free]))
}

/// The tools that may be called, as the grammar has them.
fn tools(calls: &Calls, loosely: bool) -> Result<Vec<Tool>, SampleError> {
    let refuse = |reason: String| Err(SampleError::Grammar { kind: KIND, reason });
    if calls.tools.len() > MAX_TOOLS {
        let (got, most) = (calls.tools.len(), MAX_TOOLS);
        return Err(SampleError::GrammarTooLarge { kind: KIND, what: "tools", got, most });
    }
    let mut tools = Vec::new();
    for definition in &calls.tools {
        let function = definition.get("function").unwrap_or(definition);
        let Some(name) = function.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
            return refuse("a tool has no name".to_owned());
        };
        if matches!(&calls.choice, CallChoice::MustBe(wanted) if wanted != name) {
            continue;
        }
        let mut schema = arguments(function);
        let is_strict = function.get("strict") == Some(&Value::Bool(true));
        if loosely && !is_strict && Grammar::json_schema(&schema).is_err() {
            schema = json!({"type": "object"});
        }
        tools.push(Tool { name: name.to_owned(), schema });
    }
    match (&calls.choice, tools.is_empty()) {
        (CallChoice::MustBe(name), true) => {
            refuse(format!("`{name}` must be called, but is not among the tools"))
        }
        _ => Ok(tools),
    }
}

/// The schema of a function's arguments. A model that is free to invent parameters does so without end; it gets those
/// named and no more, unless the schema says otherwise.
fn arguments(function: &Value) -> Value {
    let Some(Value::Object(schema)) = function.get("parameters") else {
        return json!({"type": "object", "properties": {}, "additionalProperties": false});
    };
    let mut schema: Map<String, Value> = schema.clone();
    schema.entry("type").or_insert_with(|| "object".into());
    if schema.contains_key("properties") && !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Value::Object(schema)
}

/// One call or several, as the family writes them.
fn whole(calls: &Calls, tools: &[Tool], spelling: &Spelling<'_>) -> Result<Call, SampleError> {
    let text = |text: &str| Pattern::text(text);
    let again = |one: Pattern| if calls.several() { one.repeated() } else { Pattern::Blank(0) };
    let each = |write: &dyn Fn(&Tool) -> Result<Pattern, SampleError>| {
        tools.iter().map(write).collect::<Result<Vec<_>, _>>().map(Pattern::Choice)
    };
    // Behind a marker, which stands before every call, or before the list of them.
    let marked = |marker: &str, rest: Pattern, more: Pattern| Call {
        bound: Pattern::Sequence(vec![spelling.pattern(marker), rest.clone(), more.clone()]),
        free: Pattern::Sequence(vec![Pattern::Until(spelling.mark(marker)), rest, more]),
    };
    let one_by_one = |marker: &str, rest: Pattern| {
        let next = Pattern::Sequence(vec![Pattern::Blank(2), spelling.pattern(marker), rest.clone()]);
        marked(marker, rest, again(next))
    };
    let list = |marker: &str, object: Pattern, closer: Pattern| {
        let next = Pattern::Sequence(vec![text(","), Pattern::Blank(8), object.clone()]);
        let parts = vec![
            Pattern::Blank(1),
            text("["),
            Pattern::Blank(8),
            object,
            again(next),
            Pattern::Blank(4),
            text("]"),
            Pattern::Blank(2),
            closer,
        ];
        marked(marker, Pattern::Sequence(parts), Pattern::Blank(0))
    };
    let objects = || each(&|tool| Ok(object(tool, "arguments")));
    Ok(match calls.format {
        ToolFormat::Hermes => {
            let parts =
                vec![Pattern::Blank(2), objects()?, Pattern::Blank(2), spelling.closing("</tool_call>")];
            one_by_one("<tool_call>", Pattern::Sequence(parts))
        }
        ToolFormat::Tags => {
            let call = each(&|tool| arguments::tags(&tool.name, &tool.schema))?;
            let parts = vec![Pattern::Blank(2), call, Pattern::Blank(2), spelling.closing("</tool_call>")];
            one_by_one("<tool_call>", Pattern::Sequence(parts))
        }
        ToolFormat::Mistral => list("[TOOL_CALLS]", objects()?, Pattern::Blank(0)),
        ToolFormat::MistralNamed => {
            let id = match spelling.control("[CALL_ID]") {
                Some(_) => {
                    let id = Pattern::Grammar(Grammar::regex("[a-zA-Z0-9]{9}")?);
                    Pattern::Sequence(vec![spelling.pattern("[CALL_ID]"), id]).optional()
                }
                None => Pattern::Blank(0),
            };
            let call = each(&|tool| {
                let json = Pattern::Json(tool.schema.clone());
                Ok(Pattern::Sequence(vec![
                    text(&tool.name),
                    id.clone(),
                    spelling.pattern("[ARGS]"),
                    Pattern::Blank(1),
                    json,
                ]))
            })?;
            one_by_one("[TOOL_CALLS]", call)
        }
        ToolFormat::Phi4 => list("<|tool_call|>", objects()?, spelling.closing("<|/tool_call|>")),
        ToolFormat::Granite3 => list("<|tool_call|>", objects()?, Pattern::Blank(0)),
        ToolFormat::Nemotron => list("<TOOLCALL>", objects()?, spelling.closing("</TOOLCALL>")),
        ToolFormat::Cohere => {
            let call = each(&numbered)?;
            list("<|START_ACTION|>", call, spelling.closing("<|END_ACTION|>"))
        }
        ToolFormat::Lfm2 => {
            let call = each(&|tool| {
                // Arguments of any name are written as JSON, which the parser takes as well.
                let python = arguments::python(&tool.name, &tool.schema)?;
                Ok(python.unwrap_or_else(|| object(tool, "arguments")))
            })?;
            list("<|tool_call_start|>", call, spelling.closing("<|tool_call_end|>"))
        }
        ToolFormat::DeepSeek => {
            let call = each(&|tool| {
                Ok(Pattern::Sequence(vec![
                    spelling.pattern("<｜tool▁call▁begin｜>"),
                    text("function"),
                    spelling.pattern("<｜tool▁sep｜>"),
                    text(&format!("{}\n```json\n", tool.name)),
                    Pattern::Json(tool.schema.clone()),
                    text("\n```"),
                    spelling.pattern("<｜tool▁call▁end｜>"),
                ]))
            })?;
            let next = Pattern::Sequence(vec![Pattern::Blank(1), call.clone()]);
            let closer = spelling.closing("<｜tool▁calls▁end｜>");
            let parts = Pattern::Sequence(vec![call, again(next), Pattern::Blank(1), closer]);
            marked("<｜tool▁calls▁begin｜>", parts, Pattern::Blank(0))
        }
        ToolFormat::FunctionGemma | ToolFormat::Gemma4 => {
            let (open, close, quote) = match calls.format {
                ToolFormat::Gemma4 => ("<|tool_call>", "<tool_call|>", "<|\"|>"),
                _ => ("<start_function_call>", "<end_function_call>", "<escape>"),
            };
            let notation = Notation { quote: spelling.mark(quote) };
            let call = each(&|tool| notation.call(&tool.name, &tool.schema))?;
            one_by_one(open, Pattern::Sequence(vec![call, spelling.closing(close)]))
        }
        ToolFormat::Llama3 => bare(calls, tools, "parameters", spelling, Some("<|python_tag|>")),
        ToolFormat::Gemma | ToolFormat::Json => bare(calls, tools, "arguments", spelling, None),
    })
}

/// `{"name": "..", "arguments": {..}}`
fn object(tool: &Tool, key: &str) -> Pattern {
    let parts = vec![
        Pattern::text("{"),
        Pattern::Blank(8),
        Pattern::text("\"name\":"),
        Pattern::Blank(1),
        Pattern::text(Value::from(&*tool.name).to_string()),
        rest(tool, key),
    ];
    Pattern::Sequence(parts)
}

/// The same behind the name.
fn rest(tool: &Tool, key: &str) -> Pattern {
    let parts = vec![
        Pattern::text(","),
        Pattern::Blank(8),
        Pattern::text(format!("\"{key}\":")),
        Pattern::Blank(1),
        Pattern::Json(tool.schema.clone()),
        Pattern::Blank(8),
        Pattern::text("}"),
    ];
    Pattern::Sequence(parts)
}

/// `{"tool_call_id": "0", "tool_name": "..", "parameters": {..}}`
fn numbered(tool: &Tool) -> Result<Pattern, SampleError> {
    let parts = vec![
        Pattern::text("{"),
        Pattern::Blank(8),
        Pattern::text("\"tool_call_id\":"),
        Pattern::Blank(1),
        Pattern::Grammar(Grammar::regex("\"[0-9]{1,3}\"")?),
        Pattern::text(","),
        Pattern::Blank(8),
        Pattern::text("\"tool_name\":"),
        Pattern::Blank(1),
        Pattern::text(Value::from(&*tool.name).to_string()),
        rest(tool, "parameters"),
    ];
    Ok(Pattern::Sequence(parts))
}

/// Objects without a marker. In free text a call begins where the answer begins with the name of a tool as an object has it.
fn bare(calls: &Calls, tools: &[Tool], key: &str, spelling: &Spelling<'_>, marker: Option<&str>) -> Call {
    let one = Pattern::Choice(tools.iter().map(|tool| object(tool, key)).collect());
    let next = Pattern::Sequence(vec![Pattern::text(";"), Pattern::Blank(2), one.clone()]);
    // Only Llama was taught how several are written.
    let several = calls.several() && calls.format == ToolFormat::Llama3;
    let more = if several { next.repeated() } else { Pattern::Blank(0) };
    let begins = tools.iter().map(|tool| {
        let name = Value::from(&*tool.name).to_string();
        let before = "[ \\t\\r\\n]{0,8}\\{[ \\t\\r\\n]{0,8}\"name\": ?".to_owned();
        Pattern::Sequence(vec![Pattern::Opening { before, mark: name }, rest(tool, key)])
    });
    let mut begins = vec![Pattern::Sequence(vec![Pattern::Choice(begins.collect()), more.clone()])];
    if let Some(token) = marker.filter(|marker| spelling.control(marker).is_some()) {
        let parts = vec![Pattern::Until(spelling.mark(token)), Pattern::Blank(1), one.clone(), more.clone()];
        begins.push(Pattern::Sequence(parts));
    }
    Call { bound: Pattern::Sequence(vec![one, more]), free: Pattern::Choice(begins) }
}
