//! Drafting in the server: the same answers, who drafts for whom, and what is told of it.

use serde_json::{Value, json};
use whit_hub::{Config, Store};
use whit_server::{Server, ServerConfig};

use crate::client::{Tested, golden};

const DRAFTED: &str = "whit_draft_tokens_total";
const ACCEPTED: &str = "whit_draft_tokens_accepted_total";

/// A server that drafts so, with the model `tiny` as its own draft model.
fn start(how: &str) -> Tested {
    Tested::with(|config| {
        config.engine.speculation = how.parse().unwrap();
        let path = golden("llama-gqa-llama3.gguf").to_string_lossy().into_owned();
        config.drafts = vec![("tiny:latest".to_owned(), path)];
    })
}

/// The likeliest tokens; those of one letter alone where `bias` says so.
fn complete(tested: &Tested, bias: Value) -> Value {
    let request =
        json!({"model": "tiny", "prompt": "the end", "temperature": 0, "max_tokens": 40, "logit_bias": bias});
    tested.post("/v1/completions", &request).ok().json()["choices"][0]["text"].clone()
}

#[test]
fn answers_are_the_same() {
    let plain = start("off");
    let letter = json!({"20": 100});
    let expected = [complete(&plain, json!({})), complete(&plain, letter.clone())];
    assert_eq!((plain.metric(DRAFTED), expected[1].as_str()), (0.0, Some("o".repeat(40).as_str())));
    for how in ["lookup", "draft", "all"] {
        let tested = start(how);
        let got = [complete(&tested, json!({})), complete(&tested, letter.clone())];
        assert_eq!(got, expected, "{how}");
        assert!(tested.metric(ACCEPTED) > 0.0, "{how}");
        assert!(tested.metric(ACCEPTED) <= tested.metric(DRAFTED), "{how}");
    }
}

#[test]
fn requests_may_do_without() {
    let tested = start("all");
    let ask = |n: Value| {
        let options = json!({"temperature": 0, "num_predict": 30, "draft_num_predict": n});
        let request = json!({"model": "tiny", "prompt": "o o o o o o", "raw": true, "stream": false, "options": options});
        let before = tested.metric(DRAFTED);
        let answer = tested.post("/api/generate", &request).ok().json();
        (answer["response"].clone(), tested.metric(DRAFTED) > before)
    };
    let (expected, drafts) = ask(json!(0));
    assert!(!drafts);
    for n in [json!(1), json!(7), json!(99), json!(-1), Value::Null] {
        assert_eq!(ask(n.clone()), (expected.clone(), true), "{n}");
    }
    let request = json!({"model": "tiny", "prompt": "o", "options": {"draft_num_predict": "many"}});
    assert_eq!(tested.post("/api/generate", &request).status, 400);
}

#[test]
fn a_draft_model_must_be_here() {
    let home = tempfile::tempdir().unwrap();
    let mut config =
        ServerConfig { drafts: vec![("tiny".into(), "no-such-model".into())], ..ServerConfig::default() };
    config.address.set_port(0);
    let error = Server::start(config, Store::open(Config::new(home.path()))).err().unwrap().to_string();
    assert!(error.contains("`no-such-model`") && error.contains("`tiny`"), "{error}");
}
