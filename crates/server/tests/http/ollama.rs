//! `/api/generate` and `/api/chat`: shapes, defaults, errors. Greedy answers are those of the reference library.

use serde_json::{Value, json};

use crate::client::{Answer, Tested, known, text};

const MODEL: &str = "llama-gqa-llama3";

/// A greedy request for the golden prompt.
fn golden_request() -> (Value, String) {
    let (prompt, greedy) = known(MODEL);
    let options = json!({"temperature": 0, "num_predict": greedy.len()});
    (json!({"model": "tiny", "prompt": text(&prompt), "raw": true, "options": options}), text(&greedy))
}

fn check_timings(done: &Value) {
    for name in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        assert!(done[name].as_u64().is_some(), "{name} in {done}");
    }
    assert!(done["total_duration"].as_u64() > done["eval_duration"].as_u64(), "{done}");
}

#[test]
fn generate_streams_lines() {
    let tested = Tested::new();
    let (request, expected) = golden_request();
    let answer = tested.post("/api/generate", &request).ok();
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines = answer.lines();
    let (done, parts) = lines.split_last().unwrap();
    let whole: String = parts.iter().map(|line| line["response"].as_str().unwrap()).collect();
    assert_eq!(whole, expected);
    assert!(parts.len() > 1 && parts.iter().all(|line| line["done"] == false && line["model"] == "tiny"));
    assert_eq!((&done["done"], &done["response"]), (&json!(true), &json!("")));
    let (prompt, greedy) = known(MODEL);
    assert_eq!(done["done_reason"], "length");
    assert_eq!(done["prompt_eval_count"], prompt.len());
    assert_eq!(done["eval_count"], greedy.len());
    assert_eq!(done["context"].as_array().unwrap().len(), prompt.len() + greedy.len());
    check_timings(done);
}

#[test]
fn generate_in_one_object() {
    let tested = Tested::new();
    let (mut request, expected) = golden_request();
    request["stream"] = json!(false);
    let answer = tested.post("/api/generate", &request).ok();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let object = answer.json();
    assert_eq!((&object["response"], &object["done"]), (&json!(expected), &json!(true)));
    check_timings(&object);
}

#[test]
fn chat_goes_through_the_template() {
    let tested = Tested::new();
    let messages = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]);
    let options = json!({"temperature": 0, "num_predict": 8});
    let chat = json!({"model": "chatty", "messages": messages, "stream": false, "options": options});
    let answer = tested.post("/api/chat", &chat).ok().json();
    // The same prompt, written out by hand.
    let prompt = "system: be brief\nuser: hi\nassistant: ";
    let raw = json!({"model": "chatty", "prompt": prompt, "raw": true, "stream": false, "options": options});
    let expected = tested.post("/api/generate", &raw).ok().json();
    assert_eq!(answer["message"], json!({"role": "assistant", "content": expected["response"]}));
    assert_eq!(answer["prompt_eval_count"], expected["prompt_eval_count"]);
    assert!(answer.get("response").is_none() && answer.get("context").is_none());
    // `/api/generate` without `raw` goes through it too.
    let plain =
        json!({"model": "chatty", "system": "be brief", "prompt": "hi", "stream": false, "options": options});
    assert_eq!(tested.post("/api/generate", &plain).ok().json()["response"], expected["response"]);
}

#[test]
fn a_context_is_gone_on_from() {
    let tested = Tested::new();
    let options = json!({"temperature": 0, "num_predict": 4});
    let ask = |context: &Value| {
        let request = json!({"model": "chatty", "prompt": "hi", "context": context, "stream": false, "options": options});
        tested.post("/api/generate", &request).ok().json()
    };
    let first = ask(&json!([]));
    let second = ask(&first["context"]);
    let n = |answer: &Value| answer["context"].as_array().unwrap().len();
    assert!(n(&second) > n(&first));
    assert_eq!(second["context"].as_array().unwrap()[..n(&first)], first["context"].as_array().unwrap()[..]);
}

#[test]
fn stop_texts_end_an_answer() {
    let tested = Tested::new();
    let (mut request, expected) = golden_request();
    let stop: String = expected.chars().skip(3).take(2).collect();
    request["options"]["stop"] = json!([stop]);
    request["stream"] = json!(false);
    let object = tested.post("/api/generate", &request).ok().json();
    assert_eq!(object["response"], expected.split(&stop).next().unwrap());
    assert_eq!(object["done_reason"], "stop");
}

#[test]
fn logprobs_come_with_their_tokens() {
    let tested = Tested::new();
    let (mut request, expected) = golden_request();
    request["logprobs"] = json!(true);
    request["top_logprobs"] = json!(3);
    request["stream"] = json!(false);
    let object = tested.post("/api/generate", &request).ok().json();
    let logprobs = object["logprobs"].as_array().unwrap();
    let spelled: String = logprobs.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(spelled, expected);
    for entry in logprobs {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy: the chosen token is the likeliest.
        assert_eq!(top[0]["token"], entry["token"]);
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0 && entry["bytes"].is_array());
    }
}

#[test]
fn a_format_is_enforced() {
    let tested = Tested::new();
    // The stub vocabulary has no braces.
    let request = json!({"model": "tiny", "prompt": "say", "raw": true, "stream": false,
                         "format": {"enum": ["cat", "mouse"]}, "options": {"seed": 1, "num_predict": 200}});
    let object = tested.post("/api/generate", &request).ok().json();
    assert!(object["response"] == "\"cat\"" || object["response"] == "\"mouse\"", "{object}");
    assert_eq!(object["done_reason"], "stop");
}

#[test]
fn an_empty_prompt_loads_and_unloads() {
    let tested = Tested::new();
    let loaded = || tested.get("/api/ps").ok().json()["models"].as_array().unwrap().len();
    assert_eq!(loaded(), 0);
    let object = tested.post("/api/generate", &json!({"model": "tiny"})).ok().json();
    assert_eq!((&object["done_reason"], &object["response"]), (&json!("load"), &json!("")));
    assert_eq!(loaded(), 1);
    let object =
        tested.post("/api/chat", &json!({"model": "tiny", "messages": [], "keep_alive": 0})).ok().json();
    assert_eq!((&object["done_reason"], &object["message"]["content"]), (&json!("unload"), &json!("")));
    assert_eq!(loaded(), 0);
}

#[test]
fn keep_alive_zero_unloads_after_the_answer() {
    let tested = Tested::new();
    let (mut request, _) = golden_request();
    request["keep_alive"] = json!(0);
    tested.post("/api/generate", &request).ok();
    tested.wait_for("whit_models_loaded", 0.0);
}

#[test]
fn refusals() {
    let tested = Tested::with(|config| config.strict = true);
    let generate = |change: Value| {
        let mut request = json!({"model": "tiny", "prompt": "a", "options": {"num_predict": 1}});
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        tested.post("/api/generate", &request)
    };
    let long = "a ".repeat(400);
    for (change, status, expected) in [
        (json!({"model": "none"}), 404, "model 'none' not found, try pulling it first"),
        (json!({"model": ""}), 400, "model is required"),
        (json!({"model": "/etc/passwd"}), 404, "model '/etc/passwd' not found, try pulling it first"),
        (json!({"model": "../x.gguf"}), 404, "not found"),
        (json!({"options": {"temperature": "hot"}}), 400, "option \"temperature\" must be of type float32"),
        (json!({"options": {"top_p": 2}}), 400, "top_p is 2"),
        (json!({"options": {"frobnicate": 1}}), 400, "invalid option \"frobnicate\""),
        (json!({"top_logprobs": 21}), 400, "top_logprobs must be between 0 and 20"),
        (json!({"raw": true, "system": "x"}), 400, "raw mode does not support template, system, or context"),
        (json!({"suffix": "x"}), 400, "does not support insert"),
        (json!({"think": true}), 400, "\"tiny\" does not support thinking"),
        (json!({"think": "hard"}), 400, "invalid think value"),
        (json!({"format": "xml"}), 400, "invalid format"),
        (json!({"format": {"type": "no such type"}}), 400, ""),
        (json!({"keep_alive": "soon"}), 400, "keep_alive is `soon`"),
        (json!({"images": ["aGk="]}), 400, "does not support image input"),
        (json!({"template": "{{ .Prompt }}"}), 400, "written for Go"),
        (json!({"prompt": long, "raw": true}), 400, "longer than the context of 256"),
        (json!({"overflow": "never"}), 400, "invalid JSON"),
    ] {
        let answer = generate(change.clone());
        assert_eq!(answer.status, status, "{change}: {}", answer.text());
        let object = answer.json();
        let error = object["error"].as_str().unwrap();
        assert!(error.contains(expected), "{change}: {error}");
    }
    let tools = json!({"model": "tiny", "messages": [{"role": "user", "content": "a"}], "tools": [{}]});
    let answer = tested.post("/api/chat", &tools);
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("tiny does not support tools")));
}

/// Everybody says how many messages and tokens went.
#[test]
fn nothing_is_dropped_in_silence() {
    let tested = Tested::new();
    let old = json!({"role": "user", "content": "word ".repeat(20)});
    let reply = json!({"role": "assistant", "content": "word ".repeat(20)});
    let messages = json!([
        {"role": "system", "content": "sys"}, old, reply, old, reply, {"role": "user", "content": "last"},
    ]);
    let ask = |overflow: &str| -> Answer {
        let request = json!({"model": "chatty", "messages": messages, "stream": false, "overflow": overflow,
                             "options": {"temperature": 0, "num_predict": 2}});
        tested.post("/api/chat", &request)
    };
    let refused = ask("error");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["n_ctx"], 256);
    let n_prompt = refused.json()["n_prompt_tokens"].as_u64().unwrap();
    assert!(n_prompt > 256);

    let dropped = ask("drop_oldest").ok().json();
    let n_dropped = dropped["dropped"]["tokens"].as_u64().unwrap();
    assert_eq!(dropped["prompt_eval_count"].as_u64().unwrap() + n_dropped, n_prompt);
    // A question and its answer go together.
    assert!(matches!(dropped["dropped"]["messages"].as_u64(), Some(2 | 4)), "{dropped}");
    let kept = ask("shift").ok().json();
    assert_eq!(kept["dropped"]["messages"], 0);
    assert!(kept["dropped"]["tokens"].as_u64().unwrap() > 0);
    // A small one loses nothing, and says nothing.
    let small = json!({"model": "chatty", "messages": [{"role": "user", "content": "a"}], "stream": false,
                       "options": {"num_predict": 1}});
    assert!(tested.post("/api/chat", &small).ok().json().get("dropped").is_none());
}
