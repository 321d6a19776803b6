//! `whit bench`: how fast a model reads and writes here.
//!
//! The tests are those of llama-bench, and with `--parallel` those of llama-batched-bench. `prompt`: random tokens are read
//! in one go. `generate`: tokens are made one at a time; choosing the likeliest is part of it (llama-bench leaves it out; it
//! takes some microseconds). Both can begin behind `--depth` tokens that are in the cache already. Loading and a first run of
//! each test are not counted.

mod edit;
mod formats;
pub(crate) mod measure;

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use whit_cpu::{CpuBackend, CpuConfig};
use whit_engine::{Engine, EngineOptions, Model, Work};

use crate::arguments::EngineArguments;
use crate::failure::Usage;
use crate::{Global, models, output};
use measure::{Kind, Test};

/// Measure how fast a model is here
///
/// As llama-bench does: reading a prompt, and generating, in tokens per second. Several values, separated by commas, are
/// measured one after another.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file or a model folder, or pip:PACKAGE
    #[arg(long, short, required_unless_present = "formats")]
    model: Option<String>,

    /// Tokens of prompt to read; 0: leave this out
    #[arg(long, short, value_name = "N", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,

    /// Tokens to generate; 0: leave this out
    #[arg(long, short = 'n', value_name = "N", value_delimiter = ',', default_value = "128")]
    generate: Vec<usize>,

    /// Tokens in the cache before the measurement begins
    #[arg(long, short, value_name = "N", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,

    /// Sequences at once, each with its own tokens; speeds are of all together
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    parallel: Vec<usize>,

    /// Measurements of each
    #[arg(long, short, value_name = "N", default_value = "5")]
    repeat: usize,

    /// Compare the block formats instead, by a made-up model larger than the caches in each of them
    #[arg(long, conflicts_with_all = ["model", "prompt", "generate", "depth", "parallel"])]
    formats: bool,

    /// Measure drafting instead: an edit of a file of code, --generate tokens of it, with and without drafts
    #[arg(long, conflicts_with_all = ["formats", "prompt", "depth", "parallel"])]
    edit: bool,

    /// A small model with the same tokens, which drafts in --edit
    #[arg(long, value_name = "MODEL", requires = "edit")]
    draft: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArguments,
}

/// A test, and what came of it.
struct Measured {
    test: Test,
    tokens_per_second: Vec<f64>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    if arguments.repeat == 0 {
        return Err(nothing());
    }
    match &arguments.model {
        Some(name) if arguments.edit => edit::run(arguments, name, global),
        Some(name) if !arguments.formats => model(arguments, name, global),
        _ => formats::run(arguments),
    }
}

fn nothing() -> anyhow::Error {
    Usage("nothing to measure: --prompt and --generate, or --repeat, or --parallel, are 0".to_owned()).into()
}

fn model(arguments: &Arguments, name: &str, global: &Global) -> Result<()> {
    let tests = tests(arguments);
    if tests.is_empty() {
        return Err(nothing());
    }
    let options = EngineOptions {
        max_sequences: tests.iter().map(|test| test.parallel).max().unwrap_or(1),
        ..arguments.engine.options(tests.iter().map(Test::n_ctx).max())?
    };
    let backend = backend(&options)?;
    let path = models::path(global, name)?;
    let model = Model::open(&path)?;
    let work = model.work(&options)?;
    let mut engine = Engine::with_backend(model, &backend, &options)?;
    let mut results = Vec::new();
    for test in tests {
        note!("{test}");
        test.warm_up(&mut engine)?;
        let tokens_per_second =
            (0..arguments.repeat).map(|_| test.measure(&mut engine)).collect::<Result<_>>()?;
        results.push(Measured { test, tokens_per_second });
    }
    if arguments.json {
        print_json(&path, &backend, &work, &results)
    } else {
        print_table(&backend, &results)
    }
}

fn backend(options: &EngineOptions) -> Result<CpuBackend> {
    Ok(CpuBackend::new(CpuConfig { threads: options.threads, level: options.level })?)
}

fn tests(arguments: &Arguments) -> Vec<Test> {
    let mut tests = Vec::new();
    for &parallel in &arguments.parallel {
        for &depth in &arguments.depth {
            let lists = [(Kind::Prompt, &arguments.prompt), (Kind::Generate, &arguments.generate)];
            for (kind, list) in lists {
                tests.extend(list.iter().map(|&n| Test { kind, n, depth, parallel }));
            }
        }
    }
    tests.retain(|test| test.n > 0 && test.parallel > 0);
    tests
}

fn print_json(path: &Path, backend: &CpuBackend, work: &Work, results: &[Measured]) -> Result<()> {
    let result = |Measured { test, tokens_per_second }: &Measured| {
        let mut json = json!({
            "test": test.kind.name(), "n": test.n, "depth": test.depth, "parallel": test.parallel,
            "tokens_per_second": tokens_per_second,
        });
        match test.kind {
            Kind::Prompt => json["operations_per_token"] = work.prompt_operations().into(),
            // The cache grows while tokens are generated: half of them are there on average.
            Kind::Generate => {
                json["bytes_per_token"] = work.generated_bytes(test.depth + test.n / 2, test.parallel).into();
            }
        }
        json
    };
    let object = json!({
        "whit": env!("CARGO_PKG_VERSION"),
        "model": path.file_name().unwrap_or_default().to_string_lossy(),
        "threads": backend.threads(),
        "level": backend.level().name(),
        "results": results.iter().map(result).collect::<Vec<Value>>(),
    });
    Ok(writeln!(io::stdout(), "{object}")?)
}

fn print_table(backend: &CpuBackend, results: &[Measured]) -> Result<()> {
    let head = ["TEST", "TOKENS", "DEPTH", "SEQUENCES", "TOKENS/S", "SPREAD"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for Measured { test, tokens_per_second } in results {
        let (median, spread) = summary(tokens_per_second);
        let cells = [test.n.to_string(), test.depth.to_string(), test.parallel.to_string()];
        let speeds = [format!("{median:.2}"), format!("± {spread:.2}")];
        rows.push([test.kind.name().to_owned()].into_iter().chain(cells).chain(speeds).collect());
    }
    let mut out = io::stdout().lock();
    output::table(&mut out, &[false, true, true, true, true, true], &rows)?;
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
