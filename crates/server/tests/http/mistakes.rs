//! Requests that are wrong as clients are wrong, at every endpoint of `/openapi.json`: never a failure of the server, and
//! errors in the shape of their API. What is new in the document is tested with the rest.

use serde_json::{Map, Value, json};

use crate::client::{Answer, Call, Tested};

/// An operation of the document.
struct Operation {
    method: &'static str,
    path: String,
    /// The schema of its JSON body, if it takes one.
    body: Option<Value>,
    /// Says of some requests that this server does not do that (501).
    may_decline: bool,
}

impl Operation {
    fn send(&self, tested: &Tested, body: impl Into<Vec<u8>>) -> Answer {
        Call::new(self.method, &self.path).body(body).send(tested.server.address())
    }

    #[track_caller]
    fn is_refused(&self, answer: &Answer, what: &str) {
        let (path, status, text) = (&self.path, answer.status, answer.text());
        let is_refusal = (400..500).contains(&status) || status == 501 && self.may_decline;
        assert!(is_refusal, "{what} to {path}: {status} {text}");
        let error = &answer.json()["error"];
        let in_object = path.starts_with("/v1/") || path == "/infill";
        let message = if in_object { &error["message"] } else { error };
        assert!(message.as_str().is_some_and(|message| !message.is_empty()), "{what} to {path}: {text}");
    }
}

fn operations(tested: &Tested) -> Vec<Operation> {
    let document = tested.get("/openapi.json").ok().json();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(method))
                .unwrap();
            let schema = operation.pointer("/requestBody/content/application~1json/schema");
            let body = schema.map(|schema| resolve(&document, schema));
            // A name that nothing has.
            let path = path.split('/').map(|part| if part.starts_with('{') { "none" } else { part });
            let path = path.collect::<Vec<_>>().join("/");
            let may_decline = operation["responses"].get("501").is_some();
            found.push(Operation { method, path, body, may_decline });
        }
    }
    assert!(found.len() > 20);
    found
}

/// A schema with its references and `allOf` made one object: all properties, and which are required.
fn resolve(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolve(document, document.pointer(&reference[1..]).unwrap());
    }
    let mut properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let mut required = schema["required"].as_array().cloned().unwrap_or_default();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let part = resolve(document, part);
        properties.extend(part["properties"].as_object().unwrap().clone());
        required.extend(part["required"].as_array().unwrap().clone());
    }
    json!({"properties": properties, "required": required})
}

#[test]
fn bodies_that_are_no_json_object() {
    let tested = Tested::new();
    let deep = |open: &str, close: &str| {
        format!("{{\"model\": {}1{}}}", open.repeat(100_000), close.repeat(100_000)).into_bytes()
    };
    let bodies: [(&str, Vec<u8>); 14] = [
        ("nothing", vec![]),
        ("blanks", b" \r\n\t".to_vec()),
        ("half", br#"{"model": "#.to_vec()),
        ("rest", br#"{"model": "tiny"} {}"#.to_vec()),
        ("no JSON", b"model=tiny&prompt=a".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("a text", b"\"model\"".to_vec()),
        ("a list", br#"["tiny", "tiny", "tiny"]"#.to_vec()),
        ("no UTF-8", b"{\"model\": \"\xff\xfe\"}".to_vec()),
        ("half a surrogate", br#"{"model": "\ud800"}"#.to_vec()),
        ("no number of JSON", br#"{"model": NaN}"#.to_vec()),
        ("deep lists", deep("[", "]")),
        ("deep objects", deep("{\"a\":", "}")),
    ];
    for operation in operations(&tested).into_iter().filter(|operation| operation.body.is_some()) {
        for (name, body) in &bodies {
            operation.is_refused(&operation.send(&tested, body.clone()), name);
        }
    }
}

/// Every field in turn with every wrong type: refused or taken as nothing, but no failure.
#[test]
fn fields_of_wrong_types() {
    let tested = Tested::new();
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(""),
        json!("\u{0}\u{1f9ff}"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!([{}]),
        json!({}),
        json!({"type": null}),
        json!({"": {"": []}}),
    ];
    for operation in operations(&tested) {
        let Some(body) = &operation.body else { continue };
        for name in body["properties"].as_object().unwrap().keys() {
            for value in &values {
                let mut request = sample(body);
                request.insert(name.clone(), value.clone());
                let request = Value::Object(request);
                let answer = operation.send(&tested, request.to_string());
                if answer.status >= 400 {
                    operation.is_refused(&answer, &request.to_string());
                }
            }
        }
    }
}

/// `null` is the same as not given, for every field that need not be given.
#[test]
fn fields_that_are_null() {
    let tested = Tested::new();
    for operation in operations(&tested) {
        let Some(body) = &operation.body else { continue };
        let status = |request: &Map<String, Value>| {
            let answer = operation.send(&tested, Value::Object(request.clone()).to_string());
            (answer.status, answer.text())
        };
        let without = status(&sample(body));
        let mut request = sample(body);
        for name in body["properties"].as_object().unwrap().keys() {
            request.entry(name.clone()).or_insert(Value::Null);
        }
        let with = status(&request);
        assert_eq!(with.0, without.0, "{} {}: {} {}", operation.method, operation.path, with.1, without.1);
    }
}

/// What must be given, of a model that is here; short, so that answers are.
fn sample(body: &Value) -> Map<String, Value> {
    let mut request = Map::new();
    for name in body["required"].as_array().unwrap().iter().filter_map(Value::as_str) {
        let value = match name {
            "model" | "source" => json!("chatty"),
            "messages" => json!([{"role": "user", "content": "a"}]),
            "documents" => json!(["a"]),
            "tokens" => json!([5]),
            _ => json!("a"),
        };
        request.insert(name.to_owned(), value);
    }
    for name in ["max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"] {
        if body["properties"].get(name).is_some() {
            request.insert(name.to_owned(), 1.into());
        }
    }
    if body["properties"].get("options").is_some() {
        request.insert("options".to_owned(), json!({"num_predict": 1}));
    }
    request
}

#[test]
fn methods_that_a_path_does_not_have() {
    let tested = Tested::new();
    let operations = operations(&tested);
    let mut paths: Vec<&str> = operations.iter().map(|operation| operation.path.as_str()).collect();
    paths.dedup();
    for path in paths {
        let known: Vec<&str> =
            operations.iter().filter(|operation| operation.path == path).map(|o| o.method).collect();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            let answer = Call::new(method, path).send(tested.server.address());
            let what = format!("{method} {path}");
            let declines = operations.iter().any(|o| o.path == path && o.method == method && o.may_decline);
            assert!(answer.status < 500 || declines && answer.status == 501, "{what}: {}", answer.status);
            if known.contains(&method) || method == "HEAD" && known.contains(&"GET") {
                assert_ne!(answer.status, 405, "{what}");
            } else {
                assert_eq!(answer.status, 405, "{what}");
                let allow = answer.header("allow").unwrap_or_default();
                assert!(known.iter().all(|known| allow.contains(known)), "{what}: allow: {allow}");
            }
        }
    }
}

/// The type of the body does not matter: `curl -d` says it is a form.
#[test]
fn bodies_of_other_types() {
    let tested = Tested::new();
    let body = json!({"model": "tiny", "prompt": "a", "options": {"num_predict": 1}, "stream": false});
    for content_type in ["application/x-www-form-urlencoded", "text/plain", "nonsense", "multipart/form-data"]
    {
        let call = Call::new("POST", "/api/generate").header("content-type", content_type);
        call.body(body.to_string()).send(tested.server.address()).ok();
    }
}

/// Numbers at the ends of what their types hold, where they are multiplied and divided.
#[test]
fn settings_at_their_extremes() {
    let tested = Tested::new();
    let names = [
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_last_n",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "num_keep",
        "num_ctx",
        "num_predict",
    ];
    let values = [1e-45, 1e-38, 1e-7, 0.0, -0.0, -1.0, 3e9, 1e19, 3e38, -3e38, 1e39, 1e308, -1e308];
    for name in names {
        for value in values {
            let options = json!({"num_predict": 8, "repeat_penalty": 1.1, "temperature": 1, name: value});
            let request = json!({"model": "tiny", "prompt": "the the ", "options": options, "stream": false,
                "overflow": "shift", "raw": true});
            let answer = tested.post("/api/generate", &request);
            assert!(answer.status < 500, "{name} {value}: {} {}", answer.status, answer.text());
        }
    }
    for (name, value) in [("logit_bias", json!({"5": -1e39})), ("logit_bias", json!({"5": 1e39, "6": 1e39}))]
    {
        let answer = tested.post("/v1/completions", &json!({"model": "tiny", "prompt": "a", name: value}));
        assert!(answer.status < 500, "{name} {value}: {} {}", answer.status, answer.text());
    }
}

#[test]
fn names_that_no_model_can_have() {
    let tested = Tested::new();
    let names = [
        "".to_owned(),
        " ".to_owned(),
        "a".repeat(5000),
        "a/".repeat(500),
        "../../etc/passwd".to_owned(),
        "/dev/zero".to_owned(),
        "C:\\x".to_owned(),
        "tiny\u{0}".to_owned(),
        "tiny:\u{202e}".to_owned(),
        ":".to_owned(),
        "http://127.0.0.1:1/a".to_owned(),
    ];
    for operation in operations(&tested) {
        let Some(body) = &operation.body else { continue };
        for field in ["model", "source", "destination", "from"] {
            if body["properties"].get(field).is_none() {
                continue;
            }
            for name in &names {
                let mut request = sample(body);
                request.insert("stream".to_owned(), false.into());
                request.insert(field.to_owned(), name.as_str().into());
                let request = Value::Object(request).to_string();
                operation.is_refused(&operation.send(&tested, request.clone()), &request);
            }
        }
    }
    for path in
        ["/v1/models/%ff", "/v1/models/%00", "/v1/models/..%2f..", "/api/blobs/%ff", "/%ff", "//api//tags"]
    {
        let answer = tested.get(path);
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.json()["error"].is_null(), "{path}: {}", answer.text());
    }
}
