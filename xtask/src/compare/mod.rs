//! `cargo xtask compare`: Whit and its peers on the same files, in turns (A B A B ..), so that heat, neighbours and clock changes
//! fall on all alike. Writes a receipt for each model and renders BENCHMARKS.md from all receipts.
//!
//! A peer's settings are tried first, once each; the fastest of a row is measured. What programs print is described in
//! xtask/README.md.

mod engine;
pub(crate) mod receipt;
mod render;
mod row;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::args::Args;
use crate::{accuracy, load, serving, shell};
use engine::{Engine, Settings, Tuning};
use receipt::{Host, Model, Receipt, Series};
use row::{NAMES, Row, TABLE};

/// A model to compare on.
struct Subject {
    path: PathBuf,
    /// Its name, if it is of the catalog.
    name: Option<String>,
    rows: Vec<Row>,
}

pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    if args.switch("--render") {
        args.finish()?;
        return render_all();
    }
    let mut named = Vec::new();
    while let Some(model) = args.value("--model")? {
        named.push(model);
    }
    let mut engines = Vec::new();
    while let Some(peer) = args.value("--peer")? {
        let (name, folder) =
            peer.split_once('=').with_context(|| format!("--peer wants NAME=FOLDER, not `{peer}`"))?;
        engines.push(Engine::peer(name, PathBuf::from(folder))?);
    }
    let rows = args.value("--rows")?;
    let whit = args.value("--whit")?.map(PathBuf::from);
    let n_rounds = args.number("--rounds", 3)?;
    let n_cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let n_threads = args.number("--threads", n_cores)?;
    let level = args.value("--level")?;
    let dry = args.switch("--dry");
    args.finish()?;
    if n_rounds == 0 || n_threads == 0 {
        bail!("--rounds and --threads want at least 1");
    }
    let program = match whit {
        Some(path) => path,
        None => serving::build()?,
    };
    let subjects = subjects(&program, &named, rows.as_deref())?;
    engines.insert(0, Engine::whit(program.clone()));
    let (host, commit) = (Host::measure(&program, n_threads)?, commit());
    for subject in subjects {
        let model = Model::read(&subject.path)?;
        let settings = Settings { model: subject.path, name: subject.name, n_threads, level: level.clone() };
        let rows = measure(&engines, &settings, &subject.rows, n_rounds)?;
        let receipt = Receipt::new(&host, &commit, &model, &settings, n_rounds, &rows);
        if dry {
            println!("{}", render::markdown(vec![(receipt.file_name(), receipt.json)]));
            continue;
        }
        fs::create_dir_all(folder())?;
        let path = folder().join(receipt.file_name());
        fs::write(&path, format!("{:#}\n", receipt.json)).with_context(|| path.display().to_string())?;
        eprintln!("wrote {}", path.display());
        render_all()?;
    }
    Ok(())
}

/// The models that are named, files or names of the catalog; else those of the table.
fn subjects(program: &Path, named: &[String], rows: Option<&str>) -> anyhow::Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    let table = TABLE.iter().map(|(name, ..)| (*name).to_owned());
    for model in if named.is_empty() { table.collect() } else { named.to_vec() } {
        let entry = TABLE.iter().find(|(name, ..)| *name == model);
        let is_file = Path::new(&model).is_file();
        let usual = entry.map_or(if is_file { &NAMES[..4] } else { &NAMES }, |(_, _, rows)| rows);
        let n = entry.map_or(128, |(_, n, _)| *n);
        let names = rows.map_or(usual.to_vec(), |rows| rows.split(',').collect());
        subjects.push(Subject {
            path: if is_file { fs::canonicalize(&model)? } else { serving::model_file(program, &model)? },
            rows: names.into_iter().map(|name| Row::named(name, n)).collect::<anyhow::Result<_>>()?,
            name: (!is_file).then_some(model),
        });
    }
    Ok(subjects)
}

/// An engine in a row, with the settings that suit it.
struct Entrant<'e> {
    engine: &'e Engine,
    tuning: Tuning,
    series: Series,
}

/// Finds the best settings of each engine for each row; then all rows and engines in each round, in the same order.
fn measure(
    engines: &[Engine],
    settings: &Settings,
    rows: &[Row],
    n_rounds: usize,
) -> anyhow::Result<Vec<(Row, Vec<Series>)>> {
    let mut tunings = vec![Vec::new(); engines.len()];
    let mut results: Vec<(Row, Vec<Entrant<'_>>)> = Vec::new();
    for row in rows {
        let mut all = Vec::new();
        for (engine, chosen) in engines.iter().zip(&mut tunings) {
            if !engine.can(row) {
                eprintln!("{} has no program for {}", engine.name, row.title());
                continue;
            }
            let (tuning, tried) = tune(engine, settings, row, chosen)?;
            chosen.push((*row, tuning));
            let series = Series::new(engine, settings, row, tuning, tried);
            all.push(Entrant { engine, tuning, series });
        }
        results.push((*row, all));
    }
    for round in 1..=n_rounds {
        for (row, all) in &mut results {
            for Entrant { engine, tuning, series } in all {
                let sample = engine
                    .measure(settings, row, *tuning, round as u64)
                    .with_context(|| format!("{}, round {round}", engine.name))?;
                say(&format!("round {round}/{n_rounds}"), engine, row, *tuning, sample.tokens_per_second);
                series.add(sample);
            }
        }
    }
    let series = |all: Vec<Entrant<'_>>| all.into_iter().map(|entrant| entrant.series).collect();
    Ok(results.into_iter().map(|(row, all)| (row, series(all))).collect())
}

/// The settings with which the engine is fastest, and what was tried to find them: nothing, where there is no choice.
fn tune(
    engine: &Engine,
    settings: &Settings,
    row: &Row,
    chosen: &[(Row, Tuning)],
) -> anyhow::Result<(Tuning, Vec<(String, f64)>)> {
    let tunings = engine.tunings(row, chosen);
    if let [only] = tunings[..] {
        return Ok((only, vec![]));
    }
    let mut best = (Tuning::default(), 0.0);
    let mut tried = Vec::new();
    for tuning in tunings {
        let sample = engine.measure(settings, row, tuning, 0).with_context(|| engine.name.clone())?;
        let speed = sample.tokens_per_second;
        say("trying", engine, row, tuning, speed);
        tried.push((engine.flags(row, tuning).join(" "), speed));
        if speed > best.1 {
            best = (tuning, speed);
        }
    }
    Ok((best.0, tried))
}

fn say(when: &str, engine: &Engine, row: &Row, tuning: Tuning, speed: f64) {
    let flags = engine.flags(row, tuning).join(" ");
    eprintln!("{when} {:>12}, {}: {speed:.1} tokens/s {flags}", engine.name, row.title());
}

/// The commit, with a mark when the tree differs from it. Receipts and their table do not count.
pub(crate) fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(shell::root()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changes = git(&["status", "--porcelain", "--", ".", ":!benchmarks", ":!BENCHMARKS.md"]);
    if changes.is_none_or(|text| text.is_empty()) { head } else { format!("{head}+changes") }
}

/// Renders BENCHMARKS.md.
pub(crate) fn render_all() -> anyhow::Result<()> {
    let page = render::markdown(receipt::read_all(&folder())?) + &load::markdown()? + &accuracy::markdown()?;
    let path = shell::root().join("BENCHMARKS.md");
    fs::write(&path, page).with_context(|| path.display().to_string())?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn folder() -> PathBuf {
    shell::root().join("benchmarks/receipts")
}
