//! Grammars put together of parts: text, control tokens, schemas, other grammars, and free text up to a mark.
//!
//! For answers that are partly free: thoughts up to their end, words up to the beginning of a call, then what is bound.
//! Written in Lark; free text up to a mark that is text is one lazy lexeme, so that the first mark ends it.

use std::fmt::Write as _;

use llguidance::api::GrammarWithLexer;
use serde_json::Value;

use super::{Grammar, schema};
use crate::SampleError;

const KIND: &str = "grammar";
/// Parts within parts that a pattern may have.
const MAX_DEPTH: usize = 32;
/// Most bytes of a text in a pattern.
const MAX_MARK: usize = 256;

/// What ends free text.
#[derive(Clone, Debug)]
pub enum Mark {
    /// This text, of ordinary tokens.
    Text(String),
    /// A control token.
    Token(u32),
}

/// A part of a grammar.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// This mark.
    Mark(Mark),
    /// Spaces and line ends, at most so many.
    Blank(u32),
    /// Any text, also none. No control token.
    Free,
    /// Any text, up to the first mark and with it.
    Until(Mark),
    /// Text that a regular expression matches, up to the first mark of text and with it. Where other patterns begin at the
    /// same place, this one wins with its mark.
    Opening {
        /// Before the mark.
        before: String,
        /// The mark.
        mark: String,
    },
    /// JSON that a schema accepts, as with [`Grammar::json_schema`].
    Json(Value),
    /// Text of another grammar.
    Grammar(Grammar),
    /// One after the other.
    Sequence(Vec<Pattern>),
    /// One of them.
    Choice(Vec<Pattern>),
    /// As often as between `least` and `most` times.
    Repeat {
        /// What.
        what: Box<Pattern>,
        /// At least.
        least: u32,
        /// At most; `None`: without end.
        most: Option<u32>,
    },
}

impl Pattern {
    /// This text.
    pub fn text(text: impl Into<String>) -> Pattern {
        Pattern::Mark(Mark::Text(text.into()))
    }

    /// This, or nothing.
    pub fn optional(self) -> Pattern {
        Pattern::Repeat { what: Box::new(self), least: 0, most: Some(1) }
    }

    /// This any number of times, or never.
    pub fn repeated(self) -> Pattern {
        Pattern::Repeat { what: Box::new(self), least: 0, most: None }
    }
}

/// The pattern as a grammar.
pub(super) fn compile(pattern: &Pattern) -> Result<Grammar, SampleError> {
    let mut writer = Writer { rules: String::new(), n_rules: 0, schemas: Vec::new() };
    let start = writer.part(pattern, 0)?;
    let lark = format!("start: {start}\n{}", writer.rules);
    Grammar::new(KIND, GrammarWithLexer::from_lark(lark)).map_err(|error| {
        // A schema that is at fault is better blamed by itself.
        let alone = writer.schemas.iter().find_map(|schema| Grammar::json_schema(schema).err());
        alone.unwrap_or(error)
    })
}

struct Writer {
    rules: String,
    n_rules: usize,
    schemas: Vec<Value>,
}

impl Writer {
    /// The part as it stands within a rule.
    fn part(&mut self, pattern: &Pattern, depth: usize) -> Result<String, SampleError> {
        if depth > MAX_DEPTH {
            let (got, most) = (depth, MAX_DEPTH);
            return Err(SampleError::GrammarTooLarge { kind: KIND, what: "levels", got, most });
        }
        Ok(match pattern {
            Pattern::Mark(mark) => self.mark(mark)?,
            Pattern::Blank(0) => "\"\"".to_owned(),
            Pattern::Blank(most) => format!("/[ \\t\\r\\n]{{1,{most}}}/?"),
            Pattern::Free => "/(?s:.+)/?".to_owned(),
            Pattern::Until(Mark::Token(token)) => format!("/(?s:.+)/? <[{token}]>"),
            Pattern::Until(Mark::Text(mark)) => self.lazy("(?s:.*)", mark)?,
            Pattern::Opening { before, mark } => self.lazy(before, mark)?,
            Pattern::Json(schema) => {
                let normal = schema::check(schema)?;
                self.schemas.push(schema.clone());
                self.rule("", &format!("%json {normal}"))
            }
            Pattern::Grammar(grammar) => {
                let body = &grammar.inner.body;
                match (&body.lark_grammar, &body.json_schema) {
                    (Some(lark), _) => self.rule("", &format!("%lark {{\n{lark}\n}}")),
                    (None, schema) => {
                        let schema = schema.clone().unwrap_or(Value::Bool(true));
                        self.rule("", &format!("%json {schema}"))
                    }
                }
            }
            Pattern::Sequence(parts) => {
                let parts = self.parts(parts, depth)?;
                if parts.is_empty() { "\"\"".to_owned() } else { format!("({})", parts.join(" ")) }
            }
            Pattern::Choice(parts) => {
                let parts = self.parts(parts, depth)?;
                if parts.is_empty() {
                    return Err(SampleError::Grammar { kind: KIND, reason: "a choice of nothing".into() });
                }
                format!("({})", parts.join(" | "))
            }
            Pattern::Repeat { what, least, most } => {
                let what = self.part(what, depth + 1)?;
                match (least, most) {
                    (0, Some(1)) => format!("({what})?"),
                    (0, None) => format!("({what})*"),
                    (least, Some(most)) => format!("({what}){{{least},{most}}}"),
                    (least, None) => format!("({what}){{{least},}}"),
                }
            }
        })
    }

    fn parts(&mut self, parts: &[Pattern], depth: usize) -> Result<Vec<String>, SampleError> {
        parts.iter().map(|part| self.part(part, depth + 1)).collect()
    }

    fn mark(&mut self, mark: &Mark) -> Result<String, SampleError> {
        match mark {
            Mark::Text(text) => Ok(quoted(text)),
            Mark::Token(token) => Ok(format!("<[{token}]>")),
        }
    }

    fn lazy(&mut self, before: &str, mark: &str) -> Result<String, SampleError> {
        if mark.is_empty() || mark.len() > MAX_MARK {
            let reason = format!("the text that ends free text must have 1 to {MAX_MARK} bytes");
            return Err(SampleError::Grammar { kind: KIND, reason });
        }
        Ok(self.rule(&format!("[suffix={}]", quoted(mark)), &format!("/{before}/")))
    }

    /// A rule of its own; its name.
    fn rule(&mut self, attributes: &str, body: &str) -> String {
        let name = format!("part{}", self.n_rules);
        self.n_rules += 1;
        // Into a string this cannot fail.
        _ = writeln!(self.rules, "{name}{attributes}: {body}");
        name
    }
}

/// A string as Lark has it, which is as JSON has it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
