//! What an answer may be: thoughts, then text, calls of tools, or what a grammar allows; all of it one grammar.
//!
//! Thoughts are free text between the family's tags. A model that may call tools is free until a call begins, as the family
//! writes it, and bound from there on: to the name of a tool, to arguments that its schema accepts, to the end of the call.
//! One that must is bound from its first word, or from the end of its thoughts. What cannot be enforced is refused.

mod arguments;
mod calls;

use serde_json::Value;
use whit_sample::{Grammar, Mark, Pattern, SampleError};
use whit_text::Tokenizer;
use whit_text::tools::{ThinkTags, ToolFormat};

/// Spaces and line ends between thoughts and what follows.
const GAP: u32 = 16;

/// What an answer may be.
#[derive(Clone, Debug, Default)]
pub struct AnswerShape {
    /// Thoughts before all else.
    pub thoughts: Option<Thoughts>,
    /// Calls of tools.
    pub calls: Option<Calls>,
    /// What an answer must be that is no call. `None`: any text.
    pub body: Option<Grammar>,
}

/// Thoughts at the beginning of an answer.
#[derive(Clone, Debug)]
pub struct Thoughts {
    /// The tags around them.
    pub tags: ThinkTags,
    /// The prompt ends with the first tag: the answer begins within.
    pub begun: bool,
}

/// Calls of tools in an answer.
#[derive(Clone, Debug)]
pub struct Calls {
    /// How the model writes them.
    pub format: ToolFormat,
    /// Definitions, as in the OpenAI API.
    pub tools: Vec<Value>,
    /// Whether there must be one.
    pub choice: CallChoice,
    /// Whether there may be several. Of a tool that is named there is always one.
    pub parallel: bool,
}

impl Calls {
    fn several(&self) -> bool {
        self.parallel && !matches!(self.choice, CallChoice::MustBe(_))
    }
}

/// Whether an answer must be a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallChoice {
    /// It may be.
    May,
    /// It must be.
    Must,
    /// It must be one of this tool.
    MustBe(String),
}

impl AnswerShape {
    /// The grammar of such an answer by a model with this tokenizer; nothing if any text will do.
    ///
    /// The schema of a tool that may be called binds its arguments; where it says what cannot be enforced, and the tool is
    /// not `strict`, they are bound to be an object. A tool that must be called, or that is strict, must have a schema that
    /// can be enforced.
    ///
    /// # Errors
    /// A schema that cannot be enforced, a choice among no tools, and a whole that is too large or too costly.
    pub fn grammar(&self, tokenizer: &Tokenizer) -> Result<Option<Grammar>, SampleError> {
        let spelling = Spelling { tokenizer };
        let body = self.body.clone().map(Pattern::Grammar);
        let Some(calls) = self.calls.as_ref().filter(|calls| !calls.tools.is_empty()) else {
            return match (body, &self.thoughts, &self.body) {
                (Some(body), Some(thoughts), _) => {
                    Grammar::pattern(&Pattern::Sequence(vec![thoughts.pattern(&spelling), body])).map(Some)
                }
                (_, _, body) => Ok(body.clone()),
            };
        };
        let whole = |loosely: bool| {
            let mut parts: Vec<Pattern> = self.thoughts.iter().map(|one| one.pattern(&spelling)).collect();
            parts.push(calls::pattern(calls, body.clone(), &spelling, loosely)?);
            Grammar::pattern(&Pattern::Sequence(parts))
        };
        match whole(false) {
            Err(SampleError::Schema { .. } | SampleError::Grammar { .. })
                if calls.choice == CallChoice::May =>
            {
                whole(true).map(Some)
            }
            result => result.map(Some),
        }
    }
}

impl Thoughts {
    fn pattern(&self, spelling: &Spelling<'_>) -> Pattern {
        let rest = [Pattern::Until(spelling.mark(&self.tags.close)), Pattern::Blank(GAP)];
        if self.begun {
            return Pattern::Sequence(rest.into());
        }
        let open = match spelling.mark(&self.tags.open) {
            Mark::Text(mark) => Pattern::Opening { before: "[ \\t\\r\\n]{0,8}".to_owned(), mark },
            token => Pattern::Sequence(vec![Pattern::Blank(8), Pattern::Mark(token)]),
        };
        Pattern::Sequence([open].into_iter().chain(rest).collect()).optional()
    }
}

/// How this model spells markers: as control tokens, where it has them.
struct Spelling<'t> {
    tokenizer: &'t Tokenizer,
}

impl Spelling<'_> {
    fn control(&self, text: &str) -> Option<u32> {
        self.tokenizer.find(text).filter(|&id| self.tokenizer.is_control(id))
    }

    fn mark(&self, text: &str) -> Mark {
        self.control(text).map_or_else(|| Mark::Text(text.to_owned()), Mark::Token)
    }

    fn pattern(&self, text: &str) -> Pattern {
        Pattern::Mark(self.mark(text))
    }

    /// A marker that ends calls; nothing where it ends the answer as well.
    fn closing(&self, text: &str) -> Pattern {
        match self.mark(text) {
            Mark::Token(id) if self.tokenizer.is_end_of_generation(id) => Pattern::Blank(0),
            mark => Pattern::Mark(mark),
        }
    }

    /// A control token, if there is one; it may be left out.
    fn maybe(&self, text: &str) -> Pattern {
        let token = self.control(text).filter(|&id| !self.tokenizer.is_end_of_generation(id));
        token.map_or(Pattern::Blank(0), |id| Pattern::Mark(Mark::Token(id)).optional())
    }
}
