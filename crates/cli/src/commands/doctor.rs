//! `whit doctor`: what this machine can do, and what that means for models.

use std::io::{self, Write as _};

use anyhow::Result;
use whit_cpu::{CpuBackend, CpuConfig, Level};
use whit_engine::{EngineOptions, Model};
use whit_hub::catalog::{CATALOG, Entry};
use whit_hub::{Reference, Store};

use crate::machine::{self, Memory};
use crate::{Global, models, output, units};

/// Say what this machine can do: CPU, memory, speed of memory, and which models fit
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, global: &Global) -> Result<()> {
    let backend = CpuBackend::new(CpuConfig::default())?;
    let memory = machine::memory();
    let mut rows: Vec<(&str, String)> = vec![("whit", env!("CARGO_PKG_VERSION").to_owned())];
    let mut row = |label, value: String| rows.push((label, value));
    row("system", format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH));
    row("CPU", machine::cpu_name().unwrap_or_else(|| "unknown".to_owned()));
    let levels: Vec<&str> = Level::ALL.into_iter().filter(|l| l.is_supported()).map(Level::name).collect();
    row("CPU level", format!("{} (can run {})", backend.level(), levels.join(", ")));
    row("cores", format!("{} that this process may use", backend.threads()));
    match &memory {
        Some(Memory { total, available }) => {
            row(
                "memory",
                format!("{}, {} of it free for models", units::memory(*total), units::memory(*available)),
            );
        }
        None => row("memory", "unknown on this system".to_owned()),
    }
    note!("measuring the memory");
    let bandwidth = machine::bandwidth(backend.threads(), memory.as_ref());
    row(
        "memory bandwidth",
        format!("{}/s, read by {} threads", units::bytes(bandwidth as u64), backend.threads()),
    );
    let store = models::store(global)?;
    row("store", store.home().display().to_string());
    let mut out = io::stdout().lock();
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(label, value)| vec![label.to_owned(), value]).collect();
    output::table(&mut out, &[false, false], &rows)?;

    let mut rows = vec![["MODEL", "HERE", "MEMORY", "FITS", "TOKENS/S"].map(str::to_owned).to_vec()];
    for entry in CATALOG {
        let (needs, here) = needs(&store, entry);
        let fits = match &memory {
            Some(memory) if needs <= memory.available => "yes",
            Some(memory) if needs <= memory.total => "when other programs end",
            Some(_) => "no",
            None => "?",
        };
        // Each token reads all weights once: the memory sets the limit.
        let speed = format!("{:.0}", bandwidth / entry.size as f64);
        let here = if here { "yes" } else { "" };
        rows.push(vec![entry.full_name(), here.to_owned(), units::memory(needs), fits.to_owned(), speed]);
    }
    writeln!(out)?;
    output::table(&mut out, &[false, false, true, false, true], &rows)?;
    drop(out);
    note!("\nTOKENS/S is what the memory's bandwidth allows at most while an answer is generated.");
    Ok(())
}

/// Bytes of memory for a model at its usual context, and whether it is here. For one that is not, the weights and
/// a quarter more.
fn needs(store: &Store, entry: &Entry) -> (u64, bool) {
    let stored =
        entry.full_name().parse::<Reference>().and_then(|reference| store.resolve(&reference)).ok().flatten();
    let Some(model) = stored else { return (entry.size + entry.size / 4, false) };
    let estimate = Model::open(&model.path).and_then(|model| model.estimate(&EngineOptions::default()));
    (estimate.map_or(entry.size + entry.size / 4, |memory| memory.total() as u64), true)
}
