//! IFEval (Zhou et al. 2023): instructions whose following can be checked by rule, 25 kinds of them. Strict: the answer as it is.
//! Loose: also without its first line, its last line, or asterisks. Each is told by prompt (all instructions followed) and by
//! instruction.
//!
//! The rules are those of the authors' `instructions.py`, as lm-evaluation-harness has it. Three kinds rest there on libraries
//! with trained models, in place of which stand rules of our own: the language of an answer ([`language`]), sentences and
//! words in capitals ([`words`]). They can decide otherwise where a case is close.

mod language;
mod words;

use std::borrow::Cow;

use fancy_regex::Regex;
use serde_json::Value;

use super::fields::{text, texts};
use super::{Aggregation, Check, Form, Metric, Question, Sampling, Score, Splits, Task};

const PROMPT_STRICT: Metric = Metric::mean("prompt_level_strict_acc");
const PROMPT_LOOSE: Metric = Metric::mean("prompt_level_loose_acc");
const STRICT: Metric = Metric { name: "inst_level_strict_acc", aggregation: Aggregation::MeanOfParts };
const LOOSE: Metric = Metric { name: "inst_level_loose_acc", aggregation: Aggregation::MeanOfParts };

pub(super) const TASK: Task = Task {
    name: Cow::Borrowed("ifeval"),
    version: "4.0",
    metrics: &[PROMPT_STRICT, STRICT, PROMPT_LOOSE, LOOSE],
    usual_examples: 0,
    splits: Splits {
        folders: &["IFEval", "ifeval_input_data", "input_data"],
        asked: "train",
        examples: None,
    },
    sampling: Sampling::Random,
    read,
};

fn read(document: &Value) -> Result<Question, String> {
    let ids = texts(document, "instruction_id_list")?;
    let kwargs = document["kwargs"].as_array().ok_or("it has no list `kwargs`")?;
    if ids.len() != kwargs.len() {
        return Err("it has not one of `kwargs` for each instruction".to_owned());
    }
    let instructions =
        ids.iter().zip(kwargs).map(|(id, kwargs)| Instruction::new(id, kwargs)).collect::<Result<_, _>>()?;
    let check = Check::Instructions(instructions);
    Ok(Form::Write {
        context: text(document, "prompt")?,
        target: String::new(),
        stop: Vec::new(),
        max_tokens: 1280,
        check,
    }
    .into())
}

/// The values of an answer.
pub(super) fn scores(instructions: &[Instruction], answer: &str) -> Vec<(&'static str, Score)> {
    let follows =
        |instruction: &Instruction, text: &str| !text.trim().is_empty() && instruction.is_followed(text);
    let loose = loosely(answer);
    let strict: Vec<bool> = instructions.iter().map(|one| follows(one, answer)).collect();
    let loose: Vec<bool> =
        instructions.iter().map(|one| loose.iter().any(|text| follows(one, text))).collect();
    let value = |metric: Metric, followed: &[bool]| {
        let n = followed.len().max(1) as f64;
        let n_followed = followed.iter().filter(|followed| **followed).count() as f64;
        let score = match metric.aggregation {
            Aggregation::MeanOfParts => Score { value: n_followed / n, parts: followed.len() as f64 },
            _ => Score { value: f64::from(u8::from(followed.iter().all(|followed| *followed))), parts: 1.0 },
        };
        (metric.name, score)
    };
    vec![
        value(PROMPT_STRICT, &strict),
        value(STRICT, &strict),
        value(PROMPT_LOOSE, &loose),
        value(LOOSE, &loose),
    ]
}

/// The answer as it is, and without first line, last line, both; each also without asterisks.
fn loosely(answer: &str) -> Vec<String> {
    let lines: Vec<&str> = answer.split('\n').collect();
    let (n, last) = (lines.len(), lines.len() - 1);
    let part = |lines: &[&str]| lines.join("\n").trim().to_owned();
    let parts = [
        answer.to_owned(),
        part(&lines[1..]),
        part(&lines[..last]),
        part(lines.get(1..n - 1).unwrap_or_default()),
    ];
    let plain = parts.clone().map(|text| text.replace('*', ""));
    parts.into_iter().chain(plain).collect()
}

/// Less than a number, or at least it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Less(usize),
    AtLeast(usize),
}

impl Bound {
    fn holds(self, n: usize) -> bool {
        match self {
            Bound::Less(bound) => n < bound,
            Bound::AtLeast(bound) => n >= bound,
        }
    }
}

/// An instruction that can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    Keywords(Vec<String>),
    KeywordFrequency(String, Bound),
    ForbiddenWords(Vec<String>),
    LetterFrequency(char, Bound),
    Language(String),
    Sentences(Bound),
    Paragraphs(usize),
    Words(Bound),
    ParagraphFirstWord { n_paragraphs: usize, paragraph: usize, word: String },
    Placeholders(usize),
    Postscript(String),
    Bullets(usize),
    ConstrainedAnswer,
    Highlights(usize),
    Sections { splitter: String, n: usize },
    Json,
    Title,
    TwoAnswers,
    RepeatedPrompt(String),
    Ending(String),
    CapitalWords(Bound),
    EnglishCapitals,
    EnglishLowercase,
    NoComma,
    Quotation,
}

impl Instruction {
    fn new(id: &str, kwargs: &Value) -> Result<Instruction, String> {
        let number = |name: &str| {
            // The published set has them as floats in some editions.
            let number = kwargs[name].as_u64().or_else(|| kwargs[name].as_f64().map(|number| number as u64));
            number
                .map(|number| number as usize)
                .ok_or_else(|| format!("its instruction {id} has no `{name}`"))
        };
        let bound = |number: usize, relation: &str| match kwargs[relation].as_str() {
            Some("less than") => Ok(Bound::Less(number)),
            Some("at least") => Ok(Bound::AtLeast(number)),
            _ => Err(format!("its instruction {id} has no `{relation}`")),
        };
        Ok(match id {
            "keywords:existence" => Instruction::Keywords(texts(kwargs, "keywords")?),
            "keywords:frequency" => Instruction::KeywordFrequency(
                text(kwargs, "keyword")?.trim().to_owned(),
                bound(number("frequency")?, "relation")?,
            ),
            "keywords:forbidden_words" => Instruction::ForbiddenWords(texts(kwargs, "forbidden_words")?),
            "keywords:letter_frequency" => {
                let letter = text(kwargs, "letter")?.trim().to_lowercase().chars().next();
                let letter = letter.ok_or_else(|| format!("its instruction {id} has no letter"))?;
                Instruction::LetterFrequency(letter, bound(number("let_frequency")?, "let_relation")?)
            }
            "language:response_language" => Instruction::Language(text(kwargs, "language")?),
            "length_constraints:number_sentences" => {
                Instruction::Sentences(bound(number("num_sentences")?, "relation")?)
            }
            "length_constraints:number_paragraphs" => Instruction::Paragraphs(number("num_paragraphs")?),
            "length_constraints:number_words" => Instruction::Words(bound(number("num_words")?, "relation")?),
            "length_constraints:nth_paragraph_first_word" => Instruction::ParagraphFirstWord {
                n_paragraphs: number("num_paragraphs")?,
                paragraph: number("nth_paragraph")?,
                word: text(kwargs, "first_word")?.to_lowercase(),
            },
            "detectable_content:number_placeholders" => {
                Instruction::Placeholders(number("num_placeholders")?)
            }
            "detectable_content:postscript" => {
                Instruction::Postscript(text(kwargs, "postscript_marker")?.trim().to_owned())
            }
            "detectable_format:number_bullet_lists" => Instruction::Bullets(number("num_bullets")?),
            "detectable_format:constrained_response" => Instruction::ConstrainedAnswer,
            "detectable_format:number_highlighted_sections" => {
                Instruction::Highlights(number("num_highlights")?)
            }
            "detectable_format:multiple_sections" => Instruction::Sections {
                splitter: text(kwargs, "section_spliter")?.trim().to_owned(),
                n: number("num_sections")?,
            },
            "detectable_format:json_format" => Instruction::Json,
            "detectable_format:title" => Instruction::Title,
            "combination:two_responses" => Instruction::TwoAnswers,
            "combination:repeat_prompt" => Instruction::RepeatedPrompt(text(kwargs, "prompt_to_repeat")?),
            "startend:end_checker" => Instruction::Ending(text(kwargs, "end_phrase")?),
            "change_case:capital_word_frequency" => {
                Instruction::CapitalWords(bound(number("capital_frequency")?, "capital_relation")?)
            }
            "change_case:english_capital" => Instruction::EnglishCapitals,
            "change_case:english_lowercase" => Instruction::EnglishLowercase,
            "punctuation:no_comma" => Instruction::NoComma,
            "startend:quotation" => Instruction::Quotation,
            _ => return Err(format!("its instruction {id} is not known")),
        })
    }

    fn is_followed(&self, answer: &str) -> bool {
        match self {
            Instruction::Keywords(keywords) => {
                keywords.iter().all(|word| count(&format!("(?i){word}"), answer) > 0)
            }
            Instruction::KeywordFrequency(word, bound) => bound.holds(count(&format!("(?i){word}"), answer)),
            Instruction::ForbiddenWords(words) => {
                words.iter().all(|word| count(&format!(r"(?i)\b{word}\b"), answer) == 0)
            }
            Instruction::LetterFrequency(letter, bound) => {
                bound.holds(answer.to_lowercase().chars().filter(|c| c == letter).count())
            }
            Instruction::Language(language) => language::is(answer, language),
            Instruction::Sentences(bound) => bound.holds(words::n_sentences(answer)),
            Instruction::Paragraphs(n) => has_paragraphs(answer, *n),
            Instruction::Words(bound) => bound.holds(count(r"\w+", answer)),
            Instruction::ParagraphFirstWord { n_paragraphs, paragraph, word } => {
                has_first_word(answer, *n_paragraphs, *paragraph, word)
            }
            Instruction::Placeholders(n) => count(r"\[.*?\]", answer) >= *n,
            Instruction::Postscript(marker) => {
                let pattern = match &**marker {
                    "P.P.S" => r"(?m)\s*p\.\s?p\.\s?s.*$".to_owned(),
                    "P.S." => r"(?m)\s*p\.\s?s\..*$".to_owned(),
                    other => format!(r"(?m)\s*{}.*$", other.to_lowercase()),
                };
                count(&pattern, &answer.to_lowercase()) > 0
            }
            Instruction::Bullets(n) => {
                count(r"(?m)^\s*\*[^\*].*$", answer) + count(r"(?m)^\s*-.*$", answer) == *n
            }
            Instruction::ConstrainedAnswer => {
                ["My answer is yes.", "My answer is no.", "My answer is maybe."]
                    .iter()
                    .any(|one| answer.contains(one))
            }
            Instruction::Highlights(n) => n_highlights(answer) >= *n,
            Instruction::Sections { splitter, n } => count(&format!(r"\s?{splitter}\s?\d+\s?"), answer) >= *n,
            Instruction::Json => is_json(answer),
            Instruction::Title => found(r"<<[^\n]+>>", answer).iter().any(|title| {
                let title = title.trim_start_matches('<').trim_end_matches('>');
                !title.trim().is_empty()
            }),
            Instruction::TwoAnswers => has_two_answers(answer),
            Instruction::RepeatedPrompt(prompt) => {
                answer.trim().to_lowercase().starts_with(&prompt.trim().to_lowercase())
            }
            Instruction::Ending(phrase) => {
                answer.trim().trim_matches('"').to_lowercase().ends_with(&phrase.trim().to_lowercase())
            }
            Instruction::CapitalWords(bound) => bound.holds(words::n_capital_words(answer)),
            Instruction::EnglishCapitals => words::is_upper(answer) && language::is(answer, "en"),
            Instruction::EnglishLowercase => words::is_lower(answer) && language::is(answer, "en"),
            Instruction::NoComma => !answer.contains(','),
            Instruction::Quotation => {
                let answer = answer.trim();
                answer.len() > 1 && answer.starts_with('"') && answer.ends_with('"')
            }
        }
    }
}

/// What a pattern finds, one after the other. One that is none finds nothing.
fn found(pattern: &str, text: &str) -> Vec<String> {
    match Regex::new(pattern) {
        Ok(pattern) => {
            pattern.find_iter(text).filter_map(|one| Some(one.ok()?.as_str().to_owned())).collect()
        }
        Err(_) => Vec::new(),
    }
}

fn count(pattern: &str, text: &str) -> usize {
    found(pattern, text).len()
}

/// Paragraphs parted by `***`: none may be empty but the first and the last, which then do not count.
fn has_paragraphs(answer: &str, n: usize) -> bool {
    let Ok(divider) = Regex::new(r"\s?\*\*\*\s?") else { return false };
    let paragraphs: Vec<&str> = divider.split(answer).filter_map(Result::ok).collect();
    let last = paragraphs.len().saturating_sub(1);
    let is_empty = |index: usize| paragraphs.get(index).is_none_or(|paragraph| paragraph.trim().is_empty());
    if (1..last).any(is_empty) {
        return false;
    }
    let n_empty = (0..paragraphs.len()).filter(|&index| is_empty(index)).count();
    paragraphs.len() - n_empty == n
}

fn has_first_word(answer: &str, n_paragraphs: usize, paragraph: usize, expected: &str) -> bool {
    let paragraphs: Vec<&str> = answer.split("\n\n").collect();
    let n = paragraphs.iter().filter(|paragraph| !paragraph.trim().is_empty()).count();
    if paragraph == 0 || paragraph > n {
        return false;
    }
    let Some(word) = paragraphs[paragraph - 1].split_whitespace().next() else { return false };
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(word.len());
    n == n_paragraphs && word[..end].to_lowercase() == expected
}

fn n_highlights(answer: &str) -> usize {
    let single = found(r"\*[^\n\*]*\*", answer);
    let double = found(r"\*\*[^\n\*]*\*\*", answer);
    let n_single = single.iter().filter(|one| !one.trim_matches('*').trim().is_empty()).count();
    let inner = |one: &str| {
        one.strip_prefix("**").and_then(|one| one.strip_suffix("**")).unwrap_or_default().trim().len()
    };
    n_single + double.iter().filter(|one| inner(one) > 0).count()
}

fn is_json(answer: &str) -> bool {
    let mut text = answer.trim();
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    let text = text.strip_suffix("```").unwrap_or(text).trim();
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn has_two_answers(answer: &str) -> bool {
    let parts: Vec<&str> = answer.split("******").map(str::trim).collect();
    let last = parts.len() - 1;
    if parts.iter().enumerate().any(|(index, part)| part.is_empty() && index != 0 && index != last) {
        return false;
    }
    let full: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    matches!(full[..], [first, second] if first != second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the harness' own checkers decide (tests/golden/make_ifeval.py).
    #[test]
    fn rules_are_those_of_the_harness() {
        let cases: Value =
            serde_json::from_str(include_str!("../../../tests/golden/ifeval.json")).expect("JSON");
        for case in cases.as_array().expect("a list") {
            let id = case["id"].as_str().expect("an id");
            let instruction = Instruction::new(id, &case["kwargs"]).expect("an instruction");
            for pair in case["answers"].as_array().expect("answers") {
                let answer = pair[0].as_str().expect("a text");
                assert_eq!(instruction.is_followed(answer), pair[1], "{id} {}: {answer:?}", case["kwargs"]);
            }
        }
    }

    #[test]
    fn loose_answers_leave_lines_and_asterisks_out() {
        let texts = loosely("Sure!\n*yes*\nBye");
        let expected = [
            "Sure!\n*yes*\nBye",
            "*yes*\nBye",
            "Sure!\n*yes*",
            "*yes*",
            "Sure!\nyes\nBye",
            "yes\nBye",
            "Sure!\nyes",
            "yes",
        ];
        assert_eq!(texts, expected);
        let instructions = [Instruction::Ending("yes".to_owned()), Instruction::NoComma];
        let values: Vec<f64> =
            scores(&instructions, "Sure!\n*yes*\nBye").iter().map(|(_, score)| score.value).collect();
        assert_eq!(values, [0.0, 0.5, 1.0, 1.0]);
    }
}
