//! Calls that are neither JSON objects nor Python: tags, markers around name and arguments, and Google's notation.
//!
//! Read whole, from the marker that opens to the one that closes. Syntaxes: the chat templates of Qwen3-Coder and Qwen 3.5
//! (tags), DeepSeek R1 and V3.1 (markers), FunctionGemma and Gemma 4 (notation).

use serde_json::{Map, Number, Value};

use super::Tool;
use super::format::Syntax;

const MAX_DEPTH: usize = 32;
/// Markers within calls.
pub(super) const INNER: [&str; 5] =
    ["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<escape>", "<|\"|>"];
/// What stands around strings in Google's notation: FunctionGemma, Gemma 4.
const QUOTES: [&str; 2] = ["<escape>", "<|\"|>"];

/// A name and its arguments.
pub(super) type Call = (String, Map<String, Value>);

/// `<function=name><parameter=key>value</parameter></function>`, one or more. Values are text, or JSON where the schema
/// of the tool says so.
pub(super) fn tags(text: &str, tools: &[Tool]) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, mut body) = rest.strip_prefix("<function=")?.split_once('>')?;
        let name = name.trim();
        let schema = tools.iter().find(|tool| tool.name == name).map(|tool| &tool.schema);
        let mut arguments = Map::new();
        loop {
            body = body.trim_start();
            if body.is_empty() {
                break;
            }
            if let Some(after) = body.strip_prefix("</function>") {
                body = after;
                break;
            }
            let (key, value) = body.strip_prefix("<parameter=")?.split_once('>')?;
            // Models forget to close the last.
            let ends = ["</parameter>", "\n<parameter=", "</function>"];
            let end = ends.iter().find_map(|end| value.find(end)).unwrap_or(value.len());
            let (value, next) = value.split_at(end);
            let value = value.strip_prefix('\n').unwrap_or(value);
            let value = value.strip_suffix('\n').unwrap_or(value);
            let key = key.trim();
            let property = schema.and_then(|schema| schema.get("properties")?.get(key));
            arguments.insert(key.to_owned(), typed(value, property));
            body = next.strip_prefix("</parameter>").unwrap_or(next);
        }
        calls.push((name.to_owned(), arguments));
        rest = body.trim_start();
    }
    (!calls.is_empty() && calls.iter().all(|(name, _)| !name.is_empty())).then_some(calls)
}

/// Whether what looks like the end of a call stands within a value of it.
pub(super) fn is_open(syntax: Syntax, text: &str) -> bool {
    match syntax {
        Syntax::JsonOrTags => {
            text.rfind("<parameter=") > text.rfind("</parameter>")
                && !text.trim_end().ends_with("</function>")
        }
        Syntax::Notation => QUOTES.iter().any(|quote| text.matches(quote).count() % 2 == 1),
        Syntax::Markers | Syntax::JsonOrPython => {
            let (mut quote, mut escaped) = (None, false);
            for c in text.chars() {
                match quote {
                    Some(_) if escaped => escaped = false,
                    Some(_) if c == '\\' => escaped = true,
                    Some(open) if c == open => quote = None,
                    Some(_) => {}
                    None if c == '"' || c == '\'' && syntax == Syntax::JsonOrPython => quote = Some(c),
                    None => {}
                }
            }
            quote.is_some()
        }
        _ => false,
    }
}

/// Whether a value that a schema allows is text, or nothing: in tags it stands as it is, without quotes.
pub fn is_text(schema: &Value) -> bool {
    let is_null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
    match schema.get("type") {
        Some(Value::Array(kinds)) => {
            kinds.iter().any(|kind| kind == "string")
                && kinds.iter().all(|kind| kind == "string" || kind == "null")
        }
        Some(kind) => kind == "string",
        None => match (schema.get("enum"), schema.get("const"), schema.get("anyOf")) {
            (Some(Value::Array(values)), ..) => values.iter().all(Value::is_string),
            (_, Some(value), _) => value.is_string(),
            (_, _, Some(Value::Array(schemas))) => {
                schemas.iter().any(is_text) && schemas.iter().all(|one| is_text(one) || is_null(one))
            }
            _ => false,
        },
    }
}

/// A value of a tag: text, unless the schema wants something else and the text is that.
fn typed(text: &str, schema: Option<&Value>) -> Value {
    let as_text = || Value::String(text.to_owned());
    match schema {
        None => as_text(),
        Some(schema) if is_text(schema) => {
            let may_be_null = schema.get("type").is_none_or(Value::is_array) && schema.get("enum").is_none();
            if may_be_null && text == "null" { Value::Null } else { as_text() }
        }
        Some(_) => {
            let text = match text.trim() {
                "True" => "true",
                "False" => "false",
                "None" => "null",
                text => text,
            };
            serde_json::from_str(text).unwrap_or_else(|_| as_text())
        }
    }
}

/// `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{..}<｜tool▁call▁end｜>`, or with `function` before the separator, and the name
/// and a fenced block behind it; one or more.
pub(super) fn markers(text: &str) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (first, behind) = rest.strip_prefix("<｜tool▁call▁begin｜>")?.split_once("<｜tool▁sep｜>")?;
        let open = behind.find('{')?;
        let (before, object) = behind.split_at(open);
        let mut values = serde_json::Deserializer::from_str(object).into_iter::<Map<String, Value>>();
        let arguments = values.next()?.ok()?;
        rest = object[values.byte_offset()..].trim_start();
        let name = match before.trim().strip_suffix("```json") {
            Some(name) => {
                rest = rest.strip_prefix("```")?.trim_start();
                name
            }
            None if before.trim().is_empty() => first,
            None => return None,
        };
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        calls.push((name.to_owned(), arguments));
        rest = rest.strip_prefix("<｜tool▁call▁end｜>").unwrap_or(rest).trim_start();
    }
    (!calls.is_empty()).then_some(calls)
}

/// `call:name{key:<escape>text<escape>,other:1}`
pub(super) fn notation(text: &str) -> Option<Vec<Call>> {
    let text = text.trim().strip_prefix("call:")?;
    let open = text.find('{')?;
    let name = text[..open].trim();
    let mut reader = Reader { rest: &text[open..], depth: 0 };
    let Some(Value::Object(arguments)) = reader.value() else { return None };
    let whole = reader.rest.trim().is_empty() && !name.is_empty() && !name.contains(char::is_whitespace);
    whole.then(|| vec![(name.to_owned(), arguments)])
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        let found = self.rest.strip_prefix(c);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn quoted(&mut self) -> Option<String> {
        let (quote, rest) = QUOTES.iter().find_map(|quote| Some((*quote, self.rest.strip_prefix(quote)?)))?;
        let (text, rest) = rest.split_once(quote)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn value(&mut self) -> Option<Value> {
        self.rest = self.rest.trim_start();
        if let Some(text) = self.quoted() {
            return Some(Value::String(text));
        }
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = if self.take('{') {
            self.object().map(Value::Object)
        } else if self.take('[') {
            self.list().map(Value::Array)
        } else {
            self.bare()
        };
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        if self.take('}') {
            return Some(map);
        }
        loop {
            self.rest = self.rest.trim_start();
            let key = match self.quoted() {
                Some(key) => key,
                None => {
                    let end = self.rest.find(':')?;
                    let key = self.rest[..end].trim().to_owned();
                    self.rest = &self.rest[end..];
                    key
                }
            };
            if key.is_empty() || !self.take(':') {
                return None;
            }
            map.insert(key, self.value()?);
            if !self.take(',') {
                return self.take('}').then_some(map);
            }
        }
    }

    fn list(&mut self) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        if self.take(']') {
            return Some(items);
        }
        loop {
            items.push(self.value()?);
            if !self.take(',') {
                return self.take(']').then_some(items);
            }
        }
    }

    /// A number, a word of JSON, or else text without quotes.
    fn bare(&mut self) -> Option<Value> {
        let end = self.rest.find([',', '}', ']'])?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        let text = text.trim();
        Some(match text {
            "" => return None,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" | "None" => Value::Null,
            text => match text.parse::<Number>() {
                Ok(number) => Value::Number(number),
                Err(_) => Value::String(text.to_owned()),
            },
        })
    }
}
