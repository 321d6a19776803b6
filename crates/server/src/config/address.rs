//! Where a server listens, as `OLLAMA_HOST` gives it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::ConfigError;

/// The port that clients of Ollama expect.
pub(super) const PORT: u16 = 11434;

/// An address as `OLLAMA_HOST` gives it: `0.0.0.0`, `:8080`, `localhost:8080`, `http://127.0.0.1:11434/`, `[::1]:80`.
///
/// # Errors
/// [`ConfigError::Value`] for anything that is no address.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let bad = || ConfigError::Value {
        name: "host".to_owned(),
        got: text.to_owned(),
        wanted: "an IP address with or without a port, such as `127.0.0.1:11434`",
    };
    let (rest, port) = match text.trim().split_once("://") {
        Some(("http", rest)) => (rest, 80),
        Some(_) => return Err(bad()),
        None => (text.trim(), PORT),
    };
    let rest = rest.split('/').next().unwrap_or_default();
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(ip) = rest.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, number)) => (name, number.parse().map_err(|_| bad())?),
        None => (rest, port),
    };
    match name {
        "" => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        "localhost" => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:11434", Some("127.0.0.1:11434")),
            ("0.0.0.0", Some("0.0.0.0:11434")),
            (":8080", Some("127.0.0.1:8080")),
            ("localhost", Some("127.0.0.1:11434")),
            ("localhost:1", Some("127.0.0.1:1")),
            ("http://127.0.0.1:11434/", Some("127.0.0.1:11434")),
            ("http://0.0.0.0", Some("0.0.0.0:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("::1", Some("[::1]:11434")),
            ("https://127.0.0.1", None),
            ("example.com", None),
            ("127.0.0.1:99999", None),
        ] {
            let got = parse_address(text).ok().map(|address| address.to_string());
            assert_eq!(got.as_deref(), expected, "{text}");
        }
    }
}
