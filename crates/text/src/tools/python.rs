//! Calls written as Python: `weather(city="Zürich", days=2)`, alone, one per line, or in a list.
//!
//! Literals only: strings, numbers, True, False, None, lists, tuples, dicts. Anything else is no call. Grammar: the
//! Python language reference, sections 2.4 and 6.3.4. Left out: string prefixes, triple quotes, arithmetic.

use serde_json::{Map, Number, Value};

const MAX_DEPTH: usize = 32;

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PythonCall {
    pub(super) name: String,
    pub(super) positional: Vec<Value>,
    pub(super) named: Map<String, Value>,
}

/// The calls at the beginning of `text`, at least one, and the text after them.
pub(super) fn calls(text: &str) -> Option<(Vec<PythonCall>, &str)> {
    let mut reader = Reader { rest: text, depth: 0 };
    reader.space();
    let list = reader.take('[');
    let mut calls = Vec::new();
    loop {
        reader.space();
        let before = reader.rest;
        let Some(call) = reader.statement() else {
            if list || calls.is_empty() {
                return None;
            }
            reader.rest = before;
            break;
        };
        calls.push(call);
        let after = reader.rest;
        reader.space();
        if list {
            if reader.take(']') {
                break;
            }
            if !reader.take(',') {
                return None;
            }
        } else if !reader.take(';') && !after[..after.len() - reader.rest.len()].contains('\n') {
            reader.rest = after;
            break;
        }
    }
    Some((calls, reader.rest))
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.rest.strip_prefix(c);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn name(&mut self) -> Option<String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!name.is_empty() && !name.starts_with(|c: char| c.is_numeric() || c == '.')).then(|| name.to_owned())
    }

    /// A call, or `print(call)`, which Gemma is shown in its examples.
    fn statement(&mut self) -> Option<PythonCall> {
        let mut name = self.name()?;
        self.space();
        if name == "print" && self.take('(') {
            self.space();
            name = self.name()?;
            self.space();
            let call = self.call(name)?;
            self.space();
            return self.take(')').then_some(call);
        }
        self.call(name)
    }

    fn call(&mut self, name: String) -> Option<PythonCall> {
        // Llama writes its built-in tools as `brave_search.call(..)`.
        let name = name.strip_suffix(".call").map(str::to_owned).unwrap_or(name);
        let mut call = PythonCall { name, positional: Vec::new(), named: Map::new() };
        if !self.take('(') {
            return None;
        }
        loop {
            self.space();
            if self.take(')') {
                return Some(call);
            }
            let before = self.rest;
            let key = self.name();
            self.space();
            match key {
                Some(key) if self.take('=') => {
                    self.space();
                    call.named.insert(key, self.value()?);
                }
                _ if call.named.is_empty() => {
                    self.rest = before;
                    call.positional.push(self.value()?);
                }
                _ => return None,
            }
            self.space();
            if !self.take(',') {
                return self.take(')').then_some(call);
            }
        }
    }

    fn value(&mut self) -> Option<Value> {
        match self.rest.chars().next()? {
            quote @ ('"' | '\'') => self.string(quote).map(Value::String),
            '[' => self.nested(|reader| reader.items(']').map(Value::Array)),
            '(' => self.nested(|reader| reader.items(')').map(Value::Array)),
            '{' => self.nested(Reader::dict),
            '-' | '+' | '.' | '0'..='9' => self.number(),
            _ => match self.name()?.as_str() {
                "True" | "true" => Some(Value::Bool(true)),
                "False" | "false" => Some(Value::Bool(false)),
                "None" | "null" => Some(Value::Null),
                _ => None,
            },
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Option<Value>) -> Option<Value> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        self.rest = &self.rest[1..];
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn items(&mut self, end: char) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        loop {
            self.space();
            if self.take(end) {
                return Some(items);
            }
            items.push(self.value()?);
            self.space();
            if !self.take(',') {
                return self.take(end).then_some(items);
            }
        }
    }

    fn dict(&mut self) -> Option<Value> {
        let mut map = Map::new();
        loop {
            self.space();
            if self.take('}') {
                return Some(Value::Object(map));
            }
            let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let key = self.string(quote)?;
            self.space();
            if !self.take(':') {
                return None;
            }
            self.space();
            map.insert(key, self.value()?);
            self.space();
            if !self.take(',') {
                return self.take('}').then_some(Value::Object(map));
            }
        }
    }

    fn number(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')))
            .unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        let text = text.replace('_', "");
        match text.parse::<i64>() {
            Ok(whole) => Some(whole.into()),
            // Rust also reads `inf` and `nan`, which JSON cannot say.
            Err(_) => text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number),
        }
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    '\n' => {}
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    c @ ('u' | 'x') => {
                        let n = if c == 'u' { 4 } else { 2 };
                        let digits: String = chars.by_ref().take(n).map(|(_, c)| c).collect();
                        text.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)?);
                    }
                    // As Python: an escape that it does not know stays as it is.
                    other => text.extend(['\\', other]),
                },
                c => text.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn calls_and_what_is_none() {
        let call = |name: &str, positional: Value, named: Value| (name.to_owned(), positional, named);
        for (text, expected, rest) in [
            ("f()", vec![call("f", json!([]), json!({}))], ""),
            (" f ( a = 1 , b='x' ) tail", vec![call("f", json!([]), json!({"a": 1, "b": "x"}))], " tail"),
            (
                "[f(a=True), g.h(b=[1, 2.5, None], c={'k': (1,)})]!",
                vec![
                    call("f", json!([]), json!({"a": true})),
                    call("g.h", json!([]), json!({"b": [1, 2.5, null], "c": {"k": [1]}})),
                ],
                "!",
            ),
            ("print(f('é', -3))", vec![call("f", json!(["é", -3]), json!({}))], ""),
            ("f(1)\ng(2)\n", vec![call("f", json!([1]), json!({})), call("g", json!([2]), json!({}))], ""),
            ("f(1); g(2)", vec![call("f", json!([1]), json!({})), call("g", json!([2]), json!({}))], ""),
            (
                "brave_search.call(query=\"a \\\"b\\\" \\u00e9 \\d\")",
                vec![call("brave_search", json!([]), json!({"query": "a \"b\" é \\d"}))],
                "",
            ),
            ("f(x=1_000)", vec![call("f", json!([]), json!({"x": 1000}))], ""),
            ("f(a=1)\nplain words", vec![call("f", json!([]), json!({"a": 1}))], "plain words"),
        ] {
            let (got, left) = calls(text).unwrap_or_else(|| panic!("{text}"));
            let got: Vec<_> = got
                .into_iter()
                .map(|call| (call.name, Value::Array(call.positional), Value::Object(call.named)))
                .collect();
            assert_eq!((got, left), (expected, rest), "{text}");
        }
        for none in [
            "",
            "f",
            "f(",
            "f(a=)",
            "f(a=b)",
            "f(a=1, 2)",
            "[f()",
            "[f() g()]",
            "1f()",
            "x = f()",
            "f('a)",
            "f(1e999)",
            "f(a={1: 2})",
        ] {
            assert_eq!(calls(none), None, "{none}");
        }
        assert_eq!(calls(&format!("f({}", "[".repeat(100_000))), None);
    }
}
