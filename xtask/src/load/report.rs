//! Receipts of load, for the eye.

use std::fmt::Write as _;

use serde_json::Value;

const HEAD: &str = "
## Many clients at once

Made by `cargo xtask load`. Each client asks, reads the stream to its end, and asks again; every prompt is another. Servers take
turns and are started anew each time; numbers are medians over the rounds.
";

/// The part of BENCHMARKS.md, from pairs of file name and receipt; nothing without receipts.
pub(super) fn page<'v>(receipts: impl Iterator<Item = &'v Value>) -> String {
    let mut page = String::new();
    for pair in receipts {
        if page.is_empty() {
            page.push_str(HEAD);
        }
        let (name, receipt) = (&pair[0], &pair[1]);
        let host = &receipt["host"];
        let _ = write!(
            page,
            "\n### {}, {}, {} cores\n\n{}, commit {}, {} rounds. [Receipt](benchmarks/load/{})\n\n{}",
            text(&receipt["model"]["file"]),
            text(&host["cpu"]),
            host["cores"],
            text(&receipt["date"]).chars().take(10).collect::<String>(),
            text(&receipt["commit"]),
            receipt["rounds"],
            text(name),
            section(receipt),
        );
    }
    page
}

/// The table of one receipt.
pub(super) fn section(receipt: &Value) -> String {
    let mut page = format!(
        "Prompts of {} words, answers of {} tokens.\n\n\
         | clients | server | tokens/s | ratio | first token, ms: median, p95 | gap, ms: median, p95 | lost |\n\
         |---:|---|---:|---:|---:|---:|---:|\n",
        receipt["words"], receipt["tokens"]
    );
    let engines: Vec<&Value> = receipt["engines"].as_array().into_iter().flatten().collect();
    let n_crowds = engines.first().and_then(|own| own["crowds"].as_array()).map_or(0, Vec::len);
    for at in 0..n_crowds {
        let own = &engines[0]["crowds"][at];
        for (row, engine) in engines.iter().enumerate() {
            let crowd = &engine["crowds"][at];
            let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
            let rate = number(&crowd["tokens_per_second"]);
            let ratio = match row {
                0 => String::new(),
                _ => format!("{:.2}", number(&own["tokens_per_second"]) / rate),
            };
            let pair = |name: &str| {
                format!("{:.1}, {:.1}", number(&crowd[name]["median"]), number(&crowd[name]["p95"]))
            };
            let _ = writeln!(
                page,
                "| {} | {} | {rate:.1} | {ratio} | {} | {} | {} |",
                crowd["clients"],
                text(&engine["name"]),
                pair("first_token_ms"),
                pair("gap_ms"),
                crowd["lost"],
            );
        }
    }
    page.push('\n');
    for engine in engines {
        let _ = writeln!(page, "- {}: `{}`", text(&engine["name"]), text(&engine["command"]));
    }
    let (memory, shared) = (&receipt["memory"], &receipt["shared_prompt"]);
    let mib = |value: &Value| {
        value
            .as_u64()
            .map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / 1_048_576.0))
    };
    let _ = writeln!(
        page,
        "- memory of whit, the mapped model apart: {} after {} requests, {} after {}\n\
         - {} clients at once whose prompts share {} words: {} tokens of prompts, {} of them computed",
        mib(&memory["bytes_after_first"]),
        memory["first"],
        mib(&memory["bytes_after_all"]),
        memory["requests"],
        shared["clients"],
        shared["words"],
        shared["prompt_tokens"],
        shared["computed_tokens"],
    );
    page
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page() {
        let crowd = |rate: f64| {
            json!({"clients": 8, "lost": 0, "tokens_per_second": rate, "first_token_ms": {"median": 90.0, "p95": 200.0},
                "gap_ms": {"median": 20.0, "p95": 25.04}})
        };
        let receipt = json!({
            "date": "2026-01-02T03:04:05Z", "host": {"cpu": "A CPU", "cores": 2}, "commit": "abc", "rounds": 3,
            "model": {"file": "m.gguf"}, "words": 200, "tokens": 128,
            "engines": [
                {"name": "whit", "command": "whit serve", "crowds": [crowd(300.0)]},
                {"name": "peer", "command": "peer -m {model}", "crowds": [crowd(150.0)]},
            ],
            "memory": {"requests": 2000, "first": 200, "bytes_after_first": 52_428_800, "bytes_after_all": null},
            "shared_prompt": {"clients": 8, "words": 1000, "prompt_tokens": 8400, "computed_tokens": 1200},
        });
        let page = page([json!(["x.json", receipt])].iter());
        for line in [
            "### m.gguf, A CPU, 2 cores",
            "2026-01-02, commit abc, 3 rounds. [Receipt](benchmarks/load/x.json)",
            "| 8 | whit | 300.0 |  | 90.0, 200.0 | 20.0, 25.0 | 0 |",
            "| 8 | peer | 150.0 | 2.00 | 90.0, 200.0 | 20.0, 25.0 | 0 |",
            "- peer: `peer -m {model}`",
            "- memory of whit, the mapped model apart: 50.0 MiB after 200 requests, unknown after 2000",
            "- 8 clients at once whose prompts share 1000 words: 8400 tokens of prompts, 1200 of them computed",
        ] {
            assert!(page.lines().any(|got| got == line), "{line}\n{page}");
        }
        assert_eq!(super::page([].iter()), "");
    }
}
