//! `/v1/responses`.

use serde_json::{Value, json};
use whit_hub::{Config, Store};
use whit_server::Server;

use crate::client::{Call, Tested};
use crate::{events, start};

fn request() -> Value {
    json!({"model": "chatty", "input": "hi", "temperature": 0, "max_output_tokens": 12})
}

/// How the model goes on from a text.
fn expected(tested: &Tested, prompt: &str) -> String {
    let plain = json!({"model": "chatty", "prompt": prompt, "temperature": 0, "max_tokens": 12});
    tested.post("/v1/completions", &plain).ok().json()["choices"][0]["text"].as_str().unwrap().to_owned()
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap()
}

#[test]
fn whole() {
    let tested = Tested::new();
    let mut request = request();
    request["instructions"] = json!("be brief");
    request["metadata"] = json!({"a": "b"});
    let response = tested.post("/v1/responses", &request).ok().json();
    assert_eq!((&response["object"], &response["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
    let message = &response["output"][0];
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    let expected = expected(&tested, "system: be brief\nuser: hi\nassistant: ");
    assert_eq!((&message["content"][0]["type"], text(&response)), (&json!("output_text"), expected.as_str()));
    assert_eq!(response["usage"]["output_tokens"], 12);
    for (field, value) in [
        ("instructions", json!("be brief")),
        ("max_output_tokens", json!(12)),
        ("metadata", json!({"a": "b"})),
        ("parallel_tool_calls", json!(true)),
        ("store", json!(true)),
        ("temperature", json!(0.0)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
    ] {
        assert_eq!(response[field], value, "{field}");
    }
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
    let all: String = deltas.iter().map(|(_, event)| event["delta"].as_str().unwrap()).collect();
    assert_eq!(all, expected(&tested, "user: hi\nassistant: "));
    let last = &events[n - 1].1["response"];
    assert_eq!(text(last), all);
    // What was streamed is kept as well.
    let path = format!("/v1/responses/{}", last["id"].as_str().unwrap());
    assert_eq!(tested.get(&path).ok().json(), *last);
}

#[test]
fn one_goes_on_from_another_also_after_a_restart() {
    let tested = Tested::new();
    let ask = |tested: &Tested, change: &dyn Fn(&mut Value)| {
        let mut request = request();
        change(&mut request);
        tested.post("/v1/responses", &request).ok().json()
    };
    let first = ask(&tested, &|request| request["instructions"] = json!("of the first alone"));
    let Tested { server, home } = tested;
    drop(server);
    // The same home, and the same models.
    let mut tested = Tested::new();
    let mut config = whit_server::ServerConfig::default();
    config.address.set_port(0);
    config.engine.ctx = Some(256);
    config.engine.threads = Some(1);
    config.files = vec![("chatty".to_owned(), home.path().join("chatty.gguf"))];
    tested.server = Server::start(config, Store::open(Config::new(home.path()))).unwrap();
    let path = format!("/v1/responses/{}", first["id"].as_str().unwrap());
    assert_eq!(tested.get(&path).ok().json(), first);

    let second = ask(&tested, &|request| {
        request["previous_response_id"] = first["id"].clone();
        request["input"] = json!([{"role": "user", "content": "more"}]);
    });
    let so_far = format!("user: hi\nassistant: {}\nuser: more\nassistant: ", text(&first));
    assert_eq!(text(&second), expected(&tested, &so_far));
    assert_eq!(second["previous_response_id"], first["id"]);
    let third = ask(&tested, &|request| {
        request["previous_response_id"] = second["id"].clone();
        request["instructions"] = json!("new");
    });
    let so_far = format!("system: new\n{so_far}{}\nuser: hi\nassistant: ", text(&second));
    assert_eq!(text(&third), expected(&tested, &so_far));

    let items =
        tested.get(&format!("/v1/responses/{}/input_items", second["id"].as_str().unwrap())).ok().json();
    assert_eq!((&items["object"], &items["has_more"]), (&json!("list"), &json!(false)));
    let item = &items["data"][0];
    assert_eq!(
        (&item["role"], &item["content"], &items["first_id"]),
        (&json!("user"), &json!([{"type": "input_text", "text": "more"}]), &item["id"])
    );

    let delete = || Call::new("DELETE", &path).send(tested.server.address());
    assert_eq!(delete().ok().json(), json!({"id": first["id"], "object": "response", "deleted": true}));
    for gone in [delete(), tested.get(&path), tested.get(&format!("{path}/input_items"))] {
        assert_eq!(gone.status, 404);
    }
    let unkept = ask(&tested, &|request| request["store"] = json!(false));
    assert_eq!(tested.get(&format!("/v1/responses/{}", unkept["id"].as_str().unwrap())).status, 404);
    // The chain has lost its beginning; and what was never kept cannot be gone on from.
    for id in [&second["id"], &unkept["id"], &json!("resp_nobody_knows"), &json!("../recipes")] {
        let mut request = request();
        request["previous_response_id"] = id.clone();
        let answer = tested.post("/v1/responses", &request);
        let error = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && error.contains("not found"), "{error}");
    }
}

/// A request whose answer can only be `look(where="here")`.
fn forced() -> Value {
    json!({"model": "json", "input": "hi", "temperature": 0, "max_output_tokens": 200, "tool_choice": "required",
        "parallel_tool_calls": false,
        "tools": [{"type": "function", "name": "look", "description": "d", "strict": true, "parameters": {"type":
        "object", "properties": {"where": {"enum": ["here"]}}, "required": ["where"], "additionalProperties": false}}]})
}

#[test]
fn functions_are_called_and_answered() {
    let (tested, _folder) = start();
    let response = tested.post("/v1/responses", &forced()).ok().json();
    assert_eq!(response["status"], "completed");
    let [call] = response["output"].as_array().unwrap().as_slice() else { panic!("{response}") };
    assert_eq!(
        (&call["type"], &call["name"], &call["status"]),
        (&json!("function_call"), &json!("look"), &json!("completed"))
    );
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"where": "here"}));
    assert_eq!((&response["tools"], &response["tool_choice"]), (&forced()["tools"], &json!("required")));

    let result = json!([{"type": "function_call_output", "call_id": call["call_id"], "output": "sun"}]);
    let follow = json!({"model": "json", "input": result, "temperature": 0, "max_output_tokens": 5,
        "previous_response_id": response["id"]});
    let answer = tested.post("/v1/responses", &follow).ok().json();
    let plain = json!({"model": "json", "prompt": "user: hi\nassistant: \ntool: sun\nassistant: ", "temperature": 0,
        "max_tokens": 5});
    let plain = tested.post("/v1/completions", &plain).ok().json();
    assert_eq!(text(&answer), plain["choices"][0]["text"].as_str().unwrap());

    let mut request = forced();
    request["stream"] = json!(true);
    let events = events(&tested.post("/v1/responses", &request).ok());
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let delta = "response.function_call_arguments.delta";
    assert_eq!(names[..3], ["response.created", "response.in_progress", "response.output_item.added"]);
    assert!(names[3..names.len() - 3].iter().all(|name| *name == delta));
    assert_eq!(
        names[names.len() - 3..],
        ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    );
    let all: String = events.iter().filter_map(|(_, event)| event["delta"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&all).unwrap(), json!({"where": "here"}));
    let done = &events[names.len() - 2].1["item"];
    assert_eq!((&done["arguments"], &done["id"]), (&json!(all), &events[2].1["item"]["id"]));
}

#[test]
fn a_schema_binds_the_text() {
    let (tested, _folder) = start();
    let schema = json!({"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"],
        "additionalProperties": false});
    let request = json!({"model": "json", "input": "hi", "max_output_tokens": 200,
        "text": {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": true}}});
    let response = tested.post("/v1/responses", &request).ok().json();
    assert_eq!(serde_json::from_str::<Value>(text(&response)).unwrap(), json!({"a": "b"}));
    assert_eq!(response["text"], request["text"]);
}

#[test]
fn what_does_not_fit_is_refused_or_left_out() {
    let tested = Tested::new();
    let mut request = request();
    let turns: Vec<Value> =
        (0..40).map(|n| json!({"role": "user", "content": format!("turn {n}")})).collect();
    request["input"] = json!(turns);
    let refused = tested.post("/v1/responses", &request);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    request["truncation"] = json!("auto");
    let response = tested.post("/v1/responses", &request).ok().json();
    assert!(response["dropped"]["messages"].as_u64().unwrap() > 0 && response["truncation"] == "auto");
    request["stream"] = json!(true);
    let events = events(&tested.post("/v1/responses", &request).ok());
    assert_eq!(events.last().unwrap().1["response"]["dropped"], response["dropped"]);
}

#[test]
fn refusals() {
    let tested = Tested::new();
    for (field, value) in [
        ("tools", json!([{"type": "web_search"}])),
        ("tool_choice", json!("required")),
        ("input", json!([{"type": "computer_call"}])),
        ("input", Value::Null),
        ("background", json!(true)),
        ("conversation", json!("conv_1")),
        ("truncation", json!("some")),
        ("max_output_tokens", json!(0)),
        ("text", json!({"format": {"type": "xml"}})),
        ("metadata", json!({"a": "x".repeat(513)})),
    ] {
        let mut request = request();
        request[field] = value;
        let answer = tested.post("/v1/responses", &request);
        assert_eq!(answer.status, 400, "{field}: {}", answer.text());
    }
}
