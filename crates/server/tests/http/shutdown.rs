//! The end: every stream finishes, or says in the words of its API that it does not.

use std::io::BufReader;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use whit_server::OverflowPolicy;

use crate::client::{Call, Tested, read_answer, read_chunk, read_head};

/// Those of the requests below that no token ends.
const ENDLESS: [&str; 2] = ["/v1/chat/completions", "/v1/completions"];
const WORDS: &str = "the server is shutting down";

/// A long request for each way to ask, and where its error says what happened.
fn endless() -> [(&'static str, Value, &'static str); 6] {
    let messages = json!([{"role": "user", "content": "a"}]);
    let n = 100_000_000;
    let bias = json!({"1": -100, "2": -100});
    [
        (
            "/api/generate",
            json!({"model": "chatty", "prompt": "a", "options": {"num_predict": n, "temperature": 0}}),
            "/error",
        ),
        (
            "/api/chat",
            json!({"model": "chatty", "messages": messages, "options": {"num_predict": n, "temperature": 0}}),
            "/error",
        ),
        (
            "/v1/chat/completions",
            json!({"model": "chatty", "messages": messages, "max_tokens": n, "temperature": 0, "ignore_eos": true, "logit_bias": bias}),
            "/error/message",
        ),
        (
            "/v1/completions",
            json!({"model": "chatty", "prompt": "a", "max_tokens": n, "temperature": 0, "ignore_eos": true}),
            "/error/message",
        ),
        (
            "/v1/responses",
            json!({"model": "chatty", "input": "a", "max_output_tokens": n, "temperature": 0}),
            "",
        ),
        (
            "/v1/messages",
            json!({"model": "chatty", "messages": messages, "max_tokens": n, "temperature": 0}),
            "/error/message",
        ),
    ]
}

fn start() -> Tested {
    Tested::with(|config| {
        config.grace = Duration::from_millis(200);
        config.overflow = OverflowPolicy::Shift;
        config.num_parallel = 16;
    })
}

/// The last object of a stream of lines or events.
fn last(mut stream: BufReader<TcpStream>) -> Value {
    let mut body = Vec::new();
    loop {
        let chunk = read_chunk(&mut stream);
        if chunk.is_empty() {
            break;
        }
        body.extend(chunk);
    }
    let text = String::from_utf8(body).unwrap();
    let objects = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    objects.filter_map(|line| serde_json::from_str(line).ok()).rfind(Value::is_object).unwrap()
}

#[test]
fn streams_end_with_a_word() {
    let tested = start();
    let readers: Vec<_> = endless()
        .into_iter()
        .map(|(path, mut body, place)| {
            body["stream"] = json!(true);
            let mut stream = Call::new("POST", path).body(body.to_string()).open(tested.server.address());
            assert_eq!(read_head(&mut stream).0, 200, "{path}");
            assert!(!read_chunk(&mut stream).is_empty());
            (path, place, std::thread::spawn(move || last(stream)))
        })
        .collect();
    tested.server.stop();
    for (path, place, reader) in readers {
        let object = reader.join().unwrap();
        let is_told = object.pointer(place).is_some_and(|said| said.to_string().contains(WORDS));
        // A model may end an answer of its own accord before; then the stream says that.
        let ended = ["/done", "/response/status", "/type"].map(|place| object.pointer(place));
        let has_ended = [json!(true), json!("completed"), json!("message_stop")];
        let is_whole = ended.iter().zip(&has_ended).any(|(said, end)| *said == Some(end));
        assert!(is_told || is_whole, "{path}: {object}");
        assert!(is_told || !ENDLESS.contains(&path), "{path} cannot have ended: {object}");
    }
}

#[test]
fn whole_answers_end_with_a_status() {
    let tested = start();
    let streams: Vec<_> = endless()
        .into_iter()
        .filter(|(path, ..)| ENDLESS.contains(path))
        .map(|(path, mut body, place)| {
            body["stream"] = json!(false);
            (path, place, Call::new("POST", path).body(body.to_string()).open(tested.server.address()))
        })
        .collect();
    tested.wait_for("whit_requests_running{model=\"chatty\"}", streams.len() as f64);
    let readers: Vec<_> = streams
        .into_iter()
        .map(|(path, place, stream)| (path, place, std::thread::spawn(move || read_answer(stream))))
        .collect();
    tested.server.stop();
    for (path, place, reader) in readers {
        let answer = reader.join().unwrap();
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert_eq!(answer.json().pointer(place), Some(&json!(WORDS)), "{path}");
    }
}

/// Who waits for a model when the server stops is told, too.
#[test]
fn who_waits_is_told() {
    let size = {
        let probe = Tested::new();
        probe.post("/api/generate", &json!({"model": "chatty"})).ok();
        probe.get("/api/ps").ok().json()["models"][0]["size"].as_u64().unwrap()
    };
    let tested = Tested::with(|config| {
        config.grace = Duration::from_millis(200);
        config.memory = Some(size + size / 2);
    });
    let mut running = crate::faults::open(&tested);
    assert_eq!(read_head(&mut running).0, 200);
    let body = json!({"model": "chatty", "prompt": "a"}).to_string();
    let waiting = Call::new("POST", "/api/generate").body(body).open(tested.server.address());
    tested.wait_for("whit_requests_waiting_for_models", 1.0);
    let reader = std::thread::spawn(move || read_answer(waiting));
    let drained = std::thread::spawn(move || last(running));
    tested.server.stop();
    let answer = reader.join().unwrap();
    assert_eq!((answer.status, answer.json()), (503, json!({"error": WORDS})));
    drained.join().unwrap();
}
