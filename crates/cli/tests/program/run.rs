//! `whit run`: answers, from every kind of prompt, and how they end.

use whit_files::Gguf;

use crate::common::{Golden, golden, rewrite, run, run_in};

const MODELS: [&str; 4] =
    ["llama-gqa-llama3", "llama-untied-linear-bias", "qwen2-gqa7", "gemma3-global-linear"];

#[test]
fn answers_are_those_of_the_reference() {
    for name in MODELS {
        let golden = Golden::new(name);
        let (prompt, n) = (golden.prompt_text(), golden.greedy.len().to_string());
        let arguments =
            ["run", "--raw", "--temperature", "0", "--max-tokens", &n, "--", &golden.path, &prompt];
        let got = run(&arguments);
        assert_eq!(got.stderr, "", "{name}");
        assert_eq!(got.ok(), golden.answer() + "\n", "{name}");
    }
}

#[test]
fn prompts_come_from_arguments_and_standard_input() {
    let golden = Golden::new("qwen2-gqa7");
    let home = tempfile::tempdir().expect("a temporary folder");
    // The same prompt in every form: `_e- .rly4c6"p@/_x=(wt2n!` has one space.
    let prompt = golden.prompt_text();
    let (before, after) = prompt.split_once(' ').expect("a space");
    let flags = ["run", "--raw", "--temperature", "0", "--max-tokens", "24", "--", &*golden.path];
    for (words, stdin) in [
        (vec![&*prompt], None),
        (vec![before, after], None),
        (vec![], Some(prompt.clone())),
        (vec![], Some(prompt.clone() + "\n")),
        (vec![after], Some(before.to_owned())),
        (vec![&*prompt], Some(String::new())),
    ] {
        let arguments: Vec<&str> = flags.iter().copied().chain(words.iter().copied()).collect();
        let got = run_in(home.path(), &arguments, stdin.as_ref().map(String::as_bytes));
        assert_eq!(got.ok(), golden.answer() + "\n", "{words:?} {stdin:?}");
    }
}

#[test]
fn a_chat_template_is_used_and_its_absence_is_told() {
    let golden = Golden::new("qwen2-gqa7");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prompt = golden.prompt_text();
    // The template gives the prompt back whole, from its two halves.
    let template = "{{ messages[0].content + messages[1].content }}";
    let path = rewrite("qwen2-gqa7", &folder.path().join("template.gguf"), |writer| {
        writer.set("tokenizer.chat_template", template);
    });
    let (system, user) = prompt.split_at(5);
    let flags = ["run", "--temperature", "0", "--max-tokens", "24"];
    let with = run(&[&flags[..], &["--system", system, "--", &path, user]].concat());
    assert_eq!(with.stderr, "");
    assert_eq!(with.ok(), golden.answer() + "\n");

    let without = run(&[&flags[..], &["--", &golden.path, &prompt]].concat());
    assert_eq!(without.stderr.matches("no chat template").count(), 1, "{}", without.stderr);
    assert_eq!(without.ok(), golden.answer() + "\n");
}

#[test]
fn stop_texts_and_biases_shape_the_answer() {
    let golden = Golden::new("qwen2-gqa7");
    let (prompt, answer) = (golden.prompt_text(), golden.answer());
    let ask = |flags: &[&str]| {
        let head = ["run", "--raw", "--temperature", "0", "--max-tokens", "24"];
        run(&[&head[..], flags, &["--", &golden.path, &prompt]].concat()).ok()
    };
    // The answer is `3f4???,/???gtaaa2gt0i4fg`; a stop text may lie across tokens.
    let (before, _) = answer.split_once("?g").expect("the answer has it");
    assert_eq!(ask(&["--stop", "?g"]), before.to_owned() + "\n");
    let forbidden = format!("{}=-inf", golden.greedy[0]);
    let first = |text: String| text.chars().next();
    assert_ne!(first(ask(&["--logit-bias", &forbidden])), answer.chars().next());
    let forced = format!("{}=1e9", golden.greedy[5]);
    assert_eq!(ask(&["--logit-bias", &forced]), answer[5..6].repeat(24) + "\n");
}

#[test]
fn a_seed_settles_the_answer_whatever_the_threads() {
    let golden = Golden::new("llama-gqa-llama3");
    let prompt = golden.prompt_text();
    let ask = |seed: &str, threads: &str| {
        let flags =
            ["run", "--raw", "--temperature", "2", "--top-k", "0", "--top-p", "1", "--max-tokens", "40"];
        run(&[&flags[..], &["--seed", seed, "--threads", threads, "--", &golden.path, &prompt]].concat()).ok()
    };
    assert_eq!(ask("7", "1"), ask("7", "3"));
    assert_ne!(ask("7", "1"), ask("8", "1"));
}

#[test]
fn logprobs_are_lines_of_json() {
    let golden = Golden::new("llama-gqa-llama3");
    let flags =
        ["run", "--raw", "--temperature", "0", "--max-tokens", "3", "--cache-type", "f32", "--logprobs", "2"];
    let out = run(&[&flags[..], &["--", &golden.path, &golden.prompt_text()]].concat()).ok();
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    // The reference's logits of the prompt's last token.
    let row: Vec<f64> = golden.logits[golden.logits.len() - 64..].iter().map(|&x| f64::from(x)).collect();
    let id = golden.greedy[0];
    let expected = row[id as usize] - row.iter().map(|x| x.exp()).sum::<f64>().ln();
    for (line, id) in lines.iter().zip(&golden.greedy) {
        assert_eq!(line["id"], *id);
        assert_eq!(line["text"], crate::common::text(&[*id]));
        assert_eq!(line["top"].as_array().map(Vec::len), Some(2));
        assert_eq!(line["top"][0]["id"], *id);
    }
    let got = lines[0]["logprob"].as_f64().expect("a number");
    assert!((got - expected).abs() < 2e-3, "{got}, not {expected}");
}

#[test]
fn a_full_context_is_an_error_or_shifts() {
    let golden = Golden::new("qwen2-gqa7");
    let prompt = golden.prompt_text();
    let ask = |flags: &[&str]| {
        run(&[&["run", "--raw", "--temperature", "0"], flags, &["--", &golden.path, &prompt]].concat())
    };

    let long = ask(&["--ctx", "16"]);
    assert_eq!((long.code, &*long.stdout), (Some(1), ""));
    assert!(
        long.stderr.starts_with(
            "error: the prompt of 24 tokens is 8 tokens longer than the context of 16\n\nhint: "
        ),
        "{}",
        long.stderr
    );

    let end = ask(&["--ctx", "30"]);
    assert!(
        end.stderr.contains("warning: the answer ends here because the context of 30 tokens is full"),
        "{}",
        end.stderr
    );
    // The last token needs no place.
    let answer = golden.answer();
    assert_eq!(end.ok(), format!("{}\n", &answer[..7]));

    let shifted =
        ask(&["--ctx", "30", "--overflow", "shift", "--max-tokens", "40", "--logit-bias", "1=-inf"]);
    assert!(shifted.stderr.contains("the oldest"), "{}", shifted.stderr);
    assert!(shifted.ok().len() >= 40);
}

#[test]
fn verbose_tells_times_on_standard_error() {
    let golden = Golden::new("qwen2-gqa7");
    let flags = [
        "run",
        "--raw",
        "--temperature",
        "0",
        "--max-tokens",
        "24",
        "--verbose",
        "--threads",
        "1",
        "--cpu-level",
        "scalar",
    ];
    let got = run(&[&flags[..], &["--", &golden.path, &golden.prompt_text()]].concat());
    for part in [
        "cpu (scalar, 1 threads)",
        "load ",
        "first ",
        "prompt     24 tokens in ",
        "generation 24 tokens in ",
        " tokens/s",
    ] {
        assert!(got.stderr.contains(part), "{part}: {}", got.stderr);
    }
    assert_eq!(got.ok(), golden.answer() + "\n");
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_answer() {
    use std::io::Read as _;
    use std::process::Command;

    let golden = Golden::new("qwen2-gqa7");
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = crate::common::command(home.path());
    // Without the token that ends, and with a context that shifts, this answer has no end.
    let flags = ["run", "--raw", "--overflow", "shift", "--logit-bias", "1=-inf", "--verbose"];
    let mut child = command.args(flags).args([&golden.path, "a"]).spawn().expect("the program starts");
    let mut first = [0; 1];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("an answer begins");
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("generation ") && !stderr.contains("error"), "{stderr}");
}

#[test]
fn answers_keep_to_a_grammar() {
    let golden = Golden::new("qwen2-gqa7");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writing");
        path.display().to_string()
    };
    let schema = file("schema.json", r#"{ "type": "integer", "minimum": 100, "maximum": 999 }"#);
    let gbnf = file("list.gbnf", "root ::= (\"- \" [a-z]{3} \"\\n\"){2}\n");
    let lark = file("sum.lark", "start: /[0-9]{2}/ \"+\" /[0-9]{2}/");
    let prompt = golden.prompt_text();
    let ask = |flags: &[&str]| {
        let head = ["run", "--raw", "--seed", "1", "--temperature", "2"];
        run(&[&head[..], flags, &["--", &golden.path, &prompt]].concat())
    };
    let all = |text: &str, belongs: fn(char) -> bool| text.chars().all(belongs);
    let answer = ask(&["--schema", &schema]).ok();
    assert!(answer.len() == 4 && answer.trim().parse::<u32>().is_ok_and(|n| n >= 100), "{answer}");
    let answer = ask(&["--grammar", &gbnf]).ok();
    let lines: Vec<&str> = answer.trim_end().lines().collect();
    assert!(
        lines.len() == 2 && lines.iter().all(|line| line.len() == 5 && line.starts_with("- ")),
        "{answer}"
    );
    let answer = ask(&["--grammar", &lark]).ok();
    assert!(answer.len() == 6 && all(answer.trim(), |c| c == '+' || c.is_ascii_digit()), "{answer}");
    let answer = ask(&["--regex", "[xyz]{40}"]).ok();
    assert!(answer.len() == 41 && all(answer.trim(), |c| ('x'..='z').contains(&c)), "{answer}");
    let cut = ask(&["--regex", "[xyz]{40}", "--max-tokens", "5"]);
    assert!(cut.stderr.contains("incomplete"), "{}", cut.stderr);

    let unsupported = file("unsupported.json", r#"{ "properties": { "a": { "not": {} } } }"#);
    for (flags, expected) in [
        (["--schema", &unsupported], "#/properties/a/not"),
        (["--schema", &gbnf], "is no JSON"),
        (["--schema", "nowhere.json"], "nowhere.json cannot be read"),
        (["--grammar", &schema], "the GBNF grammar cannot be used"),
        (["--regex", "a("], "unclosed group"),
        (["--format", "xml"], "invalid value"),
        // The model has no braces.
        (["--format", "json"], "the JSON schema cannot be used"),
    ] {
        let got = ask(&flags);
        assert!(got.code != Some(0) && got.stdout.is_empty(), "{flags:?}");
        assert!(got.stderr.contains(expected), "{flags:?}: {}", got.stderr);
    }
}

/// A model that thinks: its template opens thoughts unless it is told not to, and one token ends them.
fn thinker(folder: &std::path::Path) -> String {
    const TEMPLATE: &str = "{{ messages[-1].content }}{% if enable_thinking is not defined or enable_thinking %}<think>\
                            {% endif %}{# </think> #}";
    rewrite("qwen2-gqa7", &folder.join("thinker.gguf"), |writer| {
        let gguf = Gguf::open(golden("qwen2-gqa7.gguf")).expect("a golden model");
        let tokens = gguf.metadata().strings("tokenizer.ggml.tokens").expect("a vocabulary");
        let tokens: Vec<Vec<u8>> = tokens
            .map(|token| match token {
                b"*" => b"<".to_vec(),
                b"+" => b">".to_vec(),
                b"@" => b"</think>".to_vec(),
                token => token.to_vec(),
            })
            .collect();
        writer.set_strings("tokenizer.ggml.tokens", &tokens);
        writer.set("tokenizer.chat_template", TEMPLATE);
    })
}

#[test]
fn thoughts_are_no_part_of_the_answer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = thinker(folder.path());
    // Ids of `*` and `@` in the golden models' vocabulary: no thought is opened twice, and each ends soon.
    let flags =
        ["--logit-bias", "54=-inf", "--logit-bias", "59=3", "--regex", "[xyz]{5}", "--max-tokens", "300"];
    let ask = |seed: &str, more: &[&str]| {
        let head = ["run", "--temperature", "1", "--top-k", "0", "--top-p", "1", "--seed", seed];
        run(&[&head[..], &flags, more, &["--", &path, "a"]].concat())
    };
    let mut n_thoughts = 0;
    for seed in ["1", "2", "3", "4", "5", "6"] {
        let got = ask(seed, &[]);
        let is_answer =
            |text: &str| text.len() == 6 && text.trim_end().bytes().all(|b| (b'x'..=b'z').contains(&b));
        assert!(is_answer(&got.stdout), "{}", got.stdout);
        if !got.stderr.is_empty() {
            let thoughts = got.stderr.strip_prefix("Thinking...\n");
            assert!(thoughts.is_some_and(|text| text.ends_with("\n...done thinking.\n\n")), "{}", got.stderr);
            n_thoughts += 1;
        }
        let hidden = ask(seed, &["--hide-thinking"]);
        assert_eq!((&*hidden.stdout, &*hidden.stderr), (&*got.stdout, ""));
        let without = ask(seed, &["--think=false"]);
        assert!(
            is_answer(&without.stdout) && without.stderr.is_empty(),
            "{}{}",
            without.stdout,
            without.stderr
        );
    }
    assert!(n_thoughts > 0, "no thought had a word");
    let plain = Golden::new("qwen2-gqa7");
    let got = run(&["run", "--think", &plain.path, "a"]);
    assert!(got.code == Some(2) && got.stderr.contains("this model does not think"), "{}", got.stderr);
}
