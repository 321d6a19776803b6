//! The program `whit`: argument parsing, progress bars, printing. What a library user would miss stands in the crates
//! below, not here.
//!
//! One command is one file in `commands/`. Data goes to standard output, everything else to standard error; a reader
//! who closes the pipe early is no error. Exit codes are those of [`failure`].
#![forbid(unsafe_code)]

#[macro_use]
mod note;

mod answer;
mod arguments;
mod chat;
mod client;
mod commands;
mod failure;
mod fit;
mod input;
mod interrupt;
mod log;
mod machine;
mod models;
mod output;
mod session;
mod settings;
mod units;
mod wrap;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;

use commands::Command;

/// Run small language models on hardware of your own.
#[derive(Debug, Parser)]
#[command(name = "whit", version, max_term_width = 100, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    global: Global,
}

/// What every command takes.
#[derive(Clone, Debug, clap::Args)]
struct Global {
    /// Folder of the store: models, and the history of chats [env: WHIT_HOME]
    #[arg(long, global = true, value_name = "FOLDER", help_heading = "Global options")]
    home: Option<PathBuf>,

    /// Never use the network [env: WHIT_OFFLINE]
    #[arg(long, global = true, help_heading = "Global options")]
    offline: bool,

    /// How much the inner works say on standard error: error, warn, info, debug or trace [default: warn; of a server, info]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Global options")]
    log: Option<tracing::Level>,
}

const AFTER_HELP: &str = "\
Exit codes:
  0    done; also when the reader of standard output went away
  1    something failed; standard error says what, and what to do
  2    the command line makes no sense
  130  interrupted with Ctrl-C

A model is named by a catalog name (`smollm2`, `gemma3:270m`), the path of a GGUF file or a model folder, or where it is:
`hf:OWNER/REPO`, `ollama:NAME:TAG`, `oci:HOST/OWNER/NAME:TAG`, `https://HOST/FILE.gguf`, `pip:PACKAGE==VERSION`.
Try:  whit run smollm2 \"Why is the sky blue?\"";

fn main() {
    let start = Instant::now();
    let cli = Cli::parse();
    let code = failure::report(
        cli.command
            .begin_log(&cli.global)
            .map_err(Into::into)
            .and_then(|()| commands::dispatch(cli.command, &cli.global, start)),
    );
    std::process::exit(code);
}
