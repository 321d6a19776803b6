//! Pulling from registries.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whit_hub::{Credential, HubError, Network, Phase, Progress, Resolved, Secret};

use crate::common::{Home, model};
use crate::registry::{FakeRegistry, Rules, digest};
use crate::server::{FakeServer, Reply, Wrong};

/// Seven pieces, the last one short.
const SIZE: usize = 6789;

fn registry(rules: Rules) -> FakeRegistry {
    let registry = FakeRegistry::with(rules);
    registry.add_model(
        "me/tiny:1m",
        &[
            ("model", &model(SIZE)),
            ("template", b"{{ .Prompt }}"),
            ("system", b"be brief"),
            ("params", br#"{"stop": ["a"], "num_ctx": 2048, "odd": {"x": 1}}"#),
            ("messages", br#"[{"role": "user", "content": "hi"}]"#),
            ("license", b"MIT"),
            ("license", b"and more"),
        ],
    );
    registry
}

fn name(registry: &FakeRegistry) -> String {
    format!("oci:{}/me/tiny:1m", registry.server.host())
}

fn pull(home: &Home, name: &str) -> Result<Resolved, HubError> {
    home.store().pull(&name.parse().unwrap(), &mut |_| {})
}

#[track_caller]
fn assert_whole(home: &Home, pulled: &Resolved) {
    assert!(std::fs::read(&pulled.path).unwrap() == model(SIZE), "the content is wrong");
    assert_eq!(home.store().list().unwrap().len(), 1);
    assert_no_leavings(home);
}

#[track_caller]
fn assert_no_leavings(home: &Home) {
    let left = std::fs::read_dir(home.config.home.join("partial")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "unfinished pulls have left something");
}

#[test]
fn a_model_comes_with_all_that_it_has() {
    let registry = registry(Rules::default());
    let home = Home::new(&[registry.server.url()]);
    let mut seen: Vec<Progress> = Vec::new();
    let reference = name(&registry).parse().unwrap();
    let pulled = home.store().pull(&reference, &mut |progress| seen.push(progress)).unwrap();
    assert_whole(&home, &pulled);
    assert_eq!(pulled.name, name(&registry));

    let manifest = pulled.manifest.unwrap();
    assert_eq!((manifest.size, &*manifest.source), (SIZE as u64, &*name(&registry)));
    assert_eq!(format!("sha256:{}", manifest.sha256), digest(&model(SIZE)));
    let extras = &manifest.extras;
    assert_eq!(
        (extras.system.as_deref(), extras.go_template.as_deref()),
        (Some("be brief"), Some("{{ .Prompt }}"))
    );
    assert_eq!((&extras.template, &extras.licenses), (&None, &vec!["MIT".to_owned(), "and more".to_owned()]));
    assert_eq!(Value::Object(extras.parameters.clone()), json!({"stop": ["a"], "num_ctx": 2048}));
    assert_eq!(extras.messages, [json!({"role": "user", "content": "hi"})]);

    let downloading: Vec<&Progress> = seen.iter().filter(|p| p.phase == Phase::Downloading).collect();
    assert!(downloading.windows(2).all(|pair| pair[0].done <= pair[1].done), "{seen:?}");
    let last = downloading[downloading.len() - 1];
    assert_eq!((last.done, last.total, last.n_parts), (SIZE as u64, Some(SIZE as u64), 7));

    // The same again asks what the tag means now, and fetches no weights.
    registry.server.take_log();
    pull(&home, &name(&registry)).unwrap();
    let log = registry.server.take_log();
    assert!(log.iter().all(|asked| asked.header("range").is_none()), "{log:?}");
    // It can be found without the network.
    let mut offline = Home::new(&[]);
    offline.config.home = home.config.home.clone();
    offline.config.network.offline = true;
    assert_eq!(offline.store().resolve(&reference).unwrap().unwrap().path, pulled.path);
    assert!(matches!(pull(&offline, "ollama:other").unwrap_err(), HubError::NetworkOff { .. }));

    // A tag that has moved on is pulled anew.
    registry.add_model("me/tiny:1m", &[("model", &model(500))]);
    let moved = pull(&home, &name(&registry)).unwrap();
    assert!(std::fs::read(&moved.path).unwrap() == model(500));
    assert_eq!(home.store().list().unwrap().len(), 1);
    home.store().remove(&reference).unwrap();
    assert!(home.store().list().unwrap().is_empty());
}

#[test]
fn the_usual_registry_can_be_another() {
    let registry = FakeRegistry::new();
    registry.add_model("library/tiny:latest", &[("model", &model(SIZE))]);
    let mut home = Home::new(&[]);
    home.config.network.ollama = registry.server.url();
    for name in ["ollama:tiny", "ollama:tiny:latest"] {
        let pulled = pull(&home, name).unwrap();
        assert_whole(&home, &pulled);
        assert_eq!(pulled.name, "ollama:tiny:latest");
    }
}

#[test]
fn logins_redirects_and_sums() {
    let credential = |host: String| Credential { host, user: "me".into(), password: Secret("word".into()) };
    // base64("me:word") by `printf me:word | base64`.
    let login = "Basic bWU6d29yZA==";
    let whole = model(SIZE);
    let store = FakeServer::new(move |_| Reply::new(200, whole.clone()).ranged());
    let cases = [
        Rules { bearer: Some((login, "")), redirect: Some(store.url()), ..Rules::default() },
        Rules { basic: Some(login), ..Rules::default() },
        Rules { sums: Some(1500), ..Rules::default() },
        Rules { no_ranges: true, ..Rules::default() },
    ];
    for rules in cases {
        // Small layers are at the registry itself, as this one redirects all blobs.
        let redirects = rules.redirect.is_some();
        let registry = FakeRegistry::with(rules);
        registry.add_model("me/tiny:1m", &[("model", &model(SIZE))]);
        let mut home = Home::new(&[registry.server.url(), store.url()]);
        home.config.network.credentials = vec![credential(registry.server.host())];
        assert_whole(&home, &pull(&home, &name(&registry)).unwrap());
        let elsewhere = store.take_log();
        assert_eq!(redirects, !elsewhere.is_empty());
        assert!(elsewhere.iter().all(|asked| asked.header("authorization").is_none()), "{elsewhere:?}");
        // One redirect is remembered for the pieces that follow, save those that were asked for at the same time.
        let asked = registry.server.take_log().iter().filter(|asked| asked.path.contains("/blobs/")).count();
        assert!(!redirects || asked <= 4, "{asked}");
    }
}

#[test]
fn a_pull_survives_what_passes() {
    let busy = |status| Wrong::Says(Reply::new(status, "").with("retry-after", "0"));
    let cases: Vec<(&str, &str, usize, Wrong)> = vec![
        ("busy", "manifests", 2, busy(429)),
        ("busy with a piece", "bytes=2000-2999", 3, busy(503)),
        ("broken", "bytes=2000-2999", 1, busy(500)),
        ("cut off", "bytes=3000-3999", 1, Wrong::Cuts(700)),
        ("cut off at once", "bytes=0-999", 2, Wrong::Cuts(0)),
        ("silent", "bytes=1000-1999", 1, Wrong::Stalls(10)),
        ("silent from the start", "bytes=1000-1999", 1, Wrong::Stalls(0)),
        ("a layer is cut off", "/blobs/", 1, Wrong::Cuts(3)),
    ];
    for (what, on, times, wrong) in cases {
        let registry = registry(Rules::default());
        let home = Home::new(&[registry.server.url()]);
        registry.server.fault(on, times, wrong);
        let pulled = pull(&home, &name(&registry)).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_whole(&home, &pulled);
    }
    // What was cut off goes on where it stopped.
    let registry = registry(Rules::default());
    let home = Home::new(&[registry.server.url()]);
    registry.server.fault("bytes=3000-3999", 1, Wrong::Cuts(700));
    assert_whole(&home, &pull(&home, &name(&registry)).unwrap());
    let log = registry.server.take_log();
    assert!(log.iter().any(|asked| asked.header("range") == Some("bytes=3700-3999")), "{log:?}");
}

/// How often each range of the weights was asked for.
fn ranges(registry: &FakeRegistry) -> Vec<String> {
    let mut ranges: Vec<String> = registry
        .server
        .take_log()
        .iter()
        .filter_map(|asked| asked.header("range").map(str::to_owned))
        .collect();
    ranges.sort();
    ranges
}

#[test]
fn a_damaged_piece_is_fetched_again_alone() {
    // With sums: at once, and nothing else.
    let registry = FakeRegistry::with(Rules { sums: Some(1500), ..Rules::default() });
    registry.add_model("me/tiny:1m", &[("model", &model(SIZE))]);
    let home = Home::new(&[registry.server.url()]);
    registry.server.fault("bytes=3000-4499", 2, Wrong::Flips(77));
    assert_whole(&home, &pull(&home, &name(&registry)).unwrap());
    let asked = ranges(&registry);
    assert_eq!(asked.iter().filter(|range| *range == "bytes=3000-4499").count(), 3);
    assert_eq!(asked.len(), 5 + 2, "{asked:?}");

    // By the digest of the answer.
    let bytes = model(SIZE);
    let stated = FakeServer::new(move |asked| {
        let range = asked.header("range").unwrap_or_default();
        let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap_or(("0", "0"));
        let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
        use base64::Engine as _;
        use sha2::Digest as _;
        let sum = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(&bytes[start..=end]));
        Reply::new(200, bytes.clone()).ranged().with("content-digest", format!("sha-256=:{sum}:"))
    });
    let registry = FakeRegistry::with(Rules { redirect: Some(stated.url()), ..Rules::default() });
    registry.add_model("me/tiny:1m", &[("model", &model(SIZE))]);
    let home = Home::new(&[registry.server.url(), stated.url()]);
    stated.fault("bytes=3000-3999", 1, Wrong::Flips(77));
    assert_whole(&home, &pull(&home, &name(&registry)).unwrap());
    assert_eq!(stated.take_log().iter().filter(|asked| asked.header("range").is_some()).count(), 7 + 1);

    // Without either: when the whole is checked, pieces are compared up to the bad one.
    let registry = FakeRegistry::new();
    registry.add_model("me/tiny:1m", &[("model", &model(SIZE))]);
    let home = Home::new(&[registry.server.url()]);
    registry.server.fault("bytes=3000-3999", 1, Wrong::Flips(77));
    assert_whole(&home, &pull(&home, &name(&registry)).unwrap());
    let asked = ranges(&registry);
    assert_eq!(asked.len(), 7 + 4, "{asked:?}");
    assert_eq!(asked.iter().filter(|range| *range == "bytes=6000-6788").count(), 1, "{asked:?}");
}

#[test]
fn what_is_wrong_is_refused() {
    let hex = digest(b"abc");
    let with = |change: &dyn Fn(&mut Value)| {
        let registry = registry(Rules::default());
        let mut manifest = registry.manifest("me/tiny:1m").unwrap();
        change(&mut manifest);
        registry.add_manifest("me/tiny:1m", &manifest);
        registry
    };
    let cases: Vec<(&str, FakeRegistry, &str)> = vec![
        ("no such model", FakeRegistry::new(), "it said: manifest unknown"),
        (
            "a path for a digest",
            with(&|m| m["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd")),
            "its manifest is not that of a model (`sha256:../../../../etc/passwd` is not a SHA-256 digest",
        ),
        (
            "upper case",
            with(&|m| m["layers"][0]["digest"] = json!(digest(b"abc").to_uppercase())),
            "is not a SHA-256",
        ),
        ("another digest", with(&|m| m["layers"][0]["digest"] = json!(hex)), "has nothing to pull"),
        ("too long", with(&|m| m["layers"][0]["size"] = json!(SIZE - 1)), "/6789`"),
        ("too short", with(&|m| m["layers"][0]["size"] = json!(SIZE + 1)), "/6789`"),
        ("negative", with(&|m| m["layers"][0]["size"] = json!(-1)), "its manifest is not that of a model"),
        (
            "a huge text",
            with(&|m| m["layers"][1]["size"] = json!(5 << 20)),
            "a layer of text has 5242880 bytes",
        ),
        (
            "a text that is longer than said",
            with(&|m| m["layers"][2]["size"] = json!(3)),
            "has more than 3 bytes",
        ),
        (
            "no weights",
            with(&|m| drop(m["layers"].as_array_mut().unwrap().remove(0))),
            "it is not one GGUF file",
        ),
        (
            "two weights",
            with(&|m| {
                let l = m["layers"][0].clone();
                m["layers"].as_array_mut().unwrap().push(l);
            }),
            "it is not one GGUF file",
        ),
        (
            "an adapter",
            with(&|m| m["layers"][1]["mediaType"] = json!("application/vnd.ollama.image.adapter")),
            "it is an adapter",
        ),
        (
            "too many layers",
            with(&|m| {
                let l = m["layers"][1].clone();
                m["layers"].as_array_mut().unwrap().extend(vec![l; 64]);
            }),
            "it has more than 64 layers",
        ),
        (
            "no JSON",
            with(&|m| m["layers"][5]["mediaType"] = json!("application/vnd.ollama.image.messages")),
            "its layers is not JSON",
        ),
        ("an index", with(&|m| *m = json!({"schemaVersion": 2, "manifests": []})), "is not that of a model"),
    ];
    for (what, registry, expected) in cases {
        let home = Home::new(&[registry.server.url()]);
        let error = pull(&home, &name(&registry)).expect_err(what);
        assert!(error.to_string().contains(expected), "{what}: expected \"{expected}\" in: {error}");
        assert_no_leavings(&home);
        assert!(home.store().list().unwrap().is_empty(), "{what}");
    }
}

#[test]
fn weights_that_are_not_what_they_should_be() {
    // A layer that is truly another, with sums of what it is, without, and without ranges.
    for rules in [
        Rules { sums: Some(1500), ..Rules::default() },
        Rules::default(),
        Rules { no_ranges: true, ..Rules::default() },
    ] {
        let registry = registry(rules);
        let mut other = model(SIZE);
        other[4000] ^= 1;
        registry.replace_blob(&digest(&model(SIZE)), &other);
        let home = Home::new(&[registry.server.url()]);
        let error = pull(&home, &name(&registry)).unwrap_err();
        assert!(matches!(error, HubError::WrongContent { .. }), "{error}");
        assert_no_leavings(&home);
    }
    // Not a model, though its digest is right.
    let registry = FakeRegistry::new();
    registry.add_model("me/tiny:1m", &[("model", b"#!/bin/sh\n")]);
    let home = Home::new(&[registry.server.url()]);
    let error = pull(&home, &name(&registry)).unwrap_err();
    assert!(error.to_string().contains("is not a GGUF model"), "{error}");
    assert_no_leavings(&home);

    // A piece that is always cut off, always damaged, or longer than it was asked for; what came before is kept.
    for (wrong, expected) in [
        (Wrong::Cuts(3), "broke off"),
        (Wrong::Stalls(3), "it was silent"),
        (Wrong::Adds(3), "more than the"),
    ] {
        let registry = FakeRegistry::with(Rules { sums: Some(1500), ..Rules::default() });
        registry.add_model("me/tiny:1m", &[("model", &model(SIZE))]);
        let home = Home::new(&[registry.server.url()]);
        registry.server.fault("bytes=60", 60, wrong.clone());
        registry.server.fault("-6788", 60, wrong);
        let error = pull(&home, &name(&registry)).unwrap_err();
        assert!(error.to_string().contains(expected), "expected \"{expected}\" in: {error}");
    }
}

#[test]
fn a_registry_cannot_send_us_into_our_own_network() {
    let inner = FakeServer::new(|_| Reply::new(200, "secret"));
    let port = inner.host().rsplit_once(':').unwrap().1.to_owned();
    for place in [
        inner.url(),
        format!("https://127.0.0.1:{port}"),
        format!("https://127.1:{port}"),
        format!("https://[::ffff:127.0.0.1]:{port}"),
        format!("https://localhost:{port}"),
        "https://169.254.169.254".to_owned(),
        "https://10.0.0.1".to_owned(),
        "file:///etc".to_owned(),
        "ftp://example.com".to_owned(),
        "https://user@example.com".to_owned(),
    ] {
        let registry = registry(Rules { redirect: Some(place.clone()), ..Rules::default() });
        let home = Home::new(&[registry.server.url()]);
        let error = pull(&home, &name(&registry)).unwrap_err();
        let refused = matches!(error, HubError::Forbidden { .. } | HubError::BadAnswer { .. });
        assert!(refused, "{place}: {error}");
        assert_no_leavings(&home);
    }
    assert!(inner.take_log().is_empty());

    // In circles.
    let registry = registry(Rules::default());
    let home = Home::new(&[registry.server.url()]);
    let again = Reply::new(302, "").with("location", "manifests");
    registry.server.fault("manifests", 60, Wrong::Says(again));
    let error = pull(&home, &name(&registry)).unwrap_err();
    assert!(error.to_string().contains("redirects more than 10 times"), "{error}");
}

/// Where [`child_pulls`] finds what to do: the registry's address and the folder.
const CHILD: &str = "WHIT_HUB_TEST_PULL";

/// Not a test of its own: run as another process by the test below, to be killed in the middle of a pull.
#[test]
fn child_pulls() {
    let Some(what) = std::env::var_os(CHILD) else { return };
    let what = what.into_string().unwrap();
    let (host, folder) = what.split_once(' ').unwrap();
    let network = Network { trusted: vec![format!("http://{host}")], piece: 1000, ..Network::default() };
    let config = whit_hub::Config { network, ..whit_hub::Config::new(folder) };
    whit_hub::Store::open(config)
        .pull(&format!("oci:{host}/me/tiny:1m").parse().unwrap(), &mut |_| {})
        .unwrap();
}

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    let registry = registry(Rules::default());
    let home = Home::new(&[registry.server.url()]);
    registry.server.fault("bytes=3000-3999", 1, Wrong::Stalls(5));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pull::child_pulls"])
        .env(CHILD, format!("{} {}", registry.server.host(), home.config.home.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let three = || {
        let mut records = std::fs::read_dir(home.config.home.join("partial")).into_iter().flatten().flatten();
        let record: PathBuf = records.next()?.path().join("parts.json");
        let record: Value = serde_json::from_slice(&std::fs::read(record).ok()?).ok()?;
        (record["parts"].as_array()?.len() == 3).then_some(())
    };
    while three().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(home.store().list().unwrap().is_empty());

    registry.server.take_log();
    let mut kept = 0;
    let pulled =
        home.store().pull(&name(&registry).parse().unwrap(), &mut |p| kept = kept.max(p.kept)).unwrap();
    assert_whole(&home, &pulled);
    assert_eq!(kept, 3000);
    assert_eq!(ranges(&registry).len(), 4);
}

#[test]
fn two_pulls_share_the_work() {
    let registry = registry(Rules::default());
    let home = Home::new(&[registry.server.url()]);
    let pulls: Vec<Resolved> = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..3).map(|_| scope.spawn(|| pull(&home, &name(&registry)).unwrap())).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(pulls.iter().all(|pulled| pulled.path == pulls[0].path));
    assert_whole(&home, &pulls[0]);
    assert_eq!(ranges(&registry).len(), 7, "each piece once");
}

#[test]
fn a_pushed_model_comes_back_the_same() {
    let registry = registry(Rules::default());
    let home = Home::new(&[registry.server.url()]);
    let first = pull(&home, &name(&registry)).unwrap();
    let manifest = first.manifest.unwrap();
    let package = whit_hub::Package {
        file: first.path,
        digest: whit_hub::Digest::from_hex(&manifest.sha256),
        facts: whit_hub::ModelFacts::default(),
        extras: manifest.extras.clone(),
    };
    let copy = format!("oci:{}/you/copy:2", registry.server.host());
    home.store().push(&package, &copy.parse().unwrap(), false, &mut |_| {}).unwrap();
    let second = pull(&home, &copy).unwrap().manifest.unwrap();
    assert_eq!((second.sha256, second.extras), (manifest.sha256, manifest.extras));
}
