//! Tasks of one's own: JSON lines with the fields
//!
//! | field | what it is |
//! |---|---|
//! | `context` | what the model is shown |
//! | `choices`, `answer` | texts of which one goes on best, and the place of that one from 0, or the text itself |
//! | `answer` alone | the text that the model shall write... |
//! | `stop`, `max_tokens` | ...up to one of these texts, and no longer than this (256) |
//! | `pattern` | a regular expression: what its first group (or all of it) finds first is compared with `answer` |
//! | `group` | what the line is counted with, besides all |
//!
//! Choices are scored behind a space, as those of the other tasks; the written answer and what it is compared with are taken
//! without white space around them.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use fancy_regex::Regex;
use serde_json::Value;

use super::fields::{among, number, text, texts};
use super::{ACC, ACC_BYTES, ACC_NORM, Check, Form, Metric, Question, Right, Sampling, Splits, Task};

const EXACT_MATCH: Metric = Metric::mean("exact_match");
const MAX_TOKENS: usize = 256;

/// A pattern that finds the answer in a text.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Arc<Regex>);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// The task of the file at `path`, with `documents` in it; it is called as the file is.
pub fn task(path: &Path, data: &crate::TaskData) -> Task {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let chooses = data.documents.first().is_some_and(|document| !document["choices"].is_null());
    Task {
        name: Cow::Owned(name),
        version: "1",
        metrics: if chooses { &[ACC, ACC_NORM, ACC_BYTES] } else { &[EXACT_MATCH] },
        usual_examples: 0,
        splits: Splits { folders: &[], asked: "", examples: None },
        sampling: Sampling::First,
        read,
    }
}

fn read(document: &Value) -> Result<Question, String> {
    let context = text(document, "context")?;
    let form = if document["choices"].is_null() {
        let stop = if document["stop"].is_null() { Vec::new() } else { texts(document, "stop")? };
        let max_tokens =
            if document["max_tokens"].is_null() { MAX_TOKENS } else { number(document, "max_tokens")? };
        let pattern = match document["pattern"].as_str() {
            Some(pattern) => {
                let pattern = Regex::new(pattern).map_err(|error| format!("its pattern is none: {error}"))?;
                Some(Pattern(Arc::new(pattern)))
            }
            None => None,
        };
        let target = text(document, "answer")?;
        Form::Write { context, target, stop, max_tokens, check: Check::Answer(pattern) }
    } else {
        let choices = texts(document, "choices")?;
        let named =
            document["answer"].as_str().and_then(|answer| choices.iter().position(|one| one == answer));
        let right = match named {
            Some(right) => right,
            None => among(&choices, number(document, "answer")?)?,
        };
        Form::Choose { context, choices, right: Right::One(right) }
    };
    Ok(Question { group: document["group"].as_str().map(str::to_owned), description: None, form })
}

/// Whether the answer in `text` is the right one.
pub(super) fn is_right(pattern: Option<&Pattern>, target: &str, text: &str) -> bool {
    let answer = match pattern {
        None => Some(text),
        // A pattern that gives up has found nothing.
        Some(Pattern(pattern)) => pattern.captures(text).ok().flatten().and_then(|caught| {
            let caught = caught.get(1).or_else(|| caught.get(0))?;
            text.get(caught.start()..caught.end())
        }),
    };
    answer.is_some_and(|answer| answer.trim() == target.trim())
}
