//! The commands. To add one: a file here, and a line in each of the lists below.

mod bench;
mod convert;
mod cp;
mod create;
mod doctor;
mod embed;
mod eval;
mod export;
mod imatrix;
mod import;
pub(crate) mod list;
mod perplexity;
mod ps;
mod pull;
mod push;
mod quantize;
mod report;
mod rm;
pub(crate) mod run;
mod serve;
pub(crate) mod show;
mod stop;
mod tokenize;

use std::time::Instant;

use anyhow::Result;
use tracing::Level;

use crate::Global;
use crate::failure::Usage;
use crate::log::{self, Format};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(run::Arguments),
    Serve(serve::Arguments),
    Pull(pull::Arguments),
    Push(push::Arguments),
    #[command(alias = "ls")]
    List(list::Arguments),
    Ps(ps::Arguments),
    Stop(stop::Arguments),
    Show(show::Arguments),
    Create(create::Arguments),
    Cp(cp::Arguments),
    Rm(rm::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
    Convert(convert::Arguments),
    Quantize(quantize::Arguments),
    Imatrix(imatrix::Arguments),
    Tokenize(tokenize::Arguments),
    Embed(embed::Arguments),
    Perplexity(perplexity::Arguments),
    Eval(Box<eval::Arguments>),
    Report(report::Arguments),
    Bench(bench::Arguments),
    Doctor(doctor::Arguments),
}

impl Command {
    /// Sees to what is logged. A server says what it is asked; the others speak up only when something is wrong.
    pub(crate) fn begin_log(&self, global: &Global) -> Result<(), Usage> {
        let (usual, format) = match self {
            Command::Serve(arguments) => (Level::INFO, arguments.log_format()?),
            _ => (Level::WARN, Format::Text),
        };
        log::init(global.log.unwrap_or(usual), format);
        Ok(())
    }
}

/// Runs a command. `start` is when the program began.
pub(crate) fn dispatch(command: Command, global: &Global, start: Instant) -> Result<()> {
    match command {
        Command::Run(arguments) => run::run(&arguments, global, start),
        Command::Serve(arguments) => serve::run(&arguments, global),
        Command::Pull(arguments) => pull::run(&arguments, global),
        Command::Push(arguments) => push::run(&arguments, global),
        Command::List(arguments) => list::run(&arguments, global),
        Command::Ps(arguments) => ps::run(&arguments, global),
        Command::Stop(arguments) => stop::run(&arguments, global),
        Command::Create(arguments) => create::run(&arguments, global),
        Command::Cp(arguments) => cp::run(&arguments, global),
        Command::Show(arguments) => show::run(&arguments, global),
        Command::Rm(arguments) => rm::run(&arguments, global),
        Command::Export(arguments) => export::run(&arguments, global),
        Command::Import(arguments) => import::run(&arguments, global),
        Command::Convert(arguments) => convert::run(&arguments, global),
        Command::Quantize(arguments) => quantize::run(&arguments, global),
        Command::Imatrix(arguments) => imatrix::run(&arguments, global),
        Command::Tokenize(arguments) => tokenize::run(&arguments, global),
        Command::Embed(arguments) => embed::run(&arguments, global),
        Command::Perplexity(arguments) => perplexity::run(&arguments, global),
        Command::Eval(arguments) => eval::run(&arguments, global),
        Command::Report(arguments) => report::run(&arguments, global),
        Command::Bench(arguments) => bench::run(&arguments, global),
        Command::Doctor(arguments) => doctor::run(&arguments, global),
    }
}
