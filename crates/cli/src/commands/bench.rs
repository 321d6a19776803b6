//! `whit bench`: how fast a model reads and writes here.
//!
//! The tests are those of llama-bench. `prompt`: random tokens are read in one go. `generate`: tokens are made one at a
//! time; choosing the likeliest is part of it (llama-bench leaves it out; it takes some microseconds). Both can begin
//! behind `--depth` tokens that are in the cache already. Loading and a first run of each test are not counted.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use whit_cpu::{CpuBackend, CpuConfig};
use whit_engine::{Done, Engine, Event, Model, Prompt, Request, SamplerConfig};
use whit_sample::Rng;

use crate::arguments::EngineArguments;
use crate::failure::Usage;
use crate::{Global, models, output};

/// Tokens of the uncounted run of `generate`.
const WARM_UP: usize = 16;

/// Measure how fast a model is here
///
/// As llama-bench does: reading a prompt, and generating, in tokens per second. Several values, separated by commas, are
/// measured one after another.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file or a model folder, or pip:PACKAGE
    #[arg(long, short)]
    model: String,

    /// Tokens of prompt to read; 0: leave this out
    #[arg(long, short, value_name = "N", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,

    /// Tokens to generate; 0: leave this out
    #[arg(long, short = 'n', value_name = "N", value_delimiter = ',', default_value = "128")]
    generate: Vec<usize>,

    /// Tokens in the cache before the measurement begins
    #[arg(long, short, value_name = "N", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,

    /// Measurements of each
    #[arg(long, short, value_name = "N", default_value = "5")]
    repeat: usize,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArguments,
}

#[derive(Clone, Copy)]
enum Kind {
    Prompt,
    Generate,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Prompt => "prompt",
            Kind::Generate => "generate",
        }
    }
}

struct Measured {
    kind: Kind,
    n: usize,
    depth: usize,
    tokens_per_second: Vec<f64>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let mut tests = Vec::new();
    for &depth in &arguments.depth {
        let prompts = arguments.prompt.iter().map(|&n| (Kind::Prompt, n, depth));
        let generates = arguments.generate.iter().map(|&n| (Kind::Generate, n, depth));
        tests.extend(prompts.chain(generates).filter(|&(_, n, _)| n > 0));
    }
    if tests.is_empty() || arguments.repeat == 0 {
        return Err(
            Usage("nothing to measure: --prompt and --generate, or --repeat, are 0".to_owned()).into()
        );
    }
    // One token more than a test generates: the first comes with the prompt.
    let ctx = tests.iter().map(|&(_, n, depth)| depth.saturating_add(n).saturating_add(2)).max();
    let options = arguments.engine.options(ctx)?;
    let backend = CpuBackend::new(CpuConfig { threads: options.threads, level: options.level })?;
    let path = models::path(global, &arguments.model)?;
    let mut engine = Engine::with_backend(Model::open(&path)?, &backend, &options)?;
    let mut results = Vec::new();
    for (kind, n, depth) in tests {
        note!("{} {n} at depth {depth}", kind.name());
        // Not counted: brings the weights in, and wakes the cores.
        measure(&mut engine, kind, if matches!(kind, Kind::Generate) { n.min(WARM_UP) } else { n }, depth)?;
        let tokens_per_second =
            (0..arguments.repeat).map(|_| measure(&mut engine, kind, n, depth)).collect::<Result<_>>()?;
        results.push(Measured { kind, n, depth, tokens_per_second });
    }
    if arguments.json { print_json(&path, &backend, &results) } else { print_table(&backend, &results) }
}

/// Tokens per second of one run.
fn measure(engine: &mut Engine, kind: Kind, n: usize, depth: usize) -> Result<f64> {
    engine.clear_prefixes();
    let before = random_tokens(engine, depth);
    match kind {
        Kind::Prompt => {
            if depth > 0 {
                generate(engine, before.clone(), 1)?;
            }
            let mut tokens = before;
            // The same beginning, so that the cache serves it.
            tokens.extend(random_tokens(engine, depth + n).split_off(depth));
            let done = generate(engine, tokens, 1)?;
            if done.usage.cached_tokens + n < done.usage.prompt_tokens {
                bail!("the cache did not keep the {depth} tokens that were to stand before the prompt");
            }
            Ok(done.timings.prompt_tokens_per_second(&done.usage))
        }
        Kind::Generate => {
            // The first token comes with the prompt, at the depth asked for; `n` more are made one by one.
            let tokens = if depth == 0 { random_tokens(engine, 1) } else { before };
            let done = generate(engine, tokens, n + 1)?;
            Ok(done.timings.generated_tokens_per_second(&done.usage))
        }
    }
}

fn generate(engine: &mut Engine, tokens: Vec<u32>, n: usize) -> Result<Done> {
    let request = Request {
        sampling: SamplerConfig::greedy(),
        max_tokens: Some(n),
        ignore_eos: true,
        ..Request::new(Prompt::Tokens(tokens))
    };
    for event in engine.generate(request)? {
        if let Event::Done(done) = event? {
            if done.usage.generated_tokens != n {
                bail!(
                    "only {} of {n} tokens were generated ({:?})",
                    done.usage.generated_tokens,
                    done.reason
                );
            }
            return Ok(done);
        }
    }
    bail!("the generation broke off without an end")
}

/// The same tokens each time, spread over the vocabulary.
fn random_tokens(engine: &Engine, n: usize) -> Vec<u32> {
    let mut rng = Rng::new(n as u64);
    (0..n).map(|_| (rng.next_f64() * engine.n_vocab() as f64) as u32).collect()
}

fn print_json(path: &Path, backend: &CpuBackend, results: &[Measured]) -> Result<()> {
    let results: Vec<Value> = results
        .iter()
        .map(|r| json!({ "test": r.kind.name(), "n": r.n, "depth": r.depth, "tokens_per_second": r.tokens_per_second }))
        .collect();
    let object = json!({
        "whit": env!("CARGO_PKG_VERSION"),
        "model": path.file_name().unwrap_or_default().to_string_lossy(),
        "threads": backend.threads(),
        "level": backend.level().name(),
        "results": results,
    });
    Ok(writeln!(io::stdout(), "{object}")?)
}

fn print_table(backend: &CpuBackend, results: &[Measured]) -> Result<()> {
    let mut rows = vec![["TEST", "TOKENS", "DEPTH", "TOKENS/S", "SPREAD"].map(str::to_owned).to_vec()];
    for r in results {
        let (median, spread) = summary(&r.tokens_per_second);
        let cells = [r.n.to_string(), r.depth.to_string(), format!("{median:.2}"), format!("± {spread:.2}")];
        rows.push([r.kind.name().to_owned()].into_iter().chain(cells).collect());
    }
    let mut out = io::stdout().lock();
    output::table(&mut out, &[false, true, true, true, true], &rows)?;
    let n = results.first().map_or(0, |r| r.tokens_per_second.len());
    note!(
        "{} threads, {}; median of {n}, and half the distance from the least to the most",
        backend.threads(),
        backend.level()
    );
    Ok(())
}

/// Median, and half the range.
fn summary(samples: &[f64]) -> (f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return (f64::NAN, f64::NAN) };
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    (median, (most - least) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        for (samples, expected) in
            [(&[3.0][..], (3.0, 0.0)), (&[4.0, 1.0, 2.0], (2.0, 1.5)), (&[4.0, 1.0, 2.0, 3.0], (2.5, 1.5))]
        {
            assert_eq!(summary(samples), expected);
        }
    }
}
