//! Judging: `whit eval`, `perplexity` against another's predictions, `show --fit`, `report`. The numbers behind are tested in `whit-judge`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{Golden, run};

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

/// Questions of one's own, asked of two models, and the verdict on the two.
#[test]
fn questions_are_asked_and_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let line = |n: usize| {
        format!(
            "{{\"context\": \"{}\", \"choices\": [\"a\", \"bc\", \"d\"], \"answer\": {}}}\n",
            "abc".repeat(n % 4 + 1),
            n % 3
        )
    };
    fs::write(at("own.jsonl"), (0..24).map(line).collect::<String>()).expect("a file");
    let mut results = Vec::new();
    for (name, out) in [("qwen2-gqa7", "a.json"), ("llama-gqa-llama3", "b.json")] {
        let golden = Golden::new(name);
        let (file, out, samples) = (at("own.jsonl"), at(out), at(name));
        let arguments = [
            "eval",
            &golden.path,
            "--task-file",
            &file,
            "--json",
            &out,
            "--samples",
            &samples,
            "--ctx",
            "64",
        ];
        let table = run(&arguments).ok();
        let written = json(Path::new(&out));
        let metrics = &written["results"][0]["metrics"];
        let acc = metrics["acc"]["value"].as_f64().expect("a number");
        assert!(table.contains(&format!("{acc:.4} +/- ")), "{table}");
        assert_eq!(written["results"][0]["documents"].as_array().map(Vec::len), Some(24));
        // Again, from the log.
        assert_eq!(run(&arguments).ok(), table);
        results.push(out);
    }
    let same = run(&["eval", "--compare", &results[0], &results[0]]).ok();
    assert!(same.contains("own acc: no difference shows") && same.contains("p = 1.0000"), "{same}");
    let other = run(&["eval", "--compare", &results[0], &results[1]]).ok();
    assert!(other.contains("own acc_norm: "), "{other}");
}

#[test]
fn predictions_are_saved_and_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let golden = Golden::new("qwen2-gqa7");
    fs::write(at("text"), golden.prompt_text().repeat(3)).expect("a file");
    let (model, text, base, ctx) = (&*golden.path, at("text"), at("base"), golden.prompt.len().to_string());
    run(&["perplexity", "--model", model, "--file", &text, "--ctx", &ctx, "--kl-base", &base]).ok();
    let from_file = ["perplexity", "--model", model, "--kl-divergence", "--kl-base", &base, "--json"];
    let other = Golden::new("llama-gqa-llama3");
    let from_model =
        ["perplexity", "--model", model, "--file", &text, "--ctx", &ctx, "--against", &other.path, "--json"];
    for (arguments, same) in [(&from_file[..], true), (&from_model, false)] {
        let got: Value = serde_json::from_str(&run(arguments).ok()).expect("JSON");
        let divergence = got["kl_divergence"]["mean"]["value"].as_f64().expect("a number");
        assert_eq!(divergence.abs() < 1e-3, same, "{got}");
        assert_eq!(got["same_top"]["value"] == 1.0, same, "{got}");
    }
    let full = run(&["perplexity", "--model", model, "--file", &text, "--ctx", &ctx, "--full"]).ok();
    assert!(full.contains(" bits per byte"), "{full}");
}

#[test]
fn pages_and_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let golden = Golden::new("qwen2-gqa7");
    let fit = run(&["show", &golden.path, "--fit"]).ok();
    for part in ["weights ", "CONTEXT  CACHE f16", "\nQ4_K ", "FITS"] {
        assert!(fit.contains(part), "{part}: {fit}");
    }
    fs::write(at("text"), golden.prompt_text().repeat(3)).expect("a file");
    let (text, page, ctx) = (at("text"), at("page.html"), golden.prompt.len().to_string());
    let arguments = [
        "report",
        &golden.path,
        &golden.path,
        "--file",
        &text,
        "--ctx",
        &ctx,
        "--out",
        &page,
        "--depth",
        "0,8",
    ];
    assert!(run(&arguments).ok().starts_with("wrote "));
    let html = fs::read_to_string(&page).expect("a page");
    assert_eq!(html.matches("<svg").count(), 4, "{html}");
}
