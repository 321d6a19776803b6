//! Task sets, by the semantics of lm-evaluation-harness (EleutherAI, version 0.4): which text a model is shown, what of it
//! is scored, and how. A task is a file here and a line in [`TASKS`]; tests compare the texts with those that the harness
//! itself makes (tests/golden/make_requests.py).

mod arc;
mod boolq;
mod fields;
mod gsm8k;
mod hellaswag;
mod humaneval;
mod ifeval;
mod lambada;
mod mmlu;
mod openbookqa;
mod own;
mod piqa;
mod truthfulqa;
mod winogrande;

use std::borrow::Cow;

use serde_json::Value;

pub use own::task as own_task;

/// A task set.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name.
    pub name: Cow<'static, str>,
    /// The version of its definition, as the harness counts them.
    pub version: &'static str,
    /// What is measured.
    pub metrics: &'static [Metric],
    /// Examples that are shown before a question, unless another number is asked for.
    pub usual_examples: usize,
    pub(crate) splits: Splits,
    pub(crate) sampling: Sampling,
    pub(crate) read: fn(&Value) -> Result<Question, String>,
}

/// A measure, and what makes one number of all documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How the values of documents become one.
    pub aggregation: Aggregation,
}

/// How the values of documents become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Their mean.
    Mean,
    /// The mean over parts, of which documents have different numbers. Its error is not told, as the parts of a document are
    /// not independent.
    MeanOfParts,
    /// `exp` of minus the mean: lower is better.
    Perplexity,
}

impl Metric {
    const fn mean(name: &'static str) -> Metric {
        Metric { name, aggregation: Aggregation::Mean }
    }

    /// Whether more is better.
    pub fn higher_is_better(&self) -> bool {
        self.aggregation != Aggregation::Perplexity
    }
}

/// The right choice is the likeliest...
const ACC: Metric = Metric::mean("acc");
/// ...by character...
const ACC_NORM: Metric = Metric::mean("acc_norm");
/// ...or by byte.
const ACC_BYTES: Metric = Metric::mean("acc_bytes");

/// Where documents stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splits {
    /// Other names of the folder or file.
    pub(crate) folders: &'static [&'static str],
    pub(crate) asked: &'static str,
    /// Where examples come from.
    pub(crate) examples: Option<&'static str>,
}

/// How examples are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampling {
    /// By chance, anew for each document.
    Random,
    /// By chance, one more than needed, so that the document itself can be left out.
    RandomButItself,
    /// The first ones (of the same group, if there are groups).
    First,
}

/// A document as a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    /// What it is counted with, such as its subject.
    pub(crate) group: Option<String>,
    /// Stands before everything.
    pub(crate) description: Option<String>,
    pub(crate) form: Form,
}

impl From<Form> for Question {
    fn from(form: Form) -> Question {
        Question { group: None, description: None, form }
    }
}

/// What the model is shown, and what it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    /// Which of several texts goes on best.
    Choose { context: String, choices: Vec<String>, right: Right },
    /// Which of several beginnings an ending suits best.
    Fill { contexts: Vec<String>, ending: String, right: usize },
    /// How likely an ending is. It begins with its own white space.
    Continue { context: String, ending: String },
    /// A text of its own.
    Write { context: String, target: String, stop: Vec<String>, max_tokens: usize, check: Check },
}

/// Which choices are right.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Right {
    One(usize),
    /// All these; what counts is their share of the probability.
    Share(Vec<bool>),
}

/// What a text is looked at for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Check {
    /// The number that GSM8K ends with.
    Gsm8k,
    /// Whether it follows instructions.
    Instructions(Vec<ifeval::Instruction>),
    /// Nothing: it is a program that completes the prompt, which is only written down.
    Program { id: String },
    /// The answer, which is what a pattern finds first, or all of the text.
    Answer(Option<own::Pattern>),
}

/// All task sets.
pub const TASKS: &[Task] = &[
    hellaswag::TASK,
    arc::EASY,
    arc::CHALLENGE,
    piqa::TASK,
    winogrande::TASK,
    boolq::TASK,
    openbookqa::TASK,
    mmlu::TASK,
    gsm8k::TASK,
    ifeval::TASK,
    humaneval::TASK,
    lambada::TASK,
    truthfulqa::MC1,
    truthfulqa::MC2,
];

/// Task sets by a name; `truthfulqa` is two.
pub fn tasks(name: &str) -> Vec<&'static Task> {
    let named = |task: &&Task| match name {
        "truthfulqa" => task.name.starts_with("truthfulqa_"),
        "lambada" => task.name == "lambada_openai",
        _ => task.name == name,
    };
    TASKS.iter().filter(named).collect()
}

/// A value of a document under one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The value.
    pub value: f64,
    /// How many parts it is the mean of: 1, but under [`Aggregation::MeanOfParts`].
    pub parts: f64,
}

/// What came back for a question: for every text that was scored its log-probability and whether each token of it was the
/// likeliest, or a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Response {
    Scores(Vec<(f64, bool)>),
    Text(String),
}

impl Task {
    /// The values of a document, one for each metric.
    pub(crate) fn score(&self, form: &Form, response: &Response) -> Result<Vec<Score>, String> {
        let named: Vec<(&str, Score)> = score(form, response)?;
        let find =
            |metric: &Metric| named.iter().find(|(name, _)| *name == metric.name).map(|(_, score)| *score);
        self.metrics
            .iter()
            .map(|metric| find(metric).ok_or_else(|| format!("it has no {}", metric.name)))
            .collect()
    }
}

/// Everything that can be said of a response, by name.
fn score(form: &Form, response: &Response) -> Result<Vec<(&'static str, Score)>, String> {
    let yes = |name, is: bool| (name, Score { value: f64::from(u8::from(is)), parts: 1.0 });
    Ok(match (form, response) {
        (Form::Choose { choices, right: Right::One(right), .. }, Response::Scores(scores)) => {
            let best = |length: &dyn Fn(&str) -> usize| {
                let by_length =
                    scores.iter().zip(choices).map(|((ll, _), choice)| ll / length(choice) as f64);
                first_greatest(by_length) == Some(*right)
            };
            vec![
                yes("acc", best(&|_| 1)),
                yes("acc_norm", best(&|choice| choice.chars().count())),
                yes("acc_bytes", best(&str::len)),
            ]
        }
        (Form::Choose { right: Right::Share(right), .. }, Response::Scores(scores)) => {
            let probability = |is: bool| -> f64 {
                scores
                    .iter()
                    .zip(right)
                    .filter(|(_, right)| **right || !is)
                    .map(|((ll, _), _)| ll.exp())
                    .sum()
            };
            vec![("acc", Score { value: probability(true) / probability(false), parts: 1.0 })]
        }
        (Form::Fill { right, .. }, Response::Scores(scores)) => {
            vec![yes("acc", first_greatest(scores.iter().map(|(ll, _)| *ll)) == Some(*right))]
        }
        (Form::Continue { .. }, Response::Scores(scores)) => {
            let &[(ll, is_greedy)] = &scores[..] else { return Err("it has not one score".to_owned()) };
            vec![("perplexity", Score { value: ll, parts: 1.0 }), yes("acc", is_greedy)]
        }
        (Form::Write { target, check, .. }, Response::Text(text)) => match check {
            Check::Gsm8k => {
                let [strict, flexible] = gsm8k::right(target, text);
                vec![yes(gsm8k::STRICT.name, strict), yes(gsm8k::FLEXIBLE.name, flexible)]
            }
            Check::Instructions(instructions) => ifeval::scores(instructions, text),
            Check::Program { .. } => Vec::new(),
            Check::Answer(pattern) => vec![yes("exact_match", own::is_right(pattern.as_ref(), target, text))],
        },
        _ => return Err("what came back is no answer to it".to_owned()),
    })
}

/// Where the greatest value stands, the first of equals.
fn first_greatest(values: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.enumerate() {
        if best.is_none_or(|(_, greatest)| value > greatest) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}
