//! Vectors of texts by every endpoint that gives them, against the hidden states of the reference.

use serde_json::{Value, json};

use crate::client::{Tested, golden, known, text};

const MODEL: &str = "llama-gqa-llama3";
const WIDTH: usize = 32;

/// As exact as the reference.
fn start() -> Tested {
    Tested::with(|config| {
        config.engine.cache_type = whit_engine::CacheType::F32;
        config.engine.ctx = Some(64);
    })
}

/// The vector of the first `n` tokens of the golden prompt: the last state, of length 1, or its first `width` values.
fn expected(n: usize, width: usize) -> Vec<f64> {
    let bytes = std::fs::read(golden(&format!("{MODEL}.states.bin"))).unwrap();
    let floats = bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
    let state: Vec<f64> = floats.skip((n - 1) * WIDTH).take(width).collect();
    let length = state.iter().map(|v| v * v).sum::<f64>().sqrt();
    state.iter().map(|v| v / length).collect()
}

#[track_caller]
fn check(got: &Value, expected: &[f64]) {
    let got: Vec<f64> = got.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{got:?}, not {expected:?}");
}

/// The golden prompt: its tokens, and its text, which is cut into the same.
fn prompt() -> (Vec<u32>, String) {
    let (prompt, _) = known(MODEL);
    let text = text(&prompt);
    (prompt, text)
}

#[test]
fn ollama() {
    let tested = start();
    let (tokens, text) = prompt();
    let embed = |extra: Value| {
        let mut request = json!({"model": "tiny"});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        tested.post("/api/embed", &request)
    };
    let answer = embed(json!({"input": text})).ok().json();
    check(&answer["embeddings"][0], &expected(tokens.len(), WIDTH));
    assert_eq!((&answer["model"], &answer["prompt_eval_count"]), (&json!("tiny"), &json!(tokens.len())));
    assert!(answer["total_duration"].as_u64() >= answer["load_duration"].as_u64());
    let many = embed(json!({"input": [text, "a", text], "dimensions": 5, "keep_alive": "1m"})).ok().json();
    assert_eq!(many["embeddings"].as_array().unwrap().len(), 3);
    check(&many["embeddings"][2], &expected(tokens.len(), 5));
    assert_eq!(many["prompt_eval_count"], 2 * tokens.len() + 1);
    for (input, says) in [
        (json!(""), None),
        (json!(null), None),
        (json!([]), None),
        (json!(5), Some("invalid")),
        (json!([5]), Some("invalid")),
    ] {
        let answer = embed(json!({"input": input}));
        match says {
            None => assert_eq!(answer.ok().json()["embeddings"], json!([])),
            Some(says) => {
                assert_eq!(answer.status, 400);
                assert!(answer.text().contains(says), "{input}");
            }
        }
    }
    // Too long: the end is left out, unless that is not wanted.
    let long = format!("{text}{}", " the".repeat(100));
    let cut = embed(json!({"input": long, "options": {"num_ctx": tokens.len()}})).ok().json();
    check(&cut["embeddings"][0], &expected(tokens.len(), WIDTH));
    let refused = embed(json!({"input": long, "truncate": false}));
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("the input length exceeds the context length"), "{}", refused.text());
    assert_eq!(tested.post("/api/embed", &json!({"model": "none", "input": "a"})).status, 404);
    assert_eq!(embed(json!({"input": "a", "keep_alive": "soon"})).status, 400);

    let old = tested.post("/api/embeddings", &json!({"model": "tiny", "prompt": text})).ok().json();
    check(&old["embedding"], &expected(tokens.len(), WIDTH));
    let nothing = tested.post("/api/embeddings", &json!({"model": "tiny"})).ok().json();
    assert_eq!(nothing["embedding"], json!([]));
    assert!(tested.metric("whit_prompt_tokens_total") >= (4 * tokens.len()) as f64);
}

#[test]
fn openai() {
    let tested = start();
    let (tokens, text) = prompt();
    let embed = |input: Value, extra: Value| {
        let mut request = json!({"model": "tiny", "input": input});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        tested.post("/v1/embeddings", &request)
    };
    let whole = expected(tokens.len(), WIDTH);
    for (input, n) in
        [(json!(text), 1), (json!(tokens), 1), (json!([text, text]), 2), (json!([tokens, tokens[..3]]), 2)]
    {
        let answer = embed(input, json!({"encoding_format": "float"})).ok().json();
        let data = answer["data"].as_array().unwrap();
        assert_eq!((data.len(), &data[n - 1]["index"]), (n, &json!(n - 1)));
        check(&data[0]["embedding"], &whole);
        assert_eq!((&answer["object"], &data[0]["object"]), (&json!("list"), &json!("embedding")));
        assert_eq!(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]);
    }
    let short = embed(json!([tokens[..3]]), json!({"dimensions": 7})).ok().json();
    check(&short["data"][0]["embedding"], &expected(3, 7));
    assert_eq!(short["usage"]["prompt_tokens"], 3);
    // As the official clients ask.
    let base64 = embed(json!(text), json!({"encoding_format": "base64"})).ok().json();
    let numbers = embed(json!(text), json!({})).ok().json();
    let digits = base64["data"][0]["embedding"].as_str().unwrap();
    assert_eq!(digits.len(), (4 * WIDTH).div_ceil(3) * 4);
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits: Vec<u32> = digits.trim_end_matches('=').bytes().map(|digit| u32::from(value(digit))).collect();
    let bytes: Vec<u8> = bits
        .chunks(4)
        .flat_map(|group| {
            let number = group.iter().enumerate().fold(0, |n, (at, bits)| n | bits << (18 - 6 * at));
            number.to_be_bytes()[1..group.len()].to_vec()
        })
        .collect();
    let floats: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let numbers = numbers["data"][0]["embedding"].as_array().unwrap();
    let numbers: Vec<f32> = numbers.iter().map(|number| number.as_f64().unwrap() as f32).collect();
    assert_eq!(floats, numbers);
    for (input, extra, says) in [
        (json!(""), json!({}), "empty"),
        (json!(["a", ""]), json!({}), "empty"),
        (json!([[]]), json!({}), "empty"),
        (json!([]), json!({}), "input must be"),
        (json!({}), json!({}), "input must be"),
        (json!([99]), json!({}), "99"),
        (json!("a"), json!({"dimensions": 33}), "dimensions"),
        (json!("a"), json!({"dimensions": 0}), "dimensions"),
        (json!("a"), json!({"encoding_format": "hex"}), "hex"),
        (json!(vec!["a"; 2049]), json!({}), "2048"),
        (json!(" the".repeat(100)), json!({}), "context_length_exceeded"),
    ] {
        let answer = embed(input, extra);
        assert_eq!(answer.status, 400, "{says}: {}", answer.text());
        assert!(answer.text().contains(says), "{says}: {}", answer.text());
    }
    assert_eq!(tested.post("/v1/embeddings", &json!({"model": "none", "input": "a"})).status, 404);
}

/// More texts than places in line: they go through a few at a time, and nobody else is shut out.
#[test]
fn many_texts_fit_through_a_short_line() {
    let tested = Tested::with(|config| {
        config.engine.cache_type = whit_engine::CacheType::F32;
        config.max_queue = 8;
    });
    let (tokens, _) = prompt();
    let inputs: Vec<&[u32]> = (0..200).map(|i| &tokens[..1 + i % tokens.len()]).collect();
    let answer = tested.post("/v1/embeddings", &json!({"model": "tiny", "input": inputs})).ok().json();
    for (i, item) in answer["data"].as_array().unwrap().iter().enumerate() {
        assert_eq!(item["index"], i);
        check(&item["embedding"], &expected(inputs[i].len(), WIDTH));
    }
}

#[test]
fn documents_are_ranked() {
    let tested = start();
    let (_, text) = prompt();
    let documents = ["other", text.as_str(), "the"];
    for path in ["/api/rerank", "/v1/rerank", "/rerank"] {
        let request = json!({"model": "tiny", "query": text, "documents": documents});
        let answer = tested.post(path, &request).ok().json();
        let results = answer["results"].as_array().unwrap();
        assert_eq!((results.len(), &results[0]["index"]), (3, &json!(1)), "{path}");
        assert!((results[0]["relevance_score"].as_f64().unwrap() - 1.0).abs() < 1e-3);
        let scores: Vec<f64> = results.iter().map(|r| r["relevance_score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        assert!(results[0].get("document").is_none());
    }
    let request = json!({"model": "tiny", "query": text, "documents": [{"text": "other"}, text], "top_n": 1,
        "return_documents": true});
    let answer = tested.post("/api/rerank", &request).ok().json();
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    assert_eq!(answer["results"][0]["document"]["text"], text);
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
    for (path, error) in [("/api/rerank", "/error"), ("/v1/rerank", "/error/message")] {
        let refused = tested.post(path, &json!({"model": "tiny", "query": "a"}));
        assert_eq!(refused.status, 400);
        assert!(refused.json().pointer(error).unwrap().is_string());
        assert_eq!(tested.post(path, &json!({"model": "none", "query": "a", "documents": []})).status, 404);
    }
}
