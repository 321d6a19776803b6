//! `whit imatrix`: which columns of a model's weights count for a text.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use whit_engine::{Engine, Model};
use whit_shrink::{CalibrationOptions, CalibrationProgress, Imatrix, calibrate};

use crate::arguments::EngineArguments;
use crate::{Global, input, models, units};

/// Compute an importance matrix: which columns of a model's weights count for a text
///
/// The file is for `whit quantize --imatrix`, and for llama.cpp's llama-quantize.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file or a model folder, or pip:PACKAGE
    model: String,

    /// The text; `-` is standard input
    #[arg(long, short)]
    file: PathBuf,

    /// The file to write
    #[arg(long, short, value_name = "FILE", default_value = "imatrix.gguf")]
    output: PathBuf,

    /// Tokens in a chunk
    #[arg(long, value_name = "N", default_value_t = 512)]
    ctx: usize,

    /// Chunks to read, from the beginning [default: all]
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,

    /// What goes into the output projection counts too
    #[arg(long)]
    process_output: bool,

    #[command(flatten)]
    engine: EngineArguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let start = Instant::now();
    let text = input::file(&arguments.file)?;
    let options = CalibrationOptions {
        chunk_size: arguments.ctx,
        chunks: arguments.chunks,
        output: arguments.process_output,
        dataset: arguments.file.display().to_string(),
    };
    let model = models::path(global, &arguments.model)?;
    let imatrix = compute(&model, &text, &options, &arguments.engine)?;
    let n_bytes = imatrix.write(&arguments.output)?;
    note!(
        "wrote {} ({}, {} tensors, {} chunks of {} tokens) in {}",
        arguments.output.display(),
        units::bytes(n_bytes),
        imatrix.tensors.len(),
        imatrix.n_chunks,
        imatrix.chunk_size,
        units::time(start.elapsed())
    );
    Ok(())
}

/// Reads the text with the model, and says how far it is.
pub(super) fn compute(
    model: &Path,
    text: &str,
    options: &CalibrationOptions,
    engine: &EngineArguments,
) -> Result<Imatrix> {
    let mut engine = Engine::new(Model::open(model)?, &engine.options(Some(options.chunk_size))?)?;
    let is_terminal = std::io::stderr().is_terminal();
    let imatrix = calibrate(&mut engine, text, options, &mut |progress| {
        let CalibrationProgress { n_done, n_chunks } = progress;
        if is_terminal {
            note_part!("\rreading the text: chunk {n_done} of {n_chunks}\x1b[K");
        }
    });
    if is_terminal {
        note_part!("\r\x1b[K");
    }
    Ok(imatrix?)
}
