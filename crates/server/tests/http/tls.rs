//! HTTPS: a real handshake, files that do not serve, and clients that are no help.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use whit_hub::{Config, Store};
use whit_server::{Server, ServerConfig};

use crate::client::Tested;

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
}

/// A server with a certificate of its own, and a client's settings that trust it alone.
fn start(change: impl FnOnce(&mut ServerConfig)) -> (Tested, Arc<ClientConfig>) {
    let folder = tempfile::tempdir().unwrap();
    let made = certificate();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tested = Tested::with(|config| {
        config.set_tls(Some(chain), Some(key)).unwrap();
        change(config);
    });
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (tested, Arc::new(client))
}

/// The answer to a request, head and body, and the protocol agreed on.
fn ask(address: SocketAddr, client: &Arc<ClientConfig>, request: &str) -> (String, Vec<u8>) {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer, stream.conn.alpn_protocol().unwrap().to_vec())
}

#[test]
fn answers_over_tls() {
    let (tested, client) = start(|_| {});
    let address = tested.server.address();
    assert_eq!(tested.server.url(), format!("https://{address}"));
    let get = "GET /api/version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let (answer, protocol) = ask(address, &client, get);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"version\""), "{answer}");
    assert_eq!(protocol, b"http/1.1");
    let body =
        json!({"model": "tiny", "prompt": "a", "raw": true, "options": {"num_predict": 3}}).to_string();
    let post = format!(
        "POST /api/generate HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (answer, _) = ask(address, &client, &post);
    let last: Value =
        answer.lines().filter_map(|line| serde_json::from_str(line).ok()).rfind(Value::is_object).unwrap();
    assert_eq!((&last["done"], &last["eval_count"]), (&json!(true), &json!(3)));
}

/// Plain HTTP on this port, and a client that never says anything, cost nobody else anything.
#[test]
fn no_handshake_no_connection() {
    let (tested, client) = start(|config| config.stall = Duration::from_millis(300));
    let address = tested.server.address();
    let mut silent = BufReader::new(TcpStream::connect(address).unwrap());
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    // What comes is a TLS alert at most.
    let _ = plain.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"));
    assert!(!silent.fill_buf().is_ok_and(|bytes| !bytes.is_empty()), "the server closes");
    let get = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(ask(address, &client, get).0.ends_with("ok"));
}

#[test]
fn files_that_do_not_serve() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (one, other) = (certificate(), certificate());
    std::fs::write(at("chain.pem"), one.cert.pem()).unwrap();
    std::fs::write(at("key.pem"), one.signing_key.serialize_pem()).unwrap();
    std::fs::write(at("other.pem"), other.signing_key.serialize_pem()).unwrap();
    std::fs::write(at("none.pem"), "nothing here\n").unwrap();
    std::fs::write(at("broken.pem"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    std::fs::write(at("false.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    let start = |chain: &Path, key: &Path| {
        let mut config = ServerConfig::default();
        config.address.set_port(0);
        config.set_tls(Some(chain.to_owned()), Some(key.to_owned())).unwrap();
        Server::start(config, Store::open(Config::new(folder.path())))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(start(&at("chain.pem"), &at("key.pem")), Ok(()));
    for (chain, key, blamed, expected) in [
        ("missing.pem", "key.pem", "missing.pem", "cannot be read"),
        ("chain.pem", "missing.pem", "missing.pem", "cannot be read"),
        ("none.pem", "key.pem", "none.pem", "no certificate"),
        ("key.pem", "key.pem", "key.pem", "no certificate"),
        ("broken.pem", "key.pem", "broken.pem", "not a certificate in PEM form"),
        ("false.pem", "key.pem", "false.pem", "give a certificate and its key"),
        ("chain.pem", "chain.pem", "chain.pem", "no private key"),
        ("chain.pem", "other.pem", "other.pem", "does not belong to the certificate"),
    ] {
        let error = start(&at(chain), &at(key)).unwrap_err();
        let path = at(blamed).display().to_string();
        assert!(error.starts_with(&path) && error.contains(expected), "{chain} {key}: {error}");
    }
    let mut config = ServerConfig::default();
    let error = config.set_tls(Some(at("chain.pem")), None).unwrap_err().to_string();
    assert!(error.contains("--tls-key"), "{error}");
}
