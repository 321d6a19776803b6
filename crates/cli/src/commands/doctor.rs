//! `whit doctor`: what this machine can do, and what that means for models.

use std::io::{self, Write as _};

use anyhow::Result;
use serde_json::{Map, Value, json};
use whit_cpu::{CpuBackend, CpuConfig, Level, integer_peak};
use whit_engine::{EngineOptions, Model};
use whit_hub::catalog::{CATALOG, Entry};
use whit_hub::{Reference, Store};

use crate::arguments::threads;
use crate::machine::{self, Memory};
use crate::{Global, fit, models, output, units};

/// Say what this machine can do: CPU, memory, speed of both, and which models fit
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Threads that the speeds are measured with [default: the cores that this process may use]
    #[arg(long, short, value_name = "N", value_parser = threads)]
    threads: Option<usize>,

    /// Print one JSON object, about the machine alone
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let machine = Machine::measure(arguments)?;
    if arguments.json {
        return Ok(writeln!(io::stdout(), "{}", machine.json())?);
    }
    let Machine { backend, memory, bandwidth, peaks } = &machine;
    let mut rows: Vec<(&str, String)> = vec![("whit", env!("CARGO_PKG_VERSION").to_owned())];
    let mut row = |label, value: String| rows.push((label, value));
    row("system", format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH));
    row("CPU", machine::cpu_name().unwrap_or_else(|| "unknown".to_owned()));
    row("CPU level", format!("{} (can run {})", backend.level(), levels().join(", ")));
    row("cores", format!("{} that this process may use", available_cores()?));
    match memory {
        Some(Memory { total, available }) => {
            row(
                "memory",
                format!("{}, {} of it free for models", units::memory(*total), units::memory(*available)),
            );
        }
        None => row("memory", "unknown on this system".to_owned()),
    }
    let by = format!("by {} threads", backend.threads());
    row("memory bandwidth", format!("{}/s, read {by}", units::bytes(*bandwidth as u64)));
    let peaks: Vec<String> =
        peaks.iter().map(|(level, peak)| format!("{:.2} at {level}", peak / 1e12)).collect();
    if !peaks.is_empty() {
        row("integer peak", format!("{} TOPS of 8 bits, {by}", peaks.join(", ")));
    }
    let store = models::store(global)?;
    row("store", store.home().display().to_string());
    let mut out = io::stdout().lock();
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(label, value)| vec![label.to_owned(), value]).collect();
    output::table(&mut out, &[false, false], &rows)?;

    let mut rows = vec![["MODEL", "HERE", "MEMORY", "FITS", "TOKENS/S"].map(str::to_owned).to_vec()];
    for entry in CATALOG {
        let (needs, here) = needs(&store, entry);
        let fits = fit::fits(memory.as_ref(), needs);
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

/// What was found out.
struct Machine {
    backend: CpuBackend,
    memory: Option<Memory>,
    /// Bytes per second.
    bandwidth: f64,
    /// Integer operations per second, of the levels that have instructions of their own.
    peaks: Vec<(Level, f64)>,
}

impl Machine {
    fn measure(arguments: &Arguments) -> Result<Machine> {
        let backend = CpuBackend::new(CpuConfig { threads: arguments.threads, level: None })?;
        let memory = machine::memory();
        note!("measuring memory and cores");
        let bandwidth = machine::bandwidth(backend.threads(), memory.as_ref());
        let peak = |level| Some((level, integer_peak(level, backend.threads())?));
        let peaks = Level::ALL.into_iter().filter_map(peak).collect();
        Ok(Machine { backend, memory, bandwidth, peaks })
    }

    fn json(&self) -> Value {
        let memory = self.memory.map(|memory| json!({"total": memory.total, "available": memory.available}));
        let peaks = self.peaks.iter().map(|(level, peak)| (level.name().to_owned(), Value::from(*peak)));
        json!({
            "whit": env!("CARGO_PKG_VERSION"),
            "system": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
            "cpu": machine::cpu_name(),
            "level": self.backend.level().name(),
            "levels": levels(),
            "threads": self.backend.threads(),
            "memory": memory,
            "memory_bandwidth": self.bandwidth,
            "integer_peak": peaks.collect::<Map<_, _>>(),
        })
    }
}

fn levels() -> Vec<&'static str> {
    Level::ALL.into_iter().filter(|level| level.is_supported()).map(Level::name).collect()
}

/// Cores that this process may use.
fn available_cores() -> Result<usize> {
    Ok(CpuBackend::new(CpuConfig::default())?.threads())
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
