//! BENCHMARKS.md out of receipts. Nobody edits it; for one model, host, level and number of threads the newest receipt
//! counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

const HEAD: &str = "\
# Benchmarks

Made by `cargo xtask compare` from the receipts in `benchmarks/receipts/`; do not edit. Each receipt holds every
sample, the commands, the commit, the digest of the model file and the speeds of the host. Engines take turns within each round,
one process each time; each peer runs with those of its settings that were fastest when all were tried once. Numbers are tokens per
second, of all sequences together: the median, with the least and greatest in brackets. The ratio is Whit's median over the peer's.

`limit` is what Whit reaches of what the host allows: in prompts, of its integer multiplications, all of the model's weights once for
each token; else of its reading of memory, all of the weights once for each step and the cached keys and values once for each token.
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
            format!("{:>4}", text(&receipt["threads"])),
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

fn field(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn section(page: &mut String, name: &str, receipt: &Value) {
    let (host, level) = (&receipt["host"], field(&receipt["level"]));
    let day: String = field(&receipt["date"]).chars().take(10).collect();
    let _ = write!(
        page,
        "\n### {}, {level}, {} {}\n\n{day}, commit {}, {} rounds. The host has {} cores, reads {:.1} GB/s and multiplies {:.2} TOPS \
         with these threads. [Receipt](benchmarks/receipts/{name})\n\n| test | whit | limit |",
        field(&receipt["model"]["file"]),
        receipt["threads"],
        if receipt["threads"] == 1 { "thread" } else { "threads" },
        field(&receipt["commit"]),
        receipt["rounds"],
        host["cores"],
        number(&host["memory_bandwidth"]) / 1e9,
        number(&host["integer_peak"][&level]) / 1e12,
    );
    let rows = list(&receipt["rows"]);
    let mut peers: Vec<&Value> = vec![];
    for engine in rows.iter().flat_map(|row| list(&row["engines"]).iter().skip(1)) {
        if !peers.contains(&&engine["name"]) {
            peers.push(&engine["name"]);
        }
    }
    for peer in &peers {
        let _ = write!(page, " {} | ratio |", field(peer));
    }
    let _ = writeln!(page, "\n|---|---:|---:|{}", "---:|---:|".repeat(peers.len()));
    for row in rows {
        line(page, row, host, &level, &peers);
    }
    page.push('\n');
    for name in peers {
        let of_peer =
            |row: &'_ Value| list(&row["engines"]).iter().find(|engine| engine["name"] == *name).cloned();
        let version =
            rows.iter().filter_map(of_peer).find_map(|engine| Some(engine["version"].as_str()?.to_owned()));
        let flags = rows
            .iter()
            .filter_map(|row| Some(format!("{} `{}`", field(&row["title"]), field(&of_peer(row)?["flags"]))));
        let _ = writeln!(
            page,
            "- {} {}: {}",
            field(name),
            version.unwrap_or_default(),
            flags.collect::<Vec<_>>().join(", ")
        );
    }
}

/// One row of the table.
fn line(page: &mut String, row: &Value, host: &Value, level: &str, peers: &[&Value]) {
    let engines = list(&row["engines"]);
    let cell = |engine: &Value| {
        let of = |name: &str| number(&engine[name]);
        format!("{:.1} ({:.1} to {:.1})", of("median"), of("min"), of("max"))
    };
    let Some(own) = engines.first() else { return };
    let median = number(&own["median"]);
    let bytes = row["bytes_per_token"].as_f64().map(|bytes| bytes / number(&host["memory_bandwidth"]));
    let operations = row["operations_per_token"].as_f64().map(|n| n / number(&host["integer_peak"][level]));
    let limit =
        bytes.or(operations).map(|cost| format!("{:.0} %", 100.0 * cost * median)).unwrap_or_default();
    let _ = write!(page, "| {} | {} | {limit} |", field(&row["title"]), cell(own));
    for peer in peers {
        let _ = match engines.iter().find(|engine| engine["name"] == **peer) {
            Some(engine) => write!(page, " {} | {:.2} |", cell(engine), median / number(&engine["median"])),
            None => write!(page, " | |"),
        };
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn receipt(date: &str, median: f64) -> Value {
        let engine = |name: &str, flags: &str, median: f64| {
            json!({"name": name, "version": (name == "peer").then_some("b1"), "flags": flags, "median": median,
                "min": median - 1.0, "max": median + 1.0})
        };
        json!({
            "date": date, "commit": "abc", "threads": 2, "level": "avx2", "rounds": 5, "model": {"file": "m.gguf"},
            "host": {"cpu": "A CPU", "cores": 2, "memory_bandwidth": 50e9, "integer_peak": {"avx2": 1e12, "avx512": 2e12}},
            "rows": [
                {"title": "prompt 512", "operations_per_token": 2e9,
                    "engines": [engine("whit", "", median), engine("peer", "-fa 1", 100.0), engine("other", "", 75.0)]},
                {"title": "generate 128", "bytes_per_token": 1e9,
                    "engines": [engine("whit", "", 30.0), engine("peer", "-fa 0", 40.0)]},
                {"title": "8 HTTP clients", "engines": [engine("whit", "", 300.0)]},
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

2026-02-01, commit abc, 5 rounds. The host has 2 cores, reads 50.0 GB/s and multiplies 1.00 TOPS with these threads. \
[Receipt](benchmarks/receipts/20260201.json)

| test | whit | limit | peer | ratio | other | ratio |
|---|---:|---:|---:|---:|---:|---:|
| prompt 512 | 150.0 (149.0 to 151.0) | 30 % | 100.0 (99.0 to 101.0) | 1.50 | 75.0 (74.0 to 76.0) | 2.00 |
| generate 128 | 30.0 (29.0 to 31.0) | 60 % | 40.0 (39.0 to 41.0) | 0.75 | | |
| 8 HTTP clients | 300.0 (299.0 to 301.0) |  | | | | |

- peer b1: prompt 512 `-fa 1`, generate 128 `-fa 0`
- other : prompt 512 ``
";
        assert!(page.ends_with(expected), "{page}");
        assert_eq!(page.matches("### ").count(), 1);
    }

    #[test]
    fn no_receipts() {
        assert!(markdown(vec![]).ends_with("There are no receipts yet.\n"));
    }
}
