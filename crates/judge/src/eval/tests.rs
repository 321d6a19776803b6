//! What is asked, against what lm-evaluation-harness asks (tests/golden/make_requests.py); and scores, against logits of `transformers`.

use std::path::PathBuf;

use whit_base::reference::ReferenceBackend;
use whit_engine::{CacheType, EngineOptions, Model};

use super::*;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden")
}

fn model() -> Model {
    Model::open(golden().join("llama-gqa-llama3.gguf")).expect("a golden model")
}

fn engine(max_sequences: usize, tokens: usize) -> Engine {
    let options = EngineOptions {
        cache_type: CacheType::F32,
        ctx: Some(64),
        cache: CacheSize::Tokens(tokens),
        max_sequences,
        ..EngineOptions::default()
    };
    Engine::with_backend(model(), &ReferenceBackend { quantize_activations: false }, &options)
        .expect("an engine")
}

#[test]
fn requests_are_those_of_the_harness() {
    let golden: Value = serde_json::from_str(include_str!("../../tests/golden/requests.json")).expect("JSON");
    let model = model().with_template(golden["template"].as_str().expect("a template")).expect("a template");
    for (name, expected) in golden["tasks"].as_object().expect("tasks") {
        let task = crate::tasks::TASKS.iter().find(|task| task.name == *name).expect("a task");
        let documents = expected["documents"].as_array().expect("documents");
        let data = TaskData { documents: documents.clone(), examples: documents.clone() };
        for (way, n_examples, chat, one_message) in [
            ("plain", 0, false, false),
            ("examples", 3, false, false),
            ("chat", 3, true, false),
            ("one_message", 3, true, true),
        ] {
            let options = EvalOptions {
                framing: Framing { chat, one_message, system: None },
                ..EvalOptions::default()
            };
            let frame = Frame { model: &model, framing: &options.framing };
            let asked = prepare(&frame, task, &data, &options, n_examples).expect("questions");
            assert_eq!(asked.len(), documents.len(), "{name}");
            for (index, (got, expected)) in
                asked.iter().zip(expected[way].as_array().expect("a list")).enumerate()
            {
                check(&format!("{name}, {way}, document {index}"), &frame, got, expected);
            }
        }
    }
}

fn check(place: &str, frame: &Frame<'_>, got: &Asked, expected: &Value) {
    let contexts: Vec<&str> =
        expected["contexts"].as_array().expect("contexts").iter().filter_map(Value::as_str).collect();
    let asked = expected["asked"].as_array().expect("requests");
    if let Form::Write { stop, max_tokens, .. } = &got.question.form {
        assert_eq!(got.contexts[0].text(), contexts[0], "{place}");
        assert_eq!(asked[0][1], json!({ "until": stop, "max_gen_toks": max_tokens }), "{place}");
        return;
    }
    let endings = got.endings(frame);
    assert_eq!(endings.len(), asked.len(), "{place}");
    for ((context, ending), expected) in endings.iter().zip(asked) {
        let of = expected[0].as_u64().expect("a place") as usize;
        assert_eq!(got.contexts[*context].text(), contexts[of], "{place}");
        assert_eq!(Value::from(ending.as_str()), expected[1], "{place}");
    }
}

/// The prompt's own tokens by the logits of `transformers`; any others, and what is cut off, by running each text alone.
#[test]
fn endings_are_scored_behind_their_context() {
    let json: Value = serde_json::from_str(
        &std::fs::read_to_string(golden().join("llama-gqa-llama3.json")).expect("a file"),
    )
    .expect("JSON");
    let prompt: Vec<u32> =
        json["prompt"].as_array().expect("ids").iter().filter_map(|id| Some(id.as_u64()? as u32)).collect();
    let bytes = std::fs::read(golden().join("llama-gqa-llama3.logits.bin")).expect("a file");
    let logits: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let reference = |from: usize, end: usize| -> f64 {
        let ll = |at: usize| {
            let row: Vec<f64> = logits[(at - 1) * 64..at * 64].iter().map(|&l| f64::from(l)).collect();
            row[prompt[at] as usize] - row.iter().map(|l| l.exp()).sum::<f64>().ln()
        };
        (from..end).map(ll).sum()
    };
    let greedy: Vec<u32> =
        json["greedy"].as_array().expect("ids").iter().filter_map(|id| Some(id.as_u64()? as u32)).collect();
    let long: Vec<u32> = (0..70).map(|i| 4 + (i * 7) % 60).collect();
    let stems = vec![
        Stem {
            context: prompt[..10].to_vec(),
            endings: vec![prompt[10..11].to_vec(), prompt[10..16].to_vec(), vec![9, 9, 9]],
        },
        Stem { context: prompt.clone(), endings: vec![greedy[..3].to_vec(), vec![greedy[0]], vec![5, 6]] },
        Stem { context: long[..60].to_vec(), endings: vec![long[60..].to_vec(), long[60..63].to_vec()] },
        Stem { context: prompt[..10].to_vec(), endings: vec![prompt[10..20].to_vec()] },
    ];
    // One sequence at a time, several, and a cache that is too small to keep anything.
    for (max_sequences, tokens) in [(1, 4096), (3, 4096), (2, 128)] {
        let mut engine = engine(max_sequences, tokens);
        let got = likelihood::score(&mut engine, &stems).expect("scores");
        for (at, (from, end)) in [((0, 0), (10, 11)), ((0, 1), (10, 16)), ((3, 0), (10, 20))] {
            let ll = got[at.0][at.1].0;
            assert!((ll - reference(from, end)).abs() < 1e-3, "{at:?}: {ll}, not {}", reference(from, end));
        }
        assert!(got[1][0].1 && got[1][1].1 && !got[0][2].1, "{got:?}");
        for (stem, scores) in stems.iter().zip(&got) {
            for (ending, (ll, _)) in stem.endings.iter().zip(scores) {
                let whole = [&stem.context[..], ending].concat();
                let whole = &whole[whole.len().saturating_sub(65)..];
                let first = whole.len() - ending.len() - 1;
                let mut alone = 0.0;
                let input = whit_engine::Evaluation {
                    tokens: &whole[..whole.len() - 1],
                    outputs: first..whole.len() - 1,
                };
                engine
                    .evaluate(&[input], &mut |_, at, row| {
                        alone +=
                            crate::logprob::Softmax::of(row).log_probability(row[whole[at + 1] as usize]);
                    })
                    .expect("logits");
                assert!((ll - alone).abs() < 1e-6, "{ll} {alone}");
            }
        }
    }
}

/// A log that was cut off in the middle of a line goes on where it was; one of another run is refused.
#[test]
fn a_killed_run_goes_on() {
    let task = crate::tasks::TASKS.iter().find(|task| task.name == "piqa").expect("a task");
    let document = |n: usize| json!({"goal": format!("goal {n}"), "sol1": "one", "sol2": format!("two {n}"), "label": n % 2});
    let data = TaskData { documents: (0..5).map(document).collect(), examples: Vec::new() };
    let folder = tempfile::tempdir().expect("a folder");
    let options = EvalOptions {
        samples: Some(folder.path().to_owned()),
        model: "golden".to_owned(),
        ..EvalOptions::default()
    };
    let run = |options: &EvalOptions| {
        let mut seen = Vec::new();
        let result =
            evaluate(&mut engine(2, 4096), task, &data, options, &mut |progress| seen.push(progress.n_done));
        (result, seen)
    };
    let (whole, seen) = run(&options);
    let whole = whole.expect("a result");
    assert_eq!((whole.documents.len(), &seen[..]), (5, &[0, 5][..]));
    let path = folder.path().join("piqa.jsonl");
    let text = std::fs::read_to_string(&path).expect("a log");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 6);
    std::fs::write(&path, format!("{}{}", lines[..3].concat(), &lines[3][..20])).expect("a log");
    let (again, seen) = run(&options);
    let again = again.expect("a result");
    assert_eq!(seen, [2, 5]);
    assert_eq!((&again.documents, &again.metrics), (&whole.documents, &whole.metrics));
    assert_eq!(std::fs::read_to_string(&path).expect("a log"), text);
    // Nothing is left to do.
    assert_eq!(run(&options).1, [5]);
    let json = whole.to_json();
    let read = TaskResult::from_json(&json).expect("a result");
    assert_eq!(
        (&read.documents, &read.metrics, &read.framing),
        (&whole.documents, &whole.metrics, &whole.framing)
    );

    for other in [
        EvalOptions { model: "another".to_owned(), ..options.clone() },
        EvalOptions {
            framing: Framing { system: Some("s".to_owned()), ..Framing::default() },
            ..options.clone()
        },
    ] {
        assert!(matches!(run(&other).0, Err(JudgeError::OtherRun { .. })));
    }
    let few = EvalOptions { examples: Some(1), ..options };
    assert!(matches!(run(&few).0, Err(JudgeError::TooFewExamples { .. })));
}
