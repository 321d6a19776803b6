//! Where the network may be used, seen from a push.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
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

/// A proxy that takes every host for `target`; gives its address and the hosts that it was asked for.
fn proxy(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut lines = BufReader::new(client.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).is_ok_and(|n| n > 0) {}
            log.lock().unwrap().push(head);
            let server = TcpStream::connect(&target).unwrap();
            (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            for (mut from, mut to) in
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
            {
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    (address, asked)
}

#[test]
fn a_proxy_is_used_where_it_should_be() {
    let registry = FakeRegistry::new();
    let (address, asked) = proxy(registry.server.host());
    // A host that only the proxy knows.
    let mut home = Home::new(&["http://reg.invalid:5000".to_owned(), registry.server.url()]);
    home.config.network.proxy = Some(format!("http://me:word@{address}"));
    push(&home, "oci:reg.invalid:5000/tiny", false).unwrap();
    let log = std::mem::take(&mut *asked.lock().unwrap());
    assert!(log.iter().all(|head| head.starts_with("CONNECT reg.invalid:5000 ")), "{log:?}");
    // base64("me:word") by `printf me:word | base64`.
    assert!(!log.is_empty() && log.iter().all(|head| head.contains("Basic bWU6d29yZA==")), "{log:?}");
    assert!(registry.server.take_log().iter().all(|asked| asked.header("proxy-authorization").is_none()));

    // This machine is asked directly, and so is what is excepted, which here nobody knows.
    push(&home, &format!("oci:{}/tiny", registry.server.host()), false).unwrap();
    home.config.network.no_proxy = Some("invalid, other.example".to_owned());
    let error = push(&home, "oci:reg.invalid:5000/tiny", false).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert!(asked.lock().unwrap().is_empty());
}
