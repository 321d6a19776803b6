//! `whit show`: what a model is.

use std::io::{self, Write as _};

use anyhow::{Result, bail};
use whit_engine::{EngineOptions, Model};
use whit_hub::{Manifest, Modelfile, parameter_lines};

use crate::{Global, fit, models, output, units};

/// Say what a model is: architecture, size, bits per weight, context, licence, memory
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A name (`whit list`, `whit list --catalog`), the path of a GGUF file or a model folder, or a place such as hf:OWNER/REPO. Pulled first
    /// if it is not here
    model: String,

    /// The context to calculate memory for [default: what the model was trained for, at most 4096]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,

    #[command(flatten)]
    part: Part,
}

/// What to print alone.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Part {
    /// Print what it needs in memory at each context and in each format, and what of that fits this machine
    #[arg(long)]
    fit: bool,

    /// Print the chat template alone
    #[arg(long)]
    template: bool,

    /// Print a Modelfile that makes this model
    #[arg(long)]
    modelfile: bool,

    /// Print the parameters that the model brings
    #[arg(long)]
    parameters: bool,

    /// Print the system message that the model brings
    #[arg(long)]
    system: bool,

    /// Print the licence
    #[arg(long, alias = "licence")]
    license: bool,

    /// Print the metadata of the file alone
    #[arg(long)]
    metadata: bool,

    /// Print the list of tensors alone
    #[arg(long)]
    tensors: bool,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let found = models::find(global, &arguments.model)?;
    let model = Model::open(&found.path)?;
    let manifest = found.manifest.as_ref();
    let extras = found.extras();
    let mut out = io::stdout();
    match &arguments.part {
        Part { fit: true, .. } => fit::print(&model, arguments.ctx)?,
        Part { template: true, .. } => {
            let own = model.gguf().metadata().opt_str("tokenizer.chat_template")?;
            match extras.template.as_deref().or(own) {
                Some(template) => writeln!(out, "{template}")?,
                None => bail!("this model has no chat template; it continues raw text"),
            }
        }
        Part { modelfile: true, .. } => {
            let (from, extras) = models::store(global)?.foundation(&arguments.model.parse()?)?;
            write!(out, "{}", Modelfile::write(&from, &extras))?;
        }
        Part { parameters: true, .. } => {
            if !extras.parameters.is_empty() {
                writeln!(out, "{}", parameter_lines(&extras.parameters))?;
            }
        }
        Part { system: true, .. } => {
            if let Some(system) = &extras.system {
                writeln!(out, "{system}")?;
            }
        }
        Part { license: true, .. } => print_licence(&model, manifest)?,
        Part { metadata: true, .. } => metadata(&model)?,
        Part { tensors: true, .. } => tensors(&model)?,
        _ => print(&model, &found.name, manifest, arguments.ctx)?,
    }
    Ok(())
}

/// Prints the texts of the licence, or its name, where that is all that is known.
pub(crate) fn print_licence(model: &Model, manifest: Option<&Manifest>) -> Result<()> {
    let texts =
        manifest.map(|manifest| manifest.extras.licenses.join("\n\n")).filter(|text| !text.is_empty());
    let named = || model.info().licence.clone().or_else(|| manifest?.licence.clone());
    let licence = texts.or_else(named).unwrap_or_else(|| "not stated".to_owned());
    Ok(writeln!(io::stdout(), "{}", licence.trim_end())?)
}

/// Prints the facts.
pub(crate) fn print(
    model: &Model,
    name: &str,
    manifest: Option<&Manifest>,
    ctx: Option<usize>,
) -> Result<()> {
    let info = model.info();
    // The engine's own choice.
    let n_ctx = ctx.unwrap_or(info.n_ctx_train.min(4096));
    let memory = model.estimate(&EngineOptions { ctx: Some(n_ctx), ..EngineOptions::default() })?;
    let mut rows: Vec<(&str, String)> = vec![("model", name.to_owned())];
    let mut row = |label, value: String| rows.push((label, value));
    if let Some(name) = &info.name {
        row("name in the file", name.clone());
    }
    row("file", format!("{} ({})", model.path().display(), units::bytes(model.gguf().n_bytes() as u64)));
    if let Some(manifest) = manifest {
        row("source", manifest.source.clone());
        if !manifest.sha256.is_empty() {
            row("SHA-256", manifest.sha256.clone());
        }
    }
    row("architecture", info.architecture.clone());
    row("parameters", format!("{} ({})", units::count(info.n_params), info.n_params));
    let file_type = info.file_type.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
    row("quantization", format!("{file_type}{:.2} bits per weight", info.bits_per_weight()));
    let share = |n: u64| 100.0 * n as f64 / info.n_params.max(1) as f64;
    let formats: Vec<String> =
        info.formats.iter().map(|f| format!("{} {:.1} %", f.dtype, share(f.n_params))).collect();
    row("formats", formats.join(", "));
    row("layers", info.n_layers.to_string());
    row("width", info.n_embd.to_string());
    row(
        "heads",
        format!("{}, of {} values, on {} key-value heads", info.n_heads, info.head_dim, info.n_kv_heads),
    );
    if let Some(n_ff) = info.n_ff {
        row("feed-forward", n_ff.to_string());
    }
    row("vocabulary", format!("{} tokens", info.n_vocab));
    row("context", format!("{} tokens in training", info.n_ctx_train));
    if let Some(window) = info.sliding_window {
        row("sliding window", format!("{window} tokens"));
    }
    match (info.ranks, info.is_encoder) {
        (true, _) => row("gives", "scores of documents for a query".to_owned()),
        (_, true) => row("gives", "embeddings".to_owned()),
        _ => {
            let template = if info.has_chat_template { "yes" } else { "none: continues raw text" };
            row("chat template", template.to_owned());
        }
    }
    let licence = info.licence.clone().or_else(|| manifest.and_then(|manifest| manifest.licence.clone()));
    row("licence", licence.unwrap_or_else(|| "not stated".to_owned()));
    if let Some(extras) = manifest.map(|manifest| &manifest.extras) {
        for line in parameter_lines(&extras.parameters).lines() {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            row("parameter", format!("{name} {}", value.trim()));
        }
        if let Some(system) = &extras.system {
            row("system", first_line(system));
        }
        if !extras.messages.is_empty() {
            row("messages", format!("{} before every conversation", extras.messages.len()));
        }
    }
    let size = |n: usize| units::memory(n as u64);
    row(
        "memory",
        format!(
            "{} at a context of {n_ctx}: weights {}, cache {}, buffers {}",
            size(memory.total()),
            size(memory.weights),
            size(memory.kv_cache),
            size(memory.buffers)
        ),
    );
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(label, value)| vec![label.to_owned(), value]).collect();
    Ok(output::table(&mut io::stdout().lock(), &[false, false], &rows)?)
}

/// The beginning of a text, in a line.
fn first_line(text: &str) -> String {
    const LENGTH: usize = 60;
    let line = text.trim().lines().next().unwrap_or_default();
    let short: String = line.chars().take(LENGTH).collect();
    if short.len() == text.trim().len() { short } else { format!("{short}...") }
}

fn metadata(model: &Model) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (key, value) in model.gguf().metadata().iter() {
        match value.as_str() {
            Some(text) => writeln!(out, "{key}\t{text:?}")?,
            None => match value {
                whit_files::Value::Array(array) => {
                    writeln!(out, "{key}\t[{} of {:?}]", array.len(), array.item_type())?
                }
                value => writeln!(out, "{key}\t{value}")?,
            },
        }
    }
    Ok(out.flush()?)
}

fn tensors(model: &Model) -> Result<()> {
    let mut rows = vec![];
    for tensor in model.gguf().tensors() {
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let size = units::bytes(tensor.n_bytes() as u64);
        rows.push(vec![tensor.name.to_string(), tensor.dtype.to_string(), shape.join(" x "), size]);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    output::table(&mut out, &[false, false, true, true], &rows)?;
    Ok(out.flush()?)
}
