//! `/v1/responses`.

use serde_json::{Value, json};

use crate::client::Tested;
use crate::events;

fn request() -> Value {
    json!({"model": "chatty", "input": "hi", "temperature": 0, "max_output_tokens": 12})
}

fn expected(tested: &Tested, prompt: &str) -> String {
    let plain = json!({"model": "chatty", "prompt": prompt, "temperature": 0, "max_tokens": 12});
    tested.post("/v1/completions", &plain).ok().json()["choices"][0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn whole() {
    let tested = Tested::new();
    let mut request = request();
    request["instructions"] = json!("be brief");
    let response = tested.post("/v1/responses", &request).ok().json();
    assert_eq!((&response["object"], &response["status"]), (&json!("response"), &json!("incomplete")));
    let message = &response["output"][0];
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    let text = expected(&tested, "system: be brief\nuser: hi\nassistant: ");
    assert_eq!(
        (&message["content"][0]["type"], &message["content"][0]["text"]),
        (&json!("output_text"), &json!(text))
    );
    assert_eq!(response["usage"]["output_tokens"], 12);
}

#[test]
fn events_from_created_to_the_end() {
    let tested = Tested::new();
    let mut request = request();
    request["stream"] = json!(true);
    let events = events(&tested.post("/v1/responses", &request).ok());
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    let n = names.len();
    assert_eq!(
        names[n - 4..],
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete"
        ]
    );
    for (at, (name, event)) in events.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(at)));
    }
    let deltas = &events[4..n - 4];
    assert!(deltas.len() > 2 && deltas.iter().all(|(name, _)| name == "response.output_text.delta"));
    let text: String = deltas.iter().map(|(_, event)| event["delta"].as_str().unwrap()).collect();
    assert_eq!(text, expected(&tested, "user: hi\nassistant: "));
    assert_eq!(events[n - 1].1["response"]["output"][0]["content"][0]["text"], text);
}

#[test]
fn refusals() {
    let tested = Tested::new();
    for (field, value, status) in [
        ("previous_response_id", json!("resp_1"), 501),
        ("tools", json!([{"type": "function", "name": "f"}]), 501),
        ("input", json!([{"type": "function_call"}]), 400),
        ("input", Value::Null, 400),
    ] {
        let mut request = request();
        request[field] = value;
        assert_eq!(tested.post("/v1/responses", &request).status, status, "{field}");
    }
}
