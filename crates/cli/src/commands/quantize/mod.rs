//! `whit quantize`: a model in fewer bits, and what that cost.

mod budget;
mod cost;

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use whit_base::DType;
use whit_engine::CancelToken;
use whit_shrink::{
    Budget, CalibrationOptions, Choice, Formats, Imatrix, Mix, QuantizeOptions, QuantizeProgress, Quantized,
    ShrinkError, TensorRule, format_named, plan_quantize, quantize,
};

use super::imatrix;
use crate::arguments::EngineArguments;
use crate::failure::{Interrupted, Usage};
use crate::interrupt::{self, Answering};
use crate::{Global, input, models, output, units};

/// Store a model's weights in fewer bits, as a GGUF file
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file or a model folder, or pip:PACKAGE
    model: String,

    /// What to make of it: q8_0, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, q4_k_m, q4_k_s, q4_1, q4_0, iq4_nl, iq4_xs, q3_k_l, q3_k_m,
    /// q3_k_s, q2_k, q2_k_s, iq3_m, iq3_s, iq3_xs, iq3_xxs, iq2_m, iq2_s, iq2_xs, iq2_xxs, iq1_m, iq1_s, tq2_0, tq1_0, mxfp4, nvfp4,
    /// f16, bf16 or f32
    #[arg(long, value_name = "TYPE", required_unless_present_any = ["target_bpw", "target_size"])]
    to: Option<Mix>,

    /// In place of a type: so many bits for each weight, all told, spent where they serve predictions best
    #[arg(long, value_name = "BITS", conflicts_with_all = ["to", "target_size", "pure"], value_parser = bits)]
    target_bpw: Option<f64>,

    /// The same by the size of the file: 900MB, 1.5GiB
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["to", "pure"], value_parser = units::parse_bytes)]
    target_size: Option<u64>,

    /// The file to write [default: MODEL-TYPE.gguf, here]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Store tensors whose names match a regular expression as another format: --tensor 'ffn_down=q6_k'. Of several, the
    /// first that matches counts
    #[arg(long, value_name = "PATTERN=FORMAT", value_parser = tensor_rule)]
    tensor: Vec<TensorRule>,

    /// The format of the output projection, which in many small models is the embedding table
    #[arg(long, value_name = "FORMAT", value_parser = format_named)]
    output_type: Option<DType>,

    /// The format of the embedding table
    #[arg(long, value_name = "FORMAT", value_parser = format_named)]
    embedding_type: Option<DType>,

    /// Give every matrix the type's own format, with no more bits for those that need them most
    #[arg(long)]
    pure: bool,

    /// A text like those that the model will read: columns of weights that count much for it are stored with smaller errors.
    /// Needed for types of three bits and less
    #[arg(long, value_name = "FILE", conflicts_with = "imatrix")]
    calibrate: Option<PathBuf>,

    /// The same from a file: an importance matrix of `whit imatrix` or of llama.cpp's `llama-imatrix` (GGUF or .dat)
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,

    /// The text on which the cost is measured, source against result [default: a short one of many kinds]
    #[arg(long, value_name = "FILE")]
    measure: Option<PathBuf>,

    /// Do not measure the cost
    #[arg(long, conflicts_with = "measure")]
    no_measure: bool,

    /// Say what each tensor would become, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Replace a file that is there already
    #[arg(long)]
    force: bool,

    /// Say what each tensor becomes
    #[arg(long, short)]
    verbose: bool,

    #[command(flatten)]
    engine: EngineArguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let found = models::find(global, &arguments.model)?;
    let to = arguments.output.clone().unwrap_or_else(|| default_name(&found.name, &arguments.label()));
    if !to.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) {
        return Err(Usage(format!("{}: give the new file a name that ends in .gguf", to.display())).into());
    }
    let text = arguments.measure.as_deref().map(input::file).transpose()?;
    let mut formats = Formats {
        pure: arguments.pure,
        rules: arguments.tensor.clone(),
        output: arguments.output_type,
        embedding: arguments.embedding_type,
        ..Formats::of(arguments.to.unwrap_or(Mix::Q4_K_M))
    };
    let importance = match arguments.budget() {
        Some(budget) => Some(budget::fit(arguments, budget, &found.path, &mut formats)?),
        None => importance(arguments, &found.path)?,
    };
    let options =
        QuantizeOptions { formats, importance, threads: arguments.engine.threads, replace: arguments.force };
    if arguments.dry_run {
        return dry_run(&plan_quantize(&found.path, &options)?);
    }
    let start = Instant::now();
    let bar = Bar::new();
    let cancel = CancelToken::new();
    interrupt::install();
    let answering = Answering::new(&cancel);
    let done = quantize(&found.path, &to, &options, &mut |progress| {
        bar.show(progress);
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(answering);
    bar.0.finish_and_clear();
    let done = match done {
        Err(ShrinkError::Stopped) => return Err(Interrupted.into()),
        done => done?,
    };
    if arguments.verbose {
        done.choices.iter().for_each(|choice| note!("{}: {} -> {}", choice.tensor, choice.from, choice.to));
    }
    note!(
        "wrote {} ({}, {:.2} bits per weight; tensors took {} before) in {}",
        to.display(),
        units::bytes(done.file_bytes),
        done.bits_per_weight(),
        units::bytes(done.bytes_before),
        units::time(start.elapsed())
    );
    remarks(&done, &arguments.label());
    if !arguments.no_measure {
        cost::measure(&found.path, &to, text.as_deref(), &arguments.engine)?;
    }
    Ok(())
}

impl Arguments {
    /// What the user asks for, in a word.
    fn label(&self) -> String {
        match (self.to, self.budget()) {
            (Some(mix), _) => mix.to_string(),
            (None, Some(Budget::BitsPerWeight(bits))) => format!("{bits}bpw"),
            (None, Some(Budget::FileBytes(n))) => units::bytes(n).replace(' ', ""),
            (None, None) => String::new(),
        }
    }

    fn budget(&self) -> Option<Budget> {
        self.target_bpw.map(Budget::BitsPerWeight).or(self.target_size.map(Budget::FileBytes))
    }
}

fn bits(text: &str) -> Result<f64, String> {
    let bits: f64 = text.parse().map_err(|_| "a number is needed: 4.25".to_owned())?;
    if (1.0..=16.0).contains(&bits) { Ok(bits) } else { Err("choose from 1 to 16".to_owned()) }
}

/// What is known of the columns of the weights.
fn importance(arguments: &Arguments, model: &Path) -> Result<Option<(Imatrix, String)>> {
    if let Some(path) = &arguments.imatrix {
        return Ok(Some((Imatrix::read(path)?, path.display().to_string())));
    }
    let Some(path) = &arguments.calibrate else { return Ok(None) };
    let options = CalibrationOptions { dataset: path.display().to_string(), ..CalibrationOptions::default() };
    let imatrix = imatrix::compute(model, &input::file(path)?, &options, &arguments.engine)?;
    Ok(Some((imatrix, path.display().to_string())))
}

/// A line for each tensor, and the sum.
fn dry_run(choices: &[Choice]) -> Result<()> {
    let row = |choice: &Choice| {
        let shape = choice.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        let size = units::bytes(choice.n_bytes());
        vec![choice.tensor.clone(), shape, choice.from.to_string(), choice.to.to_string(), size]
    };
    let rows: Vec<_> = choices.iter().map(row).collect();
    let mut out = io::stdout().lock();
    output::table(&mut out, &[false, true, false, false, true], &rows)?;
    let (n_bytes, n_values) = choices
        .iter()
        .fold((0, 0), |(bytes, values), choice| (bytes + choice.n_bytes(), values + choice.n_values()));
    let bits = n_bytes as f64 * 8.0 / n_values.max(1) as f64;
    writeln!(out, "{} in {} tensors, {bits:.2} bits per weight", units::bytes(n_bytes), choices.len())?;
    Ok(())
}

/// What a user should know of the result.
fn remarks(done: &Quantized, asked: &str) {
    if let Some(format) = done.requantized() {
        note!(
            "the source was quantized already ({format}), so its errors add to the new ones; start from F16 or BF16 where you can"
        );
    }
    if done.n_blind > 0 {
        note!(
            "{} tensors are in formats that are of little use without an importance matrix; give a text (--calibrate) or a file (--imatrix)",
            done.n_blind
        );
    }
    let other: Vec<_> = done.choices.iter().filter(|choice| choice.to != choice.wanted).collect();
    if let Some(first) = other.first() {
        note!(
            "{} tensors have rows that are no whole number of {} blocks (such as {}) and are stored in the next larger format that fits; \
             {asked} would otherwise be smaller",
            other.len(),
            first.wanted,
            first.tensor,
        );
    }
}

/// `MODEL-TYPE.gguf`, where MODEL is the last part of the model's name.
fn default_name(model: &str, label: &str) -> PathBuf {
    let last = model.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or("model");
    let stem = last.strip_suffix(".gguf").unwrap_or(last);
    let plain = Mix::all().find_map(|mix| {
        let (head, tail) = stem.split_at_checked(stem.len().checked_sub(mix.name().len() + 1)?)?;
        (tail.starts_with(['-', '.', '_']) && tail[1..].eq_ignore_ascii_case(mix.name())).then_some(head)
    });
    let stem: String =
        plain.unwrap_or(stem).chars().map(|c| if matches!(c, ':' | '=') { '-' } else { c }).collect();
    PathBuf::from(format!("{stem}-{label}.gguf"))
}

fn tensor_rule(text: &str) -> Result<TensorRule, String> {
    let (pattern, format) = text.rsplit_once('=').ok_or("write a pattern and a format: ffn_down=q6_k")?;
    TensorRule::new(pattern, format_named(format)?).map_err(|error| error.to_string())
}

/// On a terminal alone.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Bar {
        if !std::io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::no_length().with_prefix("quantizing");
        // A template of ours that does not parse would show in the first run; the default bar serves as well.
        if let Ok(style) =
            ProgressStyle::with_template("{prefix} {wide_bar:.cyan/dim} {percent} %, {eta} left")
        {
            bar.set_style(style.progress_chars("━━╌"));
        }
        Bar(bar)
    }

    fn show(&self, progress: QuantizeProgress) {
        self.0.set_length(progress.n_values);
        self.0.set_position(progress.n_done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_after_model_and_type() {
        for (model, expected) in [
            ("smollm2", "smollm2-Q4_K_M.gguf"),
            ("gemma3:270m", "gemma3-270m-Q4_K_M.gguf"),
            ("/models/Llama-3.2-1B-F16.gguf", "Llama-3.2-1B-Q4_K_M.gguf"),
            ("./m.q8_0.gguf", "m-Q4_K_M.gguf"),
            ("hf:owner/Repo/", "Repo-Q4_K_M.gguf"),
            ("é8_0.gguf", "é8_0-Q4_K_M.gguf"),
        ] {
            assert_eq!(default_name(model, "Q4_K_M"), PathBuf::from(expected), "{model}");
        }
    }
}
