//! Models that generate nothing: vectors of encoders, against the states of the reference, and what they refuse.

use serde_json::{Value, json};

use crate::client::{Tested, golden, text};

/// An encoder as `encoder`, a model that ranks as `ranker`.
fn start() -> Tested {
    Tested::with(|config| {
        config.engine.cache_type = whit_engine::CacheType::F32;
        config.engine.ctx = Some(4096);
        for (name, file) in [("encoder", "bert.gguf"), ("ranker", "xlmr-rank.gguf")] {
            config.files.push((name.to_owned(), golden(file)));
        }
    })
}

/// The inputs of the golden encoder, and the mean of each one's states, of length 1.
fn known() -> Vec<(Vec<u32>, Vec<f64>)> {
    let json: Value = serde_json::from_slice(&std::fs::read(golden("bert.json")).unwrap()).unwrap();
    let inputs: Vec<Vec<u32>> = serde_json::from_value(json["inputs"].clone()).unwrap();
    let bytes = std::fs::read(golden("bert.states.bin")).unwrap();
    let floats: Vec<f64> =
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    let mut states = floats.chunks_exact(32);
    let mean = |n: usize| {
        let states: Vec<&[f64]> = states.by_ref().take(n).collect();
        let sum: Vec<f64> = (0..32).map(|i| states.iter().map(|state| state[i]).sum()).collect();
        let length = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
        sum.iter().map(|v| v / length).collect()
    };
    let vectors: Vec<Vec<f64>> = inputs.iter().map(Vec::len).map(mean).collect();
    inputs.into_iter().zip(vectors).collect()
}

#[track_caller]
fn check(got: &Value, expected: &[f64]) {
    let got: Vec<f64> = serde_json::from_value(got.clone()).unwrap();
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{got:?}, not {expected:?}");
}

#[test]
fn vectors_of_many() {
    let tested = start();
    let known = known();
    let inputs: Vec<&[u32]> = (0..100).map(|i| &known[i % known.len()].0[..]).collect();
    let answer = tested.post("/v1/embeddings", &json!({"model": "encoder", "input": inputs})).ok().json();
    for (i, item) in answer["data"].as_array().unwrap().iter().enumerate() {
        check(&item["embedding"], &known[i % known.len()].1);
    }
    let n_tokens: usize = inputs.iter().map(|input| input.len()).sum();
    assert_eq!(answer["usage"]["prompt_tokens"], n_tokens);
}

#[test]
fn texts_longer_than_the_training() {
    let tested = start();
    let long = "a".repeat(80);
    let embed = |truncate: bool, options: Value| {
        let request = json!({"model": "encoder", "input": long, "truncate": truncate, "options": options});
        tested.post("/api/embed", &request)
    };
    // Whatever context is asked for: there are 64 positions.
    for options in [json!({}), json!({"num_ctx": 8192})] {
        let cut = embed(true, options.clone()).ok().json();
        assert_eq!(cut["prompt_eval_count"], 64);
        let refused = embed(false, options);
        assert_eq!(refused.status, 400);
        let text = refused.json()["error"].to_string();
        assert!(text.contains("80 tokens") && text.contains("64"), "{text}");
    }
    let refused = tested.post("/v1/embeddings", &json!({"model": "encoder", "input": long}));
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"]["code"], "context_length_exceeded");
}

/// The score of the reference for each golden pair, through the tokenizer, whose stub puts nothing around them.
#[test]
fn documents_are_ranked_by_the_head() {
    let tested = start();
    let json: Value = serde_json::from_slice(&std::fs::read(golden("xlmr-rank.json")).unwrap()).unwrap();
    let inputs: Vec<Vec<u32>> = serde_json::from_value(json["inputs"].clone()).unwrap();
    let second: Vec<usize> = serde_json::from_value(json["second"].clone()).unwrap();
    let bytes = std::fs::read(golden("xlmr-rank.scores.bin")).unwrap();
    let scores = bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
    for ((input, second), score) in inputs.iter().zip(second).zip(scores) {
        let (query, document) = (text(&input[..second]), text(&input[second..]));
        let request =
            json!({"model": "ranker", "query": query, "documents": ["other", document], "top_n": 2});
        let answer = tested.post("/v1/rerank", &request).ok().json();
        let results = answer["results"].as_array().unwrap();
        let ranked = results.iter().find(|ranked| ranked["index"] == 1).unwrap();
        let (got, expected) = (ranked["relevance_score"].as_f64().unwrap(), 1.0 / (1.0 + (-score).exp()));
        assert!((got - expected).abs() < 1e-3, "{input:?}: {got}, not {expected}");
        let scores: Vec<f64> = results.iter().map(|r| r["relevance_score"].as_f64().unwrap()).collect();
        assert!(
            scores[0] >= scores[1] && scores.iter().all(|score| (0.0..=1.0).contains(score)),
            "{scores:?}"
        );
    }
}

#[test]
fn what_is_refused() {
    let tested = start();
    for (path, body, says) in [
        ("/api/generate", json!({"prompt": "a"}), "does not generate"),
        ("/api/chat", json!({"messages": [{"role": "user", "content": "a"}]}), "does not generate"),
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "a"}]}),
            "does not generate",
        ),
        ("/v1/completions", json!({"prompt": "a"}), "does not generate"),
        (
            "/v1/messages",
            json!({"max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}),
            "does not generate",
        ),
    ] {
        for model in ["encoder", "ranker"] {
            let mut body = body.clone();
            body["model"] = model.into();
            let refused = tested.post(path, &body);
            assert_eq!(refused.status, 400, "{path}: {}", refused.text());
            assert!(refused.text().contains(says), "{path}: {}", refused.text());
        }
    }
    let refused = tested.post("/api/embed", &json!({"model": "ranker", "input": "a"}));
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("/api/rerank"), "{}", refused.text());
}

#[test]
fn capabilities() {
    let tested = start();
    for (model, can) in [("encoder", json!(["embedding"])), ("ranker", json!(["rerank"]))] {
        let shown = tested.post("/api/show", &json!({"model": model})).ok().json();
        assert_eq!(shown["capabilities"], can, "{model}");
    }
}
