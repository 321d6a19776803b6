//! A receipt: what was measured, on what, by which commands, with every sample. The fields are listed in
//! xtask/README.md.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::engine::{Engine, Sample, Settings, Tuning};
use super::row::Row;
use crate::shell;

/// Instruction sets that matter to speed begin with one of these.
const FLAGS: [&str; 8] = ["avx", "amx", "fma", "f16c", "bmi", "asimddp", "i8mm", "sve"];

/// The machine, without its name.
#[derive(Clone)]
pub(crate) struct Host {
    cpu: String,
    n_cores: usize,
    flags: Vec<String>,
    /// What `whit doctor --json` says.
    doctor: Option<Value>,
}

impl Host {
    pub(crate) fn read() -> Self {
        let n_cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let cpu = cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        Self { cpu, n_cores, flags: flags(), doctor: None }
    }

    /// The same, with the speeds that memory and cores reach with so many threads.
    pub(crate) fn measure(whit: &Path, n_threads: usize) -> anyhow::Result<Self> {
        let text = shell::output(Command::new(whit).args([
            "doctor",
            "--json",
            "--threads",
            &n_threads.to_string(),
        ]))?;
        let doctor = serde_json::from_str(&text).context("what `whit doctor --json` printed")?;
        Ok(Self { doctor: Some(doctor), ..Self::read() })
    }
}

/// The instruction sets, where Linux tells.
fn flags() -> Vec<String> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let words = line.and_then(|line| line.split_once(':')).map_or("", |parts| parts.1).split_whitespace();
    words.filter(|word| FLAGS.iter().any(|flag| word.starts_with(flag))).map(str::to_owned).collect()
}

fn cpu_name() -> Option<String> {
    if let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        return Some(line.split_once(':')?.1.trim().to_owned());
    }
    let output = Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The model file, known by its digest.
pub(crate) struct Model {
    name: String,
    n_bytes: u64,
    sha256: String,
}

impl Model {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut hash = Sha256::new();
        let mut n_bytes = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer).with_context(|| path.display().to_string())?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            n_bytes += n as u64;
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, n_bytes, sha256 })
    }
}

/// All rounds of one engine in one row.
pub(crate) struct Series {
    name: String,
    /// The flags that were best, and the whole command.
    flags: String,
    command: String,
    version: Option<String>,
    pub(crate) level: Option<String>,
    cost: Option<(&'static str, f64)>,
    samples: Vec<f64>,
    /// What was tried before, with its flags; one try each.
    tried: Vec<(String, f64)>,
}

impl Series {
    pub(crate) fn new(
        engine: &Engine,
        settings: &Settings,
        row: &Row,
        tuning: Tuning,
        tried: Vec<(String, f64)>,
    ) -> Self {
        Self {
            name: engine.name.clone(),
            flags: engine.flags(row, tuning).join(" "),
            command: engine.command_line(settings, row, tuning),
            version: None,
            level: None,
            cost: None,
            samples: vec![],
            tried,
        }
    }

    pub(crate) fn add(&mut self, sample: Sample) {
        self.samples.push(sample.tokens_per_second);
        self.version = sample.version.or(self.version.take());
        self.level = sample.level.or(self.level.take());
        self.cost = sample.cost.or(self.cost);
    }

    fn json(&self) -> Value {
        let (min, median, max) = summary(&self.samples);
        let tried =
            self.tried.iter().map(|(flags, speed)| json!({"flags": flags, "tokens_per_second": speed}));
        json!({
            "name": self.name, "version": self.version, "flags": self.flags, "command": self.command,
            "samples": self.samples, "median": median, "min": min, "max": max,
            "tried": tried.collect::<Vec<_>>(),
        })
    }
}

/// A row's JSON, with what it costs at least and what every engine did.
fn row_json(row: &Row, series: &[Series]) -> Value {
    let mut json = row.json();
    json["title"] = row.title().into();
    if let Some((name, cost)) = series.iter().find_map(|series| series.cost) {
        json[name] = cost.into();
    }
    json["engines"] = series.iter().map(Series::json).collect();
    json
}

/// Least, median and greatest. The list is not empty.
pub(crate) fn summary(samples: &[f64]) -> (f64, f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    (sorted[0], (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0, sorted[n - 1])
}

/// A receipt, ready to be written.
pub(crate) struct Receipt {
    pub(crate) json: Value,
}

impl Receipt {
    pub(crate) fn new(
        host: &Host,
        commit: &str,
        model: &Model,
        settings: &Settings,
        n_rounds: usize,
        rows: &[(Row, Vec<Series>)],
    ) -> Self {
        let mut series = rows.iter().flat_map(|(_, series)| series);
        let level = series.find_map(|series| series.level.clone()).or_else(|| settings.level.clone());
        let mut json = head(host, commit, model);
        let rest = json!({
            "schema": 2,
            "threads": settings.n_threads,
            "level": level,
            "level_forced": settings.level.is_some(),
            "rounds": n_rounds,
            "rows": rows.iter().map(|(row, series)| row_json(row, series)).collect::<Vec<_>>(),
        });
        json.extend(rest.as_object().cloned().unwrap_or_default());
        Self { json: json.into() }
    }

    /// Sorts by time, and tells receipts apart at a glance.
    pub(crate) fn file_name(&self) -> String {
        let level = self.json["level"].as_str().unwrap_or("unknown");
        file_name(&self.json, &format!("{level}-t{}", self.json["threads"]))
    }
}

/// What every receipt begins with: when, where and of what.
pub(crate) fn head(host: &Host, commit: &str, model: &Model) -> Map<String, Value> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let json = json!({
        "schema": 1,
        "date": date(seconds),
        "host": {
            "cpu": host.cpu, "cores": host.n_cores, "os": std::env::consts::OS, "flags": host.flags,
            "memory_bandwidth": host.doctor.as_ref().map(|doctor| &doctor["memory_bandwidth"]),
            "integer_peak": host.doctor.as_ref().map(|doctor| &doctor["integer_peak"]),
        },
        "commit": commit,
        "model": {"file": model.name, "bytes": model.n_bytes, "sha256": model.sha256},
    });
    json.as_object().cloned().unwrap_or_default()
}

/// The name of a receipt's file: its date, its model, and what else tells it apart.
pub(crate) fn file_name(receipt: &Value, rest: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let date = text(&receipt["date"]).replace(['-', ':'], "");
    let model = text(&receipt["model"]["file"]);
    let stem = model.strip_suffix(".gguf").unwrap_or(&model);
    format!("{date}-{stem}-{rest}.json")
}

/// The receipts of a folder with their file names, which begin with the date; oldest first.
pub(crate) fn read_all(folder: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let mut receipts = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let json: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
                let name =
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                receipts.push((name, json));
            }
        }
    }
    receipts.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(receipts)
}

/// Seconds since 1970 as `2026-01-31T23:59:59Z`. The days are counted as in H. Hinnant's "chrono-compatible low-level
/// date algorithms", with years that begin in March.
fn date(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from `date -u -d @N`.
    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_798_761_600, "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn summaries() {
        assert_eq!(summary(&[3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
        assert_eq!(summary(&[4.0, 1.0, 3.0, 2.0]), (1.0, 2.5, 4.0));
        assert_eq!(summary(&[7.0]), (7.0, 7.0, 7.0));
    }
}
