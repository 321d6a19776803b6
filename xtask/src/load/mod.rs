//! `cargo xtask load`: many clients at once against a running server, Whit and its peers in turns. Tokens per second, the
//! gaps between them, requests that were lost; then, for Whit, whether memory stays flat over many requests, and whether
//! a prompt that all share is computed once. Writes one receipt and renders BENCHMARKS.md.

mod client;
mod engine;
mod report;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::compare::receipt::{self, Host, Model};
use crate::serving::{self, SMOLLM2};
use crate::shell;
pub(crate) use engine::Engine;
use workload::{Outcome, Workload, median_of, words};

/// Words of a prompt, and tokens of an answer.
const N_WORDS: usize = 200;
const N_TOKENS: usize = 128;
/// Clients at once, and what each of them asks in a round.
const CROWDS: [(usize, usize); 2] = [(8, 4), (64, 2)];

/// Memory may grow by this much between the first of many requests and the last.
const GROWTH: u64 = 32 << 20;
/// Requests before memory is first looked at: caches have filled by then.
const N_SETTLE: usize = 200;

pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let n_rounds = args.number("--rounds", 3)?;
    let n_requests = args.number("--requests", 2000)?;
    let dry = args.switch("--dry");
    let whit = args.value("--whit")?.map(PathBuf::from);
    let mut peers = Vec::new();
    while let Some(peer) = args.value("--peer")? {
        let parts =
            peer.split_once('=').with_context(|| format!("--peer wants NAME=COMMAND, not `{peer}`"))?;
        peers.push(Engine::Peer(parts.0.to_owned(), parts.1.to_owned()));
    }
    args.finish()?;
    if n_rounds == 0 || n_requests <= N_SETTLE {
        bail!("--rounds wants at least 1, --requests more than {N_SETTLE}");
    }
    let program = match whit {
        Some(path) => path,
        None => serving::build()?,
    };
    let path = serving::model_file(&program, SMOLLM2)?;
    let model = Model::read(&path)?;
    let mut engines = vec![Engine::Whit(program, vec![])];
    engines.extend(peers);

    let served = (SMOLLM2, &*path);
    let crowds = crowds(&engines, served, n_rounds)?;
    let whit = &engines[0];
    let memory = memory(whit, served, n_requests)?;
    let shared = shared_prompt(whit, served)?;
    let json = json!({
        "kind": "load", "rounds": n_rounds, "words": N_WORDS, "tokens": N_TOKENS,
        "engines": crowds, "memory": memory, "shared_prompt": shared,
    });
    let mut receipt = receipt::head(&Host::read(), &crate::compare::commit(), &model);
    receipt.extend(json.as_object().cloned().unwrap_or_default());
    let receipt = Value::Object(receipt);
    println!("{}", report::section(&receipt));
    if !dry {
        write(&receipt)?;
    }
    verdict(&receipt)
}

/// Every engine with every number of clients, in each round in the same order.
fn crowds(engines: &[Engine], model: (&str, &Path), n_rounds: usize) -> anyhow::Result<Vec<Value>> {
    let mut results = vec![vec![Vec::new(); CROWDS.len()]; engines.len()];
    for round in 0..n_rounds {
        for (crowd, (n_clients, n_each)) in CROWDS.into_iter().enumerate() {
            for (engine, results) in engines.iter().zip(&mut results) {
                let workload = Workload {
                    n_clients,
                    n_requests: n_clients * n_each,
                    n_words: N_WORDS,
                    n_tokens: N_TOKENS,
                    system: None,
                    seed: ((round * CROWDS.len() + crowd) as u64) << 32,
                };
                let running = engine.start(model, n_clients)?;
                let outcome = workload.run(&running.address, model.0);
                running.end().with_context(|| engine.name().to_owned())?;
                say(engine.name(), round, &workload, &outcome);
                results[crowd].push(outcome.json());
            }
        }
    }
    let json = |(engine, results): (&Engine, Vec<Vec<Value>>)| {
        let crowds = CROWDS.iter().zip(results).map(|((n_clients, n_each), rounds)| {
            let median = |path| median_of(&rounds, path);
            let lost: u64 = rounds.iter().filter_map(|round| round["lost"].as_u64()).sum();
            json!({
                "clients": n_clients, "requests": n_clients * n_each, "lost": lost,
                "tokens_per_second": median("/tokens_per_second"),
                "first_token_ms": {"median": median("/first_token_ms/median"), "p95": median("/first_token_ms/p95")},
                "gap_ms": {"median": median("/gap_ms/median"), "p95": median("/gap_ms/p95")},
                "rounds": rounds,
            })
        });
        json!({"name": engine.name(), "command": engine.command_line(), "crowds": crowds.collect::<Vec<_>>()})
    };
    Ok(engines.iter().zip(results).map(json).collect())
}

/// Tokens per second that so many clients get together of a server that is started for them and asked this often in all. For
/// comparisons that measure other things too; a lost request is an error.
pub(crate) fn rate(
    engine: &Engine,
    model: (&str, &Path),
    n_clients: usize,
    n_requests: usize,
    seed: u64,
) -> anyhow::Result<f64> {
    let workload = Workload {
        n_clients,
        n_requests,
        n_words: N_WORDS,
        n_tokens: N_TOKENS,
        system: None,
        seed: seed << 32,
    };
    let running = engine.start(model, n_clients)?;
    let outcome = workload.run(&running.address, model.0);
    running.end().with_context(|| engine.name().to_owned())?;
    match outcome.reason {
        None => Ok(outcome.rate()),
        Some(ref reason) => bail!("{} lost {} requests: {reason}", engine.name(), outcome.n_lost),
    }
}

fn say(engine: &str, round: usize, workload: &Workload, outcome: &Outcome) {
    let ms = |q| workload::quantile(&outcome.gaps, q) * 1e3;
    eprintln!(
        "round {} {engine:>12}, {:>2} clients: {:.1} tokens/s, gap median {:.1} ms, p95 {:.1} ms, {} lost",
        round + 1,
        workload.n_clients,
        outcome.rate(),
        ms(0.5),
        ms(0.95),
        outcome.n_lost,
    );
    if let Some(reason) = &outcome.reason {
        eprintln!("lost: {reason}");
    }
}

/// Memory of the server, early and late in many short requests.
fn memory(engine: &Engine, model: (&str, &Path), n_requests: usize) -> anyhow::Result<Value> {
    let running = engine.start(model, 8)?;
    let some = |n_requests, seed| Workload {
        n_clients: 8,
        n_requests,
        n_words: 50,
        n_tokens: 8,
        system: None,
        seed,
    };
    let early = some(N_SETTLE, 1 << 40).run(&running.address, model.0);
    let before = running.memory();
    let late = some(n_requests - N_SETTLE, 1 << 41).run(&running.address, model.0);
    let after = running.memory();
    running.end()?;
    for outcome in [&early, &late] {
        if let Some(reason) = &outcome.reason {
            eprintln!("lost: {reason}");
        }
    }
    Ok(json!({
        "requests": n_requests, "lost": early.n_lost + late.n_lost, "bytes_after_first": before,
        "first": N_SETTLE, "bytes_after_all": after,
    }))
}

/// Eight clients at once whose prompts share 1,000 words, against a server that never saw these.
fn shared_prompt(engine: &Engine, model: (&str, &Path)) -> anyhow::Result<Value> {
    let running = engine.start(model, 8)?;
    let workload = |n_clients, system: Option<u64>, seed| Workload {
        n_clients,
        n_requests: n_clients,
        n_words: 10,
        n_tokens: 16,
        system: system.map(|seed| words(1000, seed)),
        seed,
    };
    let together = workload(8, Some(1 << 42), 1 << 43).run(&running.address, model.0);
    running.end()?;
    Ok(json!({
        "clients": 8, "words": 1000, "lost": together.n_lost, "prompt_tokens": together.n_prompt,
        "computed_tokens": together.n_computed(),
    }))
}

/// What must hold on any machine; speeds are for the reader.
fn verdict(receipt: &Value) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let crowds = receipt["engines"][0]["crowds"].as_array().into_iter().flatten();
    let lost: u64 = crowds.map(|crowd| number(&crowd["lost"])).sum();
    let (memory, shared) = (&receipt["memory"], &receipt["shared_prompt"]);
    let lost = lost + number(&memory["lost"]) + number(&shared["lost"]);
    if lost > 0 {
        faults.push(format!("{lost} requests were lost"));
    }
    let grown = number(&memory["bytes_after_all"]).saturating_sub(number(&memory["bytes_after_first"]));
    if grown > GROWTH {
        faults.push(format!("memory grew by {} MiB", grown >> 20));
    }
    // Each client has its own few words behind those that are shared.
    let (all, computed) = (number(&shared["prompt_tokens"]), number(&shared["computed_tokens"]));
    if computed * 4 > all {
        faults.push(format!("of {all} tokens in prompts that share 1,000 words, {computed} were computed"));
    }
    match faults.is_empty() {
        true => Ok(()),
        false => bail!("{}", faults.join("; ")),
    }
}

fn folder() -> PathBuf {
    shell::root().join("benchmarks/load")
}

fn write(receipt: &Value) -> anyhow::Result<()> {
    fs::create_dir_all(folder())?;
    let path = folder().join(receipt::file_name(receipt, "load"));
    fs::write(&path, format!("{receipt:#}\n")).with_context(|| path.display().to_string())?;
    eprintln!("wrote {}", path.display());
    crate::compare::render_all()
}

/// The part of BENCHMARKS.md that tells of load: the newest receipt of each host.
pub(crate) fn markdown() -> anyhow::Result<String> {
    let mut newest = Map::new();
    for (name, receipt) in receipt::read_all(&folder())? {
        let host = receipt["host"]["cpu"].as_str().unwrap_or_default().to_owned();
        newest.insert(host, json!([name, receipt]));
    }
    Ok(report::page(newest.values()))
}
