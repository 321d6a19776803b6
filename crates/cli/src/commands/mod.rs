//! The commands. To add one: a file here, and a line in each of the lists below.

pub(crate) mod run;

use std::time::Instant;

use anyhow::Result;

use crate::Global;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(run::Arguments),
}

/// Runs a command. `start` is when the program began.
pub(crate) fn dispatch(command: Command, global: &Global, start: Instant) -> Result<()> {
    match command {
        Command::Run(arguments) => run::run(&arguments, global, start),
    }
}
