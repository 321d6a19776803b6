//! Where the network may be used, seen from a push.

use std::net::TcpListener;
use std::time::Duration;

use whit_hub::{HubError, Package, RegistryName};

use crate::common::{Home, model};
use crate::registry::FakeRegistry;

fn push(home: &Home, name: &str, insecure: bool) -> Result<(), HubError> {
    let package = Package {
        file: home.file("m.gguf", &model(100)),
        digest: None,
        facts: whit_hub::ModelFacts::default(),
        extras: whit_hub::Extras::default(),
    };
    let name: RegistryName = name.parse().unwrap();
    home.store().push(&package, &name, insecure, &mut |_| {})
}

#[test]
fn only_what_is_vouched_for_may_be_private_or_plain() {
    let registry = FakeRegistry::new();
    let name = format!("oci:{}/tiny", registry.server.host());

    // Nobody vouches for it.
    let mut home = Home::new(&[]);
    for (insecure, expected) in [(true, "it is not encrypted"), (false, "a private network")] {
        let error = push(&home, &name, insecure).unwrap_err();
        assert!(matches!(error, HubError::Forbidden { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let by_name = format!("oci:localhost:{}/tiny", registry.server.host().rsplit_once(':').unwrap().1);
    let error = push(&home, &by_name, false).unwrap_err();
    assert!(matches!(error, HubError::Forbidden { .. }), "{error}");
    assert!(registry.server.take_log().is_empty());

    // The user names it on the command line.
    home.config.network.trust_named = true;
    push(&home, &name, true).unwrap();
    push(&home, &by_name, true).unwrap();
    // There, a registry that speaks no TLS is said to be unreachable.
    let error = push(&home, &name, false).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. } | HubError::Interrupted { .. }), "{error}");

    // Or lists it.
    push(&Home::new(&[registry.server.url()]), &name, false).unwrap();

    // Without the network, nothing is asked.
    registry.server.take_log();
    let mut home = Home::new(&[registry.server.url()]);
    home.config.network.offline = true;
    let error = push(&home, &name, false).unwrap_err();
    assert!(matches!(error, HubError::NetworkOff { .. }), "{error}");
    assert!(registry.server.take_log().is_empty());
}

#[test]
fn a_place_that_does_not_answer_is_left() {
    // Nobody listens: the port was free a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = Home::new(&[format!("http://{closed}")]);
    let error = push(&home, &format!("oci:{closed}/tiny"), false).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("check the network and the proxy settings"), "{error}");

    // Somebody listens and says nothing: each attempt ends, and there are few.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut home = Home::new(&[format!("http://{}", silent.local_addr().unwrap())]);
    home.config.network.stall = Duration::from_millis(20);
    let error = push(&home, &format!("oci:{}/tiny", silent.local_addr().unwrap()), false).unwrap_err();
    assert!(matches!(error, HubError::Interrupted { .. }), "{error}");
}
