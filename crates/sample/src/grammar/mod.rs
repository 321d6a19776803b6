//! Grammars: what an answer must look like, token by token.
//!
//! A [`Grammar`] is compiled once from JSON Schema, a regular expression, Lark or GBNF, knows no vocabulary, and is cheap
//! to clone. A [`GrammarVocabulary`] is made once per model. Together they give a [`GrammarState`] per sequence: the
//! mask of allowed tokens, then the token chosen, and so on until nothing more may come.
//!
//! Everything fails closed: what cannot be enforced is refused when the grammar is made, with the place in it; a grammar
//! that costs too much on the way ends its sequence with an error. Nothing ever falls back to free text.
//!
//! The parser is llguidance's (Earley over derivative-based lexing). Its own dialect of Lark:
//! <https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>. Left out: remote references in schemas.

mod compile;
mod gbnf;
mod pattern;
mod schema;
mod state;
mod vocabulary;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::Matcher;
use llguidance::api::{GrammarInit, GrammarWithLexer};
use serde_json::Value;

use crate::SampleError;

pub use pattern::{Mark, Pattern};
pub use state::GrammarState;
pub use vocabulary::GrammarVocabulary;

/// Most bytes of a grammar or regular expression in text.
const MAX_TEXT: usize = 256 << 10;
/// Most bytes of one regular expression.
const MAX_REGEX: usize = 16 << 10;

/// What an answer must look like. Compiled; cloning shares.
///
/// ```
/// use whit_sample::{Grammar, GrammarVocabulary, Sampler, SamplerConfig};
///
/// // One token per byte, and token 256 to end with.
/// let bytes = (0..=255u8).map(|byte| (u32::from(byte), [byte], false));
/// let vocabulary = GrammarVocabulary::new(257, bytes, &[256])?;
/// let mut state = vocabulary.start(&Grammar::regex("[0-9]{2}")?)?;
/// let mut sampler = Sampler::new(SamplerConfig::greedy(), 257)?;
/// let logits: Vec<f32> = (0..257).map(|id| id as f32).collect();
/// let mut text = String::new();
/// while !state.is_complete() {
///     let chosen = sampler.sample_masked(&logits, state.mask()?)?.id;
///     state.accept(chosen)?;
///     text.push(chosen as u8 as char);
/// }
/// assert_eq!(text, "99");
/// # Ok::<(), whit_sample::SampleError>(())
/// ```
#[derive(Clone)]
pub struct Grammar {
    inner: Arc<Inner>,
}

struct Inner {
    kind: &'static str,
    /// The source as the parser takes it, to be put into a larger one.
    body: GrammarWithLexer,
    init: GrammarInit,
    /// The state at the beginning, for the vocabulary of this number.
    prototype: Mutex<Option<(u64, Matcher)>>,
}

impl Grammar {
    /// A JSON object with anything in it.
    ///
    /// # Errors
    /// None in practice.
    pub fn json() -> Result<Grammar, SampleError> {
        Grammar::json_schema(&serde_json::json!({ "type": "object" }))
    }

    /// JSON that a schema (draft 2020-12, and older ones where they agree with it) accepts.
    ///
    /// Properties come in the order of the schema. Between tokens of JSON stands nothing, a space, or a line end with an
    /// indentation, so that a model cannot fill its answer with blanks. Unknown keywords are annotations, as the standard
    /// has it; `format` is enforced.
    ///
    /// # Errors
    /// A schema that is invalid, that no finite value meets, that is too large, or that says what cannot be enforced:
    /// [`SampleError::Schema`], with the place as a JSON pointer.
    pub fn json_schema(schema: &Value) -> Result<Grammar, SampleError> {
        let normal = schema::check(schema)?;
        let body = GrammarWithLexer::from_json_schema(normal);
        Grammar::new("JSON schema", body.clone()).map_err(|error| schema::blame(schema, &body, error))
    }

    /// Text that a regular expression matches as a whole (syntax of Rust's `regex`; no look-around, no back-references).
    ///
    /// # Errors
    /// An expression that is not valid, too large or too costly.
    pub fn regex(regex: &str) -> Result<Grammar, SampleError> {
        const KIND: &str = "regular expression";
        limit(KIND, regex, MAX_REGEX)?;
        // Anchors at both ends say what holds anyway, and the parser knows none.
        let start = regex.strip_prefix('^').unwrap_or(regex);
        let n_slashes = start.strip_suffix('$').map(|rest| rest.len() - rest.trim_end_matches('\\').len());
        let whole = match n_slashes {
            Some(n) if n % 2 == 0 => &start[..start.len() - 1],
            _ => start,
        };
        if whole.is_empty() {
            return Err(SampleError::Grammar { kind: KIND, reason: "it allows no text".into() });
        }
        Grammar::new(KIND, GrammarWithLexer::from_regex(&format!("(?:{whole})")))
    }

    /// Text of a grammar in llguidance's dialect of Lark; it begins at the rule `start`.
    ///
    /// # Errors
    /// A grammar that is not valid, too large or too costly.
    pub fn lark(grammar: &str) -> Result<Grammar, SampleError> {
        const KIND: &str = "Lark grammar";
        limit(KIND, grammar, MAX_TEXT)?;
        compile::check_nesting(KIND, grammar)?;
        Grammar::new(KIND, GrammarWithLexer::from_lark(grammar.to_owned()))
    }

    /// Text of a grammar in llama.cpp's GBNF; it begins at the rule `root`. References to tokens are not supported.
    ///
    /// # Errors
    /// A grammar that is not valid, too large or too costly, and whatever is not supported, with its line.
    pub fn gbnf(grammar: &str) -> Result<Grammar, SampleError> {
        const KIND: &str = "GBNF grammar";
        limit(KIND, grammar, MAX_TEXT)?;
        Grammar::new(KIND, GrammarWithLexer::from_lark(gbnf::to_lark(grammar)?))
    }

    /// Text of a pattern.
    ///
    /// # Errors
    /// What the parts say of themselves, and a whole that is too large or too costly.
    pub fn pattern(pattern: &Pattern) -> Result<Grammar, SampleError> {
        pattern::compile(pattern)
    }

    /// The same after free text that ends with the first `end` (for thoughts: `</think>`) and blanks after it.
    ///
    /// # Errors
    /// An empty `end`, and one after which the whole becomes too costly.
    pub fn after(&self, end: Mark) -> Result<Grammar, SampleError> {
        let parts = vec![Pattern::Until(end), Pattern::Blank(16), Pattern::Grammar(self.clone())];
        Grammar::pattern(&Pattern::Sequence(parts))
    }

    fn new(kind: &'static str, body: GrammarWithLexer) -> Result<Grammar, SampleError> {
        let init =
            compile::compile(vec![body.clone()]).map_err(|reason| SampleError::Grammar { kind, reason })?;
        Ok(Grammar { inner: Arc::new(Inner { kind, body, init, prototype: Mutex::new(None) }) })
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.inner.kind
    }

    /// The state at the beginning: made by `make` unless it was made for this vocabulary before.
    fn begin(
        &self,
        vocabulary: u64,
        make: impl FnOnce(GrammarInit) -> Result<Matcher, SampleError>,
    ) -> Result<Matcher, SampleError> {
        let mut prototype = self.inner.prototype.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((owner, matcher)) = &*prototype
            && *owner == vocabulary
        {
            return Ok(matcher.deep_clone());
        }
        let matcher = make(self.inner.init.clone())?;
        *prototype = Some((vocabulary, matcher.deep_clone()));
        Ok(matcher)
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").field("kind", &self.inner.kind).finish_non_exhaustive()
    }
}

/// Refuses a source of more than `most` bytes.
fn limit(kind: &'static str, text: &str, most: usize) -> Result<(), SampleError> {
    if text.len() <= most {
        return Ok(());
    }
    Err(SampleError::GrammarTooLarge { kind, what: "bytes", got: text.len(), most })
}
