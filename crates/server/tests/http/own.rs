//! Whit's own endpoints, and what holds for all of them.

use serde_json::json;

use crate::client::{Call, Tested, known, text};

#[test]
fn tokens_there_and_back() {
    let tested = Tested::new();
    let (prompt, _) = known("llama-gqa-llama3");
    let request = json!({"model": "tiny", "text": text(&prompt)});
    let tokens = tested.post("/api/tokenize", &request).ok().json()["tokens"].clone();
    assert_eq!(tokens, json!(prompt));
    let back = tested.post("/api/detokenize", &json!({"model": "tiny", "tokens": tokens})).ok().json();
    assert_eq!(back["text"], text(&prompt));
    assert_eq!(tested.post("/api/detokenize", &json!({"model": "tiny", "tokens": [999_999]})).status, 400);
    assert_eq!(tested.post("/api/tokenize", &json!({"model": "none", "text": ""})).status, 404);
}

#[test]
fn health_and_numbers() {
    let tested = Tested::new();
    assert_eq!(
        (tested.get("/healthz").ok().text(), tested.get("/readyz").ok().text()),
        ("ok".into(), "ready".into())
    );
    let request = json!({"model": "tiny", "prompt": "a", "raw": true, "options": {"num_predict": 3}});
    tested.post("/api/generate", &request).ok();
    for (name, expected) in [
        ("whit_generated_tokens_total", 3.0),
        ("whit_time_to_first_token_seconds_count", 1.0),
        ("whit_models_loaded", 1.0),
        ("whit_requests_total{route=\"/api/generate\",status=\"200\"}", 1.0),
    ] {
        assert_eq!(tested.metric(name), expected, "{name}");
    }
}

#[test]
fn methods_and_paths() {
    let tested = Tested::new();
    for (method, path, status) in [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("HEAD", "/api/version", 200),
        ("HEAD", "/api/tags", 200),
        ("GET", "/api/generate", 405),
        ("POST", "/api/tags", 405),
        ("GET", "/nothing/here", 404),
        ("POST", "/api/generate", 400),
    ] {
        let answer = Call::new(method, path).send(tested.server.address());
        assert_eq!(answer.status, status, "{method} {path}");
        if status >= 400 {
            assert!(answer.json()["error"].is_string(), "{method} {path}");
        }
    }
    assert_eq!(tested.get("/").text(), "Ollama is running");
    let page = Call::new("GET", "/").header("accept", "text/html").send(tested.server.address());
    assert!(page.text().to_ascii_lowercase().contains("<!doctype html>"));
    let version = tested.get("/api/version").ok().json();
    let numbers: Vec<u32> =
        version["version"].as_str().unwrap().split('.').map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers.len(), 3);
}
