//! `whit report`: several models on one page, for people to look at.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use whit_engine::{Engine, Model};
use whit_judge::{ModelReport, PerplexityOptions, Report, Speed, divergence, perplexity};

use super::bench::measure::{Kind, Test};
use crate::arguments::EngineArguments;
use crate::failure::Usage;
use crate::{Global, input, machine, models, units};

/// Write one HTML page on several models: size, memory, quality on a text, speed
///
/// Divergence is from the first model, such as the one that the others were made of.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Catalog names, paths of GGUF files or model folders
    #[arg(required = true)]
    models: Vec<String>,

    /// The page; a file of that name is replaced
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,

    /// A text to measure perplexity and divergence on
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Tokens in a chunk of the text
    #[arg(long, value_name = "N", default_value_t = 512)]
    ctx: usize,

    /// Chunks of the text to score
    #[arg(long, value_name = "N", default_value_t = 8)]
    chunks: usize,

    /// Depths to measure speed at, parted by commas; `--depth=` measures none
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "0,512,1024,2048")]
    depth: Vec<usize>,

    #[command(flatten)]
    engine: EngineArguments,
}

/// Tokens of a prompt, and of an answer, that are timed.
const N_PROMPT: usize = 128;
const N_GENERATE: usize = 32;

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    if arguments.chunks == 0 {
        return Err(Usage("--chunks must be 1 or more".to_owned()).into());
    }
    let text = arguments.file.as_deref().map(input::file).transpose()?;
    let mut report = Report { title: "Models".to_owned(), notes: notes(arguments), models: Vec::new() };
    for (index, name) in arguments.models.iter().enumerate() {
        note!("{name}");
        let mut told = describe(arguments, global, name)?;
        if let Some(text) = &text {
            quality(arguments, global, text, index, &mut told)?;
        }
        told.speeds = speeds(arguments, global, name)?;
        report.models.push(told);
    }
    let html = report.to_html();
    let written = std::fs::write(&arguments.out, &html);
    written.map_err(|error| anyhow!("{}: cannot write the file: {error}", arguments.out.display()))?;
    let size = units::bytes(html.len() as u64);
    Ok(writeln!(io::stdout(), "wrote {} ({size})", arguments.out.display())?)
}

fn notes(arguments: &Arguments) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(file) = &arguments.file {
        notes.push(format!(
            "Perplexity and divergence by the protocol of llama.cpp, on {} chunks of {} tokens of {}.",
            arguments.chunks,
            arguments.ctx,
            file.display()
        ));
    }
    notes.push(format!(
        "Speeds of one sequence: {N_PROMPT} tokens of a prompt read, {N_GENERATE} tokens generated, each behind so many others, once."
    ));
    let cpu = machine::cpu_name().unwrap_or_else(|| "an unknown processor".to_owned());
    notes.push(format!("Whit {} on {cpu}.", env!("CARGO_PKG_VERSION")));
    notes
}

fn open(global: &Global, name: &str) -> Result<Model> {
    Ok(Model::open(models::path(global, name)?)?)
}

fn engine(arguments: &Arguments, global: &Global, name: &str, ctx: usize) -> Result<Engine> {
    Ok(Engine::new(open(global, name)?, &arguments.engine.options(Some(ctx))?)?)
}

fn describe(arguments: &Arguments, global: &Global, name: &str) -> Result<ModelReport> {
    let engine = engine(arguments, global, name, arguments.ctx)?;
    let (model, info) = (engine.model(), engine.model().info());
    let file_type = info.file_type.as_ref().map(|file_type| format!(", {file_type}")).unwrap_or_default();
    Ok(ModelReport {
        name: name.to_owned(),
        description: format!("{}{file_type}", info.architecture),
        n_params: info.n_params,
        n_bytes: model.gguf().n_bytes() as u64,
        bits_per_weight: info.bits_per_weight(),
        memory: engine.allocated().total() as u64,
        perplexity: None,
        divergence: None,
        same_top: None,
        speeds: Vec::new(),
    })
}

/// Measures a model on a text: the first alone, the others against it.
fn quality(
    arguments: &Arguments,
    global: &Global,
    text: &str,
    index: usize,
    told: &mut ModelReport,
) -> Result<()> {
    let options = PerplexityOptions {
        ctx: arguments.ctx,
        chunks: Some(arguments.chunks),
        ..PerplexityOptions::default()
    };
    let mut own = engine(arguments, global, &told.name, arguments.ctx)?;
    if index == 0 {
        let result = perplexity(&mut own, text, &options, &mut |_| {})?;
        told.perplexity = Some(whit_judge::Estimate { value: result.value, error: result.uncertainty });
        return Ok(());
    }
    let mut base = engine(arguments, global, &arguments.models[0], arguments.ctx)?;
    match divergence(&mut base, &mut own, text, &options, &mut |_| {}) {
        Ok(result) => {
            told.perplexity = Some(result.perplexity);
            told.divergence = Some(result.kl.mean);
            told.same_top = Some(result.same_top);
        }
        // Another vocabulary: nothing to compare, and perplexities by token would mislead beside each other.
        Err(whit_judge::JudgeError::OtherVocabulary { .. }) => {
            note!("{} has another vocabulary than the first model: its quality is not compared", told.name);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn speeds(arguments: &Arguments, global: &Global, name: &str) -> Result<Vec<Speed>> {
    let Some(deepest) = arguments.depth.iter().max() else { return Ok(Vec::new()) };
    let test = |kind, depth| Test {
        kind,
        n: if kind == Kind::Prompt { N_PROMPT } else { N_GENERATE },
        depth,
        parallel: 1,
    };
    let mut engine = engine(arguments, global, name, test(Kind::Prompt, *deepest).n_ctx())?;
    test(Kind::Generate, 0).warm_up(&mut engine)?;
    let mut speeds = Vec::new();
    for &depth in &arguments.depth {
        let prompt = test(Kind::Prompt, depth).measure(&mut engine)?;
        speeds.push(Speed { depth, prompt, generate: test(Kind::Generate, depth).measure(&mut engine)? });
    }
    Ok(speeds)
}
