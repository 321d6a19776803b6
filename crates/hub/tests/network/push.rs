//! Pushing.

use serde_json::{Value, json};
use whit_hub::{Credential, Digest, Extras, HubError, ModelFacts, Package, PushEvent, Secret};

use crate::common::{Home, model};
use crate::registry::{FakeRegistry, Rules, digest};
use crate::server::{Reply, Wrong};

/// base64("me:word") by `printf me:word | base64`.
const LOGIN: &str = "Basic bWU6d29yZA==";

struct Pushed {
    home: Home,
    bytes: Vec<u8>,
    package: Package,
}

impl Pushed {
    fn new(registry: &FakeRegistry) -> Pushed {
        let home = Home::new(&[registry.server.url()]);
        let bytes = model(4321);
        let extras = Extras {
            system: Some("be brief".to_owned()),
            template: Some("{{ messages }}".to_owned()),
            go_template: Some("{{ .Prompt }}".to_owned()),
            parameters: json!({"stop": ["a", "b"], "temperature": 0.5}).as_object().unwrap().clone(),
            messages: vec![json!({"role": "user", "content": "hi"})],
            licenses: vec!["MIT".to_owned(), "and more".to_owned()],
        };
        let facts = ModelFacts {
            family: "llama".to_owned(),
            parameters: "135M".to_owned(),
            quantization: "Q4_1".to_owned(),
        };
        let package = Package { file: home.file("m.gguf", &bytes), digest: None, facts, extras };
        Pushed { home, bytes, package }
    }

    fn push(&self, registry: &FakeRegistry) -> Result<Vec<PushEvent>, HubError> {
        let name = format!("oci:{}/me/tiny:1m", registry.server.host()).parse().unwrap();
        let mut seen = Vec::new();
        self.home.store().push(&self.package, &name, false, &mut |event| seen.push(event)).map(|()| seen)
    }

    fn assert_there(&self, registry: &FakeRegistry) {
        let layer = |kind: &str| registry.layer("me/tiny:1m", &format!("application/vnd.{kind}"));
        assert!(layer("ollama.image.model").unwrap() == self.bytes);
        assert_eq!(layer("ollama.image.system").unwrap(), b"be brief");
        assert_eq!(layer("ollama.image.template").unwrap(), b"{{ .Prompt }}");
        assert_eq!(layer("whit.image.template.jinja").unwrap(), b"{{ messages }}");
        assert_eq!(layer("ollama.image.license").unwrap(), b"MIT");
        let json = |kind: &str| serde_json::from_slice::<Value>(&layer(kind).unwrap()).unwrap();
        assert_eq!(json("ollama.image.params"), json!({"stop": ["a", "b"], "temperature": 0.5}));
        assert_eq!(json("ollama.image.messages"), json!([{"role": "user", "content": "hi"}]));
    }
}

#[test]
fn a_folder_is_no_model_for_a_registry() {
    let registry = FakeRegistry::new();
    let mut pushed = Pushed::new(&registry);
    pushed.package.file = pushed.home.folder.path().to_owned();
    let error = pushed.push(&registry).unwrap_err().to_string();
    assert!(error.contains("the model is a folder; `whit convert` makes a file of it"), "{error}");
    assert!(registry.server.take_log().is_empty());
}

#[test]
fn a_model_is_pushed_in_layers() {
    let registry = FakeRegistry::new();
    let pushed = Pushed::new(&registry);
    let seen = pushed.push(&registry).unwrap();
    pushed.assert_there(&registry);

    let manifest = registry.manifest("me/tiny:1m").unwrap();
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 8, "{manifest}");
    assert_eq!(manifest["layers"][0]["size"], 4321);
    let config = registry.blob(manifest["config"]["digest"].as_str().unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(
        (&config["model_format"], &config["model_family"], &config["model_type"], &config["file_type"]),
        (&json!("gguf"), &json!("llama"), &json!("135M"), &json!("Q4_1"))
    );

    assert_eq!((&seen[0], &seen[seen.len() - 1]), (&PushEvent::Preparing, &PushEvent::Manifest));
    let model: Digest = digest(&pushed.bytes).parse().unwrap();
    let whole = PushEvent::Blob { digest: model, done: 4321, total: 4321 };
    assert!(seen.contains(&whole), "{seen:?}");

    // Five pieces of the model; every small blob at once.
    let log = registry.server.take_log();
    assert_eq!(log.iter().filter(|asked| asked.is("PATCH")).count(), 4);
    assert_eq!(log.iter().filter(|asked| asked.is("PUT")).count(), 10);

    // What is there is not sent again.
    pushed.push(&registry).unwrap();
    let log: Vec<String> = registry.server.take_log().iter().map(|asked| asked.method.clone()).collect();
    assert!(log[..9].iter().all(|method| method == "HEAD") && log[9..] == ["PUT"], "{log:?}");
}

#[test]
fn credentials_are_given_when_asked_for() {
    let login = |user: &str, host: &str| Credential {
        host: host.to_owned(),
        user: user.to_owned(),
        password: Secret("word".to_owned()),
    };
    for rules in [
        Rules { bearer: Some((LOGIN, "")), ..Rules::default() },
        Rules { basic: Some(LOGIN), ..Rules::default() },
    ] {
        let registry = FakeRegistry::with(rules);
        let mut pushed = Pushed::new(&registry);
        let host = registry.server.host();
        for (credentials, works) in [
            (vec![], false),
            (vec![login("me", "other.example")], false),
            (vec![login("you", &host)], false),
            (vec![login("me", &host)], true),
        ] {
            pushed.home.config.network.credentials = credentials;
            match pushed.push(&registry) {
                Ok(_) => assert!(works),
                Err(error) => {
                    assert!(!works && matches!(error, HubError::Unauthorized { status: 401, .. }), "{error}");
                    assert!(error.to_string().contains(&format!("`user:password@{host}`")), "{error}");
                }
            }
        }
        pushed.assert_there(&registry);
    }
}

#[test]
fn a_password_is_not_shown_to_a_realm_elsewhere() {
    let thief = crate::server::FakeServer::new(|_| Reply::new(200, r#"{"token": "T-x"}"#));
    let realm = Some(format!("{}/token", thief.url()));
    let registry = FakeRegistry::with(Rules { bearer: Some((LOGIN, "")), realm, ..Rules::default() });
    let mut pushed = Pushed::new(&registry);
    pushed.home.config.network.credentials =
        vec![Credential { host: registry.server.host(), user: "me".into(), password: Secret("word".into()) }];

    // A realm that nobody vouches for, at a private address and without encryption.
    let error = pushed.push(&registry).unwrap_err();
    assert!(matches!(error, HubError::Forbidden { .. }), "{error}");
    assert!(thief.take_log().is_empty());

    // One that the user vouches for is asked, without the password of another host.
    pushed.home.config.network.trusted.push(thief.url());
    pushed.push(&registry).unwrap();
    let log = thief.take_log();
    assert!(!log.is_empty() && log.iter().all(|asked| asked.header("authorization").is_none()), "{log:?}");
    assert!(log[0].path.contains("scope=repository%3Ame%2Ftiny%3Apull%2Cpush"), "{log:?}");
}

#[test]
fn a_push_survives_what_passes() {
    let busy = |status| Wrong::Says(Reply::new(status, "").with("retry-after", "0"));
    let cases: Vec<(&str, &str, usize, Wrong)> = vec![
        ("busy", "HEAD", 2, busy(429)),
        ("broken", "POST", 2, busy(503)),
        ("a piece is lost", "PATCH", 1, Wrong::Says(Reply::new(500, ""))),
        ("a piece is cut off", "PATCH", 1, Wrong::Cuts(0)),
        ("out of step", "PATCH", 1, Wrong::Says(Reply::new(416, ""))),
        ("the end is lost", "PUT /v2/uploads", 1, Wrong::Says(Reply::new(502, ""))),
        ("the upload is forgotten", "PATCH /v2/uploads/0", 1, Wrong::Says(Reply::new(500, ""))),
        ("the manifest is refused once", "PUT /v2/me/tiny/manifests", 1, busy(504)),
    ];
    for (what, on, times, wrong) in cases {
        let registry = FakeRegistry::new();
        let pushed = Pushed::new(&registry);
        registry.server.fault(on, times, wrong);
        if what == "the upload is forgotten" {
            registry.server.fault("GET /v2/uploads", 1, Wrong::Says(Reply::new(404, "")));
        }
        pushed.push(&registry).unwrap_or_else(|error| panic!("{what}: {error}"));
        pushed.assert_there(&registry);
    }
}

#[test]
fn what_does_not_pass_is_told() {
    let complaint =
        r#"{"errors":[{"code":"DENIED","message":"requested access is denied\u001b[31m\nmore"}]}"#;
    let cases: Vec<(&str, Wrong, &str)> = vec![
        ("POST", Wrong::Says(Reply::new(403, complaint)), "it said: requested access is denied[31m"),
        (
            "PUT /v2/me",
            Wrong::Says(Reply::new(400, "<html>no</html>")),
            "could not take the manifest (status 400)",
        ),
        ("PUT /v2/uploads", Wrong::Says(Reply::new(400, "")), "could not take a blob (status 400)"),
        ("HEAD", Wrong::Says(Reply::new(503, "")), "could not look for a blob (status 503)"),
        ("POST", Wrong::Says(Reply::new(202, "")), "it does not say where an upload goes on"),
        (
            "POST",
            Wrong::Says(Reply::new(202, "").with("location", "http://10.0.0.1/x")),
            "it is not encrypted",
        ),
        (
            "POST",
            Wrong::Says(Reply::new(202, "").with("location", "https://10.0.0.1/x")),
            "a private network",
        ),
    ];
    for (on, wrong, expected) in cases {
        let registry = FakeRegistry::new();
        let pushed = Pushed::new(&registry);
        registry.server.fault(on, 20, wrong);
        let error = pushed.push(&registry).unwrap_err();
        assert!(error.to_string().contains(expected), "expected \"{expected}\" in: {error}");
        assert!(registry.manifest("me/tiny:1m").is_none());
    }
    let registry = FakeRegistry::new();
    let pushed = Pushed::new(&registry);
    let name = format!("oci:{}/me/tiny@{}", registry.server.host(), digest(b"x")).parse().unwrap();
    let error = pushed.home.store().push(&pushed.package, &name, false, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("a push is to a tag"), "{error}");
}
