//! How much drafting gains: an edit of a file of code, generated without drafts, with those out of the text, and with
//! those of a draft model, in turns.
//!
//! What counts is the time from the first token to the last; in it the draft model reads the prompt. Answers are the
//! likeliest tokens, up to a number of them, the same each time; where one way's answer differs from that without drafts, the table says so.

use std::io::{self, Write as _};

use anyhow::{Result, bail};
use serde_json::json;
use whit_engine::{
    Done, Engine, EngineOptions, Event, Message, Model, Prompt, Request, SamplerConfig, Speculation, Usage,
};

use super::{Arguments, nothing, summary};
use crate::{Global, models, output};

/// The task: what to change, and the file.
const TASK: &str = include_str!("edit.txt");
/// The task has fewer tokens in any vocabulary.
const PROMPT: usize = 2048;
/// Tokens of the uncounted run.
const WARM_UP: usize = 16;

/// One way to draft, and what came of it.
struct Measured {
    name: &'static str,
    speculation: Speculation,
    tokens_per_second: Vec<f64>,
    usage: Usage,
    answer: Vec<u32>,
}

pub(super) fn run(arguments: &Arguments, name: &str, global: &Global) -> Result<()> {
    let Some(&n) = arguments.generate.iter().find(|&&n| n > 1) else { return Err(nothing()) };
    let path = models::path(global, name)?;
    let draft = arguments.draft.as_deref().map(|draft| models::path(global, draft)).transpose()?;
    let options = EngineOptions { draft: draft.clone(), ..arguments.engine.options(Some(PROMPT + n))? };
    let mut engine = Engine::new(Model::open(&path)?, &options)?;
    let ways: &[&str] = if draft.is_some() { &["off", "lookup", "draft", "all"] } else { &["off", "lookup"] };
    let mut all: Vec<Measured> = Vec::new();
    for &name in ways {
        let speculation = name.parse().map_err(anyhow::Error::msg)?;
        let (usage, answer) = (Usage::default(), Vec::new());
        all.push(Measured { name, speculation, tokens_per_second: Vec::new(), usage, answer });
    }
    for round in 0..=arguments.repeat {
        for way in &mut all {
            if round == 0 {
                // Not counted: brings the weights in, and wakes the cores.
                generate(&mut engine, way.speculation, WARM_UP.min(n))?;
                continue;
            }
            note!("{}, {round} of {}", way.name, arguments.repeat);
            let (answer, done) = generate(&mut engine, way.speculation, n)?;
            way.tokens_per_second.push(done.timings.generated_tokens_per_second(&done.usage));
            (way.answer, way.usage) = (answer, done.usage);
        }
    }
    if arguments.json { print_json(arguments, name, &all) } else { print_table(&engine, &all) }
}

fn generate(engine: &mut Engine, speculation: Speculation, n: usize) -> Result<(Vec<u32>, Done)> {
    engine.clear_prefixes();
    let request = Request {
        sampling: SamplerConfig::greedy(),
        max_tokens: Some(n),
        speculation: Some(speculation),
        ..Request::new(Prompt::Chat(vec![Message::user(TASK)]))
    };
    let mut answer = Vec::new();
    for event in engine.generate(request)? {
        match event? {
            Event::Token { id, .. } => answer.push(id),
            Event::Done(done) => return Ok((answer, done)),
            _ => {}
        }
    }
    bail!("the generation broke off without an end")
}

impl Measured {
    /// The share of drafted tokens that was accepted, in percent.
    fn accepted(&self) -> Option<f64> {
        let Usage { drafted_tokens, accepted_tokens, .. } = self.usage;
        (drafted_tokens > 0).then(|| 100.0 * accepted_tokens as f64 / drafted_tokens as f64)
    }

    /// Tokens for each step that generated.
    fn per_step(&self) -> f64 {
        let Usage { generated_tokens, accepted_tokens, .. } = self.usage;
        generated_tokens as f64 / generated_tokens.saturating_sub(accepted_tokens).max(1) as f64
    }

    /// Where its answer leaves that of another.
    fn first_difference(&self, other: &Measured) -> Option<usize> {
        let n = self.answer.len().max(other.answer.len());
        (0..n).find(|&at| self.answer.get(at) != other.answer.get(at))
    }
}

fn print_json(arguments: &Arguments, name: &str, all: &[Measured]) -> Result<()> {
    let results: Vec<_> = all
        .iter()
        .map(|way| {
            json!({
                "speculate": way.name,
                "tokens_per_second": way.tokens_per_second,
                "generated": way.usage.generated_tokens,
                "drafted": way.usage.drafted_tokens,
                "accepted": way.usage.accepted_tokens,
                "first_difference": way.first_difference(&all[0]),
            })
        })
        .collect();
    let object = json!({
        "whit": env!("CARGO_PKG_VERSION"),
        "test": "edit",
        "model": name,
        "draft": arguments.draft,
        "results": results,
    });
    Ok(writeln!(io::stdout(), "{object}")?)
}

fn print_table(engine: &Engine, all: &[Measured]) -> Result<()> {
    let titles = ["DRAFTS", "TOKENS", "TOKENS/S", "SPREAD", "SPEED-UP", "DRAFTED", "ACCEPTED", "PER STEP"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    let (usual, _) = summary(&all[0].tokens_per_second);
    for way in all {
        let (median, spread) = summary(&way.tokens_per_second);
        rows.push(vec![
            way.name.to_owned(),
            way.usage.generated_tokens.to_string(),
            format!("{median:.2}"),
            format!("± {spread:.2}"),
            format!("{:.2}", median / usual),
            way.usage.drafted_tokens.to_string(),
            way.accepted().map_or_else(|| "-".to_owned(), |percent| format!("{percent:.0} %")),
            format!("{:.2}", way.per_step()),
        ]);
    }
    let mut out = io::stdout().lock();
    output::table(&mut out, &[false, true, true, true, true, true, true, true], &rows)?;
    for way in all {
        if let Some(at) = way.first_difference(&all[0]) {
            note!(
                "{}: the answer differs from token {at} on: a near tie, decided by how many rows a step has",
                way.name
            );
        }
    }
    let n = all[0].tokens_per_second.len();
    note!("{}; median of {n}, and half the distance from the least to the most", engine.backend());
    Ok(())
}
