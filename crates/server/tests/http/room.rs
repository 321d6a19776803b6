//! Models and memory: waiting for room, models that never fit, files that go away, contexts out of one pool.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Call, Tested, golden, read_chunk, read_head};
use crate::faults::{RUNNING, endless, open};

fn load(tested: &Tested, model: &str) -> u64 {
    tested.post("/api/generate", &json!({"model": model})).ok();
    let list = tested.get("/api/ps").ok().json();
    let of = |entry: &&Value| entry["name"] == model;
    list["models"].as_array().unwrap().iter().find(of).unwrap()["size"].as_u64().unwrap()
}

/// What a model of the tests takes, in bytes.
fn size_of(model: &str) -> u64 {
    load(&Tested::new(), model)
}

fn ask(tested: &Tested, model: &str) -> crate::client::Answer {
    tested.post(
        "/api/generate",
        &json!({"model": model, "prompt": "a", "raw": true, "stream": false, "options": {"num_predict": 3}}),
    )
}

#[test]
fn a_second_model_waits_for_the_first() {
    let size = size_of("tiny");
    let tested = Tested::with(|config| config.memory = Some(size + size / 2));
    let mut running = open(&tested);
    assert_eq!(read_head(&mut running).0, 200);
    assert!(!read_chunk(&mut running).is_empty());
    std::thread::scope(|scope| {
        let second = scope.spawn(|| ask(&tested, "chatty"));
        tested.wait_for("whit_requests_waiting_for_models", 1.0);
        // Nobody was cut off for it.
        assert!(!read_chunk(&mut running).is_empty());
        assert_eq!(tested.metric(RUNNING), 1.0);
        // Who comes now waits for the one before.
        let third = scope.spawn(|| ask(&tested, "tiny"));
        tested.wait_for("whit_requests_waiting_for_models", 2.0);
        drop(running);
        assert_eq!(second.join().unwrap().ok().json()["eval_count"], 3);
        assert_eq!(third.join().unwrap().ok().json()["eval_count"], 3);
    });
    assert_eq!(tested.metric("whit_models_loaded"), 1.0);
}

#[test]
fn waiting_has_an_end() {
    let size = size_of("tiny");
    let tested = Tested::with(|config| {
        config.memory = Some(size + size / 2);
        config.max_wait = Duration::from_millis(200);
    });
    let mut running = open(&tested);
    assert_eq!(read_head(&mut running).0, 200);
    let refused = ask(&tested, "chatty");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{}", refused.text());
    assert!(refused.json()["error"].as_str().unwrap().contains("of memory"), "{}", refused.text());
    assert!(!read_chunk(&mut running).is_empty());
    drop(running);
    ask(&tested, "chatty").ok();
}

#[test]
fn a_model_that_never_fits_says_so() {
    let size = size_of("tiny");
    let tested = Tested::with(|config| config.memory = Some(size / 2));
    let messages = json!([{"role": "user", "content": "a"}]);
    for (path, body, message) in [
        ("/api/generate", json!({"model": "tiny", "prompt": "a"}), "/error"),
        ("/v1/chat/completions", json!({"model": "tiny", "messages": messages}), "/error/message"),
        ("/v1/messages", json!({"model": "tiny", "messages": messages, "max_tokens": 1}), "/error/message"),
    ] {
        let answer = tested.post(path, &body);
        assert_eq!((answer.status, answer.header("retry-after")), (500, None), "{path}");
        let json = answer.json();
        let text = json.pointer(message).unwrap().as_str().unwrap();
        assert!(
            text.contains("needs") && text.contains("may take") && text.contains("--memory"),
            "{path}: {text}"
        );
    }
}

#[test]
fn a_file_that_is_deleted_under_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.gguf");
    std::fs::copy(golden("llama-gqa-llama3.gguf"), &path).unwrap();
    let tested = Tested::with(|config| config.files.push(("mine".to_owned(), path.clone())));
    let before = ask(&tested, "mine").ok().json();
    std::fs::remove_file(&path).unwrap();
    // It goes on while it is loaded...
    let after = ask(&tested, "mine").ok().json();
    assert_eq!((&after["eval_count"], after["done"].as_bool()), (&before["eval_count"], Some(true)));
    let chat = json!({"model": "mine", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1});
    tested.post("/v1/chat/completions", &chat).ok();
    tested.get("/api/ps").ok();
    // ...and is missed when it is wanted anew.
    tested.post("/api/generate", &json!({"model": "mine", "keep_alive": 0})).ok();
    tested.wait_for("whit_models_loaded", 0.0);
    let gone = ask(&tested, "mine");
    assert_eq!(
        (gone.status, gone.json()),
        (404, json!({"error": "model 'mine' not found, try pulling it first"}))
    );
    ask(&tested, "tiny").ok();
}

/// The server's context is for those who do not ask; others get what the model was trained for, without loading it again.
#[test]
fn a_context_is_had_by_asking() {
    let tested = Tested::with(|config| config.engine.ctx = Some(64));
    let long = "a ".repeat(100);
    let ask = |n_ctx: Value| {
        let options = json!({"num_predict": 1, "num_ctx": n_ctx});
        tested.post(
            "/api/generate",
            &json!({"model": "tiny", "prompt": long, "raw": true, "stream": false, "options": options}),
        )
    };
    let n_prompt = ask(json!(512)).ok().json()["prompt_eval_count"].as_u64().unwrap();
    assert!((64..512).contains(&n_prompt));
    for n_ctx in [json!(null), json!(64), json!(n_prompt - 1)] {
        let refused = ask(n_ctx.clone());
        let expected = n_ctx.as_u64().unwrap_or(64);
        assert_eq!((refused.status, refused.json()["n_ctx"].as_u64()), (400, Some(expected)), "{n_ctx}");
    }
    ask(json!(n_prompt)).ok();
    assert_eq!(tested.metric("whit_models_loaded"), 1.0);
}

/// Every request gives back what it took.
#[test]
fn a_client_that_vanishes_leaves_room() {
    let tested = Tested::with(|config| config.engine.cache = whit_engine::CacheSize::Tokens(512));
    for _ in 0..20 {
        let stream =
            Call::new("POST", "/api/generate").body(endless().to_string()).open(tested.server.address());
        drop(stream);
    }
    tested.wait_for(RUNNING, 0.0);
    for _ in 0..5 {
        ask(&tested, "tiny").ok();
    }
}
