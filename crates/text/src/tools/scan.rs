//! One JSON object, read a character at a time.
//!
//! A pushdown automaton that knows at every character whether the text can still become an object, and tells where the
//! keys and values of the outermost object begin and end. Stricter than a repairer, with one exception: models put raw
//! line breaks and tabs into strings, which JSON forbids; these are escaped. Grammar: RFC 8259.

/// Deeper nesting is no call.
const MAX_DEPTH: usize = 64;
/// Longer numbers are none.
const MAX_SCALAR: usize = 64;

/// What a character was, seen from the outermost object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing to note.
    Inside,
    /// The end of a key: [`Scanner::key`] is new.
    Key,
    /// The first character of a value: [`Scanner::value`] begins here.
    ValueBegins,
    /// The last character of a value that is a string, an object or a list.
    ValueEnds,
    /// The end of the object.
    Done,
    /// This cannot become an object. The character was not taken.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Begin,
    FirstKey,
    Key,
    Colon,
    /// In a list, the first of which may be missing.
    FirstValue,
    Value,
    Comma,
    Text {
        is_key: bool,
    },
    Escape {
        is_key: bool,
    },
    Hex {
        is_key: bool,
        n_left: u8,
    },
    Scalar {
        from: usize,
    },
    Nothing,
}

/// The automaton.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    /// What was read, in valid JSON so far.
    text: String,
    /// The open brackets; true: an object.
    stack: Vec<bool>,
    expect: Expect,
    key: String,
    key_from: usize,
    value_from: usize,
}

impl Scanner {
    pub(super) fn new() -> Scanner {
        Scanner {
            text: String::new(),
            stack: Vec::new(),
            expect: Expect::Begin,
            key: String::new(),
            key_from: 0,
            value_from: 0,
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The last key of the outermost object.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The last value of the outermost object, as far as it came.
    pub(super) fn value(&self) -> &str {
        &self.text[self.value_from..]
    }

    /// Takes one character.
    pub(super) fn push(&mut self, c: char) -> Mark {
        match self.expect {
            Expect::Text { is_key } => return self.in_text(c, is_key),
            Expect::Escape { is_key } => {
                self.expect = match c {
                    '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => Expect::Text { is_key },
                    'u' => Expect::Hex { is_key, n_left: 4 },
                    _ => return Mark::Broken,
                };
                self.text.push(c);
                return Mark::Inside;
            }
            Expect::Hex { is_key, n_left } => {
                if !c.is_ascii_hexdigit() {
                    return Mark::Broken;
                }
                self.expect = match n_left {
                    1 => Expect::Text { is_key },
                    _ => Expect::Hex { is_key, n_left: n_left - 1 },
                };
                self.text.push(c);
                return Mark::Inside;
            }
            Expect::Scalar { from } => {
                if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.') {
                    self.text.push(c);
                    return if self.text.len() - from > MAX_SCALAR { Mark::Broken } else { Mark::Inside };
                }
                if serde_json::from_str::<serde_json::Value>(&self.text[from..]).is_err() {
                    return Mark::Broken;
                }
                self.expect = Expect::Comma;
            }
            _ => {}
        }
        if matches!(c, ' ' | '\t' | '\n' | '\r') && self.expect != Expect::Nothing {
            self.text.push(c);
            return Mark::Inside;
        }
        match (self.expect, c) {
            (Expect::Begin, '{') => self.open(true),
            (Expect::FirstKey, '}') => self.close(true),
            (Expect::FirstKey | Expect::Key, '"') => {
                self.key_from = self.text.len();
                self.text.push(c);
                self.expect = Expect::Text { is_key: true };
                Mark::Inside
            }
            (Expect::Colon, ':') => {
                self.text.push(c);
                self.expect = Expect::Value;
                Mark::Inside
            }
            (Expect::FirstValue, ']') => self.close(false),
            (Expect::FirstValue | Expect::Value, _) => self.begin_value(c),
            (Expect::Comma, ',') => {
                self.text.push(c);
                self.expect = if self.stack.last() == Some(&true) { Expect::Key } else { Expect::Value };
                Mark::Inside
            }
            (Expect::Comma, '}') => self.close(true),
            (Expect::Comma, ']') => self.close(false),
            _ => Mark::Broken,
        }
    }

    fn in_text(&mut self, c: char, is_key: bool) -> Mark {
        match c {
            '"' => {
                self.text.push(c);
                self.expect = if is_key { Expect::Colon } else { Expect::Comma };
                if self.stack.len() != 1 {
                    return Mark::Inside;
                }
                if !is_key {
                    return Mark::ValueEnds;
                }
                match serde_json::from_str(&self.text[self.key_from..]) {
                    Ok(key) => self.key = key,
                    Err(_) => return Mark::Broken,
                }
                return Mark::Key;
            }
            '\\' => {
                self.text.push(c);
                self.expect = Expect::Escape { is_key };
            }
            '\n' => self.text.push_str("\\n"),
            '\r' => self.text.push_str("\\r"),
            '\t' => self.text.push_str("\\t"),
            c if c < ' ' => self.text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => self.text.push(c),
        }
        Mark::Inside
    }

    fn begin_value(&mut self, c: char) -> Mark {
        let outermost = self.stack.len() == 1;
        let from = self.text.len();
        let mark = match c {
            '{' | '[' => self.open(c == '{'),
            '"' => {
                self.text.push(c);
                self.expect = Expect::Text { is_key: false };
                Mark::Inside
            }
            '-' | '0'..='9' | 't' | 'f' | 'n' => {
                self.text.push(c);
                self.expect = Expect::Scalar { from };
                Mark::Inside
            }
            _ => Mark::Broken,
        };
        if outermost && mark != Mark::Broken {
            self.value_from = from;
            return Mark::ValueBegins;
        }
        mark
    }

    fn open(&mut self, object: bool) -> Mark {
        if self.stack.len() == MAX_DEPTH {
            return Mark::Broken;
        }
        self.stack.push(object);
        self.text.push(if object { '{' } else { '[' });
        self.expect = if object { Expect::FirstKey } else { Expect::FirstValue };
        Mark::Inside
    }

    fn close(&mut self, object: bool) -> Mark {
        if self.stack.last() != Some(&object) {
            return Mark::Broken;
        }
        self.stack.pop();
        self.text.push(if object { '}' } else { ']' });
        self.expect = Expect::Comma;
        match self.stack.len() {
            0 => {
                self.expect = Expect::Nothing;
                Mark::Done
            }
            1 => Mark::ValueEnds,
            _ => Mark::Inside,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// The text read up to the end or the first character refused, and whether it is whole.
    fn scan(text: &str) -> (String, bool) {
        let mut scanner = Scanner::new();
        for c in text.chars() {
            match scanner.push(c) {
                Mark::Done => return (scanner.text, true),
                Mark::Broken => return (scanner.text, false),
                _ => {}
            }
        }
        (scanner.text, false)
    }

    #[test]
    fn objects_and_what_is_none() {
        for whole in [
            "{}",
            "{ }",
            r#"{"a":1}"#,
            r#"{"a":[],"b":[1,-2.5e3,true,false,null,"x"],"c":{"d":{}}}"#,
            r#"{"\u00e9\n\"":"\\"}"#,
        ] {
            assert_eq!(scan(whole), (whole.to_owned(), true));
        }
        for (broken, read) in [
            ("[", ""),
            ("{a", "{"),
            ("{,", "{"),
            (r#"{"a":1,}"#, r#"{"a":1,"#),
            (r#"{"a" 1"#, r#"{"a" "#),
            (r#"{"a":tru}"#, r#"{"a":tru"#),
            (r#"{"a":01}"#, r#"{"a":01"#),
            (r#"{"a":[1}"#, r#"{"a":[1"#),
            (r#"{"a":"\x"}"#, r#"{"a":"\"#),
            (r#"{"a":[1,]}"#, r#"{"a":[1,"#),
            (r#"{"a":'b'}"#, r#"{"a":"#),
        ] {
            assert_eq!(scan(broken), (read.to_owned(), false), "{broken}");
        }
        assert!(!scan(&"{\"a\":".repeat(MAX_DEPTH + 1)).1);
    }

    #[test]
    fn raw_line_breaks_become_escapes() {
        assert_eq!(scan("{\"a\":\"x\ny\tz\u{1}\"}"), (r#"{"a":"x\ny\tz\u0001"}"#.to_owned(), true));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn takes_what_serde_writes(map in prop::collection::btree_map(".*", values(), 0..5), pretty in any::<bool>()) {
            let value = Value::Object(map.into_iter().collect());
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            prop_assert_eq!(scan(&text), (text, true));
        }

        #[test]
        fn whole_means_parsable(text in r#"\{("a"|[{}\[\],:"\\ nu019.e-]|true|\n){0,20}\}?"#) {
            let (read, whole) = scan(&text);
            prop_assert!(!whole || serde_json::from_str::<Value>(&read).is_ok(), "{}", read);
        }
    }
}
