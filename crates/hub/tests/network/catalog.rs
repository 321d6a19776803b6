//! Names: of the catalog, at one place after another, and of nobody's catalog, at Ollama's registry.

use whit_hub::catalog::{Entry, Place};
use whit_hub::{HubError, Resolved};

use crate::common::{Home, model};
use crate::hub::{FakeHub, hub};
use crate::registry::FakeRegistry;

const SIZE: usize = 4500;

/// A model whose places vouch for it, as most of the catalog.
fn entry(places: &'static [Place]) -> &'static [Entry] {
    let entry = Entry {
        name: "tiny",
        tag: "1m",
        default: true,
        description: "a test",
        parameters: "1M",
        licence: "MIT",
        size: 1,
        sha256: None,
        places,
    };
    Box::leak(Box::new([entry]))
}

const PLACES: &[Place] = &[Place::Registry("ollama:tiny:1m"), Place::Hub("hf:me/repo:Q4_K_M")];

fn pull(home: &Home, name: &str) -> Result<Resolved, HubError> {
    home.store().pull(&name.parse().unwrap(), &mut |_| {})
}

fn fake_hub() -> FakeHub {
    hub(&[("m-Q4_K_M.gguf", model(SIZE)), ("m-Q8_0.gguf", model(99))], None)
}

/// A store with a hub, and Ollama's registry at `registry`.
fn home(hub: &FakeHub, registry: String) -> Home {
    let mut home = Home::new(&[hub.store.url()]);
    home.config.network.hugging_face = hub.hub.url();
    home.config.elsewhere.hugging_face = Some(home.folder.path().join("hub"));
    home.config.network.ollama = registry;
    home.config.catalog = entry(PLACES);
    home
}

#[test]
fn the_first_place_that_has_a_model_is_taken() {
    let hub = fake_hub();
    let registry = FakeRegistry::new();
    registry.add_model("library/tiny:1m", &[("model", &model(SIZE)), ("system", b"be brief")]);
    let home = home(&hub, registry.server.url());
    assert!(home.store().resolve(&"tiny".parse().unwrap()).unwrap().is_none());
    let pulled = pull(&home, "tiny").unwrap();
    let manifest = pulled.manifest.unwrap();
    assert_eq!((&*pulled.name, &*manifest.source, manifest.size), ("tiny:1m", "ollama:tiny:1m", SIZE as u64));
    assert_eq!(
        (manifest.licence.as_deref(), manifest.extras.system.as_deref()),
        (Some("MIT"), Some("be brief"))
    );
    assert!(hub.hub.take_log().is_empty());
    // It is here now, and nobody is asked again.
    registry.server.take_log();
    assert_eq!(pull(&home, "tiny:1m").unwrap().path, pulled.path);
    assert!(registry.server.take_log().is_empty());
}

/// The port of a listener that is gone: nobody answers there.
fn nobody() -> String {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("http://{gone}")
}

#[test]
fn the_next_place_is_asked_when_one_cannot_be_reached_or_has_nothing() {
    let empty = FakeRegistry::new();
    for registry in [nobody(), empty.server.url()] {
        let hub = fake_hub();
        let home = home(&hub, registry);
        let pulled = pull(&home, "tiny").unwrap();
        assert!(std::fs::read(&pulled.path).unwrap() == model(SIZE));
        assert_eq!(pulled.name, "hf:me/repo:Q4_K_M");
        // What the hub's cache has is found by the catalog's name, and is not ours to remove.
        let reference = "tiny:1m".parse().unwrap();
        assert_eq!(home.store().resolve(&reference).unwrap().unwrap().path, pulled.path);
        assert!(matches!(home.store().remove(&reference).unwrap_err(), HubError::NotOurs { .. }));
    }
    // Without a network, nobody is asked at all.
    let hub = fake_hub();
    let mut offline = home(&hub, empty.server.url());
    offline.config.network.offline = true;
    empty.server.take_log();
    assert!(matches!(pull(&offline, "tiny").unwrap_err(), HubError::NetworkOff { .. }));
    assert!(empty.server.take_log().is_empty() && hub.hub.take_log().is_empty());
    // Where no place has it, each says why not: the one cannot be reached, the other has nothing.
    let hub = fake_hub();
    let gone = nobody();
    let mut home = home(&hub, gone.clone());
    home.config.network.hugging_face = empty.server.url();
    let error = pull(&home, "tiny").unwrap_err();
    let HubError::NoPlace { name, reasons } = &error else { panic!("{error}") };
    let there = empty.server.url();
    assert_eq!((&**name, reasons.len()), ("tiny:1m", 2), "{error}");
    assert!(reasons[0].starts_with(&format!("{gone} could not be reached: ")), "{error}");
    assert!(reasons[1].starts_with(&format!("{there} has nothing to ")), "{error}");
    assert!(error.to_string().ends_with(&reasons.join("\n")), "{error}");
}

#[test]
fn a_name_that_no_catalog_knows_is_one_of_ollamas_registry() {
    let registry = FakeRegistry::new();
    registry.add_model("library/other:7b", &[("model", &model(SIZE))]);
    let hub = fake_hub();
    let mut home = home(&hub, registry.server.url());
    let reference = "other:7b".parse().unwrap();
    assert!(matches!(home.store().resolve(&reference).unwrap_err(), HubError::UnknownModel { .. }));
    let pulled = pull(&home, "other:7b").unwrap();
    assert_eq!(pulled.name, "ollama:other:7b");
    assert_eq!(home.store().resolve(&reference).unwrap().unwrap().path, pulled.path);
    // One that the registry does not know either: perhaps it is mistyped.
    let error = pull(&home, "tinny").unwrap_err();
    assert_eq!(error.to_string(), "there is no model called `tinny`; did you mean `tiny:1m`?");
    // Without a network, nobody is asked.
    home.config.network.offline = true;
    registry.server.take_log();
    assert!(matches!(pull(&home, "another").unwrap_err(), HubError::UnknownModel { .. }));
    assert!(registry.server.take_log().is_empty());
    assert_eq!(pull(&home, "other:7b").unwrap().path, pulled.path);

    assert!(home.store().remove(&reference).unwrap() >= SIZE as u64);
    assert!(home.store().list().unwrap().is_empty());
}
