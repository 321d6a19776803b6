//! `whit perplexity`: how well a model predicts a text, and how far its predictions lie from another's.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use whit_engine::{Engine, Model};
use whit_judge::{
    Divergence, Estimate, KlBase, Perplexity, PerplexityOptions, Progress, Protocol, Spread, divergence,
    divergence_from, perplexity, save_kl_base,
};

use crate::arguments::EngineArguments;
use crate::failure::Usage;
use crate::{Global, input, models, output, units};

/// Measure how well a model predicts a text, or how far its predictions lie from another's
///
/// The protocol is that of llama.cpp: chunks of --ctx tokens, the second half of each scored. Lower is better; values
/// for different vocabularies, texts, protocols or --ctx cannot be compared.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file or a model folder, or pip:PACKAGE
    #[arg(long, short)]
    model: String,

    /// The text; `-` is standard input
    #[arg(long, short, required_unless_present = "kl_divergence")]
    file: Option<PathBuf>,

    /// Tokens in a chunk [default: 512, or as the saved predictions have it]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,

    /// Chunks to score, from the beginning [default: all]
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,

    /// Windows of --ctx tokens, each N tokens behind the one before; every token counts once (the protocol of transformers)
    #[arg(long, value_name = "N", conflicts_with_all = ["full", "kl_base", "against"])]
    stride: Option<usize>,

    /// Windows side by side, every token counts; also perplexity by word and byte (the protocol of lm-evaluation-harness)
    #[arg(long, conflicts_with_all = ["kl_base", "against"])]
    full: bool,

    /// Save all predictions in this file, for comparing other models with this one; llama.cpp reads it, too
    #[arg(long, value_name = "FILE")]
    kl_base: Option<PathBuf>,

    /// Compare with the predictions saved in --kl-base, on the text that they are of
    #[arg(long, requires = "kl_base", conflicts_with_all = ["file", "ctx"])]
    kl_divergence: bool,

    /// Compare with the predictions of this model, which runs beside the other
    #[arg(long, value_name = "MODEL", conflicts_with = "kl_base")]
    against: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    engine: EngineArguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    if arguments.kl_divergence {
        let base = KlBase::open(arguments.kl_base.as_deref().unwrap_or_else(|| "".as_ref()))?;
        let mut engine = engine(arguments, global, &arguments.model, base.ctx())?;
        let ctx = base.ctx();
        let result = watched(|say| divergence_from(base, &mut engine, arguments.chunks, say))?;
        return print_divergence(arguments, ctx, &result);
    }
    let ctx = arguments.ctx.unwrap_or(PerplexityOptions::default().ctx);
    let protocol = match (arguments.stride, arguments.full) {
        (Some(stride), _) => Protocol::Stride(stride),
        (None, true) => Protocol::Full,
        (None, false) => Protocol::SecondHalf,
    };
    let options = PerplexityOptions { ctx, chunks: arguments.chunks, protocol };
    let Some(file) = &arguments.file else { return Err(Usage("--file is missing".to_owned()).into()) };
    let text = input::file(file)?;
    let mut own = engine(arguments, global, &arguments.model, ctx)?;
    if let Some(base) = &arguments.against {
        let mut base = engine(arguments, global, base, ctx)?;
        let result = watched(|say| divergence(&mut base, &mut own, &text, &options, say))?;
        return print_divergence(arguments, ctx, &result);
    }
    let result = match &arguments.kl_base {
        Some(path) => watched(|say| save_kl_base(&mut own, &text, &options, path, say))?,
        None => watched(|say| perplexity(&mut own, &text, &options, say))?,
    };
    print_perplexity(arguments, ctx, &result)
}

fn engine(arguments: &Arguments, global: &Global, model: &str, ctx: usize) -> Result<Engine> {
    let model = Model::open(models::path(global, model)?)?;
    Ok(Engine::new(model, &arguments.engine.options(Some(ctx))?)?)
}

/// Runs what reports progress, and says on standard error how far it is.
fn watched<T, E>(work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, E>) -> Result<T, E> {
    let is_terminal = io::stderr().is_terminal();
    let result = work(&mut |progress| say(&progress, is_terminal));
    if is_terminal {
        note!();
    }
    result
}

/// One line that is written over on a terminal; a line for every tenth of the way elsewhere.
fn say(progress: &Progress, is_terminal: bool) {
    let Progress { n_done, n_chunks, perplexity, divergence, elapsed } = *progress;
    let tenth = |n: usize| n * 10 / n_chunks.max(1);
    if !is_terminal && tenth(n_done) == tenth(n_done - 1) {
        return;
    }
    let left = units::time(elapsed.mul_f64((n_chunks - n_done) as f64 / n_done.max(1) as f64));
    let (before, after) = if is_terminal { ("\r", "\x1b[K") } else { ("", "\n") };
    let divergence = divergence.map(|nats| format!(", divergence {nats:.6}")).unwrap_or_default();
    note_part!("{before}chunk {n_done} of {n_chunks}: {perplexity:.4}{divergence}, {left} left{after}");
}

fn print_perplexity(arguments: &Arguments, ctx: usize, result: &Perplexity) -> Result<()> {
    let mut out = io::stdout().lock();
    if arguments.json {
        let mut json = json!({
            "whit": env!("CARGO_PKG_VERSION"),
            "model": arguments.model,
            "file": arguments.file.as_ref().map(|file| file.display().to_string()),
            "ctx": ctx,
            "protocol": match (arguments.stride, arguments.full) {
                (Some(_), _) => "stride",
                (None, true) => "full",
                (None, false) => "second half",
            },
            "chunks": result.n_chunks,
            "tokens": result.n_tokens,
            "scored": result.n_scored,
            "perplexity": result.value,
            "uncertainty": result.uncertainty,
            "seconds": result.elapsed.as_secs_f64(),
        });
        if let Some(stride) = arguments.stride {
            json["stride"] = stride.into();
        }
        if let Some(by) = result.by_text {
            json["word_perplexity"] = by.word.into();
            json["byte_perplexity"] = by.byte.into();
            json["bits_per_byte"] = by.bits_per_byte.into();
        }
        writeln!(out, "{json}")?;
        return Ok(());
    }
    writeln!(out, "perplexity {:.4} +/- {:.4}", result.value, result.uncertainty)?;
    if let Some(by) = result.by_text {
        writeln!(
            out,
            "by word {:.4}, by byte {:.4}, {:.4} bits per byte",
            by.word, by.byte, by.bits_per_byte
        )?;
    }
    let speed = result.n_tokens as f64 / result.elapsed.as_secs_f64();
    note!(
        "{} chunks of {ctx} tokens, {} predictions scored, in {} ({speed:.0} tokens/s)",
        result.n_chunks,
        result.n_scored,
        units::time(result.elapsed)
    );
    if let Some(path) = &arguments.kl_base {
        note!("saved the predictions in {}", path.display());
    }
    Ok(())
}

/// Quantiles that are told of, as parts and as people say them.
const QUANTILES: [(f64, &str); 11] = [
    (1.0, "maximum"),
    (0.999, "99.9 %"),
    (0.99, "99 %"),
    (0.95, "95 %"),
    (0.9, "90 %"),
    (0.5, "median"),
    (0.1, "10 %"),
    (0.05, "5 %"),
    (0.01, "1 %"),
    (0.001, "0.1 %"),
    (0.0, "minimum"),
];

fn print_divergence(arguments: &Arguments, ctx: usize, result: &Divergence) -> Result<()> {
    let mut out = io::stdout().lock();
    if arguments.json {
        let estimate = |estimate: Estimate| json!({"value": estimate.value, "error": estimate.error});
        let spread = |spread: &Spread| {
            let quantile = |(part, _): &(f64, &str)| json!([part, spread.quantile(*part)]);
            let quantiles: Vec<_> = QUANTILES.iter().map(quantile).collect();
            json!({"mean": estimate(spread.mean), "quantiles": quantiles})
        };
        let json = json!({
            "whit": env!("CARGO_PKG_VERSION"),
            "model": arguments.model,
            "against": arguments.against,
            "kl_base": arguments.kl_base.as_ref().map(|path| path.display().to_string()),
            "ctx": ctx,
            "chunks": result.n_chunks,
            "scored": result.n_scored,
            "perplexity": estimate(result.perplexity),
            "base_perplexity": estimate(result.base_perplexity),
            "correlation": result.correlation,
            "ln_ratio": estimate(result.ln_ratio),
            "ratio": estimate(result.ratio),
            "difference": estimate(result.difference),
            "kl_divergence": spread(&result.kl),
            "probability_change": spread(&result.change),
            "probability_change_rms": estimate(result.change_rms),
            "same_top": estimate(result.same_top),
            "seconds": result.elapsed.as_secs_f64(),
        });
        writeln!(out, "{json}")?;
        return Ok(());
    }
    let plain = |e: Estimate| format!("{:.6} +/- {:.6}", e.value, e.error);
    let percent = |e: Estimate| format!("{:.3} +/- {:.3} %", 100.0 * e.value, 100.0 * e.error);
    let mut rows = vec![
        ("perplexity", plain(result.perplexity)),
        ("perplexity of the reference", plain(result.base_perplexity)),
        ("ln of their ratio", plain(result.ln_ratio)),
        ("their ratio", plain(result.ratio)),
        ("their difference", plain(result.difference)),
        ("correlation of their logarithms", format!("{:.2} %", 100.0 * result.correlation)),
        ("same likeliest token", percent(result.same_top)),
        ("KL divergence, mean", plain(result.kl.mean)),
    ];
    let labels = QUANTILES
        .map(|(part, name)| (part, format!("KL divergence, {name}"), format!("change of p, {name}")));
    rows.extend(labels.iter().map(|(part, kl, _)| (&**kl, format!("{:.6}", result.kl.quantile(*part)))));
    rows.push(("change of p (of the right token), mean", percent(result.change.mean)));
    rows.push(("change of p, root mean square", percent(result.change_rms)));
    rows.extend(
        labels
            .iter()
            .map(|(part, _, change)| (&**change, format!("{:.3} %", 100.0 * result.change.quantile(*part)))),
    );
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(label, value)| vec![label.to_owned(), value]).collect();
    output::table(&mut out, &[false, false], &rows)?;
    note!(
        "{} chunks of {ctx} tokens, {} predictions scored, in {}",
        result.n_chunks,
        result.n_scored,
        units::time(result.elapsed)
    );
    Ok(())
}
