//! `/v1/chat/completions`.

use serde_json::{Value, json};

use crate::client::Tested;
use crate::{PROMPT, events, start};

fn request(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 12})
}

/// The greedy answer to [`PROMPT`].
fn expected(tested: &Tested) -> String {
    let plain = json!({"model": "chatty", "prompt": PROMPT, "temperature": 0, "max_tokens": 12});
    tested.post("/v1/completions", &plain).ok().json()["choices"][0]["text"].as_str().unwrap().to_owned()
}

/// The deltas of a choice, joined: content, calls as (name, arguments), and the reason of its end.
fn joined(chunks: &[(String, Value)], index: usize) -> (String, Vec<(String, String)>, Value) {
    let (mut content, mut calls, mut reason) = (String::new(), Vec::new(), Value::Null);
    for choice in
        chunks.iter().flat_map(|(_, chunk)| chunk["choices"].as_array().cloned().unwrap_or_default())
    {
        if choice["index"] != index {
            continue;
        }
        assert!(reason.is_null(), "nothing follows the end");
        content.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        for call in choice["delta"]["tool_calls"].as_array().cloned().unwrap_or_default() {
            if let Some(name) = call["function"]["name"].as_str() {
                assert_eq!(call["index"], calls.len());
                assert!(call["id"].as_str().unwrap().starts_with("call_") && call["type"] == "function");
                calls.push((name.to_owned(), String::new()));
            }
            calls.last_mut().unwrap().1.push_str(call["function"]["arguments"].as_str().unwrap());
        }
        reason = choice["finish_reason"].clone();
    }
    (content, calls, reason)
}

#[test]
fn whole_and_streamed() {
    let tested = Tested::new();
    let expected = expected(&tested);
    let whole = tested.post("/v1/chat/completions", &request("chatty")).ok().json();
    assert_eq!(whole["object"], "chat.completion");
    assert!(whole["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": expected, "refusal": null}));
    assert_eq!((&choice["finish_reason"], &choice["logprobs"]), (&json!("length"), &Value::Null));
    assert_eq!(whole["usage"]["completion_tokens"], 12);

    let mut request = request("chatty");
    request["stream"] = json!(true);
    let plain = events(&tested.post("/v1/chat/completions", &request).ok());
    assert_eq!(plain.last().unwrap().1, "[DONE]");
    assert_eq!(plain[0].1["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert!(plain.iter().all(|(name, chunk)| name.is_empty() && chunk.get("usage").is_none()));
    assert_eq!(joined(&plain, 0), (expected.clone(), vec![], json!("length")));

    request["stream_options"] = json!({"include_usage": true});
    request["n"] = json!(2);
    let two = events(&tested.post("/v1/chat/completions", &request).ok());
    for index in [0, 1] {
        assert_eq!(joined(&two, index), (expected.clone(), vec![], json!("length")));
    }
    let usage = &two[two.len() - 2].1;
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(24)));
}

#[test]
fn logprobs_of_each_token() {
    let tested = Tested::new();
    let mut request = request("chatty");
    request["logprobs"] = json!(true);
    request["top_logprobs"] = json!(2);
    let whole = tested.post("/v1/chat/completions", &request).ok().json();
    let content = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 12);
    for entry in content {
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(entry["top_logprobs"][0]["logprob"], entry["logprob"]);
        let bytes: Vec<u8> = serde_json::from_value(entry["bytes"].clone()).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), entry["token"].as_str().unwrap());
    }
    request["stream"] = json!(true);
    let chunks = events(&tested.post("/v1/chat/completions", &request).ok());
    let streamed: Vec<Value> = chunks
        .iter()
        .flat_map(|(_, chunk)| {
            chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default()
        })
        .collect();
    let tokens = |entries: &[Value]| entries.iter().map(|entry| entry["token"].clone()).collect::<Vec<_>>();
    assert_eq!(tokens(&streamed), tokens(content));
}

fn tools() -> Value {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object",
            "properties": {"where": {"enum": ["here"]}}, "required": ["where"], "additionalProperties": false}}})
    };
    json!([tool("look"), tool("walk")])
}

#[test]
fn a_forced_call_comes_whole_and_streamed() {
    let (tested, _folder) = start();
    let mut request = request("json");
    request["max_tokens"] = json!(200);
    request["tools"] = tools();
    request["tool_choice"] = json!({"type": "function", "function": {"name": "walk"}});
    let whole = tested.post("/v1/chat/completions", &request).ok().json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{whole}");
    assert_eq!(choice["message"]["content"], Value::Null);
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("walk")));
    let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"where": "here"}));

    request["tool_choice"] = json!("required");
    request["parallel_tool_calls"] = json!(false);
    request["stream"] = json!(true);
    let chunks = events(&tested.post("/v1/chat/completions", &request).ok());
    let (content, calls, reason) = joined(&chunks, 0);
    assert_eq!((content.as_str(), calls.len(), reason), ("", 1, json!("tool_calls")));
    assert!(["look", "walk"].contains(&calls[0].0.as_str()));
    assert_eq!(serde_json::from_str::<Value>(&calls[0].1).unwrap(), json!({"where": "here"}));
    let pieces = chunks.iter().filter(|(_, c)| !c["choices"][0]["delta"]["tool_calls"].is_null()).count();
    assert!(pieces > 3, "arguments come in pieces, not in {pieces}");

    // With a call and its result the conversation goes on.
    request["stream"] = json!(false);
    request["tool_choice"] = json!("none");
    request["messages"] = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "tool_calls":
            [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "a wall"},
    ]);
    let next = tested.post("/v1/chat/completions", &request).ok().json();
    assert!(next["choices"][0]["message"].get("tool_calls").is_none());
}

#[test]
fn answers_in_the_form_asked_for() {
    let (tested, _folder) = start();
    let schema = json!({"type": "object", "properties": {"a": {"const": 5}, "b": {"enum": ["x"]}},
        "required": ["a", "b"], "additionalProperties": false});
    let mut request = request("json");
    request["max_tokens"] = json!(200);
    request["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let answer = tested.post("/v1/chat/completions", &request).ok().json();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(content).unwrap(), json!({"a": 5, "b": "x"}));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn refusals() {
    let tested = Tested::new();
    for (field, value, word) in [
        ("messages", json!([]), "at least one"),
        ("messages", json!([{"role": "user", "content": [{"type": "image_url"}]}]), "image_url"),
        ("tool_choice", json!("required"), "no tools"),
        ("tool_choice", json!("maybe"), "tool_choice"),
        ("tools", json!([{"type": "web_search"}]), "web_search"),
        ("top_logprobs", json!(21), "top_logprobs"),
        ("max_completion_tokens", json!(0), "max_completion_tokens"),
        ("response_format", json!({"type": "json_schema", "json_schema": {"schema": false}}), ""),
        ("stop", json!(""), "stop"),
        ("messages", json!("hi"), "invalid JSON"),
    ] {
        let mut request = request("chatty");
        request[field] = value.clone();
        let answer = tested.post("/v1/chat/completions", &request);
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 400, "{field}: {value}: {message}");
        assert!(message.contains(word), "{field}: {value}: {message}");
    }
    // Fields that nobody knows do no harm.
    let mut known = request("chatty");
    known["service_tier"] = json!("auto");
    known["reasoning_effort"] = json!("low");
    tested.post("/v1/chat/completions", &known).ok();
}
