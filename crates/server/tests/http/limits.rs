//! Bounds on what clients may send and on how long they may take: sizes, pauses, numbers, grammars.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::{Call, Tested, read_answer, read_head};
use crate::faults::{RUNNING, endless};

fn connect(tested: &Tested) -> TcpStream {
    let stream = TcpStream::connect(tested.server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn begin(tested: &Tested, path: &str, n_bytes: usize) -> TcpStream {
    let mut stream = connect(tested);
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {n_bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_body_that_stalls_is_given_up() {
    let tested = Tested::with(|config| config.stall = Duration::from_millis(300));
    let blob = format!("/api/blobs/sha256:{}", digest(b"x"));
    for path in ["/api/generate", "/v1/chat/completions", "/v1/messages", &blob] {
        let mut stream = begin(&tested, path, 1000);
        stream.write_all(b"{\"model\"").unwrap();
        let answer = read_answer(BufReader::new(stream));
        assert_eq!(answer.status, 408, "{path}");
        assert!(answer.text().contains("did not arrive in time"), "{path}: {}", answer.text());
    }
    assert_eq!(
        std::fs::read_dir(tested.home.path().join("blobs")).unwrap().count(),
        0,
        "nothing half is kept"
    );
}

#[test]
fn a_body_that_is_slow_but_moves_is_taken() {
    let stall = Duration::from_secs(2);
    let tested = Tested::with(|config| config.stall = stall);
    let bytes = [7u8; 16];
    let mut stream = begin(&tested, &format!("/api/blobs/sha256:{}", digest(&bytes)), bytes.len());
    // In all, longer than it may pause.
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(stall / 12);
    }
    assert_eq!(read_head(&mut BufReader::new(stream)).0, 201);
}

/// A client that sends all before it reads gets the answer, and not a broken pipe.
#[test]
fn a_body_of_100_mb_is_refused() {
    let tested = Tested::new();
    let address = tested.server.address();
    let call = || Call::new("POST", "/api/chat").body(vec![b' '; 100 << 20]);
    assert_eq!(call().send(address).status, 413);
    // Who asks first need not send it.
    let mut stream = connect(&tested);
    let head = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 104857600\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_answer(BufReader::new(stream)).status, 413);
}

#[test]
fn headers_have_limits() {
    let tested = Tested::new();
    for head in [
        format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(10_000)),
        format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(1 << 20)),
    ] {
        let mut stream = connect(&tested);
        // The server may close before all is sent.
        let _ = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned);
        assert!(matches!(status.as_deref(), None | Some("431" | "414" | "400")), "{status:?}");
    }
    tested.get("/api/version").ok();
}

/// Who does not read is cut off, and those who do are not held up.
#[test]
fn a_slow_reader_is_cut_off_alone() {
    let tested = Tested::with(|config| config.stall = Duration::from_millis(500));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut request = endless();
    // Large events, so that what the system buffers is soon full.
    request["logprobs"] = json!(true);
    request["top_logprobs"] = json!(20);
    let body = request.to_string();
    let lazy = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(tested.server.address()).await.unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    });
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    (&lazy).write_all(head.as_bytes()).unwrap();
    tested.wait_for(RUNNING, 1.0);
    let greedy = json!({"model": "tiny", "prompt": "a", "raw": true, "stream": false,
                        "options": {"temperature": 0, "num_predict": 40}});
    let alone = Tested::new().post("/api/generate", &greedy).ok().json();
    let beside = tested.post("/api/generate", &greedy).ok().json();
    assert_eq!((&beside["response"], &beside["eval_count"]), (&alone["response"], &json!(40)));
    tested.wait_for(RUNNING, 0.0);
    drop(lazy);
}

/// Numbers out of every range are refused or brought into it; none of them hurts.
#[test]
fn numbers_of_any_size() {
    let tested = Tested::new();
    let numbers = [
        json!(0),
        json!(-1),
        json!(1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e39),
        json!(-1e300),
        json!(0.5),
        json!(1e-320),
    ];
    let send = |path: &str, mut body: Value, name: &str, number: &Value| {
        let target = body.pointer_mut(name.rsplit_once('/').unwrap().0).unwrap();
        target[name.rsplit_once('/').unwrap().1] = number.clone();
        let answer = tested.post(path, &body);
        assert!(
            matches!(answer.status, 200 | 400),
            "{path} {name} {number}: {} {}",
            answer.status,
            answer.text()
        );
    };
    let messages = json!([{"role": "user", "content": "a"}]);
    for number in &numbers {
        for name in [
            "num_keep",
            "num_ctx",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "temperature",
            "seed",
            "repeat_last_n",
            "repeat_penalty",
            "presence_penalty",
            "frequency_penalty",
            "num_batch",
            "num_thread",
        ] {
            let body = json!({"model": "tiny", "prompt": "a", "raw": true, "stream": false, "options": {"num_predict": 1}});
            send("/api/generate", body, &format!("/options/{name}"), number);
        }
        for name in ["top_logprobs", "keep_alive"] {
            let body = json!({"model": "tiny", "prompt": "a", "raw": true, "stream": false, "logprobs": true,
                              "options": {"num_predict": 1}});
            send("/api/generate", body, &format!("/{name}"), number);
        }
        for name in [
            "top_logprobs",
            "n",
            "temperature",
            "top_p",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "top_k",
            "min_p",
            "repeat_penalty",
        ] {
            let body = json!({"model": "chatty", "messages": messages, "max_tokens": 1, "logprobs": true});
            send("/v1/chat/completions", body, &format!("/{name}"), number);
        }
        for name in ["n", "logprobs", "best_of"] {
            let body = json!({"model": "tiny", "prompt": "a", "max_tokens": 1});
            send("/v1/completions", body, &format!("/{name}"), number);
        }
        for name in ["temperature", "top_p", "top_k"] {
            let body = json!({"model": "chatty", "messages": messages, "max_tokens": 1});
            send("/v1/messages", body, &format!("/{name}"), number);
        }
    }
    // A length may be as large as it likes where something else ends the answer.
    let stop = json!({"model": "chatty", "messages": messages, "stop": ["e", "a", " ", "t"]});
    for name in ["max_tokens", "max_completion_tokens"] {
        for number in &numbers {
            send("/v1/chat/completions", stop.clone(), &format!("/{name}"), number);
        }
    }
}

/// What cannot be had, or costs too much, is refused before anything is generated; what only looks costly is done.
#[test]
fn costly_grammars() {
    let tested = Tested::new();
    let many: Vec<String> = (0..200_000).map(|i| format!("word {i}")).collect();
    let mut deep = json!({"type": "string"});
    while deep.to_string().len() < 1 << 20 {
        deep =
            json!({"type": "object", "properties": {"a": deep.clone(), "b": deep}, "required": ["a", "b"]});
    }
    for (schema, status) in [
        (json!({"type": "string", "pattern": "^(a{1,1000}){1,1000}$"}), 200),
        (json!({"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"}), 200),
        (json!({"type": "string", "pattern": "(?=a)b"}), 400),
        (json!({"type": "string", "pattern": "a".repeat(100_000)}), 400),
        (json!({"type": "string", "minLength": 1_000_000_000_000u64}), 400),
        (json!({"type": "array", "items": {"type": "string"}, "minItems": 1_000_000_000_000u64}), 400),
        (json!({"enum": many}), 400),
        (deep, 400),
        (json!({"$ref": "#"}), 400),
        (json!({"$ref": "https://example.com/schema.json"}), 400),
    ] {
        let shown: String = schema.to_string().chars().take(80).collect();
        let generate = json!({"model": "tiny", "prompt": "a", "raw": true, "stream": false, "format": schema,
                              "options": {"num_predict": 100}});
        let answer = tested.post("/api/generate", &generate);
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let chat = json!({"model": "chatty", "messages": [{"role": "user", "content": "a"}], "max_tokens": 100,
                          "response_format": format});
        assert_eq!(tested.post("/v1/chat/completions", &chat).status, status, "{shown}");
    }
}

/// Nothing is fetched for anybody: a picture by address is refused like any other, as long as no model sees.
#[test]
fn pictures_are_not_fetched() {
    let tested = Tested::new();
    let picture =
        json!({"type": "image_url", "image_url": {"url": format!("http://{}/", tested.server.address())}});
    let chat = json!({"model": "chatty", "messages": [{"role": "user", "content": [picture]}]});
    assert_eq!(tested.post("/v1/chat/completions", &chat).status, 400);
    let source = json!({"type": "image", "source": {"type": "url", "url": "http://localhost/x.png"}});
    let message =
        json!({"model": "chatty", "max_tokens": 1, "messages": [{"role": "user", "content": [source]}]});
    assert_eq!(tested.post("/v1/messages", &message).status, 400);
}
