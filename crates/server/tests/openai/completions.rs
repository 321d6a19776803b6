//! `/v1/completions` and `/v1/models`.

use serde_json::{Value, json};

use crate::client::{Tested, golden, known, text};
use crate::events;

const MODEL: &str = "llama-gqa-llama3";

/// A greedy request for the golden prompt, and the answer.
fn golden_request() -> (Value, String) {
    let (prompt, greedy) = known(MODEL);
    (json!({"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": greedy.len()}), text(&greedy))
}

#[test]
fn whole_and_streamed() {
    let tested = Tested::new();
    let (mut request, expected) = golden_request();
    let (prompt, greedy) = known(MODEL);
    let whole = tested.post("/v1/completions", &request).ok().json();
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(whole["choices"].as_array().unwrap().len(), 1);
    let choice = &whole["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(expected), &json!("length")));
    assert_eq!(whole["usage"]["prompt_tokens"], prompt.len());
    assert_eq!(whole["usage"]["completion_tokens"], greedy.len());
    assert_eq!(whole["usage"]["total_tokens"], prompt.len() + greedy.len());

    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let events = events(&tested.post("/v1/completions", &request).ok());
    let chunks: Vec<&Value> = events.iter().map(|(_, data)| data).collect();
    let [parts @ .., usage, done] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!(**done, "[DONE]");
    assert_eq!(
        (&usage["choices"], &usage["usage"]["total_tokens"]),
        (&json!([]), &whole["usage"]["total_tokens"])
    );
    let streamed: String = parts.iter().map(|part| part["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(streamed, expected);
    assert!(parts.len() > 2);
    assert_eq!(parts.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[test]
fn many_prompts_and_choices() {
    let tested = Tested::new();
    let (mut request, expected) = golden_request();
    let (prompt, greedy) = known(MODEL);
    request["prompt"] = json!([text(&prompt), prompt]);
    request["n"] = json!(2);
    request["echo"] = json!(true);
    let answer = tested.post("/v1/completions", &request).ok().json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        // The prompt in text may be cut into other tokens than the golden one; that in tokens is exact.
        if index >= 2 {
            let echoed = choice["text"].as_str().unwrap();
            assert!(echoed.ends_with(&expected) && echoed.contains(&text(&prompt)), "{echoed:?}");
        }
    }
    assert_eq!(answer["usage"]["completion_tokens"], 4 * greedy.len());
}

#[test]
fn logprobs_in_the_old_arrays() {
    let tested = Tested::new();
    let (mut request, expected) = golden_request();
    request["logprobs"] = json!(3);
    let answer = tested.post("/v1/completions", &request).ok().json();
    let logprobs = &answer["choices"][0]["logprobs"];
    let n = known(MODEL).1.len();
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[name].as_array().unwrap().len(), n, "{name}");
    }
    let tokens: String =
        logprobs["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(tokens, expected);
    for (at, top) in logprobs["top_logprobs"].as_array().unwrap().iter().enumerate() {
        // Greedy: the chosen one is the likeliest.
        let chosen = logprobs["token_logprobs"][at].as_f64().unwrap();
        let top = top.as_object().unwrap();
        assert_eq!(top.len(), 3);
        assert!(chosen <= 0.0 && top.values().all(|other| other.as_f64().unwrap() <= chosen));
        assert_eq!(top[logprobs["tokens"][at].as_str().unwrap()].as_f64().unwrap(), chosen);
    }
}

#[test]
fn stops_and_seeds() {
    let tested = Tested::new();
    let (mut request, expected) = golden_request();
    let stop: String = expected.chars().skip(3).take(2).collect();
    request["stop"] = json!(stop);
    let answer = tested.post("/v1/completions", &request).ok().json();
    assert_eq!(answer["choices"][0]["text"], expected[..expected.find(&stop).unwrap()]);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let seeded = json!({"model": "tiny", "prompt": "the", "seed": 7, "max_tokens": 20});
    let text = || tested.post("/v1/completions", &seeded).ok().json()["choices"][0]["text"].clone();
    assert_eq!(text(), text());
}

#[test]
fn errors_as_clients_read_them() {
    let tested = Tested::new();
    let long: Vec<u32> = vec![5; 300];
    for (request, status, kind, code) in [
        (json!({"model": "nobody", "prompt": "a"}), 404, "not_found_error", json!("model_not_found")),
        (
            json!({"model": "tiny", "prompt": long}),
            400,
            "invalid_request_error",
            json!("context_length_exceeded"),
        ),
        (
            json!({"model": "tiny", "prompt": "a", "temperature": 3}),
            400,
            "invalid_request_error",
            Value::Null,
        ),
        (json!({"model": "tiny", "prompt": "a", "n": 0}), 400, "invalid_request_error", Value::Null),
        (json!({"model": "tiny", "prompt": "a", "best_of": 3}), 400, "invalid_request_error", Value::Null),
        (json!({"model": "tiny", "prompt": "a", "max_tokens": 0}), 400, "invalid_request_error", Value::Null),
        (
            json!({"model": "tiny", "prompt": "a ".repeat(400), "echo": true, "logprobs": 1, "overflow": "shift"}),
            400,
            "invalid_request_error",
            json!("context_length_exceeded"),
        ),
        (json!({"model": "tiny", "prompt": [70_000]}), 400, "invalid_request_error", Value::Null),
        (json!({"model": "tiny", "prompt": "a", "suffix": "b"}), 400, "invalid_request_error", Value::Null),
        (json!({"prompt": "a"}), 400, "invalid_request_error", Value::Null),
    ] {
        let answer = tested.post("/v1/completions", &request);
        let body = answer.json();
        assert_eq!(answer.status, status, "{request} {body}");
        let error = body["error"].as_object().unwrap();
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert_eq!(
            (&error["type"], &error["code"], &error["param"]),
            (&json!(kind), &code, &Value::Null),
            "{request}"
        );
    }
}

/// The log-probability of each token of the golden prompt but the first, and the highest in its place, by the reference.
fn golden_logprobs() -> Vec<(f64, f64)> {
    let (prompt, _) = known(MODEL);
    let bytes = std::fs::read(golden(&format!("{MODEL}.logits.bin"))).unwrap();
    let logits: Vec<f64> =
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    let rows = logits.chunks_exact(64).zip(&prompt[1..]);
    rows.map(|(row, &id)| {
        let sum = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        (row[id as usize] - sum, row.iter().copied().fold(f64::MIN, f64::max) - sum)
    })
    .collect()
}

/// As evaluation harnesses ask: the prompt's log-probabilities, with one token after it or none.
#[test]
fn prompts_are_scored() {
    let tested = Tested::with(|config| config.engine.cache_type = whit_engine::CacheType::F32);
    let (prompt, greedy) = known(MODEL);
    let expected = golden_logprobs();
    for max_tokens in [0, 1] {
        let mut request = json!({"model": "tiny", "prompt": [prompt, prompt[..5], text(&prompt)], "echo": true,
            "logprobs": 1, "max_tokens": max_tokens, "temperature": 0});
        let answer = tested.post("/v1/completions", &request).ok().json();
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 3);
        for (choice, n) in choices.iter().zip([prompt.len(), 5, prompt.len()]) {
            let arrays = &choice["logprobs"];
            let list = |name: &str| arrays[name].as_array().unwrap().clone();
            let [logprobs, top, tokens, offsets] =
                ["token_logprobs", "top_logprobs", "tokens", "text_offset"].map(list);
            assert_eq!([logprobs.len(), top.len(), tokens.len(), offsets.len()], [n + max_tokens; 4]);
            assert_eq!((&logprobs[0], &top[0]), (&Value::Null, &Value::Null));
            for i in 1..n {
                let (logprob, best) = expected[i - 1];
                assert!((logprobs[i].as_f64().unwrap() - logprob).abs() < 1e-3, "{i}");
                let highest = top[i].as_object().unwrap().values().map(|v| v.as_f64().unwrap());
                assert!((highest.fold(f64::MIN, f64::max) - best).abs() < 1e-3, "{i}");
            }
            for i in 0..n {
                assert_eq!(offsets[i], text(&prompt[..i]).chars().count());
                assert_eq!(tokens[i], text(&prompt[i..=i]));
            }
            let whole = choice["text"].as_str().unwrap();
            assert!(whole.starts_with(&text(&prompt[..n])));
            assert_eq!(choice["finish_reason"], "length");
            if n == prompt.len() {
                assert_eq!(whole, text(&[&prompt[..], &greedy[..max_tokens]].concat()));
            }
        }
        request["stream"] = json!(true);
        request["prompt"] = json!(prompt);
        let mut streamed = Vec::new();
        for (_, data) in events(&tested.post("/v1/completions", &request).ok()) {
            let arrays = &data["choices"][0]["logprobs"]["token_logprobs"];
            streamed.extend(arrays.as_array().into_iter().flatten().cloned());
        }
        assert_eq!(json!(streamed), choices[0]["logprobs"]["token_logprobs"]);
    }
}

#[test]
fn lists_models() {
    let tested = Tested::new();
    let list = tested.get("/v1/models").ok().json();
    assert_eq!(list["object"], "list");
    let mut names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["chatty", "tiny"]);
    let model = tested.get("/v1/models/tiny").ok().json();
    assert_eq!((&model["id"], &model["object"]), (&json!("tiny"), &json!("model")));
    assert!(model["created"].as_u64().unwrap() > 0);
    let missing = tested.get("/v1/models/nobody");
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[test]
fn what_was_left_out_is_said() {
    let tested = Tested::new();
    let request = |stream: bool| json!({"model": "tiny", "prompt": "a".repeat(400), "overflow": "drop_oldest", "max_tokens": 3, "stream": stream});
    let whole = tested.post("/v1/completions", &request(false)).ok().json();
    assert!(whole["dropped"]["tokens"].as_u64().unwrap() >= 400 - 256, "{whole}");
    let events = events(&tested.post("/v1/completions", &request(true)).ok());
    let told: Vec<&Value> = events.iter().filter_map(|(_, event)| event.get("dropped")).collect();
    assert_eq!(told, [&whole["dropped"]]);
}
