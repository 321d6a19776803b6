//! BENCHMARKS.md out of receipts. Nobody edits it; for one model, host, level and number of threads the newest receipt
//! counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::TESTS;

const HEAD: &str = "\
# Benchmarks

Made by `cargo xtask compare` from the receipts in `benchmarks/receipts/`; do not edit. Each receipt holds every
sample, the commands, the commit and the digest of the model file. Engines take turns within each round, one process each
time. Numbers are tokens per second: the median, with the least and greatest in brackets. The ratio is Whit's median over
the peer's.
";

/// The page, from receipts with their file names, oldest first.
pub(crate) fn markdown(receipts: Vec<(String, Value)>) -> String {
    // Of equal keys the newest is inserted last and stays.
    let mut newest: BTreeMap<(String, String, String, String), (String, Value)> = BTreeMap::new();
    for (name, receipt) in receipts {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let key = (
            text(&receipt["host"]["cpu"]),
            text(&receipt["model"]["file"]),
            text(&receipt["level"]),
            format!("{:>4} {:>8}", text(&receipt["threads"]), text(&receipt["depth"])),
        );
        newest.insert(key, (name, receipt));
    }
    let mut page = HEAD.to_owned();
    if newest.is_empty() {
        page.push_str("\nThere are no receipts yet.\n");
    }
    let mut last_host = None;
    for ((host, ..), (name, receipt)) in &newest {
        if last_host != Some(host) {
            let _ = write!(page, "\n## {host}\n");
            last_host = Some(host);
        }
        section(&mut page, name, receipt);
    }
    page
}

fn section(page: &mut String, name: &str, receipt: &Value) {
    let field = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let day: String = field(&receipt["date"]).chars().take(10).collect();
    let _ = write!(
        page,
        "\n### {}, {}, {} threads\n\n{day}, commit {}, {} rounds, depth {}, {} cores. \
         [Receipt](benchmarks/receipts/{name})\n\n| test |",
        field(&receipt["model"]["file"]),
        field(&receipt["level"]),
        receipt["threads"],
        field(&receipt["commit"]),
        receipt["rounds"],
        receipt["depth"],
        receipt["host"]["cores"],
    );
    let engines = receipt["engines"].as_array().map_or(&[][..], Vec::as_slice);
    for (at, engine) in engines.iter().enumerate() {
        let title = format!("{} {}", field(&engine["name"]), field(&engine["version"]));
        let _ = write!(page, " {} |", title.trim());
        if at > 0 {
            page.push_str(" ratio |");
        }
    }
    page.push_str("\n|---|");
    page.push_str(&"---:|".repeat((2 * engines.len()).saturating_sub(1)));
    page.push('\n');
    for test in TESTS {
        let result = |engine: &Value| {
            let results = engine["results"].as_array()?;
            results.iter().find(|result| result["test"] == test.name()).cloned()
        };
        let Some(own) = engines.first().and_then(result) else { continue };
        let _ = write!(page, "| {} {} |", test.name(), own["n"]);
        for (at, engine) in engines.iter().enumerate() {
            let Some(result) = result(engine) else {
                page.push_str(if at > 0 { " | |" } else { " |" });
                continue;
            };
            let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
            let (median, min, max) = (number("median"), number("min"), number("max"));
            let _ = write!(page, " {median:.1} ({min:.1} to {max:.1}) |");
            if at > 0 {
                let _ = write!(page, " {:.2} |", own["median"].as_f64().unwrap_or(f64::NAN) / median);
            }
        }
        page.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn receipt(date: &str, median: f64) -> Value {
        let result = |test: &str, n: u32, median: f64| json!({"test": test, "n": n, "median": median, "min": median - 1.0, "max": median + 1.0});
        json!({
            "date": date, "host": {"cpu": "A CPU", "cores": 2}, "commit": "abc", "threads": 2, "level": "avx2",
            "depth": 0, "rounds": 5, "model": {"file": "m.gguf"},
            "engines": [
                {"name": "whit", "version": "0.1.0", "results": [result("prompt", 512, median), result("generate", 128, 30.0)]},
                {"name": "peer", "version": "", "results": [result("prompt", 512, 100.0), result("generate", 128, 40.0)]},
            ],
        })
    }

    #[test]
    fn the_newest_counts() {
        let page = markdown(vec![
            ("20260101.json".to_owned(), receipt("2026-01-01T00:00:00Z", 90.0)),
            ("20260201.json".to_owned(), receipt("2026-02-01T00:00:00Z", 150.0)),
        ]);
        let expected = "\
## A CPU

### m.gguf, avx2, 2 threads

2026-02-01, commit abc, 5 rounds, depth 0, 2 cores. [Receipt](benchmarks/receipts/20260201.json)

| test | whit 0.1.0 | peer | ratio |
|---|---:|---:|---:|
| prompt 512 | 150.0 (149.0 to 151.0) | 100.0 (99.0 to 101.0) | 1.50 |
| generate 128 | 30.0 (29.0 to 31.0) | 40.0 (39.0 to 41.0) | 0.75 |
";
        assert!(page.ends_with(expected), "{page}");
        assert_eq!(page.matches("### ").count(), 1);
    }

    #[test]
    fn no_receipts() {
        assert!(markdown(vec![]).ends_with("There are no receipts yet.\n"));
    }
}
