//! Commands other than `run`: what they print, on models whose facts are known.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use crate::common::{Golden, command, rewrite, run, run_in};
use serde_json::Value;

#[test]
fn text_becomes_tokens() {
    let golden = Golden::new("qwen2-gqa7");
    let path = &*golden.path;
    let home = tempfile::tempdir().expect("a temporary folder");
    let ids = |ids: &[u32]| ids.iter().map(|id| format!("{id}\n")).collect::<String>();

    let prompt = golden.prompt_text();
    let got = run(&["tokenize", "--model", path, "--ids", "--", &prompt]).ok();
    assert_eq!(got, ids(&golden.prompt));
    let got = run_in(home.path(), &["tokenize", "--model", path, "--ids"], Some(prompt.as_bytes())).ok();
    assert_eq!(got, ids(&golden.prompt));

    // `vocabulary` in make_golden.py: line feed 4, space 5, a 6, the merge ` the` 63.
    for (arguments, stdin, expected) in [
        (&["a the", "a"][..], None, "6\t\"a\"\n63\t\" the\"\n5\t\" \"\n6\t\"a\"\n"),
        (&[], Some("a\n"), "6\t\"a\"\n4\t\"\\n\"\n"),
        (&[], Some(""), ""),
        (&["--parse-special", "a<|eos|>"], None, "6\t\"a\"\n1\t\"<|eos|>\"\n"),
    ] {
        let arguments = [&["tokenize", "--model", path], arguments].concat();
        let got = run_in(home.path(), &arguments, stdin.map(str::as_bytes)).ok();
        assert_eq!(got, expected, "{arguments:?} {stdin:?}");
    }
}

#[test]
fn bos_is_added_where_the_model_wants_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = rewrite("qwen2-gqa7", &folder.path().join("bos.gguf"), |writer| {
        writer.set("tokenizer.ggml.add_bos_token", true);
    });
    for (flags, expected) in [(&["--ids"][..], "0\n6\n"), (&["--ids", "--no-special"], "6\n")] {
        assert_eq!(run(&[&["tokenize", "--model", &path], flags, &["a"]].concat()).ok(), expected);
    }
}

#[test]
fn a_vocabulary_is_enough_to_tokenize() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = rewrite("qwen2-gqa7", &folder.path().join("other.gguf"), |writer| {
        writer.set("general.architecture", "mystery");
    });
    assert_eq!(run(&["tokenize", "--model", &path, "--ids", "b"]).ok(), "7\n");
}

#[test]
fn texts_become_vectors() {
    let golden = Golden::new("llama-gqa-llama3");
    let states = std::fs::read(crate::common::golden("llama-gqa-llama3.states.bin")).expect("states");
    let states: Vec<f64> =
        states.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
    // The last state of the prompt, of length 1.
    let state = &states[(golden.prompt.len() - 1) * 32..];
    let length = state.iter().map(|v| v * v).sum::<f64>().sqrt();
    let text = golden.prompt_text();
    let home = tempfile::tempdir().expect("a temporary folder");
    let flags = ["embed", "--model", &golden.path, "--cache-type", "f32"];
    let lines = format!("a\n{}\n", text.replace('\n', ""));
    for (more, stdin, n) in [(&["--", "a", &text][..], None, 2), (&[], Some(&*lines), 2), (&[], Some(""), 0)]
    {
        let got = run_in(home.path(), &[&flags[..], more].concat(), stdin.map(str::as_bytes)).ok();
        let got: Vec<Value> =
            got.lines().map(|line| serde_json::from_str(line).expect("an object on each line")).collect();
        assert_eq!(got.len(), n, "{more:?}");
        let Some(last) = got.last() else { continue };
        assert_eq!((&got[0]["text"], &got[0]["tokens"]), (&Value::from("a"), &Value::from(1)));
        if last["text"] == *text {
            assert_eq!(last["tokens"], golden.prompt.len());
            let vector: Vec<f64> = serde_json::from_value(last["embedding"].clone()).expect("numbers");
            assert!(vector.iter().zip(state).all(|(got, state)| (got - state / length).abs() < 1e-3));
        }
    }
    let bare = run(&[&flags[..], &["--no-text", "a"]].concat()).ok();
    assert!(!bare.contains("text"), "{bare}");

    let encoder = crate::common::golden("bert.gguf").to_str().expect("a path").to_owned();
    let long = "a".repeat(70);
    let refused = run(&["embed", "--model", &encoder, &long]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("70 tokens") && refused.stderr.contains("64"), "{}", refused.stderr);
    let cut = run(&["embed", "--model", &encoder, "--truncate", &long]).ok();
    assert!(cut.contains("\"tokens\":64"), "{cut}");
    let shown = run(&["show", &encoder]).ok();
    assert!(shown.contains("gives") && shown.contains("embeddings"), "{shown}");
    let refused = run(&["run", &encoder, "Hello"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("does not generate text"), "{}", refused.stderr);
}

#[test]
fn show_tells_what_a_model_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = rewrite("gemma3-global-linear", &folder.path().join("gemma.gguf"), |writer| {
        writer.set("general.license", "apache-2.0");
        writer.set("tokenizer.chat_template", "{{ messages[0].content }}");
    });
    let facts = |out: &str| {
        let pair = |line: &str| line.split_once("  ").map(|(k, v)| (k.to_owned(), v.trim().to_owned()));
        out.lines().filter_map(pair).collect::<std::collections::HashMap<_, _>>()
    };
    let out = facts(&run(&["show", &path, "--ctx", "100"]).ok());
    // `SMALL` and `MODELS` in make_golden.py.
    for (label, expected) in [
        ("architecture", "gemma3"),
        ("layers", "7"),
        ("width", "32"),
        ("sliding window", "8 tokens"),
        ("vocabulary", "64 tokens"),
        ("context", "512 tokens in training"),
        ("chat template", "yes"),
        ("licence", "apache-2.0"),
    ] {
        assert_eq!(out.get(label).map(String::as_str), Some(expected), "{label}: {out:?}");
    }
    assert!(out["quantization"].contains("32.00 bits per weight"), "{out:?}");
    assert!(out["memory"].contains("at a context of 100"), "{out:?}");

    assert_eq!(run(&["show", &path, "--template"]).ok(), "{{ messages[0].content }}\n");
    assert!(run(&["show", &path, "--metadata"]).ok().contains("general.license\t\"apache-2.0\"\n"));
    assert!(run(&["show", &path, "--tensors"]).ok().starts_with("token_embd.weight "));

    let golden = Golden::new("qwen2-gqa7");
    let out = facts(&run(&["show", &golden.path]).ok());
    assert_eq!(out["licence"], "not stated");
    assert_eq!(out["chat template"], "none: continues raw text");
}

#[test]
fn perplexity_is_that_of_the_reference() {
    for name in ["llama-gqa-llama3", "qwen2-gqa7"] {
        let golden = Golden::new(name);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("text");
        // One chunk, and a rest that is left out.
        std::fs::write(&file, golden.prompt_text() + "abc").expect("a file");
        let ctx = golden.prompt.len();
        // Predictions at positions ctx/2 to ctx - 2, each against the next token.
        let nll: Vec<f64> = (ctx / 2..ctx - 1)
            .map(|at| {
                let row: Vec<f64> =
                    golden.logits[64 * at..64 * (at + 1)].iter().map(|&x| f64::from(x)).collect();
                row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[golden.prompt[at + 1] as usize]
            })
            .collect();
        let expected = (nll.iter().sum::<f64>() / nll.len() as f64).exp();

        let (file, ctx) = (file.display().to_string(), ctx.to_string());
        let arguments =
            ["perplexity", "--model", &golden.path, "--file", &file, "--ctx", &ctx, "--cache-type", "f32"];
        let json: Value =
            serde_json::from_str(&run(&[&arguments[..], &["--json"]].concat()).ok()).expect("JSON");
        let got = json["perplexity"].as_f64().expect("a number");
        assert!((got / expected - 1.0).abs() < 1e-3, "{name}: {got}, not {expected}");
        assert_eq!((&json["chunks"], &json["scored"]), (&Value::from(1), &Value::from(nll.len())), "{name}");

        let plain = run(&arguments).ok();
        assert!(
            plain.starts_with(&format!("perplexity {got:.4} +/- ")) && plain.lines().count() == 1,
            "{plain}"
        );
    }
}

#[test]
fn bench_prints_what_the_comparison_reads() {
    let golden = Golden::new("qwen2-gqa7");
    let arguments =
        ["bench", "--model", &golden.path, "--prompt", "32", "--generate", "8,4", "--depth", "0,20"];
    let tail = ["--threads", "1", "--repeat", "3", "--cpu-level", "scalar", "--json"];
    let out = run(&[&arguments[..], &tail].concat()).ok();
    let json: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(json["model"], "qwen2-gqa7.gguf");
    assert_eq!((&json["threads"], &json["level"]), (&Value::from(1), &Value::from("scalar")));
    assert!(json["whit"].is_string());
    let results = json["results"].as_array().expect("a list");
    let tests: Vec<_> =
        results.iter().map(|r| (r["test"].as_str(), r["n"].as_u64(), r["depth"].as_u64())).collect();
    let expected = [
        ("prompt", 32, 0),
        ("generate", 8, 0),
        ("generate", 4, 0),
        ("prompt", 32, 20),
        ("generate", 8, 20),
        ("generate", 4, 20),
    ];
    assert_eq!(tests, expected.map(|(test, n, depth)| (Some(test), Some(n), Some(depth))));
    for result in results {
        let speeds = result["tokens_per_second"].as_array().expect("a list");
        assert!(speeds.len() == 3 && speeds.iter().all(|s| s.as_f64().is_some_and(|s| s > 0.0)), "{result}");
    }
    let out = run(&[
        "bench",
        "--model",
        &golden.path,
        "--prompt",
        "0",
        "--generate",
        "4",
        "--repeat",
        "1",
        "--json",
    ])
    .ok();
    let json: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(json["results"].as_array().map(Vec::len), Some(1));
    let together =
        ["bench", "--model", &golden.path, "-p", "8", "-n", "6", "-d", "0,40", "--parallel", "1,3"];
    let out = run(&[&together[..], &["-r", "2", "-t", "1", "--json"]].concat()).ok();
    let json: Value = serde_json::from_str(&out).expect("one JSON object");
    let results = json["results"].as_array().expect("a list");
    let parallel: Vec<_> = results.iter().map(|r| r["parallel"].as_u64()).collect();
    assert_eq!(parallel, [[Some(1); 4], [Some(3); 4]].concat());
    // Sequences share the weights.
    let bytes = |at: usize| results[at]["bytes_per_token"].as_f64().expect("a number");
    assert!(bytes(5) < bytes(1) / 2.0 && bytes(7) > bytes(5), "{json}");
    assert!(results[0]["operations_per_token"].as_f64().is_some_and(|n| n > 0.0), "{json}");

    let table = run(&["bench", "--model", &golden.path, "-p", "8", "-n", "4", "-r", "1"]).ok();
    assert!(table.lines().count() == 3 && table.starts_with("TEST "), "{table}");
}

#[test]
fn doctor_knows_the_machine() {
    let out = run(&["doctor"]).ok();
    for part in ["CPU level ", "cores ", "memory bandwidth ", "smollm2:135m ", "qwen2.5-coder:1.5b "] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let json: Value =
        serde_json::from_str(&run(&["doctor", "--threads", "1", "--json"]).ok()).expect("one JSON object");
    assert_eq!(json["threads"], 1);
    assert!(json["memory_bandwidth"].as_f64().is_some_and(|speed| speed > 1e6), "{json}");
    let levels = json["levels"].as_array().expect("a list");
    for level in levels.iter().filter_map(Value::as_str).filter(|level| *level != "scalar") {
        assert!(json["integer_peak"][level].as_f64().is_some_and(|speed| speed > 1e8), "{level}: {json}");
    }
}

#[test]
fn an_empty_store_is_listed() {
    let empty = run(&["list"]);
    assert!(empty.stderr.contains("hint: `whit list --catalog`"), "{}", empty.stderr);
    assert_eq!(empty.ok(), "");
    let catalog = run(&["list", "--catalog"]).ok();
    assert!(catalog.starts_with("NAME ") && catalog.contains("\nsmollm2:135m "), "{catalog}");
}

#[test]
fn a_reader_may_go_away() {
    let golden = Golden::new("qwen2-gqa7");
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = command(home.path());
    command.args(["tokenize", "--model", &golden.path]).stdin(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // More than any pipe holds.
    stdin.write_all("a ".repeat(500_000).as_bytes()).expect("the program reads all of it");
    drop(stdin);
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "6\t\"a\"\n");
    drop(out);
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
    assert_eq!(stderr, "");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[cfg(unix)]
#[test]
fn nobody_may_listen_at_all() {
    // As in `whit list 2>&1 | head -0`: both outputs lead into a pipe without a reader.
    let home = tempfile::tempdir().expect("a temporary folder");
    for (arguments, code) in [(&["list"][..], 0), (&["list", "--catalog"], 0), (&["rm", "smollm2"], 1)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = command(home.path());
        command.args(arguments).stderr(writer.try_clone().expect("a pipe")).stdout(writer);
        let status = command.status().expect("the program runs");
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}
