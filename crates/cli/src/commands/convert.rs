//! `whit convert`: a model folder to a GGUF file, and back.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use whit_shrink::{Format, Progress, to_folder, to_gguf};

use crate::failure::Usage;
use crate::{Global, models, units};

/// Convert a Hugging Face model folder to a GGUF file, or a GGUF file to such a folder
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder or the GGUF file, or the name of a model, pulled first if it is not here
    from: String,

    /// Where to write: a name that ends in .gguf for a file, any other for a folder, which must not be there yet
    to: PathBuf,

    /// How matrices are stored: f32, f16, bf16 or q8_0 (files alone) [default: as they are; in a folder, f16 for what is quantized]
    #[arg(long = "to", value_name = "FORMAT")]
    format: Option<Format>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let start = Instant::now();
    let found = models::find(global, &arguments.from)?;
    let to_file = arguments.to.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    let is_terminal = std::io::stderr().is_terminal();
    let report = &mut |progress: Progress| say(progress, is_terminal);
    let convert = match (found.path.is_dir(), to_file) {
        (true, true) => to_gguf,
        (false, false) => to_folder,
        (true, false) => {
            return Err(Usage(format!(
                "{} is a folder; give the new file a name that ends in .gguf",
                found.path.display()
            ))
            .into());
        }
        (false, true) => {
            return Err(Usage(format!(
                "{} is a GGUF file already; give the name of a new folder to make one of it",
                found.path.display()
            ))
            .into());
        }
    };
    let done = convert(&found.path, &arguments.to, arguments.format, report);
    if is_terminal {
        note_part!("\r\x1b[K");
    }
    let done = done?;
    note!(
        "wrote {} ({}, {} tensors, matrices in {}) in {}",
        arguments.to.display(),
        units::bytes(done.n_bytes),
        done.n_tensors,
        done.format,
        units::time(start.elapsed())
    );
    Ok(())
}

/// One line that is written over, on a terminal alone.
fn say(progress: Progress, is_terminal: bool) {
    let Progress { n_done, n_tensors } = progress;
    if is_terminal {
        note_part!("\rconverting: tensor {n_done} of {n_tensors}\x1b[K");
    }
}
