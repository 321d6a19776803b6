//! Programs to compare: the command line of each for a row, and reading what it printed.
//!
//! Peers are llama.cpp and its kin, as a folder with llama-bench, llama-batched-bench and llama-server (a missing one costs its
//! rows). Their flags differ: what ik_llama.cpp calls otherwise or has beyond is known by `-rtr` in the help of its llama-bench.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::row::Row;
use crate::load;
use crate::shell;

/// The same for every engine of a comparison.
pub(crate) struct Settings {
    pub(crate) model: PathBuf,
    /// Its name in the catalog, under which a server offers it.
    pub(crate) name: Option<String>,
    pub(crate) n_threads: usize,
    /// `WHIT_CPU_LEVEL` for Whit. A peer's level is that of its build.
    pub(crate) level: Option<String>,
}

/// A program to measure.
pub(crate) struct Engine {
    pub(crate) name: String,
    kind: Kind,
}

enum Kind {
    Whit(PathBuf),
    Peer { folder: PathBuf, family: Family },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    LlamaCpp,
    IkLlamaCpp,
}

/// What a peer can be told that may make it faster. Of ik_llama.cpp's other switches `-fmoe` changes mixtures alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tuning {
    flash_attention: bool,
    /// Weights are put into another order when they are loaded.
    repack: bool,
}

/// What came of a measurement.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) tokens_per_second: f64,
    /// What the program says of itself.
    pub(crate) version: Option<String>,
    /// The CPU level, where the program tells.
    pub(crate) level: Option<String>,
    /// What a token costs at least: `bytes_per_token` or `operations_per_token`.
    pub(crate) cost: Option<(&'static str, f64)>,
}

impl Engine {
    pub(crate) fn whit(program: PathBuf) -> Engine {
        Engine { name: "whit".to_owned(), kind: Kind::Whit(program) }
    }

    /// A peer whose programs lie in `folder`.
    pub(crate) fn peer(name: &str, folder: PathBuf) -> anyhow::Result<Engine> {
        // Peers run in a folder of their own.
        let folder = folder.canonicalize().with_context(|| format!("peer {name}: {}", folder.display()))?;
        let bench = folder.join("llama-bench");
        let help = Command::new(&bench).arg("--help").output();
        let help = help.with_context(|| format!("peer {name}: cannot start {}", bench.display()))?;
        let knows = |text: &str| {
            [&help.stdout, &help.stderr].into_iter().any(|out| String::from_utf8_lossy(out).contains(text))
        };
        let family = if knows("-rtr") { Family::IkLlamaCpp } else { Family::LlamaCpp };
        Ok(Engine { name: name.to_owned(), kind: Kind::Peer { folder, family } })
    }

    /// What is to be tried for a row before the best counts. `chosen` says what was best for rows before: repacking that paid
    /// for generating is kept at depth, and a server gets what the batch got.
    pub(crate) fn tunings(&self, row: &Row, chosen: &[(Row, Tuning)]) -> Vec<Tuning> {
        let Kind::Peer { family, .. } = self.kind else { return vec![Tuning::default()] };
        let find = |is: fn(&Row) -> bool| chosen.iter().find(|(row, _)| is(row)).map(|(_, tuning)| *tuning);
        let repacks: &[bool] = match family {
            Family::LlamaCpp => &[false],
            Family::IkLlamaCpp => &[false, true],
        };
        let all = repacks
            .iter()
            .flat_map(|&repack| [false, true].map(|flash_attention| Tuning { flash_attention, repack }));
        match row {
            Row::Clients { .. } => {
                find(|row| matches!(row, Row::Parallel { .. })).map_or(all.collect(), |tuning| vec![tuning])
            }
            Row::Generate { depth: 1.., .. } => {
                let before = find(|row| matches!(row, Row::Generate { .. }));
                all.filter(|tuning| before.is_none_or(|before| before.repack == tuning.repack)).collect()
            }
            _ => all.collect(),
        }
    }

    /// Whether it has the program for the row.
    pub(crate) fn can(&self, row: &Row) -> bool {
        match &self.kind {
            Kind::Whit(_) => true,
            Kind::Peer { folder, .. } => folder.join(program(row)).is_file(),
        }
    }

    /// The tuning as a peer's flags.
    pub(crate) fn flags(&self, row: &Row, tuning: Tuning) -> Vec<&'static str> {
        let Kind::Peer { family, .. } = self.kind else { return vec![] };
        let Tuning { flash_attention, repack } = tuning;
        let is_bench = matches!(row, Row::Prompt { .. } | Row::Generate { .. });
        let mut flags = match (is_bench, flash_attention) {
            (true, false) => vec!["-fa", "0"],
            (true, true) => vec!["-fa", "1"],
            (false, false) => vec!["-fa", "off"],
            (false, true) => vec!["-fa", "on"],
        };
        match (family, is_bench, repack) {
            (Family::LlamaCpp, ..) | (_, false, false) => {}
            (Family::IkLlamaCpp, true, _) => flags.extend(["-rtr", if repack { "1" } else { "0" }]),
            (Family::IkLlamaCpp, false, true) => flags.push("-rtr"),
        }
        flags
    }

    /// The command of a row that is one process: all but [`Row::Clients`].
    fn command(&self, settings: &Settings, row: &Row, tuning: Tuning) -> Command {
        let text = |n: &usize| n.to_string();
        let threads = text(&settings.n_threads);
        let (folder, family) = match &self.kind {
            Kind::Whit(program) => {
                let mut command = Command::new(program);
                command.arg("bench").arg("--model").arg(&settings.model);
                let (prompt, generate, depth, parallel) = match row {
                    Row::Prompt { n } => (*n, 0, 0, 1),
                    Row::Generate { n, depth } => (0, *n, *depth, 1),
                    Row::Parallel { n, depth, sequences } => (0, *n, *depth, *sequences),
                    Row::Clients { .. } => (0, 0, 0, 0),
                };
                command.args(["--prompt", &text(&prompt), "--generate", &text(&generate)]);
                command.args(["--depth", &text(&depth), "--parallel", &text(&parallel)]);
                command.args(["--threads", &threads, "--repeat", "1", "--json"]);
                if let Some(level) = &settings.level {
                    command.env("WHIT_CPU_LEVEL", level);
                }
                return command;
            }
            Kind::Peer { folder, family } => (folder, *family),
        };
        let mut command = Command::new(folder.join(program(row)));
        // Some leave a log behind where they are started.
        command.current_dir(std::env::temp_dir());
        command.arg("-m").arg(&settings.model).args(["-t", &threads, "-ngl", "0"]);
        match row {
            Row::Prompt { n } => command.args(["-p", &text(n), "-n", "0"]),
            Row::Generate { n, depth: 0 } => command.args(["-p", "0", "-n", &text(n)]),
            Row::Generate { n, depth } => match family {
                Family::LlamaCpp => command.args(["-p", "0", "-n", &text(n), "-d", &text(depth)]),
                Family::IkLlamaCpp => command.args(["-p", "0", "-n", "0", "-gp", &format!("{depth},{n}")]),
            },
            Row::Parallel { n, depth, sequences } => {
                let ctx = (2 * sequences * (n + depth)).to_string();
                command.args(["-c", &ctx, "-npp", &text(depth), "-ntg", &text(n), "-npl", &text(sequences)])
            }
            Row::Clients { .. } => &mut command,
        };
        if matches!(row, Row::Prompt { .. } | Row::Generate { .. }) {
            command.args(["-r", "1", "-o", "json"]);
        }
        command.args(self.flags(row, tuning));
        command
    }

    /// The server of [`Row::Clients`].
    fn server(&self, settings: &Settings, row: &Row, tuning: Tuning) -> load::Engine {
        let threads = settings.n_threads.to_string();
        match &self.kind {
            Kind::Whit(program) => {
                let mut args = vec!["--threads".to_owned(), threads];
                let level = settings.level.iter();
                args.extend(level.flat_map(|level| ["--cpu-level".to_owned(), level.clone()]));
                load::Engine::Whit(program.clone(), args)
            }
            Kind::Peer { folder, family } => {
                let mut command = vec![
                    folder.join(program(row)).display().to_string(),
                    "-m {model} --port {port} -np {clients} -c 32768 --cache-ram 0 -t".to_owned(),
                    threads,
                ];
                // Each client's own part of the cache, without which clients read past each other's tokens.
                command.extend((*family == Family::LlamaCpp).then(|| "--no-kv-unified".to_owned()));
                command.extend(self.flags(row, tuning).into_iter().map(str::to_owned));
                load::Engine::Peer(self.name.clone(), command.join(" "))
            }
        }
    }

    /// The command as it stands in a receipt: names of files without their folders.
    pub(crate) fn command_line(&self, settings: &Settings, row: &Row, tuning: Tuning) -> String {
        if let Row::Clients { .. } = row {
            return self.server(settings, row, tuning).command_line();
        }
        let level = settings.level.as_ref().filter(|_| matches!(self.kind, Kind::Whit(_)));
        let prefix = level.map_or(String::new(), |level| format!("WHIT_CPU_LEVEL={level} "));
        let model = settings.model.file_name().map(Path::new).unwrap_or(&settings.model).to_path_buf();
        let level = settings.level.clone();
        let settings = Settings { model, level, name: None, n_threads: settings.n_threads };
        prefix + &shell::line_of(&self.command(&settings, row, tuning))
    }

    /// Measures a row once. No two of `seeds` ask servers the same.
    pub(crate) fn measure(
        &self,
        settings: &Settings,
        row: &Row,
        tuning: Tuning,
        seed: u64,
    ) -> anyhow::Result<Sample> {
        if let Row::Clients { clients, requests } = *row {
            let name = settings.name.as_deref().context("clients want a model of the catalog")?;
            let engine = self.server(settings, row, tuning);
            let tokens_per_second = load::rate(&engine, (name, &settings.model), clients, requests, seed)?;
            return Ok(Sample { tokens_per_second, ..Sample::default() });
        }
        let output = shell::output_with_errors(&mut self.command(settings, row, tuning))?;
        let sample = match (&self.kind, row) {
            (Kind::Whit(_), _) => read_whit(&output.stdout),
            (_, Row::Parallel { .. }) => read_batched_bench(&(output.stdout + &output.stderr)),
            _ => read_llama_bench(&output.stdout),
        };
        let sample = sample.with_context(|| format!("what {} printed:\n{}", self.name, output.stderr))?;
        if let (Some(wanted), Some(got)) = (&settings.level, &sample.level)
            && wanted != got
        {
            bail!("asked for CPU level {wanted}, but {} ran at {got}", self.name);
        }
        Ok(sample)
    }
}

/// The peer's program for a row.
fn program(row: &Row) -> &'static str {
    match row {
        Row::Prompt { .. } | Row::Generate { .. } => "llama-bench",
        Row::Parallel { .. } => "llama-batched-bench",
        Row::Clients { .. } => "llama-server",
    }
}

fn speed(value: &Value) -> anyhow::Result<f64> {
    let positive = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
    positive.with_context(|| format!("expected tokens per second above 0, not {value}"))
}

/// One result of one repeat, as xtask/README.md has it.
fn read_whit(text: &str) -> anyhow::Result<Sample> {
    let json: Value = serde_json::from_str(text)?;
    let result = &json["results"][0];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let cost = |name: &'static str| Some((name, result[name].as_f64()?));
    Ok(Sample {
        tokens_per_second: speed(&result["tokens_per_second"][0])?,
        version: text(&json["whit"]),
        level: text(&json["level"]),
        cost: cost("bytes_per_token").or(cost("operations_per_token")),
    })
}

/// llama-bench's `-o json`: a list with one object per test. Other lines may stand before it.
fn read_llama_bench(text: &str) -> anyhow::Result<Sample> {
    let start = text.find("[\n").context("no list was printed")?;
    let json: Value = serde_json::from_str(&text[start..])?;
    let result = &json[0];
    let commit = result["build_commit"].as_str().unwrap_or_default();
    let version = match result["build_number"].as_u64() {
        Some(number) => format!("b{number} ({commit})"),
        None => commit.to_owned(),
    };
    Ok(Sample {
        tokens_per_second: speed(&result["samples_ts"][0])?,
        version: Some(version),
        ..Sample::default()
    })
}

/// llama-batched-bench's table: `S_TG t/s`, the eighth of its columns.
fn read_batched_bench(text: &str) -> anyhow::Result<Sample> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut lines = text.lines().map(cells);
    lines
        .by_ref()
        .find(|cells| cells.get(8).is_some_and(|cell| cell == "S_TG t/s"))
        .context("no table was printed")?;
    let cells = lines.find(|cells| cells.get(8).is_some_and(|cell| cell.parse::<f64>().is_ok()));
    let cell = cells.and_then(|cells| cells[8].parse::<f64>().ok()).context("the table has no row")?;
    Ok(Sample { tokens_per_second: speed(&cell.into())?, ..Sample::default() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn settings(level: Option<&str>) -> Settings {
        let level = level.map(str::to_owned);
        Settings { model: PathBuf::from("/models/a.gguf"), name: None, n_threads: 2, level }
    }

    fn peer(family: Family) -> Engine {
        Engine { name: "peer".to_owned(), kind: Kind::Peer { folder: PathBuf::from("/p"), family } }
    }

    const ROWS: [Row; 5] = [
        Row::Prompt { n: 512 },
        Row::Generate { n: 128, depth: 0 },
        Row::Generate { n: 64, depth: 4096 },
        Row::Parallel { n: 128, depth: 100, sequences: 8 },
        Row::Clients { clients: 8, requests: 16 },
    ];

    #[test]
    fn command_lines() {
        let fast = Tuning { flash_attention: true, repack: true };
        let whit = Engine::whit(PathBuf::from("/t/release/whit"));
        let bench = |rest: &str| format!("whit bench --model a.gguf {rest} --threads 2 --repeat 1 --json");
        let cases: [(&Engine, [String; 5]); 3] = [
            (
                &whit,
                [
                    bench("--prompt 512 --generate 0 --depth 0 --parallel 1"),
                    bench("--prompt 0 --generate 128 --depth 0 --parallel 1"),
                    bench("--prompt 0 --generate 64 --depth 4096 --parallel 1"),
                    bench("--prompt 0 --generate 128 --depth 100 --parallel 8"),
                    "whit serve --parallel {clients} --threads 2".to_owned(),
                ],
            ),
            (
                &peer(Family::LlamaCpp),
                [
                    "llama-bench -m a.gguf -t 2 -ngl 0 -p 512 -n 0 -r 1 -o json -fa 1".to_owned(),
                    "llama-bench -m a.gguf -t 2 -ngl 0 -p 0 -n 128 -r 1 -o json -fa 1".to_owned(),
                    "llama-bench -m a.gguf -t 2 -ngl 0 -p 0 -n 64 -d 4096 -r 1 -o json -fa 1".to_owned(),
                    "llama-batched-bench -m a.gguf -t 2 -ngl 0 -c 3648 -npp 100 -ntg 128 -npl 8 -fa on".to_owned(),
                    "llama-server -m {model} --port {port} -np {clients} -c 32768 --cache-ram 0 -t 2 \
                     --no-kv-unified -fa on"
                        .to_owned(),
                ],
            ),
            (
                &peer(Family::IkLlamaCpp),
                [
                    "llama-bench -m a.gguf -t 2 -ngl 0 -p 512 -n 0 -r 1 -o json -fa 1 -rtr 1".to_owned(),
                    "llama-bench -m a.gguf -t 2 -ngl 0 -p 0 -n 128 -r 1 -o json -fa 1 -rtr 1".to_owned(),
                    "llama-bench -m a.gguf -t 2 -ngl 0 -p 0 -n 0 -gp 4096,64 -r 1 -o json -fa 1 -rtr 1".to_owned(),
                    "llama-batched-bench -m a.gguf -t 2 -ngl 0 -c 3648 -npp 100 -ntg 128 -npl 8 -fa on -rtr"
                        .to_owned(),
                    "llama-server -m {model} --port {port} -np {clients} -c 32768 --cache-ram 0 -t 2 -fa on -rtr"
                        .to_owned(),
                ],
            ),
        ];
        for (engine, expected) in cases {
            for (row, expected) in ROWS.iter().zip(expected) {
                assert_eq!(engine.command_line(&settings(None), row, fast), expected);
            }
        }
        let forced = whit.command_line(&settings(Some("avx2")), &ROWS[0], fast);
        assert!(forced.starts_with("WHIT_CPU_LEVEL=avx2 whit bench "), "{forced}");
    }

    #[test]
    fn what_is_tried() {
        let tuning = |flash_attention, repack| Tuning { flash_attention, repack };
        let (llama, ik) = (peer(Family::LlamaCpp), peer(Family::IkLlamaCpp));
        let both = vec![tuning(false, false), tuning(true, false)];
        for row in ROWS {
            assert_eq!(llama.tunings(&row, &[]), both);
            assert_eq!(ik.tunings(&row, &[]).len(), 4);
        }
        let chosen = [(ROWS[1], tuning(false, true)), (ROWS[3], tuning(true, false))];
        assert_eq!(ik.tunings(&ROWS[2], &chosen), [tuning(false, true), tuning(true, true)]);
        assert_eq!(ik.tunings(&ROWS[4], &chosen), [tuning(true, false)]);
    }

    #[test]
    fn what_programs_print() {
        let whit = r#"{"whit": "0.1.0", "level": "avx512", "results": [{"test": "generate", "n": 128, "depth": 0,
            "parallel": 1, "tokens_per_second": [20.5], "bytes_per_token": 1000.0}]}"#;
        let expected = Sample {
            tokens_per_second: 20.5,
            version: Some("0.1.0".to_owned()),
            level: Some("avx512".to_owned()),
            cost: Some(("bytes_per_token", 1000.0)),
        };
        assert_eq!(read_whit(whit).unwrap(), expected);
        let bench = "repacked 30 tensors\n[\n  {\"build_commit\": \"abc\", \"build_number\": 7, \"samples_ts\": [ 99.0 ]}\n]\n";
        let expected =
            Sample { tokens_per_second: 99.0, version: Some("b7 (abc)".to_owned()), ..Sample::default() };
        assert_eq!(read_llama_bench(bench).unwrap(), expected);
        let batched = "main: n_kv_max = 4096\n\n\
            |    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |\n\
            |-------|--------|------|--------|----------|----------|----------|----------|----------|----------|\n\
            |   128 |    128 |    8 |   2048 |    2.000 |   512.00 |    3.600 |   284.44 |    5.600 |   365.71 |\n";
        assert_eq!(read_batched_bench(batched).unwrap().tokens_per_second, 284.44);
    }

    #[test]
    fn nonsense() {
        for text in ["", "{}", r#"{"results": [{"tokens_per_second": [0.0]}]}"#] {
            assert!(read_whit(text).is_err() && read_llama_bench(text).is_err(), "{text}");
        }
        assert!(read_batched_bench("| S_TG t/s |\n").is_err());
        assert!(read_llama_bench("[\n]").is_err());
    }
}
