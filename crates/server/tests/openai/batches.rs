//! `/v1/batches`, but for the kill, which needs a process of its own (`crates/cli/tests/program/batch.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, Call, Tested, read_head};
use crate::files::upload;

const URL: &str = "/v1/completions";

fn line(id: &str, body: &Value) -> String {
    format!("{}\n", json!({"custom_id": id, "method": "POST", "url": URL, "body": body}))
}

/// A request that goes on and on.
fn endless() -> Value {
    json!({"model": "tiny", "prompt": "a", "max_tokens": 100_000_000, "overflow": "shift", "temperature": 0,
        "ignore_eos": true})
}

fn create(tested: &Tested, input: &str, window: &str) -> Answer {
    let file = upload(tested, input.as_bytes());
    let body = json!({"input_file_id": file, "endpoint": URL, "completion_window": window,
        "metadata": {"for": "a test"}});
    tested.post("/v1/batches", &body)
}

/// Starts a batch; gives its path.
fn start(tested: &Tested, input: &str, window: &str) -> String {
    let batch = create(tested, input, window).ok().json();
    format!("/v1/batches/{}", batch["id"].as_str().unwrap())
}

/// Waits until a batch is in this state.
#[track_caller]
fn wait(tested: &Tested, path: &str, status: &str) -> Value {
    for _ in 0..1000 {
        let batch = tested.get(path).ok().json();
        if batch["status"] == status {
            return batch;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not {status}: {}", tested.get(path).text());
}

/// The lines of a file of results, by id.
fn results(tested: &Tested, file: &Value) -> BTreeMap<String, Value> {
    let Some(id) = file.as_str() else { return BTreeMap::new() };
    let lines = tested.get(&format!("/v1/files/{id}/content")).ok().lines();
    let n_lines = lines.len();
    let by_id: BTreeMap<String, Value> =
        lines.into_iter().map(|line| (line["custom_id"].as_str().unwrap().to_owned(), line)).collect();
    assert_eq!(by_id.len(), n_lines, "an id comes twice");
    by_id
}

#[test]
fn answers_are_those_of_live_requests() {
    let tested = Tested::new();
    let body = |prompt: &str| json!({"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 6});
    let mut input = String::new();
    for prompt in ["a", "b", "c", "d", "e"] {
        input.push_str(&line(prompt, &body(prompt)));
    }
    input.push_str(&line("unknown", &json!({"model": "nobody", "prompt": "a"})));
    input.push_str(&line("wrong", &json!({"model": "tiny", "prompt": "a", "temperature": 9})));
    let created = create(&tested, &input, "24h").ok().json();
    assert_eq!(
        (&created["object"], &created["endpoint"], &created["metadata"], &created["errors"]),
        (&json!("batch"), &json!(URL), &json!({"for": "a test"}), &Value::Null)
    );
    let seconds = |name: &str| created[name].as_u64().unwrap();
    assert_eq!(seconds("expires_at") - seconds("created_at"), 24 * 3600);
    let path = format!("/v1/batches/{}", created["id"].as_str().unwrap());
    let batch = wait(&tested, &path, "completed");
    assert_eq!(batch["request_counts"], json!({"total": 7, "completed": 5, "failed": 2}));
    for at in ["in_progress_at", "finalizing_at", "completed_at"] {
        assert!(batch[at].as_u64().unwrap() >= seconds("created_at"), "{at}");
    }
    let output = results(&tested, &batch["output_file_id"]);
    assert_eq!(output.keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    for (prompt, line) in &output {
        let live = tested.post(URL, &body(prompt)).ok().json();
        assert_eq!((&line["response"]["status_code"], &line["error"]), (&json!(200), &Value::Null));
        assert_eq!(line["response"]["body"]["choices"], live["choices"]);
        assert!(line["id"].as_str().unwrap().starts_with("batch_req_"));
    }
    let errors = results(&tested, &batch["error_file_id"]);
    let status = |id: &str| &errors[id]["response"]["status_code"];
    assert_eq!((errors.len(), status("unknown"), status("wrong")), (2, &json!(404), &json!(400)));
    assert_eq!(errors["unknown"]["response"]["body"]["error"]["code"], "model_not_found");
    let file = tested.get(&format!("/v1/files/{}", batch["output_file_id"].as_str().unwrap())).ok().json();
    assert_eq!(file["purpose"], "batch_output");
    let cancel = Call::new("POST", &format!("{path}/cancel")).send(tested.server.address());
    assert_eq!(cancel.status, 409);
    // Nothing is left of the work but the batch and its files.
    let left = std::fs::read_dir(tested.home.path().join("server/batches")).unwrap();
    assert_eq!(
        left.filter(|entry| entry.as_ref().unwrap().path().extension() == Some("data".as_ref())).count(),
        0
    );
}

#[test]
fn wrong_input_fails_before_anything_is_asked() {
    let tested = Tested::new();
    let good = line("a", &json!({"model": "tiny", "prompt": "a"}));
    let input = format!("{good}{{\"custom_id\": \n{}", good.replace(URL, "/v1/embeddings"));
    let batch = wait(&tested, &start(&tested, &input, "24h"), "failed");
    let errors = batch["errors"]["data"].as_array().unwrap();
    let told: Vec<(&Value, &Value)> = errors.iter().map(|error| (&error["code"], &error["line"])).collect();
    assert_eq!(told, [(&json!("invalid_json_line"), &json!(2)), (&json!("url_mismatch"), &json!(3))]);
    assert_eq!(
        (&batch["output_file_id"], &batch["error_file_id"], batch["failed_at"].is_u64()),
        (&Value::Null, &Value::Null, true)
    );
    assert_eq!(batch["request_counts"], json!({"total": 0, "completed": 0, "failed": 0}));

    let file = upload(&tested, good.as_bytes());
    for (field, value, status) in [
        ("input_file_id", json!("file-nobody-knows"), 404),
        ("input_file_id", Value::Null, 400),
        ("endpoint", json!("/v1/files"), 400),
        ("completion_window", json!("soon"), 400),
        ("completion_window", json!("-1"), 400),
        ("completion_window", json!("1000h"), 400),
        ("metadata", json!({"key": "x".repeat(513)}), 400),
        ("metadata", json!({"key": 1}), 400),
    ] {
        let mut request = json!({"input_file_id": file, "endpoint": URL, "completion_window": "24h"});
        request[field] = value;
        let answer = tested.post("/v1/batches", &request);
        assert_eq!(answer.status, status, "{field}: {}", answer.text());
    }
    assert_eq!(tested.get("/v1/batches/batch_unknown").status, 404);
}

#[test]
fn a_batch_can_be_cancelled_and_the_next_goes_on() {
    let tested = Tested::new();
    let quick = json!({"model": "tiny", "prompt": "a", "max_tokens": 1});
    let input = [line("quick", &quick), line("endless", &endless()), line("never", &quick)].concat();
    let path = start(&tested, &input, "24h");
    let waiting = start(&tested, &line("quick", &quick), "24h");
    let list = tested.get("/v1/batches?limit=1").ok().json();
    assert_eq!((&list["data"][0]["id"], &list["has_more"]), (&json!(waiting[12..]), &json!(true)));
    // One is done, the other runs.
    let in_progress = || tested.get(&path).ok().json()["request_counts"]["completed"] == 1;
    assert!((0..1000).any(|_| in_progress() || {
        std::thread::sleep(Duration::from_millis(20));
        false
    }));
    assert_eq!(tested.get(&waiting).ok().json()["status"], "validating");
    let answer = Call::new("POST", &format!("{path}/cancel")).send(tested.server.address()).ok().json();
    assert_eq!((&answer["status"], answer["cancelling_at"].is_u64()), (&json!("cancelling"), true));
    let batch = wait(&tested, &path, "cancelled");
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 1, "failed": 0}));
    assert!(results(&tested, &batch["output_file_id"]).contains_key("quick"));
    let errors = results(&tested, &batch["error_file_id"]);
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["endless", "never"]);
    assert_eq!(
        (&errors["never"]["response"], &errors["never"]["error"]["code"]),
        (&Value::Null, &json!("batch_cancelled"))
    );
    wait(&tested, &waiting, "completed");
    tested.wait_for("whit_requests_running{model=\"tiny\"}", 0.0);
}

#[test]
fn what_takes_too_long_expires() {
    let tested = Tested::new();
    let batch = wait(&tested, &start(&tested, &line("endless", &endless()), "1s"), "expired");
    let errors = results(&tested, &batch["error_file_id"]);
    assert_eq!(errors["endless"]["error"]["code"], "batch_expired");
    assert!(batch["output_file_id"].is_null() && batch["expired_at"].is_u64());
}

#[test]
fn live_requests_come_first_and_a_full_server_is_waited_for() {
    let tested = Tested::with(|config| {
        config.num_parallel = 1;
        config.max_queue = 1;
    });
    let quick = json!({"model": "tiny", "prompt": "a", "max_tokens": 3, "temperature": 0});
    let mut live = endless();
    live["stream"] = json!(true);
    let call = || Call::new("POST", URL).body(live.to_string()).open(tested.server.address());
    let mut running = call();
    assert_eq!(read_head(&mut running).0, 200);
    let waiting = call();
    tested.wait_for("whit_requests_queued{model=\"tiny\"}", 1.0);
    let input: String = (0..5).map(|n| line(&n.to_string(), &quick)).collect();
    let path = start(&tested, &input, "24h");
    wait(&tested, &path, "in_progress");
    // Live requests are refused now; the lines are not even asked.
    assert_eq!(tested.post(URL, &quick).status, 503);
    assert_eq!(tested.get(&path).ok().json()["request_counts"]["completed"], 0);
    drop(waiting);
    drop(running);
    let batch = wait(&tested, &path, "completed");
    assert_eq!(batch["request_counts"], json!({"total": 5, "completed": 5, "failed": 0}));

    // With a line that runs, a live request still finds a place.
    let tested = Tested::new();
    let path = start(&tested, &[line("a", &endless()), line("b", &endless())].concat(), "24h");
    tested.wait_for("whit_requests_running{model=\"tiny\"}", 1.0);
    assert_eq!(tested.post(URL, &quick).ok().json()["usage"]["completion_tokens"], 3);
    tested.wait_for("whit_requests_running{model=\"tiny\"}", 1.0);
    wait(&tested, &path, "in_progress");
}
