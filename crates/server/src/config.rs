//! How a server is set up: defaults, a TOML file, the environment (`OLLAMA_*`, and `WHIT_*` before it), and whatever the
//! caller sets in the end. Every number is brought into its range here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use whit_engine::EngineOptions;

/// The port that clients of Ollama expect.
const PORT: u16 = 11434;
const MAX_QUEUE: usize = 512;
const MAX_PARALLEL: usize = 256;
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
    /// How long running answers may take to finish when the server is told to stop.
    pub grace: Duration,
    /// How engines are set up; `max_sequences` follows `num_parallel`.
    pub engine: EngineOptions,
    /// Model files to serve from where they lie, beside the store: name and path.
    pub files: Vec<(String, PathBuf)>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
            hosts: Vec::new(),
            origins: Vec::new(),
            keys: Vec::new(),
            allow_remote_without_key: false,
            keep_alive: KeepAlive::default(),
            num_parallel: 8,
            max_queue: MAX_QUEUE,
            memory: None,
            overflow: OverflowPolicy::default(),
            strict: false,
            max_body: BODY_BYTES,
            max_blob: BLOB_BYTES,
            grace: Duration::from_secs(10),
            engine: EngineOptions::default(),
            files: Vec::new(),
        }
    }
}

/// How long an idle model stays loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// For this long after its last request.
    For(Duration),
    /// Until the server stops.
    Forever,
}

impl Default for KeepAlive {
    /// Five minutes, as with Ollama.
    fn default() -> Self {
        KeepAlive::For(Duration::from_secs(300))
    }
}

impl KeepAlive {
    /// Reads a number of seconds or a duration such as `10m` or `1h30m`; negative is forever.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for anything else.
    pub fn parse(text: &str) -> Result<KeepAlive, ConfigError> {
        let bad = || ConfigError::Value {
            name: "keep_alive".to_owned(),
            got: text.to_owned(),
            wanted: "a number of seconds, or a duration such as `10m` or `1h30m`; negative is forever",
        };
        let (negative, digits) = match text.trim().strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.trim()),
        };
        let seconds = match digits.parse::<f64>() {
            Ok(seconds) => seconds,
            Err(_) => go_duration(digits).ok_or_else(bad)?,
        };
        if !seconds.is_finite() {
            return Err(bad());
        }
        Ok(KeepAlive::of_seconds(if negative { -seconds } else { seconds }))
    }

    /// As [`parse`](Self::parse), from a JSON number or string.
    pub(crate) fn from_json(value: &Value) -> Result<KeepAlive, ConfigError> {
        match value {
            Value::Number(number) => Ok(KeepAlive::of_seconds(number.as_f64().unwrap_or(-1.0))),
            Value::String(text) => KeepAlive::parse(text),
            other => KeepAlive::parse(&other.to_string()),
        }
    }

    fn of_seconds(seconds: f64) -> KeepAlive {
        if seconds < 0.0 {
            return KeepAlive::Forever;
        }
        // A hundred years are as good as forever.
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| time.as_secs() < 3_153_600_000)
            .map_or(KeepAlive::Forever, KeepAlive::For)
    }
}

/// Seconds of a duration as Go writes it: `1h30m`, `1.5s`, `300ms`.
fn go_duration(text: &str) -> Option<f64> {
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total)
}

/// What happens when a conversation outgrows the context. It is never done in silence: the last object of an answer says
/// what was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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

/// What a key opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Asking models.
    Inference,
    /// That, and pulling, making and deleting them.
    #[default]
    Admin,
}

/// A key, of which only the digest is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// SHA-256.
    pub(crate) digest: [u8; 32],
    pub(crate) scope: Scope,
}

impl ApiKey {
    /// The key that reads `secret`.
    pub fn new(secret: &str, scope: Scope) -> ApiKey {
        ApiKey { digest: Sha256::digest(secret.as_bytes()).into(), scope }
    }

    /// The key whose SHA-256 reads `hex`, as a settings file holds it.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if it is not 64 hexadecimal digits.
    pub fn from_digest(hex: &str, scope: Scope) -> Result<ApiKey, ConfigError> {
        let bad = || ConfigError::Value {
            name: "keys.sha256".to_owned(),
            got: hex.to_owned(),
            wanted: "64 hexadecimal digits: the output of `printf %s KEY | sha256sum`",
        };
        let mut digest = [0u8; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(bad());
        }
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).map_err(|_| bad())?;
        }
        Ok(ApiKey { digest, scope })
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

/// The settings file. Unknown keys are errors.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    host: Option<String>,
    hosts: Vec<String>,
    origins: Vec<String>,
    keys: Vec<KeyEntry>,
    allow_remote_without_key: Option<bool>,
    keep_alive: Option<String>,
    num_parallel: Option<usize>,
    max_queue: Option<usize>,
    memory_mb: Option<u64>,
    overflow: Option<OverflowPolicy>,
    strict: Option<bool>,
    max_body_mb: Option<usize>,
    max_blob_mb: Option<u64>,
    grace_seconds: Option<u64>,
    ctx: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    sha256: String,
    #[serde(default)]
    scope: Scope,
}

impl ServerConfig {
    /// The defaults, changed by the settings file if one is given, changed by the environment.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn load(
        file: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<ServerConfig, ConfigError> {
        let mut config = ServerConfig::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
            let settings: File = toml::from_str(&text).map_err(|error| ConfigError::File {
                path: path.to_owned(),
                problem: error.to_string().trim_end().to_owned(),
            })?;
            config.apply(settings)?;
        }
        config.apply_environment(variable)?;
        Ok(config)
    }

    fn apply(&mut self, file: File) -> Result<(), ConfigError> {
        if let Some(host) = file.host {
            self.address = parse_address(&host)?;
        }
        self.hosts.extend(file.hosts);
        self.origins.extend(file.origins);
        for key in file.keys {
            self.keys.push(ApiKey::from_digest(&key.sha256, key.scope)?);
        }
        if let Some(text) = file.keep_alive {
            self.keep_alive = KeepAlive::parse(&text)?;
        }
        self.allow_remote_without_key =
            file.allow_remote_without_key.unwrap_or(self.allow_remote_without_key);
        self.num_parallel = file.num_parallel.unwrap_or(self.num_parallel).clamp(1, MAX_PARALLEL);
        self.max_queue = file.max_queue.unwrap_or(self.max_queue).clamp(1, 1 << 16);
        self.memory = file.memory_mb.map(|mb| mb.saturating_mul(1 << 20)).or(self.memory);
        self.overflow = file.overflow.unwrap_or(self.overflow);
        self.strict = file.strict.unwrap_or(self.strict);
        self.max_body = file.max_body_mb.map_or(self.max_body, |mb| mb.clamp(1, 1 << 12) << 20);
        self.max_blob = file.max_blob_mb.map_or(self.max_blob, |mb| mb.clamp(1, 1 << 24) << 20);
        self.grace = file.grace_seconds.map_or(self.grace, |s| Duration::from_secs(s.min(3600)));
        self.engine.ctx = file.ctx.or(self.engine.ctx);
        Ok(())
    }

    fn apply_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let text = |name: &str| {
            let ours = variable(&format!("WHIT_{name}"));
            ours.or_else(|| variable(&format!("OLLAMA_{name}"))).filter(|value| !value.trim().is_empty())
        };
        let number = |name: &str, most: usize| -> Result<Option<usize>, ConfigError> {
            let Some(text) = text(name) else { return Ok(None) };
            match text.trim().parse::<usize>() {
                // Ollama reads 0 as "choose for me".
                Ok(0) => Ok(None),
                Ok(number) => Ok(Some(number.min(most))),
                Err(_) => {
                    Err(ConfigError::Value { name: name.to_owned(), got: text, wanted: "a whole number" })
                }
            }
        };
        if let Some(host) = text("HOST") {
            self.address = parse_address(&host)?;
        }
        if let Some(origins) = text("ORIGINS") {
            self.origins
                .extend(origins.split(',').map(|origin| origin.trim().to_owned()).filter(|o| !o.is_empty()));
        }
        if let Some(keep_alive) = text("KEEP_ALIVE") {
            self.keep_alive = KeepAlive::parse(&keep_alive)?;
        }
        self.num_parallel = number("NUM_PARALLEL", MAX_PARALLEL)?.unwrap_or(self.num_parallel);
        self.max_queue = number("MAX_QUEUE", 1 << 16)?.unwrap_or(self.max_queue);
        self.engine.ctx = number("CONTEXT_LENGTH", 1 << 24)?.or(self.engine.ctx);
        // Not from OLLAMA_API_KEY: that is the key with which its clients call others.
        if let Some(keys) = variable("WHIT_API_KEYS") {
            let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
            self.keys.extend(keys.map(|key| ApiKey::new(key, Scope::Admin)));
        }
        Ok(())
    }
}

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

impl ServerConfig {
    /// Sets [`address`](Self::address) from text.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for anything that is no address.
    pub fn set_host(&mut self, text: &str) -> Result<(), ConfigError> {
        self.address = parse_address(text)?;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
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

    #[test]
    fn keep_alives() {
        let seconds = |s: f64| Some(KeepAlive::For(Duration::from_secs_f64(s)));
        for (json, expected) in [
            (serde_json::json!(0), seconds(0.0)),
            (serde_json::json!(30), seconds(30.0)),
            (serde_json::json!(1.5), seconds(1.5)),
            (serde_json::json!(-1), Some(KeepAlive::Forever)),
            (serde_json::json!("10m"), seconds(600.0)),
            (serde_json::json!("1h30m"), seconds(5400.0)),
            (serde_json::json!("300ms"), seconds(0.3)),
            (serde_json::json!("60"), seconds(60.0)),
            (serde_json::json!("-1m"), Some(KeepAlive::Forever)),
            (serde_json::json!(1e300), Some(KeepAlive::Forever)),
            (serde_json::json!("soon"), None),
            (serde_json::json!("5"), seconds(5.0)),
            (serde_json::json!("inf"), None),
            (serde_json::json!(""), None),
            (serde_json::json!(true), None),
        ] {
            assert_eq!(KeepAlive::from_json(&json).ok(), expected, "{json}");
        }
    }

    #[test]
    fn the_environment_is_read_ours_first() {
        let variables = [
            ("OLLAMA_HOST", "0.0.0.0"),
            ("WHIT_HOST", "127.0.0.1:1"),
            ("OLLAMA_ORIGINS", "https://a.example, https://b.example"),
            ("OLLAMA_KEEP_ALIVE", "-1"),
            ("OLLAMA_NUM_PARALLEL", "0"),
            ("OLLAMA_MAX_QUEUE", "7"),
            ("WHIT_API_KEYS", "one,two"),
        ];
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let config = ServerConfig::load(None, lookup).unwrap();
        assert_eq!(config.address.to_string(), "127.0.0.1:1");
        assert_eq!(config.origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.keep_alive, KeepAlive::Forever);
        assert_eq!((config.num_parallel, config.max_queue), (ServerConfig::default().num_parallel, 7));
        assert_eq!(config.keys.len(), 2);
        assert!(
            ServerConfig::load(None, |name| (name == "OLLAMA_MAX_QUEUE").then(|| "many".to_owned())).is_err()
        );
    }

    #[test]
    fn a_settings_file_is_read_strictly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("whit.toml");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            ServerConfig::load(Some(&path), |_| None)
        };
        let config = load(
            "host = '0.0.0.0:1'\nnum_parallel = 9999\noverflow = 'drop_oldest'\n[[keys]]\nsha256 = \
             '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae'\nscope = 'inference'\n",
        )
        .unwrap();
        assert_eq!(config.address.to_string(), "0.0.0.0:1");
        assert_eq!(config.num_parallel, MAX_PARALLEL);
        assert_eq!(config.overflow, OverflowPolicy::DropOldest);
        // The digest is that of `foo`, by sha256sum.
        assert_eq!(config.keys, [ApiKey::new("foo", Scope::Inference)]);
        for text in ["hots = 'x'", "[[keys]]\nsha256 = 'abc'", "overflow = 'never'", "host = 1"] {
            assert!(load(text).is_err(), "{text}");
        }
    }
}
