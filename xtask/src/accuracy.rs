//! `cargo xtask accuracy`: the perplexity of the models that `compare` measures, with each type of cache, beside llama.cpp's on
//! the same files. Writes a receipt for each model and renders BENCHMARKS.md.
//!
//! Both follow one protocol (`crates/judge/src/perplexity.rs`), so that values can be held side by side. The text is not part of
//! the project; that of most published numbers is WikiText-2's raw test set.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::compare::receipt::{self, Host, Model};
use crate::{compare, serving, shell};

/// Models, and the chunks that are scored: the larger one takes longer.
const MODELS: [(&str, usize); 3] =
    [(serving::SMOLLM2, 100), ("gemma3:270m", 100), ("qwen2.5-coder:1.5b", 20)];
/// Tokens in a chunk.
const CTX: usize = 512;
/// Types of cache, the default first.
const CACHES: [&str; 3] = ["f16", "q8_0", "q4_0"];

const HEAD: &str = "
## Perplexity

Made by `cargo xtask accuracy` from the receipts in `benchmarks/accuracy/`. Chunks of 512 tokens, the second half of each scored; lower is
better. Cached keys and values are stored as the row says. The difference is Whit's against the peer's.
";

pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let text = args.value("--file")?.map(PathBuf::from);
    let text =
        text.context("--file TEXT is missing: a text to measure on, such as WikiText-2's wiki.test.raw")?;
    let mut named = Vec::new();
    while let Some(model) = args.value("--model")? {
        named.push(model);
    }
    let peer = args.value("--peer")?;
    let chunks = args.value("--chunks")?.map(|n| n.parse::<usize>()).transpose().context("--chunks")?;
    let n_cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let n_threads = args.number("--threads", n_cores)?;
    let whit = args.value("--whit")?.map(PathBuf::from);
    let dry = args.switch("--dry");
    args.finish()?;
    let peer = match &peer {
        Some(peer) => {
            let (name, folder) =
                peer.split_once('=').with_context(|| format!("--peer wants NAME=FOLDER, not `{peer}`"))?;
            Some((name, program(Path::new(folder))?))
        }
        None => None,
    };
    let whit = match whit {
        Some(path) => path,
        None => serving::build()?,
    };
    let all = MODELS.map(|(model, n)| (model.to_owned(), n));
    let models = if named.is_empty() {
        all.to_vec()
    } else {
        let usual = |model: &String| all.iter().find(|(name, _)| name == model).map_or(100, |(_, n)| *n);
        named.into_iter().map(|model| (model.clone(), usual(&model))).collect()
    };
    for (model, n) in models {
        let is_file = Path::new(&model).is_file();
        let path = if is_file { PathBuf::from(&model) } else { serving::model_file(&whit, &model)? };
        let n_chunks = chunks.unwrap_or(n);
        let mut rows = Vec::new();
        for cache in CACHES {
            let task = Task { model: &path, text: &text, n_chunks, n_threads, cache };
            let mut entries = vec![own(&whit, task)?];
            if let Some((name, program)) = &peer {
                entries.push(theirs(name, program, task)?);
            }
            for entry in &entries {
                eprintln!("{model}, {cache}, {}: {}", entry["name"], entry["perplexity"]);
            }
            rows.push(json!({"cache": cache, "engines": entries}));
        }
        let mut receipt = receipt::head(&Host::read(), &compare::commit(), &Model::read(&path)?);
        receipt.extend(rest(&text, n_chunks, rows));
        let receipt = Value::Object(receipt);
        if dry {
            println!("{}", section("", &receipt));
            continue;
        }
        fs::create_dir_all(folder())?;
        let path = folder().join(receipt::file_name(&receipt, "accuracy"));
        fs::write(&path, format!("{receipt:#}\n")).with_context(|| path.display().to_string())?;
        eprintln!("wrote {}", path.display());
        compare::render_all()?;
    }
    Ok(())
}

fn rest(text: &Path, n_chunks: usize, rows: Vec<Value>) -> Map<String, Value> {
    let text = text.file_name().map(|name| name.to_string_lossy().into_owned());
    let json = json!({"kind": "accuracy", "text": text, "ctx": CTX, "chunks": n_chunks, "rows": rows});
    json.as_object().cloned().unwrap_or_default()
}

/// The peer's program, which may lie in the folder or in its `bin`.
fn program(folder: &Path) -> anyhow::Result<PathBuf> {
    let name = format!("llama-perplexity{}", std::env::consts::EXE_SUFFIX);
    let places = [folder.join(&name), folder.join("bin").join(&name)];
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.with_context(|| format!("there is no {name} in {}", folder.display()))
}

/// What is measured.
#[derive(Clone, Copy)]
struct Task<'a> {
    model: &'a Path,
    text: &'a Path,
    n_chunks: usize,
    n_threads: usize,
    cache: &'a str,
}

fn own(program: &Path, task: Task<'_>) -> anyhow::Result<Value> {
    let Task { model, text, n_chunks, n_threads, cache } = task;
    let mut command = Command::new(program);
    command.arg("perplexity").arg("--model").arg(model).arg("--file").arg(text);
    command.args(["--ctx", &CTX.to_string(), "--chunks", &n_chunks.to_string()]);
    command.args(["--threads", &n_threads.to_string(), "--cache-type", cache, "--json"]);
    let printed = shell::output_with_errors(&mut command)?;
    let json: Value =
        serde_json::from_str(&printed.stdout).context("what `whit perplexity --json` printed")?;
    if json["chunks"] != n_chunks {
        bail!("the text gives {} chunks, not {n_chunks}: --chunks {}", json["chunks"], json["chunks"]);
    }
    Ok(json!({
        "name": "Whit", "version": json["whit"], "perplexity": json["perplexity"], "uncertainty": json["uncertainty"],
        "command": line(&command, model, text),
    }))
}

fn theirs(name: &str, program: &Path, task: Task<'_>) -> anyhow::Result<Value> {
    let Task { model, text, n_chunks, n_threads, cache } = task;
    let mut command = Command::new(program);
    command.arg("-m").arg(model).arg("-f").arg(text);
    command.args(["-c", &CTX.to_string(), "--chunks", &n_chunks.to_string(), "-t", &n_threads.to_string()]);
    command.args(["-fa", "on", "-ctk", cache, "-ctv", cache]);
    let printed = shell::output_with_errors(&mut command)?;
    let (value, uncertainty) = estimate(&(printed.stdout + &printed.stderr))
        .with_context(|| format!("{name} printed no `Final estimate: PPL = .. +/- ..`"))?;
    Ok(json!({
        "name": name, "perplexity": value, "uncertainty": uncertainty, "command": line(&command, model, text),
    }))
}

/// The values of llama-perplexity's last line.
fn estimate(printed: &str) -> Option<(f64, f64)> {
    let (_, rest) = printed.rsplit_once("Final estimate: PPL = ")?;
    let (value, rest) = rest.split_once(" +/- ")?;
    Some((value.trim().parse().ok()?, rest.split_whitespace().next()?.parse().ok()?))
}

/// The command without the places of this machine.
fn line(command: &Command, model: &Path, text: &Path) -> String {
    let mut line = shell::line_of(command);
    for path in [model, text] {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        line = line.replace(&path.display().to_string(), &name);
    }
    line
}

/// The part of BENCHMARKS.md: of each model the newest receipt. Nothing without receipts.
pub(crate) fn markdown() -> anyhow::Result<String> {
    let receipts = receipt::read_all(&folder())?;
    let mut page = String::new();
    for (at, (name, receipt)) in receipts.iter().enumerate() {
        let newer = |(_, other): &(String, Value)| other["model"]["sha256"] == receipt["model"]["sha256"];
        if receipts[at + 1..].iter().any(newer) {
            continue;
        }
        if page.is_empty() {
            page.push_str(HEAD);
        }
        page.push_str(&section(name, receipt));
    }
    Ok(page)
}

fn section(name: &str, receipt: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let engines = |row: &Value| row["engines"].as_array().cloned().unwrap_or_default();
    let rows: Vec<&Value> = receipt["rows"].as_array().into_iter().flatten().collect();
    let peer = rows.first().and_then(|row| engines(row).get(1).map(|engine| text(&engine["name"])));
    let mut page = format!(
        "\n### {}\n\nThe first {} chunks of {}. {}, commit {}. [Receipt](benchmarks/accuracy/{name})\n\n",
        text(&receipt["model"]["file"]),
        receipt["chunks"],
        text(&receipt["text"]),
        text(&receipt["date"]).chars().take(10).collect::<String>(),
        text(&receipt["commit"]),
    );
    let (head, bar) = match &peer {
        Some(peer) => (format!(" {peer} | difference |"), "---:|---:|"),
        None => (String::new(), ""),
    };
    let _ = writeln!(page, "| cache | Whit |{head}\n|---|---:|{bar}");
    for row in rows {
        let _ = write!(page, "| {} |", text(&row["cache"]));
        let values: Vec<f64> =
            engines(row).iter().map(|engine| engine["perplexity"].as_f64().unwrap_or(f64::NAN)).collect();
        for value in &values {
            let _ = write!(page, " {value:.4} |");
        }
        if let [own, peer] = values[..] {
            let _ = write!(page, " {:+.2} % |", 100.0 * (own / peer - 1.0));
        }
        page.push('\n');
    }
    page
}

fn folder() -> PathBuf {
    shell::root().join("benchmarks/accuracy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_last_line_is_read() {
        let printed =
            "[1]11.39,[2]15.49,\n10.44.862.675 I Final estimate: PPL = 18.7392 +/- 0.36217\n\nllama_perf";
        assert_eq!(estimate(printed), Some((18.7392, 0.36217)));
        assert_eq!(estimate("[1]11.39,"), None);
    }

    #[test]
    fn a_section_has_a_row_for_each_cache() {
        let engine = |name: &str, value: f64| json!({"name": name, "perplexity": value});
        let receipt = json!({
            "date": "2026-01-31T23:59:59Z", "commit": "abc", "model": {"file": "m.gguf"}, "text": "t.txt", "chunks": 3,
            "rows": [
                {"cache": "f16", "engines": [engine("Whit", 9.9), engine("peer", 10.0)]},
                {"cache": "q8_0", "engines": [engine("Whit", 11.0), engine("peer", 10.0)]},
            ],
        });
        let page = section("r.json", &receipt);
        let expected = "| cache | Whit | peer | difference |\n|---|---:|---:|---:|\n\
                        | f16 | 9.9000 | 10.0000 | -1.00 % |\n| q8_0 | 11.0000 | 10.0000 | +10.00 % |\n";
        assert!(page.ends_with(expected), "{page}");
    }
}
