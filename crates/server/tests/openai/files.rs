//! `/v1/files`.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::client::{Answer, Call, Tested};

/// A form with fields in this order; one named `file` is a file.
fn form(fields: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let file = if *name == "file" { "; filename=\"in.jsonl\"\r\ncontent-type: text/plain" } else { "" };
        let head = format!("--limit\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--limit--\r\n");
    ("multipart/form-data; boundary=limit".to_owned(), body)
}

fn post(tested: &Tested, fields: &[(&str, &[u8])]) -> Answer {
    let (kind, body) = form(fields);
    Call::new("POST", "/v1/files").header("content-type", &kind).body(body).send(tested.server.address())
}

/// The id of an uploaded file.
pub(crate) fn upload(tested: &Tested, content: &[u8]) -> String {
    let object = post(tested, &[("purpose", b"batch"), ("file", content)]).ok().json();
    object["id"].as_str().unwrap().to_owned()
}

#[test]
fn up_and_down_again() {
    let tested = Tested::new();
    // Larger than a piece, and with what looks like the end of a part.
    let content = b"one line\r\n--limi\r\n\xff\0".repeat(20_000);
    let object = post(&tested, &[("file", &content), ("purpose", b"batch"), ("other", b"x")]).ok().json();
    let id = object["id"].as_str().unwrap();
    assert_eq!(
        (&object["object"], &object["bytes"], &object["filename"], &object["purpose"], &object["status"]),
        (&json!("file"), &json!(content.len()), &json!("in.jsonl"), &json!("batch"), &json!("processed"))
    );
    assert_eq!(tested.get(&format!("/v1/files/{id}")).ok().json(), object);
    let back = tested.get(&format!("/v1/files/{id}/content")).ok();
    assert_eq!(back.header("content-length"), Some(content.len().to_string().as_str()));
    assert!(back.body == content);

    let second = upload(&tested, b"x");
    let ids = |query: &str| -> (Vec<Value>, Value) {
        let list = tested.get(&format!("/v1/files{query}")).ok().json();
        let ids = list["data"].as_array().unwrap().iter().map(|object| object["id"].clone()).collect();
        (ids, list["has_more"].clone())
    };
    assert_eq!(ids(""), (vec![json!(second), json!(id)], json!(false)));
    assert_eq!(ids("?order=asc&limit=1"), (vec![json!(id)], json!(true)));
    assert_eq!(ids(&format!("?after={second}&purpose=batch")), (vec![json!(id)], json!(false)));
    assert_eq!(ids("?purpose=batch_output"), (vec![], json!(false)));
    for wrong in ["?limit=0", "?limit=x", "?order=up", "?after=nobody", "?purpose=vision"] {
        assert_eq!(tested.get(&format!("/v1/files{wrong}")).status, 400, "{wrong}");
    }

    let delete = || Call::new("DELETE", &format!("/v1/files/{id}")).send(tested.server.address());
    assert_eq!(delete().ok().json(), json!({"id": id, "object": "file", "deleted": true}));
    for gone in
        [delete(), tested.get(&format!("/v1/files/{id}")), tested.get(&format!("/v1/files/{id}/content"))]
    {
        assert_eq!((gone.status, &gone.json()["error"]["type"]), (404, &json!("not_found_error")));
    }
    assert_eq!(ids(""), (vec![json!(second)], json!(false)));
}

#[test]
fn refusals() {
    let tested = Tested::new();
    for (fields, word) in [
        (&[("file", b"x".as_slice())][..], "purpose"),
        (&[("purpose", b"batch".as_slice())], "`file`"),
        (&[("purpose", b"vision"), ("file", b"x".as_slice())], "vision"),
        (&[("purpose", b"batch"), ("file", b"x"), ("file", b"y".as_slice())], "one `file`"),
        (&[("purpose", [b'x'; 2000].as_slice()), ("file", b"x")], "longer"),
    ] {
        let answer = post(&tested, fields);
        let error = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && error.contains(word), "{error}");
    }
    let (kind, body) = form(&[("purpose", b"batch"), ("file", b"x")]);
    for (kind, body) in [
        ("application/json", body.clone()),
        ("multipart/form-data", body.clone()),
        (kind.as_str(), body[..body.len() - 20].to_vec()),
        (kind.as_str(), Vec::new()),
    ] {
        let answer = Call::new("POST", "/v1/files")
            .header("content-type", kind)
            .body(body)
            .send(tested.server.address());
        assert_eq!(answer.status, 400, "{kind}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string());
    }
    for path in ["/v1/files/..%2f..%2frecipes", "/v1/files/.lock", "/v1/files/x/content"] {
        assert_eq!(tested.get(path).status, 404, "{path}");
    }
    assert_eq!(tested.get("/v1/files").ok().json()["data"], json!([]));
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let tested = Tested::new();
    let folder = tested.home.path().join("server/files");
    let n_partial = || {
        let entries = std::fs::read_dir(&folder).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".partial"))
            .count()
    };
    let wait = |expected: usize| {
        let tries = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            n_partial() == expected
        });
        assert!(tries, "{} partial files, not {expected}", n_partial());
    };
    let (kind, body) = form(&[("purpose", b"batch"), ("file", &[b'x'; 100_000])]);
    let mut stream = TcpStream::connect(tested.server.address()).unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..50_000]).unwrap();
    wait(1);
    drop(stream);
    wait(0);
    // What is larger than any upload may be is refused while it comes.
    let mut stream = TcpStream::connect(tested.server.address()).unwrap();
    let head = head.replace(&body.len().to_string(), &(300u64 << 20).to_string());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..1000]).unwrap();
    let piece = vec![b'x'; 1 << 20];
    while stream.write_all(&piece).is_ok() {}
    wait(0);
    assert_eq!(tested.get("/v1/files").ok().json()["data"], json!([]));
}
