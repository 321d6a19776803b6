//! What the log says of a request, and what it does not.

use std::fmt::Debug;
use std::sync::{Mutex, OnceLock};

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::client::{Call, Tested};

/// Every event of this program, as fields.
static EVENTS: Mutex<Vec<Vec<(String, String)>>> = Mutex::new(Vec::new());

struct Everything;

struct Fields(Vec<(String, String)>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name().to_owned(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name().to_owned(), format!("{value:?}")));
    }
}

impl Subscriber for Everything {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("whit")
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        EVENTS.lock().unwrap().push(fields.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn listen() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing::subscriber::set_global_default(Everything).unwrap());
}

/// The events of a request, once there are `n`.
fn events(id: &str, n: usize) -> Vec<Vec<(String, String)>> {
    for _ in 0..1000 {
        let events = EVENTS.lock().unwrap();
        let of =
            |event: &&Vec<(String, String)>| event.iter().any(|(name, value)| name == "id" && value == id);
        let found: Vec<_> = events.iter().filter(of).cloned().collect();
        if found.len() >= n {
            return found;
        }
        drop(events);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{id} is not in the log");
}

fn field<'e>(event: &'e [(String, String)], name: &str) -> Option<&'e str> {
    event.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_request_is_one_line_without_its_prompt() {
    listen();
    let tested = Tested::new();
    let call = |id: &str, path: &str, body: serde_json::Value| {
        let call = Call::new("POST", path).header("x-request-id", id).body(body.to_string());
        call.send(tested.server.address())
    };
    let options = json!({"num_predict": 3, "temperature": 0});
    let secret = "xylophone quagmire";
    let generate = json!({"model": "tiny", "prompt": secret, "raw": true, "options": options});
    let answer = call("log-1", "/api/generate", generate).ok();
    assert_eq!(answer.header("x-request-id"), Some("log-1"));
    let done = answer.lines().pop().unwrap();
    let events_of = events("log-1", 1);
    assert_eq!(events_of.len(), 1);
    for (name, expected) in [
        ("message", "request"),
        ("method", "POST"),
        ("route", "/api/generate"),
        ("status", "200"),
        ("model", "tiny"),
        ("tokens_in", &*done["prompt_eval_count"].to_string()),
        ("tokens_out", "3"),
        ("whole", "true"),
    ] {
        assert_eq!(field(&events_of[0], name), Some(expected), "{name}");
    }
    assert!(field(&events_of[0], "ms").unwrap().parse::<u64>().is_ok());

    let messages = json!([{"role": "user", "content": secret}]);
    let chat = json!({"model": "chatty", "messages": messages, "max_tokens": 2, "stream": true});
    call("log-2", "/v1/chat/completions", chat.clone()).ok();
    call("log-3", "/v1/messages", chat).ok();
    for id in ["log-2", "log-3"] {
        let events = events(id, 1);
        assert_eq!(
            (field(&events[0], "model"), field(&events[0], "tokens_out")),
            (Some("chatty"), Some("2")),
            "{id}"
        );
    }
    let refused = call("log-4", "/api/generate", json!({"model": "tiny", "prompt": secret, "format": 1}));
    assert_eq!(refused.status, 400);
    assert_eq!(field(&events("log-4", 1)[0], "status"), Some("400"));
    assert_eq!(field(&events("log-4", 1)[0], "model"), None);
    let leaks = |event: &Vec<(String, String)>| event.iter().any(|(_, value)| value.contains(secret));
    assert!(!EVENTS.lock().unwrap().iter().any(leaks));
}

#[test]
fn prompts_are_logged_when_asked_for() {
    listen();
    let tested = Tested::with(|config| config.log_prompts = true);
    let body =
        json!({"model": "chatty", "prompt": "zebra crossing", "options": {"num_predict": 1}}).to_string();
    Call::new("POST", "/api/generate")
        .header("x-request-id", "log-5")
        .body(body)
        .send(tested.server.address())
        .ok();
    let events = events("log-5", 2);
    assert_eq!(field(&events[0], "prompt"), Some("user: zebra crossing\nassistant: "));
}

#[test]
fn every_answer_has_a_name() {
    let tested = Tested::new();
    let id = |path: &str, given: &str| {
        let answer = Call::new("GET", path).header("x-request-id", given).send(tested.server.address());
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("/api/version", "abc-1.2_3"), "abc-1.2_3");
    assert_eq!(id("/nothing", "abc"), "abc");
    for bad in ["", "a b", "a\"b"] {
        assert!(id("/api/version", bad).starts_with("req_"), "{bad}");
    }
    assert_ne!(id("/healthz", ""), id("/healthz", ""));
}
