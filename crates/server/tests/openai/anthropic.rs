//! `/v1/messages` and `/v1/messages/count_tokens`.

use serde_json::{Value, json};
use whit_server::OverflowPolicy;

use crate::client::{Call, Tested};
use crate::{PROMPT, events, start};

fn request(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 12})
}

fn expected(tested: &Tested) -> String {
    let plain = json!({"model": "chatty", "prompt": PROMPT, "temperature": 0, "max_tokens": 12});
    tested.post("/v1/completions", &plain).ok().json()["choices"][0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn whole_and_streamed() {
    let tested = Tested::new();
    let expected = expected(&tested);
    let answer = tested.post("/v1/messages", &request("chatty")).ok();
    assert!(answer.header("request-id").unwrap().starts_with("req_"));
    let message = answer.json();
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(message["content"], json!([{"type": "text", "text": expected}]));
    assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("max_tokens"), &Value::Null));
    assert_eq!(message["usage"]["output_tokens"], 12);

    let mut request = request("chatty");
    request["stream"] = json!(true);
    let events = events(&tested.post("/v1/messages", &request).ok());
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..3], ["message_start", "ping", "content_block_start"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(events.iter().all(|(name, event)| event["type"] == **name));
    let text: String = events[3..events.len() - 3]
        .iter()
        .map(|(_, event)| event["delta"]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, expected);
    let end = &events[events.len() - 2].1;
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(12))
    );
    assert_eq!(events[0].1["message"]["content"], json!([]));
}

#[test]
fn stop_sequences_are_named() {
    let tested = Tested::new();
    let expected = expected(&tested);
    let stop: String = expected.chars().skip(3).take(2).collect();
    let mut request = request("chatty");
    request["stop_sequences"] = json!(["never this", stop]);
    let message = tested.post("/v1/messages", &request).ok().json();
    assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));
    assert_eq!(message["content"][0]["text"], expected[..expected.find(&stop).unwrap()]);
}

#[test]
fn a_forced_call() {
    let (tested, _folder) = start();
    let mut request = request("json");
    request["max_tokens"] = json!(200);
    request["tools"] = json!([{"name": "look", "description": "d", "input_schema": {"type": "object",
        "properties": {"where": {"enum": ["here"]}}, "required": ["where"], "additionalProperties": false}}]);
    request["tool_choice"] = json!({"type": "any", "disable_parallel_tool_use": true});
    let message = tested.post("/v1/messages", &request).ok().json();
    let call = &message["content"][0];
    assert_eq!(
        (&call["type"], &call["name"], &call["input"]),
        (&json!("tool_use"), &json!("look"), &json!({"where": "here"}))
    );
    assert_eq!(message["stop_reason"], "tool_use");

    request["stream"] = json!(true);
    let events = events(&tested.post("/v1/messages", &request).ok());
    let start = events.iter().find(|(name, _)| name == "content_block_start").unwrap();
    assert_eq!(
        (&start.1["content_block"]["name"], &start.1["content_block"]["input"]),
        (&json!("look"), &json!({}))
    );
    let partial: String =
        events.iter().filter_map(|(_, event)| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&partial).unwrap(), json!({"where": "here"}));
}

#[test]
fn counts_what_it_would_read() {
    let tested = Tested::new();
    let body =
        json!({"model": "chatty", "system": "be brief", "messages": [{"role": "user", "content": "hi"}]});
    let count = tested.post("/v1/messages/count_tokens", &body).ok().json();
    let mut request = body;
    request["max_tokens"] = json!(1);
    let message = tested.post("/v1/messages", &request).ok().json();
    let usage = &message["usage"];
    let read = usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(count, json!({"input_tokens": read}));
    // And again, now that the model is loaded.
    request["max_tokens"] = Value::Null;
    assert_eq!(tested.post("/v1/messages/count_tokens", &request).ok().json(), count);
}

#[test]
fn errors_as_clients_read_them() {
    let tested = Tested::new();
    for (field, value, status, kind) in [
        ("model", json!("nobody"), 404, "not_found_error"),
        ("max_tokens", Value::Null, 400, "invalid_request_error"),
        ("max_tokens", json!(0), 400, "invalid_request_error"),
        ("messages", json!([]), 400, "invalid_request_error"),
        ("messages", json!([{"role": "user", "content": [{"type": "image"}]}]), 400, "invalid_request_error"),
        ("temperature", json!(1.5), 400, "invalid_request_error"),
        ("tool_choice", json!({"type": "any"}), 400, "invalid_request_error"),
        ("tool_choice", json!({"type": "auto", "name": {}}), 400, "invalid_request_error"),
        (
            "tools",
            json!([{"name": "f", "description": {}, "input_schema": {}}]),
            400,
            "invalid_request_error",
        ),
        ("output_config", json!({"format": {"type": "xml"}}), 400, "invalid_request_error"),
        (
            "output_config",
            json!({"format": {"type": "json_schema", "schema": false}}),
            400,
            "invalid_request_error",
        ),
        ("tools", json!([{"type": "bash", "name": "b"}]), 400, "invalid_request_error"),
    ] {
        let mut request = request("chatty");
        request[field] = value.clone();
        let answer = tested.post("/v1/messages", &request);
        let body = answer.json();
        assert_eq!(answer.status, status, "{field}: {value}: {body}");
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{body}");
        assert_eq!(body["request_id"].as_str(), answer.header("request-id"));
    }
}

#[test]
fn what_the_guard_refuses_has_an_id_too() {
    let tested = Tested::with(|config| config.max_body = 10);
    for call in [
        Call::new("POST", "/v1/messages").body("x".repeat(20)),
        Call::new("POST", "/v1/messages").host("evil.example"),
        Call::new("DELETE", "/v1/messages"),
    ] {
        let answer = call.send(tested.server.address());
        let body = answer.json();
        assert_eq!(
            (&body["type"], body["request_id"].as_str()),
            (&json!("error"), answer.header("request-id")),
            "{body}"
        );
        assert!(body["request_id"].as_str().unwrap().starts_with("req_"));
    }
}

#[test]
fn what_was_left_out_is_said() {
    let tested = Tested::with(|config| config.overflow = OverflowPolicy::DropOldest);
    let mut request = request("chatty");
    let turns: Vec<Value> =
        (0..40).map(|n| json!({"role": "user", "content": format!("turn {n}")})).collect();
    request["messages"] = json!(turns);
    let whole = tested.post("/v1/messages", &request).ok().json();
    assert!(whole["dropped"]["messages"].as_u64().unwrap() > 0);
    request["stream"] = json!(true);
    let events = events(&tested.post("/v1/messages", &request).ok());
    let told: Vec<&Value> = events.iter().filter_map(|(_, event)| event.get("dropped")).collect();
    assert_eq!(told, [&whole["dropped"]]);
}
