//! Conversations of the web chat: revisions, search, export and import, owners, and what is refused.

use serde_json::{Value, json};
use whit_server::{ApiKey, Scope};

use crate::client::{Answer, Call, Tested};

fn talk(id: &str, title: &str, said: &str) -> Value {
    let message = json!({"id": "m1", "parent": null, "role": "user", "content": said, "at": 1});
    json!({
        "id": id, "title": title, "created": 1, "updated": 2, "model": "tiny", "leaf": "m1",
        "sampling": {"system": "Be brief.", "temperature": 0.5, "format": "schema", "schema": "{}"},
        "messages": {"m1": message},
    })
}

fn put(tested: &Tested, talk: &Value, header: &'static str, value: &str) -> Answer {
    let path = format!("/api/conversations/{}", talk["id"].as_str().unwrap());
    Call::new("PUT", &path).header(header, value).body(talk.to_string()).send(tested.server.address())
}

#[track_caller]
fn create(tested: &Tested, talk: &Value) -> String {
    let answer = put(tested, talk, "if-none-match", "*");
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.header("etag").unwrap().to_owned()
}

fn titles(tested: &Tested, query: &str) -> Vec<String> {
    let list = tested.get(&format!("/api/conversations{query}")).ok().json();
    let list = list["conversations"].as_array().unwrap();
    list.iter().map(|entry| entry["title"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_conversation_is_written_read_and_deleted() {
    let tested = Tested::new();
    let mut one = talk("talk-0001", "One", "What is a hash map?");
    let first = create(&tested, &one);
    let read = tested.get("/api/conversations/talk-0001").ok();
    assert_eq!(read.header("etag"), Some(&*first));
    let kept = read.json();
    for key in ["id", "title", "created", "updated", "model", "leaf"] {
        assert_eq!(kept[key], one[key], "{key}");
    }
    assert_eq!(kept["sampling"]["temperature"], 0.5);
    assert_eq!(kept["messages"]["m1"], one["messages"]["m1"]);

    one["updated"] = json!(9);
    let second = put(&tested, &one, "if-match", &first).ok();
    let second = second.header("etag").unwrap().to_owned();
    assert_ne!(first, second);
    create(&tested, &talk("talk-0002", "Two", "Der Straßenbau"));
    let list = tested.get("/api/conversations").ok().json();
    assert_eq!(list["conversations"][0]["n_messages"], 1);
    assert_eq!(format!("\"{}\"", list["conversations"][0]["revision"]), second);
    for (query, expected) in [
        ("", &["One", "Two"][..]),
        ("?q=", &["One", "Two"]),
        ("?q=HASH%20one", &["One"]),
        ("?q=stra%C3%9Fen", &["Two"]),
        ("?q=hash%20two", &[]),
    ] {
        assert_eq!(titles(&tested, query), expected, "{query}");
    }
    let found = tested.get("/api/conversations?q=map").ok().json();
    assert_eq!(found["conversations"][0]["snippet"], "What is a hash map?");

    let gone = Call::new("DELETE", "/api/conversations/talk-0001").send(tested.server.address());
    assert_eq!(gone.status, 204);
    assert_eq!(tested.get("/api/conversations/talk-0001").status, 404);
    assert_eq!(titles(&tested, ""), ["Two"]);
}

#[test]
fn of_two_pages_the_second_is_told() {
    let tested = Tested::new();
    let one = talk("talk-0001", "One", "x");
    let first = create(&tested, &one);
    assert_eq!(put(&tested, &one, "if-none-match", "*").status, 412);
    put(&tested, &one, "if-match", &first).ok();
    let refused = put(&tested, &talk("talk-0001", "Mine", "x"), "if-match", &first);
    assert_eq!(refused.status, 412);
    assert!(refused.json()["error"].as_str().unwrap().contains("read it again"));
    assert_eq!(titles(&tested, ""), ["One"]);
    assert_eq!(put(&tested, &talk("talk-0002", "Two", "x"), "if-match", &first).status, 412);
    // Deleted and made anew, it is another one.
    Call::new("DELETE", "/api/conversations/talk-0001").send(tested.server.address());
    create(&tested, &one);
    assert_eq!(put(&tested, &one, "if-match", &first).status, 412);
}

#[test]
fn conversations_outlive_the_server_and_travel() {
    let tested = Tested::new();
    for n in 1..=3 {
        create(&tested, &talk(&format!("talk-000{n}"), &format!("Talk {n}"), "x"));
    }
    let exported = tested.get("/api/conversations/export").ok();
    assert!(exported.header("content-disposition").unwrap().contains("whit-conversations.json"));
    let Tested { server, home } = tested;
    server.stop();
    let tested = Tested::with_home(home);
    assert_eq!(titles(&tested, "").len(), 3);
    assert_eq!(tested.get("/api/conversations/export").ok().json(), exported.json());

    let other = Tested::new();
    let imported = other.post("/api/conversations/import", &exported.json()).ok().json();
    assert_eq!(imported, json!({"imported": 3, "unchanged": 0}));
    assert_eq!(other.get("/api/conversations/export").ok().json(), exported.json());
    // What is there already is not written again; what both changed is brought together.
    let mut copy = exported.json();
    let changed = &mut copy["conversations"][0];
    changed["messages"]["m2"] =
        json!({"id": "m2", "parent": "m1", "role": "assistant", "content": "y", "at": 2});
    let id = changed["id"].as_str().unwrap().to_owned();
    let imported = other.post("/api/conversations/import", &copy).ok().json();
    assert_eq!(imported, json!({"imported": 1, "unchanged": 2}));
    other.post("/api/conversations/import", &exported.json()).ok();
    let kept = other.get(&format!("/api/conversations/{id}")).ok().json();
    assert_eq!(kept["messages"].as_object().unwrap().len(), 2);
}

#[test]
fn what_is_not_a_conversation_is_refused() {
    let tested = Tested::new();
    let good = talk("talk-0001", "One", "x");
    let without = |key: &str| {
        let mut talk = good.clone();
        talk.as_object_mut().unwrap().remove(key);
        talk
    };
    let with = |pointer: &str, value: Value| {
        let mut talk = good.clone();
        *talk.pointer_mut(pointer).unwrap() = value;
        talk
    };
    let put_at = |path: &str, talk: &Value| {
        let call = Call::new("PUT", path).header("if-none-match", "*").body(talk.to_string());
        call.send(tested.server.address()).status
    };
    for (talk, what) in [
        (without("messages"), "no messages"),
        (with("/id", json!("talk-0002")), "another id"),
        (with("/leaf", json!("m2")), "a leaf that is not there"),
        (with("/messages/m1/role", json!("root")), "a role"),
        (with("/messages/m1/parent", json!("m9")), "a parent"),
        (with("/messages/m1/id", json!("m9")), "a message's id"),
        (with("/title", json!("x".repeat(1001))), "a title"),
        (json!([]), "no object"),
    ] {
        assert_eq!(put_at("/api/conversations/talk-0001", &talk), 400, "{what}");
    }
    for id in ["short", "..%2Foutside", "UPPER-CASE-ID", &"x".repeat(81)] {
        assert_eq!(put_at(&format!("/api/conversations/{id}"), &talk(id, "x", "y")), 400, "{id}");
        assert_eq!(tested.get(&format!("/api/conversations/{id}")).status, 404, "{id}");
    }
    assert_eq!(put_at("/api/conversations/talk-0001", &talk("talk-0001", "x", &"y".repeat(9 << 20))), 413);
    let unconditional = Call::new("PUT", "/api/conversations/talk-0001").body(good.to_string());
    assert_eq!(unconditional.send(tested.server.address()).status, 400);
    for export in [
        json!({"kind": "other", "version": 1, "conversations": []}),
        json!({"kind": "whit-conversations", "version": 2, "conversations": []}),
        json!({"kind": "whit-conversations", "version": 1, "conversations": [null]}),
        json!({"kind": "whit-conversations", "version": 1, "conversations": [good, with("/leaf", json!("m2"))]}),
    ] {
        assert_eq!(tested.post("/api/conversations/import", &export).status, 400, "{export}");
    }
    assert_eq!(titles(&tested, ""), Vec::<String>::new(), "a refused import leaves nothing");
    let twice = tested.get("/api/conversations?q=a&q=b");
    assert_eq!(twice.status, 400);
    assert!(twice.json()["error"].is_string());
}

#[test]
fn each_key_that_only_asks_has_its_own() {
    let tested = Tested::with(|config| {
        let keys = [("ann", Scope::Inference), ("ben", Scope::Inference), ("root", Scope::Admin)];
        config.keys = keys.map(|(secret, scope)| ApiKey::new(secret, scope)).to_vec();
    });
    let call = |method, key: &str| Call::new(method, "/api/conversations/talk-0001").header("x-api-key", key);
    let ann =
        call("PUT", "ann").header("if-none-match", "*").body(talk("talk-0001", "Ann's", "x").to_string());
    assert_eq!(ann.send(tested.server.address()).status, 201);
    for (key, status) in [("ann", 200), ("ben", 404), ("root", 404), ("eve", 401)] {
        assert_eq!(call("GET", key).send(tested.server.address()).status, status, "{key}");
    }
}
