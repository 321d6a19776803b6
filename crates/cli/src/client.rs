//! A client of a running server (`whit serve`, or Ollama), for the commands that ask one.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::failure::Usage;

/// The usual port of both.
const PORT: u16 = 11434;
/// How long the server may take to be reached, and to answer: it may be busy, but it does not have to think.
const CONNECT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const MAX_ANSWER: u64 = 16 << 20;

/// Which server to ask.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArguments {
    /// The server: HOST, HOST:PORT or a whole address [default: http://127.0.0.1:11434] [env: WHIT_HOST, OLLAMA_HOST]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,

    /// The key that the server asks for [env: WHIT_API_KEY]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
}

pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    key: Option<String>,
}

impl Client {
    pub(crate) fn new(arguments: &ServerArguments) -> Result<Client> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host =
            arguments.host.clone().or_else(|| variable("WHIT_HOST")).or_else(|| variable("OLLAMA_HOST"));
        let base = base(host.as_deref().unwrap_or_default())?;
        let key = arguments.api_key.clone().or_else(|| variable("WHIT_API_KEY"));
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(PATIENCE))
            // A server of one's own is not behind a proxy.
            .proxy(None);
        Ok(Client { agent: ureq::Agent::new_with_config(config.build()), base, key })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.read(request.call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut request =
            self.agent.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.read(request.send(body.to_string()))
    }

    fn read(&self, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value> {
        let base = &self.base;
        let mut response = match response {
            Ok(response) => response,
            Err(error) => bail!(
                "no server answers at {base} ({error}); `whit serve` starts one, and --host names another"
            ),
        };
        let status = response.status();
        let text = match response.body_mut().with_config().limit(MAX_ANSWER).read_to_string() {
            Ok(text) => text,
            Err(error) => bail!("the server at {base} broke off ({error})"),
        };
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        match (status.as_u16(), value["error"].as_str()) {
            (401 | 403, said) => bail!(
                "the server at {base} does not let us ({}); give the key that it asks for: --api-key, or WHIT_API_KEY",
                said.unwrap_or(status.as_str())
            ),
            (_, Some(said)) => bail!("{said}"),
            (_, None) => bail!("the server at {base} says {status}; is it one of Whit or Ollama?"),
        }
    }
}

/// `http://host:port` of what a user or the environment writes. An address to listen on names this machine.
fn base(text: &str) -> Result<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let rest = rest.trim_end_matches('/');
    let is_address = !rest.contains(['/', '?', '#', '@', ' ']) && matches!(scheme, "http" | "https");
    if !is_address {
        return Err(Usage(format!("`{text}` is no server; write HOST:PORT, or https://HOST:PORT")).into());
    }
    // IPv6 addresses stand between brackets; only behind them is a colon the port's.
    let port_at = rest.rfind(':').filter(|&at| !rest[at..].contains(']'));
    let (host, port) = match port_at {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<u16>().ok()),
        // As Ollama has it: without a port, an address with a scheme means that scheme's.
        None if text.contains("://") => (rest, Some(if scheme == "https" { 443 } else { 80 })),
        None => (rest, Some(PORT)),
    };
    let Some(port) = port else {
        return Err(Usage(format!("`{text}` names no port from 0 to 65535")).into());
    };
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    Ok(format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::base;

    #[test]
    fn servers_are_named() {
        for (text, expected) in [
            ("", Some("http://127.0.0.1:11434")),
            ("localhost", Some("http://localhost:11434")),
            (":8080", Some("http://127.0.0.1:8080")),
            ("0.0.0.0:11434", Some("http://127.0.0.1:11434")),
            ("0.0.0.0", Some("http://127.0.0.1:11434")),
            ("[::]:1", Some("http://[::1]:1")),
            ("[fe80::1]", Some("http://[fe80::1]:11434")),
            ("https://models.home", Some("https://models.home:443")),
            ("http://models.home:8080/", Some("http://models.home:8080")),
            ("ftp://x", None),
            ("a/b", None),
            ("host:port", None),
        ] {
            assert_eq!(base(text).ok().as_deref(), expected, "{text}");
        }
    }
}
