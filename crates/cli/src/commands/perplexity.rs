//! `whit perplexity`: how well a model predicts a text, by the protocol of llama.cpp.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Result;
use whit_engine::{Engine, Model};
use whit_judge::{PerplexityOptions, Progress, perplexity};

use crate::arguments::EngineArguments;
use crate::{Global, input, models, units};

/// Measure how well a model predicts a text
///
/// The protocol is that of llama.cpp: chunks of --ctx tokens, the second half of each scored. Lower is better; values
/// for different vocabularies, texts or --ctx cannot be compared.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file or a model folder, or pip:PACKAGE
    #[arg(long, short)]
    model: String,

    /// The text; `-` is standard input
    #[arg(long, short)]
    file: PathBuf,

    /// Tokens in a chunk
    #[arg(long, value_name = "N", default_value_t = 512)]
    ctx: usize,

    /// Chunks to score, from the beginning [default: all]
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let text = input::file(&arguments.file)?;
    let model = Model::open(models::path(global, &arguments.model)?)?;
    let mut engine = Engine::new(model, &arguments.engine.options(Some(arguments.ctx))?)?;
    let options = PerplexityOptions { ctx: arguments.ctx, chunks: arguments.chunks };
    let is_terminal = io::stderr().is_terminal();
    let result = perplexity(&mut engine, &text, &options, &mut |progress| say(&progress, is_terminal))?;
    if is_terminal {
        note!();
    }
    let mut out = io::stdout().lock();
    if arguments.json {
        let json = serde_json::json!({
            "whit": env!("CARGO_PKG_VERSION"),
            "model": arguments.model,
            "file": arguments.file.display().to_string(),
            "ctx": arguments.ctx,
            "chunks": result.n_chunks,
            "tokens": result.n_tokens,
            "scored": result.n_scored,
            "perplexity": result.value,
            "uncertainty": result.uncertainty,
            "seconds": result.elapsed.as_secs_f64(),
        });
        writeln!(out, "{json}")?;
        return Ok(());
    }
    writeln!(out, "perplexity {:.4} +/- {:.4}", result.value, result.uncertainty)?;
    let speed = result.n_tokens as f64 / result.elapsed.as_secs_f64();
    note!(
        "{} chunks of {} tokens, {} predictions scored, in {} ({speed:.0} tokens/s)",
        result.n_chunks,
        arguments.ctx,
        result.n_scored,
        units::time(result.elapsed)
    );
    Ok(())
}

/// One line that is written over on a terminal; a line for every tenth of the way elsewhere.
fn say(progress: &Progress, is_terminal: bool) {
    let Progress { n_done, n_chunks, perplexity, elapsed } = *progress;
    let tenth = |n: usize| n * 10 / n_chunks.max(1);
    if !is_terminal && tenth(n_done) == tenth(n_done - 1) {
        return;
    }
    let left = elapsed.mul_f64((n_chunks - n_done) as f64 / n_done.max(1) as f64);
    let (before, after) = if is_terminal { ("\r", "\x1b[K") } else { ("", "\n") };
    note_part!("{before}chunk {n_done} of {n_chunks}: {perplexity:.4}, {} left{after}", units::time(left));
}
