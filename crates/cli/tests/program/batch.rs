//! A batch that outlives its server: killed in the middle, started again, and nothing is lost or answered twice.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{command, golden};

/// Requests of the batch.
const N_LINES: usize = 60;
/// How often the server is killed.
const N_KILLS: usize = 3;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server in a process of its own. Dropped, it is killed.
pub(crate) struct Served {
    child: Child,
    address: String,
}

impl Served {
    pub(crate) fn start(home: &Path) -> Served {
        let model = format!("tiny={}", golden("llama-gqa-llama3.gguf").display());
        let mut child = command(home)
            .args([
                "serve",
                &model,
                "--host",
                "127.0.0.1:0",
                "--ctx",
                "256",
                "--threads",
                "1",
                "--parallel",
                "3",
            ])
            .spawn()
            .expect("the program starts");
        let errors = child.stderr.take().expect("a pipe");
        let mut address = None;
        let mut errors = BufReader::new(errors).lines();
        for line in errors.by_ref() {
            let line = line.expect("text");
            if let Some((_, at)) = line.split_once("listening on http://") {
                address = Some(at.trim().to_owned());
                break;
            }
        }
        // Read to its end, so that the program never waits for its log to be read.
        std::thread::spawn(move || errors.for_each(drop));
        Served { child, address: address.expect("it says where it listens") }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Loads a model.
    pub(crate) fn load(&self, model: &str) {
        self.json("POST", "/api/generate", &json!({"model": model}));
    }

    /// As `kill -9`.
    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        stream.write_all(body).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{body}");
        body.to_owned()
    }

    fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.call(method, path, "application/json", body.to_string().as_bytes());
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Waits until `done` says so of the batch.
    fn wait(&self, batch: &str, done: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..3000 {
            let state = self.json("GET", &format!("/v1/batches/{batch}"), &Value::Null);
            if done(&state) {
                return state;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{}", self.json("GET", &format!("/v1/batches/{batch}"), &Value::Null));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Of a server that was killed already nothing is left to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn survives_kills() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut served = Served::start(home.path());
    // Greedy answers, each of another length, so that kills meet lines in all stages. Every tenth is wrong.
    let body = |n: usize| {
        let temperature = if n.is_multiple_of(10) { 9 } else { 0 };
        json!({"model": "tiny", "prompt": format!("line {n}"), "max_tokens": 20 + n, "temperature": temperature})
    };
    let input: String = (0..N_LINES)
        .map(|n| {
            let line = json!({"custom_id": format!("id-{n}"), "method": "POST", "url": "/v1/completions",
                "body": body(n)});
            format!("{line}\n")
        })
        .collect();
    let form = format!(
        "--limit\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --limit\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in\"\r\n\r\n{input}\r\n--limit--\r\n"
    );
    let kind = "multipart/form-data; boundary=limit";
    let file: Value =
        serde_json::from_str(&served.call("POST", "/v1/files", kind, form.as_bytes())).expect("JSON");
    let request =
        json!({"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"});
    let batch = served.json("POST", "/v1/batches", &request)["id"].as_str().expect("an id").to_owned();

    let n_done = |state: &Value| {
        let count = |name: &str| state["request_counts"][name].as_u64().expect("a count");
        count("completed") + count("failed")
    };
    let mut before = 0;
    for kill in 1..=N_KILLS {
        let goal = (N_LINES * kill / (N_KILLS + 2)) as u64;
        let state = served.wait(&batch, |state| n_done(state) >= goal);
        assert_eq!(state["status"], "in_progress", "killed too late to prove anything");
        // What was done before the last kill still is.
        assert!(n_done(&state) >= before);
        before = n_done(&state);
        served.kill();
        served = Served::start(home.path());
    }
    let state = served.wait(&batch, |state| state["status"] == "completed");
    let n_wrong = N_LINES.div_ceil(10);
    assert_eq!(
        state["request_counts"],
        json!({"total": N_LINES, "completed": N_LINES - n_wrong, "failed": n_wrong})
    );

    let mut answers: BTreeMap<String, Value> = BTreeMap::new();
    for (name, n_lines) in [("output_file_id", N_LINES - n_wrong), ("error_file_id", n_wrong)] {
        let path = format!("/v1/files/{}/content", state[name].as_str().expect("a file"));
        let text = served.call("GET", &path, "text/plain", b"");
        assert_eq!(text.lines().count(), n_lines, "{name}");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let id = line["custom_id"].as_str().expect("an id").to_owned();
            assert!(answers.insert(id, line).is_none(), "an id comes twice");
        }
    }
    for n in 0..N_LINES {
        let line = &answers[&format!("id-{n}")]["response"];
        if n.is_multiple_of(10) {
            assert_eq!(line["status_code"], 400);
        } else {
            let live = served.json("POST", "/v1/completions", &body(n));
            assert_eq!((&line["status_code"], &line["body"]["choices"]), (&json!(200), &live["choices"]));
        }
    }
}
