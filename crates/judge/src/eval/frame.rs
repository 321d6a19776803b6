//! What a model is shown: a description, examples with their answers and the question, as one text or as a conversation, in the
//! shape that lm-evaluation-harness gives them (`fewshot_context`, `build_qa_turn`, `_encode_pair`).

use whit_engine::{EncodeOptions, EngineError, Message, Model};
use whit_text::{ChatInput, Prompt};

use crate::JudgeError;
use crate::tasks::{Form, Question, Right};

/// Between a question and its answer.
const ANSWER: &str = " ";
/// After an example.
const EXAMPLE: &str = "\n\n";

/// How questions are put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    /// As a conversation, in the form that the model was taught.
    pub chat: bool,
    /// In a conversation: all examples in one message with the question, not each as a question and an answer of its own.
    pub one_message: bool,
    /// Stands before everything; in a conversation, as the system's message.
    pub system: Option<String>,
}

/// What stands before the text that is scored or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    Plain(String),
    Chat(Prompt),
}

impl Context {
    /// As a person would read it.
    pub(crate) fn text(&self) -> String {
        match self {
            Context::Plain(text) => text.clone(),
            Context::Chat(prompt) => prompt.text().into_owned(),
        }
    }
}

/// A question with its answer, as an example.
pub(crate) fn example(question: &Question) -> (String, String) {
    match &question.form {
        Form::Choose { context, choices, right } => {
            let right = match right {
                Right::One(right) => *right,
                Right::Share(right) => right.iter().position(|&right| right).unwrap_or(0),
            };
            (context.clone(), choices.get(right).cloned().unwrap_or_default())
        }
        Form::Fill { contexts, ending, right } => {
            (contexts.get(*right).cloned().unwrap_or_default(), ending.clone())
        }
        Form::Continue { context, ending } => (context.clone(), ending.clone()),
        Form::Write { context, target, .. } => (context.clone(), target.clone()),
    }
}

/// Puts questions to one model.
pub(crate) struct Frame<'a> {
    pub(crate) model: &'a Model,
    pub(crate) framing: &'a Framing,
}

impl Frame<'_> {
    /// The context of `question`, behind these examples.
    pub(crate) fn context(
        &self,
        description: Option<&str>,
        examples: &[(String, String)],
        question: &str,
    ) -> Result<Context, JudgeError> {
        let system =
            join(self.framing.system.as_deref().unwrap_or_default(), description.unwrap_or_default());
        let turns =
            || examples.iter().map(|(question, answer)| format!("{question}{ANSWER}{answer}{EXAMPLE}"));
        if !self.framing.chat {
            return Ok(Context::Plain(system + &turns().collect::<String>() + question));
        }
        let Some(template) = self.model.template()? else { return Err(JudgeError::NoTemplate) };
        let mut messages = Vec::new();
        if !system.is_empty() {
            messages.push(Message::system(system));
        }
        if self.framing.one_message {
            messages.push(Message::user(turns().collect::<String>() + question));
        } else {
            for (question, answer) in examples {
                messages.push(Message::user(question.clone()));
                messages.push(Message::assistant(answer.clone()));
            }
            messages.push(Message::user(question));
        }
        let tokenizer = self.model.tokenizer()?;
        let prompt = template.prompt(&ChatInput::new(&messages), tokenizer).map_err(EngineError::from)?;
        Ok(Context::Chat(prompt))
    }

    /// What stands between the context and a choice.
    pub(crate) fn before_choice(&self) -> &'static str {
        if self.framing.chat { "" } else { ANSWER }
    }

    /// The tokens of a context alone.
    pub(crate) fn tokens(&self, context: &Context) -> Result<Vec<u32>, JudgeError> {
        Ok(match context {
            Context::Plain(text) => self.model.prepare(&whit_engine::Prompt::Text(text.clone()))?.tokens,
            Context::Chat(prompt) => {
                self.model.tokenizer()?.encode_prompt(prompt).map_err(EngineError::from)?
            }
        })
    }

    /// The tokens of a context, and those of an ending as they are when both are read as one text. White space at the end of the
    /// context goes to the ending; what stands before an empty context begins a text.
    pub(crate) fn pair(&self, context: &Context, ending: &str) -> Result<(Vec<u32>, Vec<u32>), JudgeError> {
        let (start, whole) = match context {
            Context::Plain(text) if text.trim_end().is_empty() => {
                let tokens = self.model.tokenizer()?.encode(&format!("{text}{ending}"), EncodeOptions::PIECE);
                return Ok((
                    self.tokens(&Context::Plain(String::new()))?,
                    tokens.map_err(EngineError::from)?,
                ));
            }
            Context::Plain(text) => {
                (Context::Plain(text.trim_end().to_owned()), Context::Plain(format!("{text}{ending}")))
            }
            Context::Chat(prompt) => {
                let (mut start, mut whole) = (prompt.clone(), prompt.clone());
                start.trim_end();
                whole.push(ending, self.model.tokenizer()?);
                (Context::Chat(start), Context::Chat(whole))
            }
        };
        let (mut start, whole) = (self.tokens(&start)?, self.tokens(&whole)?);
        // An ending that grew together with the context's last token has that token as its own.
        start.truncate(whole.len().saturating_sub(1));
        let ending = whole.get(start.len()..).unwrap_or_default().to_vec();
        Ok((start, ending))
    }
}

/// Two texts, with a blank line between where neither has white space there.
fn join(first: &str, second: &str) -> String {
    let parted = first.ends_with(char::is_whitespace) || second.starts_with(char::is_whitespace);
    let between = if first.is_empty() || second.is_empty() || parted { "" } else { EXAMPLE };
    format!("{first}{between}{second}")
}
