//! How a server is set up: defaults, a TOML file, the environment (`OLLAMA_*`, and `WHIT_*` before it), and whatever the
//! caller sets in the end.

mod address;
mod keep_alive;
mod keys;
mod sources;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use utoipa::ToSchema;
use whit_engine::{CacheSize, EngineOptions};

use crate::tls::TlsFiles;
pub use keep_alive::KeepAlive;
pub use keys::{ApiKey, Scope};

const MAX_QUEUE: usize = 512;
const BODY_BYTES: usize = 32 << 20;
/// No uploaded model is larger.
const BLOB_BYTES: u64 = 64 << 30;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Names by which it may be called (`Host`), beside loopback and its own address.
    pub hosts: Vec<String>,
    /// Pages of other origins that may call it, such as `https://chat.example`; `*` is any, and may stand at the end.
    pub origins: Vec<String>,
    /// Whoever calls must show one of these. None: everybody who can reach the port may call.
    pub keys: Vec<ApiKey>,
    /// Listen on other addresses than loopback without a key.
    pub allow_remote_without_key: bool,
    /// How long an idle model stays loaded.
    pub keep_alive: KeepAlive,
    /// Requests that run at the same time on one model.
    pub num_parallel: usize,
    /// Requests that may wait for a model; more are turned away with 503.
    pub max_queue: usize,
    /// How long a request may wait for room for its model, while others are in use.
    pub max_wait: Duration,
    /// Bytes that the loaded models may take together. `None`: what the machine has free.
    pub memory: Option<u64>,
    /// What happens to a conversation that outgrows the context.
    pub overflow: OverflowPolicy,
    /// Refuse options that nobody knows, which are otherwise ignored with a warning in the log.
    pub strict: bool,
    /// Bytes of a JSON body.
    pub max_body: usize,
    /// Bytes of an uploaded model.
    pub max_blob: u64,
    /// How long a client may send nothing of a body, or take nothing of an answer, before it is cut off.
    pub stall: Duration,
    /// Write prompts into the log, as the models read them.
    pub log_prompts: bool,
    /// Certificate and key. `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How long running answers may take to finish when the server is told to stop.
    pub grace: Duration,
    /// How engines are set up; `max_sequences` follows `num_parallel`, and `memory` is what a cache of the usual size is
    /// measured by. `ctx` is the context of a request that asks for no other.
    pub engine: EngineOptions,
    /// Model files to serve from where they lie, beside the store: name and path.
    pub files: Vec<(String, PathBuf)>,
    /// Which model drafts for which: their names, as clients say them; the one that drafts may be a path.
    pub drafts: Vec<(String, String)>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address::PORT),
            hosts: Vec::new(),
            origins: Vec::new(),
            keys: Vec::new(),
            allow_remote_without_key: false,
            keep_alive: KeepAlive::default(),
            num_parallel: 8,
            max_queue: MAX_QUEUE,
            max_wait: Duration::from_secs(300),
            memory: None,
            overflow: OverflowPolicy::default(),
            strict: false,
            max_body: BODY_BYTES,
            max_blob: BLOB_BYTES,
            stall: Duration::from_secs(60),
            log_prompts: false,
            tls: None,
            grace: Duration::from_secs(10),
            engine: EngineOptions { cache: CacheSize::Usual { memory: None }, ..EngineOptions::default() },
            files: Vec::new(),
            drafts: Vec::new(),
        }
    }
}

impl ServerConfig {
    /// Sets [`address`](Self::address) from text.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for anything that is no address.
    pub fn set_host(&mut self, text: &str) -> Result<(), ConfigError> {
        self.address = address::parse_address(text)?;
        Ok(())
    }

    /// Sets [`tls`](Self::tls); leaves it as it is where neither file is given.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if one of them is missing.
    pub fn set_tls(&mut self, certificate: Option<PathBuf>, key: Option<PathBuf>) -> Result<(), ConfigError> {
        let alone = |name: &str, path: PathBuf, wanted| {
            Err(ConfigError::Value { name: name.to_owned(), got: path.display().to_string(), wanted })
        };
        match (certificate, key) {
            (Some(certificate), Some(key)) => self.tls = Some(TlsFiles { certificate, key }),
            (Some(path), None) => return alone("the certificate", path, "its key as well (--tls-key)"),
            (None, Some(path)) => return alone("the key", path, "its certificate as well (--tls-cert)"),
            (None, None) => {}
        }
        Ok(())
    }
}

/// What happens when a conversation outgrows the context. It is never done in silence: the last object of an answer says
/// what was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverflowPolicy {
    /// The request is refused with the counts; an answer ends with `length`.
    #[default]
    Error,
    /// The oldest messages go, the system message stays.
    DropOldest,
    /// The oldest tokens go, also in the middle of an answer.
    Shift,
}

impl OverflowPolicy {
    /// By its name.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for another.
    pub fn parse(text: &str) -> Result<OverflowPolicy, ConfigError> {
        match text {
            "error" => Ok(OverflowPolicy::Error),
            "drop_oldest" => Ok(OverflowPolicy::DropOldest),
            "shift" => Ok(OverflowPolicy::Shift),
            _ => Err(ConfigError::Value {
                name: "overflow".to_owned(),
                got: text.to_owned(),
                wanted: "`error`, `drop_oldest` or `shift`",
            }),
        }
    }
}

/// A setting that makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value.
    #[error("{name} is `{got}`; give {wanted}")]
    Value {
        /// The setting or variable.
        name: String,
        /// What it holds.
        got: String,
        /// What would make sense.
        wanted: &'static str,
    },
    /// The settings file cannot be read.
    #[error("{}: cannot read the settings: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The settings file is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        problem: String,
    },
}
