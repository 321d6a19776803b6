//! The steps of `cargo xtask test`, quickest first, so that a slip shows before the long ones run.

use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::args::Args;
use crate::{clients, data, instructions, openapi, rules, shell, web};

const STEPS: [&str; 10] =
    ["fmt", "deps", "clippy", "doc", "data", "unit", "instructions", "clients", "openapi", "web"];

/// All steps, or those that `--only` names, in the order above.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let only = args.value("--only")?;
    let rest = std::mem::take(&mut args.rest);
    args.finish()?;
    let chosen: Vec<&str> = match &only {
        Some(names) => names.split(',').collect(),
        None => STEPS.to_vec(),
    };
    if let Some(unknown) = chosen.iter().find(|name| !STEPS.contains(name)) {
        bail!("no step is called `{unknown}`; there are {}", STEPS.join(", "));
    }
    let mut times = Vec::new();
    for name in STEPS.into_iter().filter(|name| chosen.contains(name)) {
        eprintln!("== {name}");
        let start = Instant::now();
        // In company, what follows `--` is meant for cargo test.
        let rest: &[String] = if name == "unit" || chosen.len() == 1 { &rest } else { &[] };
        step(name, rest).with_context(|| format!("step `{name}`"))?;
        times.push(format!("{name} {:.0} s", start.elapsed().as_secs_f64()));
    }
    report_missing(&chosen);
    println!("xtask: passed ({})", times.join(", "));
    Ok(())
}

/// One step by its own name.
pub(crate) fn run_one(name: &str, mut args: Args) -> anyhow::Result<()> {
    if !STEPS.contains(&name) {
        bail!("no command is called `{name}`\n\nhint: cargo xtask help");
    }
    let rest = std::mem::take(&mut args.rest);
    args.finish()?;
    step(name, &rest)?;
    report_missing(&[name]);
    Ok(())
}

/// Says which tests had no data, where that matters.
fn report_missing(steps: &[&str]) {
    if steps.iter().any(|name| ["data", "unit"].contains(name)) {
        for what in data::missing() {
            eprintln!("NOT RUN: {what}");
        }
    }
}

fn step(name: &str, rest: &[String]) -> anyhow::Result<()> {
    match name {
        "fmt" => {
            component("fmt", "rustfmt")?;
            shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))
                .context("the layout differs from rustfmt's; `cargo fmt --all` mends it")?;
        }
        "deps" => rules::run()?,
        "clippy" => {
            component("clippy", "clippy")?;
            let args = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
            shell::run(&mut shell::cargo(&args))?;
        }
        "doc" => {
            let mut doc = shell::cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
            shell::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
        }
        "data" => data::fetch()?,
        "unit" => {
            let mut test = shell::cargo(&["test"]);
            if !rest.iter().any(|arg| arg == "-p" || arg.starts_with("--package")) {
                test.args(["--workspace", "--no-fail-fast"]);
            }
            test.args(rest);
            if let Some(folder) = data::folder() {
                test.env("WHIT_TEST_DATA", folder);
            }
            shell::run(&mut test)?;
        }
        "instructions" => instructions::check()?,
        "clients" => clients::run(rest)?,
        "openapi" => openapi::run(rest)?,
        "web" => web::run()?,
        _ => bail!("no step is called `{name}`"),
    }
    Ok(())
}

/// Fails with what to install when cargo lacks the subcommand.
fn component(subcommand: &str, package: &str) -> anyhow::Result<()> {
    if shell::works(&mut shell::cargo(&[subcommand, "--version"])) {
        return Ok(());
    }
    bail!("cargo {subcommand} is not installed\n\nhint: rustup component add {package}")
}
