//! The step `instructions`: what the hot kernels execute at fixed shapes, counted under valgrind and held against
//! `benchmarks/instructions.json`. Unlike a time, a count is the same on a busy machine; a kernel that lost its inlining or its
//! vectors shows at once. What it cannot see is what an instruction costs.
//!
//! Valgrind knows no AVX-512, so the level is AVX2. Counts depend on the compiler: the table names the one that it was made
//! with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::data::Staging;
use crate::{apt, serving, shell};

const LEVEL: &str = "avx2";
/// The function whose calls are counted.
const COUNTED: &str = "instructions::measured";
/// A count may differ by so much, in percent: the C library's share and the layout of memory.
const TOLERANCE: f64 = 3.0;
const HINT: &str = "hint: install valgrind (apt-get install valgrind on Debian)";
const RENEW: &str = "cargo xtask instructions --renew";

/// `cargo xtask instructions`, perhaps with `--renew`.
pub(crate) fn command(mut args: Args) -> anyhow::Result<()> {
    let renew = args.switch("--renew");
    args.finish()?;
    if renew { renew_table() } else { check() }
}

/// Fails when a kernel executes more than the table says, or less.
pub(crate) fn check() -> anyhow::Result<()> {
    let Some(counts) = count()? else { return Ok(()) };
    let text = fs::read_to_string(table())
        .with_context(|| format!("cannot read {}\n\nhint: {RENEW}", table().display()))?;
    let known: Value = serde_json::from_str(&text).with_context(|| table().display().to_string())?;
    let faults = differences(&known["counts"], &counts);
    if faults.is_empty() {
        eprintln!("{} kernels execute what they should", counts.len());
        return Ok(());
    }
    let (made, here) = (known["rustc"].as_str().unwrap_or("an unknown compiler"), rustc()?);
    let compiler = match made == here {
        true => String::new(),
        false => {
            format!("\n\nThe table was made with {made}; this is {here}, which may be all that changed.")
        }
    };
    bail!(
        "kernels execute other numbers of instructions than benchmarks/instructions.json says:\n  {}{compiler}\n\n\
         hint: where that is meant, or a gain, `{RENEW}` makes the table anew; commit it with the change",
        faults.join("\n  ")
    )
}

fn renew_table() -> anyhow::Result<()> {
    let Some(counts) = count()? else { bail!("counts are taken on x86-64 Linux alone") };
    let counts: Map<String, Value> = counts.into_iter().map(|(name, n)| (name, n.into())).collect();
    let json = json!({"rustc": rustc()?, "level": LEVEL, "counts": counts});
    fs::write(table(), format!("{json:#}\n")).with_context(|| table().display().to_string())?;
    eprintln!("wrote {}", table().display());
    Ok(())
}

/// What differs by more than the tolerance, and what is in one of the two alone.
fn differences(known: &Value, counts: &[(String, u64)]) -> Vec<String> {
    let gone = known.as_object().into_iter().flatten().map(|(name, _)| name);
    let gone = gone.filter(|name| !counts.iter().any(|(counted, _)| counted == *name));
    let mut faults: Vec<String> = gone.map(|name| format!("{name}: no longer counted")).collect();
    for (name, n) in counts {
        match known[name].as_u64() {
            None => faults.push(format!("{name}: {n}, not in the table")),
            Some(before) => {
                let change = 100.0 * (*n as f64 / before as f64 - 1.0);
                if change.abs() > TOLERANCE {
                    faults.push(format!("{name}: {n}, {change:+.1} % of {before}"));
                }
            }
        }
    }
    faults
}

/// The kernels and what they execute; `None` on a machine for which there is no table.
fn count() -> anyhow::Result<Option<Vec<(String, u64)>>> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        eprintln!("NOT RUN: instruction counts, which are for x86-64 Linux");
        return Ok(None);
    }
    if !shell::works(Command::new("valgrind").arg("--version")) {
        apt::install(&["valgrind"], HINT)?;
    }
    let program = serving::built(&["--package", "whit-engine", "--example", "instructions"])?
        .join("examples/instructions");
    let dumps = Staging::new(&std::env::temp_dir())?;
    run(&program, &dumps.path).map(Some)
}

/// Callgrind dumps its counters after each call of the function, which the program names before.
fn run(program: &Path, dumps: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]);
    valgrind.args([format!("--zero-before={COUNTED}"), format!("--dump-after={COUNTED}")]);
    valgrind.arg(format!("--callgrind-out-file={}", dumps.join("out").display()));
    let names = shell::output(valgrind.arg(program).env("WHIT_CPU_LEVEL", LEVEL))?;
    let counted = |(at, name): (usize, &str)| {
        let path = dumps.join(format!("out.{}", at + 1));
        let text = fs::read_to_string(&path).with_context(|| format!("{name}: {}", path.display()))?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        Ok((name.to_owned(), total.with_context(|| format!("{name}: callgrind gave no total"))?))
    };
    names.lines().enumerate().map(counted).collect()
}

fn rustc() -> anyhow::Result<String> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    Ok(shell::output(rustc.arg("--version").current_dir(shell::root()))?.trim().to_owned())
}

fn table() -> PathBuf {
    shell::root().join("benchmarks/instructions.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_compared_both_ways() {
        let known = json!({"a": 1000, "b": 1000, "c": 1000, "d": 1000});
        let counts = [("a", 1029), ("b", 1031), ("c", 969), ("e", 5)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(
            differences(&known, &counts),
            [
                "d: no longer counted",
                "b: 1031, +3.1 % of 1000",
                "c: 969, -3.1 % of 1000",
                "e: 5, not in the table"
            ]
        );
    }
}
