//! What quantizing cost: perplexity before and after, and how far predictions have moved, on a text.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Result;
use whit_engine::{Engine, Model};
use whit_judge::{JudgeError, PerplexityOptions, divergence};
use whit_shrink::SAMPLE_TEXT;

use crate::arguments::EngineArguments;

/// Tokens in a chunk.
const CTX: usize = 512;

/// Runs both models on the text, and prints how they differ.
pub(super) fn measure(
    before: &Path,
    after: &Path,
    text: Option<&str>,
    engine: &EngineArguments,
) -> Result<()> {
    let model = Model::open(before)?;
    if model.info().is_encoder {
        note!("what it cost is not measured: the model generates no text");
        return Ok(());
    }
    let options = engine.options(Some(CTX))?;
    let mut base = Engine::new(model, &options)?;
    let mut quantized = Engine::new(Model::open(after)?, &options)?;
    let options = PerplexityOptions { ctx: CTX, ..PerplexityOptions::default() };
    let is_terminal = io::stderr().is_terminal();
    let result =
        divergence(&mut base, &mut quantized, text.unwrap_or(SAMPLE_TEXT), &options, &mut |progress| {
            if is_terminal {
                note_part!("\rmeasuring: chunk {} of {}\x1b[K", progress.n_done, progress.n_chunks);
            }
        });
    if is_terminal {
        note_part!("\r\x1b[K");
    }
    let result = match result {
        Err(error @ JudgeError::TextTooShort { .. }) => {
            note!("what it cost is not measured: {error}");
            return Ok(());
        }
        result => result?,
    };
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "perplexity {:.4} before, {:.4} after ({:+.2} % +/- {:.2})",
        result.base_perplexity.value,
        result.perplexity.value,
        100.0 * (result.ratio.value - 1.0),
        100.0 * result.ratio.error,
    )?;
    writeln!(
        out,
        "KL divergence {:.5} +/- {:.5} mean, {:.5} median, {:.5} at 99 %; same likeliest token {:.2} %",
        result.kl.mean.value,
        result.kl.mean.error,
        result.kl.quantile(0.5),
        result.kl.quantile(0.99),
        100.0 * result.same_top.value,
    )?;
    Ok(())
}
