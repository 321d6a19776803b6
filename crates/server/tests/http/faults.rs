//! What goes wrong on the way: clients that vanish, queues that are full, servers that stop.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Call, Tested, read_chunk, read_head};

/// A request that goes on and on: the likeliest tokens of this model run in a circle.
pub(crate) fn endless() -> Value {
    json!({"model": "tiny", "prompt": "a", "raw": true, "overflow": "shift",
           "options": {"num_predict": 100_000_000, "temperature": 0}})
}

pub(crate) fn open(tested: &Tested) -> std::io::BufReader<TcpStream> {
    Call::new("POST", "/api/generate").body(endless().to_string()).open(tested.server.address())
}

pub(crate) const RUNNING: &str = "whit_requests_running{model=\"tiny\"}";
const QUEUED: &str = "whit_requests_queued{model=\"tiny\"}";

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let tested = Tested::new();
    let mut stream = open(&tested);
    assert_eq!(read_head(&mut stream).0, 200);
    assert!(!read_chunk(&mut stream).is_empty());
    tested.wait_for(RUNNING, 1.0);
    drop(stream);
    tested.wait_for(RUNNING, 0.0);
    assert_eq!(tested.metric("whit_cancelled_total"), 1.0);
}

#[test]
fn a_client_that_goes_away_before_its_answer_begins() {
    let tested = Tested::new();
    let mut request = endless();
    request["stream"] = json!(false);
    let stream = Call::new("POST", "/api/generate").body(request.to_string()).open(tested.server.address());
    tested.wait_for(RUNNING, 1.0);
    drop(stream);
    tested.wait_for(RUNNING, 0.0);
}

#[test]
fn one_too_many_is_turned_away() {
    let tested = Tested::with(|config| {
        config.num_parallel = 1;
        config.max_queue = 1;
    });
    let mut running = open(&tested);
    assert_eq!(read_head(&mut running).0, 200);
    let waiting = open(&tested);
    tested.wait_for(QUEUED, 1.0);
    let refused = tested.post("/api/generate", &endless());
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let error = "server busy, please try again. maximum pending requests exceeded";
    assert_eq!(refused.json(), json!({"error": error}));
    // Who gives up while waiting leaves the line.
    drop(waiting);
    tested.wait_for(QUEUED, 0.0);
    drop(running);
    tested.wait_for(RUNNING, 0.0);
}

#[test]
fn half_a_request_holds_up_nobody() {
    let tested = Tested::new();
    let mut half = TcpStream::connect(tested.server.address()).unwrap();
    half.write_all(b"POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"mod")
        .unwrap();
    tested.get("/api/version").ok();
    drop(half);
    tested.get("/api/version").ok();
}

#[test]
fn bodies_have_limits() {
    let tested = Tested::with(|config| config.max_body = 1000);
    let address = tested.server.address();
    for path in ["/api/generate", "/v1/chat/completions", "/v1/messages"] {
        let answer = Call::new("POST", path).body(vec![b' '; 2000]).send(address);
        assert_eq!(answer.status, 413, "{path}");
        assert!(answer.json().get("error").is_some());
    }
    // Without a length, what comes is counted.
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /api/chat HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(format!("7d0\r\n{}\r\n0\r\n\r\n", " ".repeat(2000)).as_bytes()).unwrap();
    assert_eq!(read_head(&mut std::io::BufReader::new(stream)).0, 413);
    let deep = format!("{{\"model\":\"tiny\",\"options\":{}{}}}", "[".repeat(400), "]".repeat(400));
    assert_eq!(Call::new("POST", "/api/chat").body(deep).send(address).status, 400);
}

#[test]
fn stopping_lets_answers_finish() {
    let tested = Tested::new();
    let mut request = endless();
    request["options"]["num_predict"] = json!(50);
    let mut stream =
        Call::new("POST", "/api/generate").body(request.to_string()).open(tested.server.address());
    assert_eq!(read_head(&mut stream).0, 200);
    let reader = std::thread::spawn(move || last_line(&mut stream));
    tested.server.stop();
    assert_eq!(reader.join().unwrap()["done_reason"], "length");
}

#[test]
fn stopping_ends_what_does_not_finish_with_a_word() {
    let tested = Tested::with(|config| config.grace = Duration::from_millis(200));
    let mut stream = open(&tested);
    assert_eq!(read_head(&mut stream).0, 200);
    let reader = std::thread::spawn(move || last_line(&mut stream));
    let began = Instant::now();
    tested.server.stop();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(reader.join().unwrap(), json!({"error": "the server is shutting down"}));
}

fn last_line(stream: &mut std::io::BufReader<TcpStream>) -> Value {
    let mut body = Vec::new();
    loop {
        let chunk = read_chunk(stream);
        if chunk.is_empty() {
            break;
        }
        body.extend(chunk);
    }
    let text = String::from_utf8(body).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}
