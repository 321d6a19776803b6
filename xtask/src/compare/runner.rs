//! One measurement by one program: the command line, and reading what it printed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::shell;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// Tokens of a prompt per second.
    Prompt,
    /// Tokens written per second.
    Generate,
}

impl Test {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Generate => "generate",
        }
    }
}

/// The same for every engine of a comparison.
pub(crate) struct Settings {
    pub(crate) model: PathBuf,
    pub(crate) n_prompt: usize,
    pub(crate) n_generate: usize,
    /// Tokens already in the cache.
    pub(crate) depth: usize,
    pub(crate) n_threads: usize,
    /// `WHIT_CPU_LEVEL` for Whit. A peer's level is that of its build.
    pub(crate) level: Option<String>,
}

/// A program to measure.
pub(crate) struct Engine {
    pub(crate) name: String,
    program: PathBuf,
    is_whit: bool,
}

/// What a program printed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// Tokens per second, one for each repeat.
    pub(crate) samples: Vec<(&'static str, Vec<f64>)>,
    /// What the program says of itself.
    pub(crate) version: String,
    /// The CPU level, where the program tells.
    pub(crate) level: Option<String>,
}

impl Measured {
    /// For the eye, while it runs.
    pub(crate) fn line(&self) -> String {
        let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len().max(1) as f64;
        let parts = self.samples.iter().map(|(test, list)| format!("{test} {:.1} tokens/s", mean(list)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

impl Engine {
    pub(crate) fn whit(program: PathBuf) -> Self {
        Self { name: "whit".to_owned(), program, is_whit: true }
    }

    pub(crate) fn peer(name: &str, program: PathBuf) -> Self {
        Self { name: name.to_owned(), program, is_whit: false }
    }

    /// The command, with one repeat: repeats come from the rounds.
    fn command(&self, settings: &Settings) -> Command {
        let Settings { n_prompt, n_generate, depth, n_threads, .. } = settings;
        let mut command = Command::new(&self.program);
        if self.is_whit {
            command.arg("bench").arg("--model").arg(&settings.model);
            command.args(["--prompt", &n_prompt.to_string(), "--generate", &n_generate.to_string()]);
            command.args(["--depth", &depth.to_string(), "--threads", &n_threads.to_string()]);
            command.args(["--repeat", "1", "--json"]);
            if let Some(level) = &settings.level {
                command.env("WHIT_CPU_LEVEL", level);
            }
        } else {
            command.arg("-m").arg(&settings.model);
            command.args(["-p", &n_prompt.to_string(), "-n", &n_generate.to_string()]);
            command.args(["-d", &depth.to_string(), "-t", &n_threads.to_string()]);
            command.args(["-r", "1", "-ngl", "0", "-o", "json"]);
        }
        command
    }

    /// The command as it stands in a receipt: names of files without their folders.
    pub(crate) fn command_line(&self, settings: &Settings) -> String {
        let level = settings.level.as_ref().filter(|_| self.is_whit);
        let prefix = level.map_or(String::new(), |level| format!("WHIT_CPU_LEVEL={level} "));
        let model = settings.model.file_name().map(Path::new).unwrap_or(&settings.model).to_path_buf();
        let settings = Settings { model, level: settings.level.clone(), ..*settings };
        prefix + &shell::line_of(&self.command(&settings))
    }

    pub(crate) fn run(&self, settings: &Settings) -> anyhow::Result<Measured> {
        let text = shell::output(&mut self.command(settings))?;
        let json =
            serde_json::from_str(&text).with_context(|| format!("{} did not print JSON", self.name))?;
        let measured = if self.is_whit { read_whit(&json)? } else { read_llama_bench(&json)? };
        for (test, wanted) in [("prompt", settings.n_prompt), ("generate", settings.n_generate)] {
            if wanted > 0 && !measured.samples.iter().any(|entry| entry.0 == test) {
                bail!("{} gave no result for `{test}`", self.name);
            }
        }
        if let (Some(wanted), Some(got)) = (&settings.level, &measured.level)
            && wanted != got
        {
            bail!("asked for CPU level {wanted}, but {} ran at {got}", self.name);
        }
        Ok(measured)
    }
}

fn numbers(value: &Value) -> anyhow::Result<Vec<f64>> {
    let list = value.as_array().context("expected a list of tokens per second")?;
    let positive = |value: &Value| value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
    list.iter().map(|value| positive(value).context("expected tokens per second above 0")).collect()
}

/// The schema in xtask/README.md.
fn read_whit(json: &Value) -> anyhow::Result<Measured> {
    let mut measured = Measured {
        version: json["whit"].as_str().unwrap_or_default().to_owned(),
        level: json["level"].as_str().map(str::to_owned),
        ..Default::default()
    };
    for result in json["results"].as_array().context("no `results`")? {
        let test = match result["test"].as_str() {
            Some("prompt") => Test::Prompt,
            Some("generate") => Test::Generate,
            other => bail!("unknown test {other:?}"),
        };
        measured.samples.push((test.name(), numbers(&result["tokens_per_second"])?));
    }
    Ok(measured)
}

/// llama-bench's `-o json`: a list with one object per test, of `n_prompt`, `n_gen` and `samples_ts`.
fn read_llama_bench(json: &Value) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    for result in json.as_array().context("expected a list")? {
        let test = match (result["n_prompt"].as_u64(), result["n_gen"].as_u64()) {
            (Some(1..), Some(0)) => Test::Prompt,
            (Some(0), Some(1..)) => Test::Generate,
            other => bail!("a test of n_prompt, n_gen = {other:?}"),
        };
        measured.samples.push((test.name(), numbers(&result["samples_ts"])?));
        let commit = result["build_commit"].as_str().unwrap_or_default();
        measured.version = match result["build_number"].as_u64() {
            Some(number) => format!("b{number} ({commit})"),
            None => commit.to_owned(),
        };
    }
    Ok(measured)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(level: Option<&str>) -> Settings {
        Settings {
            model: PathBuf::from("/models/a.gguf"),
            n_prompt: 512,
            n_generate: 128,
            depth: 0,
            n_threads: 2,
            level: level.map(str::to_owned),
        }
    }

    #[test]
    fn command_lines() {
        let whit = Engine::whit(PathBuf::from("/t/release/whit"));
        let peer = Engine::peer("llama.cpp", PathBuf::from("/p/llama-bench"));
        let bench =
            "whit bench --model a.gguf --prompt 512 --generate 128 --depth 0 --threads 2 --repeat 1 --json";
        assert_eq!(whit.command_line(&settings(None)), bench);
        assert_eq!(whit.command_line(&settings(Some("avx2"))), format!("WHIT_CPU_LEVEL=avx2 {bench}"));
        let expected = "llama-bench -m a.gguf -p 512 -n 128 -d 0 -t 2 -r 1 -ngl 0 -o json";
        assert_eq!(peer.command_line(&settings(Some("avx2"))), expected);
    }

    #[test]
    fn what_programs_print() {
        let whit = json!({"whit": "0.1.0", "model": "a.gguf", "threads": 2, "level": "avx512", "results": [
            {"test": "prompt", "n": 512, "depth": 0, "tokens_per_second": [100.5]},
            {"test": "generate", "n": 128, "depth": 0, "tokens_per_second": [20.0, 21]},
        ]});
        let measured = read_whit(&whit).unwrap();
        assert_eq!(measured.samples, [("prompt", vec![100.5]), ("generate", vec![20.0, 21.0])]);
        assert_eq!(measured.level.as_deref(), Some("avx512"));
        let peer = json!([
            {"build_commit": "abc", "build_number": 7, "n_prompt": 512, "n_gen": 0, "samples_ts": [99.0]},
            {"build_commit": "abc", "build_number": 7, "n_prompt": 0, "n_gen": 128, "samples_ts": [19.5]},
        ]);
        let measured = read_llama_bench(&peer).unwrap();
        assert_eq!(measured.samples, [("prompt", vec![99.0]), ("generate", vec![19.5])]);
        assert_eq!(measured.version, "b7 (abc)");
    }

    #[test]
    fn nonsense() {
        for json in [
            json!({}),
            json!({"results": [{"test": "dance", "tokens_per_second": [1.0]}]}),
            json!({"results": [{"test": "prompt", "tokens_per_second": [0.0]}]}),
            json!({"results": [{"test": "prompt"}]}),
        ] {
            assert!(read_whit(&json).is_err(), "{json}");
        }
        assert!(read_llama_bench(&json!([{"n_prompt": 1, "n_gen": 1, "samples_ts": [1.0]}])).is_err());
    }
}
