//! Who is let in. The rules themselves are tabled in `guard.rs`; here they are met on the wire.

use serde_json::json;
use whit_hub::{Config, Store};
use whit_server::{ApiKey, Scope, Server, ServerConfig};

use crate::client::{Call, Tested};

#[test]
fn names_of_others_are_refused() {
    let tested = Tested::with(|config| config.hosts.push("models.lan".to_owned()));
    for (host, status) in
        [("localhost", 200), ("127.0.0.1:80", 200), ("models.lan:1", 200), ("evil.example", 403), ("", 403)]
    {
        let answer = Call::new("GET", "/api/tags").host(host).send(tested.server.address());
        assert_eq!(answer.status, status, "{host}");
    }
}

#[test]
fn pages_of_others_are_refused() {
    let tested = Tested::with(|config| config.origins.push("https://chat.example".to_owned()));
    let call = |method, origin| {
        Call::new(method, "/api/generate")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .body(json!({"model": "tiny"}).to_string())
            .send(tested.server.address())
    };
    let refused = call("POST", "https://evil.example");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert_eq!(call("OPTIONS", "https://evil.example").status, 403);
    for origin in ["https://chat.example", "http://localhost:3000"] {
        let preflight = call("OPTIONS", origin);
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.header("access-control-allow-origin"), Some(origin));
        assert!(preflight.header("access-control-allow-methods").unwrap().contains("POST"));
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
        let answer = call("POST", origin).ok();
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    }
}

/// Somebody else's page asks with JSON and reads lines, as `fetch` does it: where its origin is allowed.
#[test]
fn a_page_of_somebody_else() {
    let tested = Tested::with(|config| config.origins.push("https://chat.example".to_owned()));
    let address = tested.server.address();
    let options = json!({"num_predict": 5, "temperature": 0});
    let body = json!({"model": "tiny", "prompt": "a", "stream": true, "options": options}).to_string();
    let talk = |origin: &str| {
        let preflight = Call::new("OPTIONS", "/api/generate")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .send(address);
        let post = Call::new("POST", "/api/generate")
            .header("origin", origin)
            .header("content-type", "application/json")
            .body(body.clone())
            .send(address);
        (preflight, post)
    };
    let (preflight, refused) = talk("https://evil.example");
    assert_eq!((preflight.status, refused.status), (403, 403));
    for answer in [preflight, refused] {
        assert_eq!(answer.header("access-control-allow-origin"), None, "a browser shows it to nobody");
        assert!(answer.json()["error"].as_str().unwrap().contains("ORIGINS"));
    }
    assert_eq!(tested.metric("whit_models_loaded"), 0.0, "what is refused has no effect");

    let (preflight, answer) = talk("https://chat.example");
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("content-type"));
    for answer in [&preflight, &answer] {
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://chat.example"));
        assert!(answer.header("vary").unwrap().to_ascii_lowercase().contains("origin"));
    }
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines = answer.ok().lines();
    assert_eq!((lines.len(), &lines[5]["done"], &lines[5]["eval_count"]), (6, &json!(true), &json!(5)));
    assert!(lines[..5].iter().all(|line| line["done"] == false && line["response"].is_string()));
}

#[test]
fn keys_are_asked_for() {
    let tested = Tested::with(|config| {
        config.keys = vec![ApiKey::new("ask", Scope::Inference), ApiKey::new("all", Scope::Admin)];
    });
    let address = tested.server.address();
    for (path, shape) in
        [("/api/tags", "/error"), ("/v1/models", "/error/message"), ("/v1/messages", "/error/type")]
    {
        let answer = Call::new("GET", path).send(address);
        assert_eq!(answer.status, 401, "{path}");
        assert!(
            answer.json().pointer(shape).is_some_and(|value| value.is_string()),
            "{path}: {}",
            answer.text()
        );
    }
    let delete = |key: &str| {
        let call = Call::new("DELETE", "/api/delete").header("authorization", &format!("Bearer {key}"));
        call.body("{\"model\": \"none\"}").send(address).status
    };
    assert_eq!((delete("ask"), delete("all"), delete("none")), (403, 404, 401));
    assert_eq!(Call::new("GET", "/healthz").send(address).status, 200);
}

#[test]
fn strangers_need_a_key() {
    let start = |change: fn(&mut ServerConfig)| {
        let home = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::default();
        config.set_host("0.0.0.0:0").unwrap();
        change(&mut config);
        Server::start(config, Store::open(Config::new(home.path()))).map(drop)
    };
    let error = start(|_| {}).unwrap_err().to_string();
    assert!(error.contains("--allow-remote-without-key"), "{error}");
    start(|config| config.allow_remote_without_key = true).unwrap();
    start(|config| config.keys.push(ApiKey::new("k", Scope::Admin))).unwrap();
}
