//! `cargo xtask compare`: Whit and its peers on the same file, in turns (A B A B ..), so that heat, neighbours and
//! clock changes fall on all alike. Writes one receipt and renders BENCHMARKS.md from all receipts.
//!
//! Peers are programs that take llama-bench's arguments and print its JSON. What `whit bench --json` prints is described in
//! xtask/README.md.

pub(crate) mod receipt;
mod render;
mod runner;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::args::Args;
use crate::{load, serving, shell};
use receipt::{Host, Receipt, Series};
use runner::{Engine, Settings, Test};

pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    if args.switch("--render") {
        args.finish()?;
        return render_all();
    }
    let model = PathBuf::from(args.value("--model")?.context("--model FILE.gguf is missing")?);
    let peers = args.value("--peer")?;
    let whit = args.value("--whit")?.map(PathBuf::from);
    let n_rounds = args.number("--rounds", 5)?;
    let n_cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let settings = Settings {
        n_prompt: args.number("--prompt", 512)?,
        n_generate: args.number("--generate", 128)?,
        depth: args.number("--depth", 0)?,
        n_threads: args.number("--threads", n_cores)?,
        level: args.value("--level")?,
        model: model.clone(),
    };
    args.finish()?;
    if n_rounds == 0 || settings.n_threads == 0 {
        bail!("--rounds and --threads want at least 1");
    }
    let mut peer_engines = Vec::new();
    for peer in peers.iter().flat_map(|list| list.split(',')) {
        let (name, path) =
            peer.split_once('=').with_context(|| format!("--peer wants NAME=PROGRAM, not `{peer}`"))?;
        if !Path::new(path).is_file() {
            bail!("peer {name}: there is no program {path}");
        }
        peer_engines.push(Engine::peer(name, PathBuf::from(path)));
    }
    let model = receipt::Model::read(&model)?;
    let whit = match whit {
        Some(path) => path,
        None => serving::build()?,
    };
    let mut engines = vec![Engine::whit(whit)];
    engines.extend(peer_engines);
    let series = measure(&engines, &settings, n_rounds)?;
    let receipt = Receipt::new(Host::read(), commit(), model, &settings, n_rounds, &series);
    fs::create_dir_all(folder())?;
    let path = folder().join(receipt.file_name());
    fs::write(&path, format!("{:#}\n", receipt.json)).with_context(|| path.display().to_string())?;
    eprintln!("wrote {}", path.display());
    render_all()
}

/// Every engine once per round, each round in the same order.
fn measure(engines: &[Engine], settings: &Settings, n_rounds: usize) -> anyhow::Result<Vec<Series>> {
    let mut series: Vec<Series> = engines.iter().map(|engine| Series::new(engine, settings)).collect();
    for round in 1..=n_rounds {
        for (engine, series) in engines.iter().zip(&mut series) {
            let result = engine.run(settings).with_context(|| format!("{}, round {round}", engine.name))?;
            eprintln!("round {round}/{n_rounds} {:>12}: {}", engine.name, result.line());
            series.add(result)?;
        }
    }
    Ok(series)
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
    let page = render::markdown(receipt::read_all(&folder())?) + &load::markdown()?;
    let path = shell::root().join("BENCHMARKS.md");
    fs::write(&path, page).with_context(|| path.display().to_string())?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn folder() -> PathBuf {
    shell::root().join("benchmarks/receipts")
}

/// The tests in the order in which they are shown.
const TESTS: [Test; 2] = [Test::Prompt, Test::Generate];
