//! Where settings come from: a TOML file, and the environment, `WHIT_*` before `OLLAMA_*`. Every number is brought into its
//! range here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use whit_engine::CacheSize;

use super::address::parse_address;
use super::{ApiKey, ConfigError, KeepAlive, OverflowPolicy, Scope, ServerConfig};

const MAX_PARALLEL: usize = 256;

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
    max_wait_seconds: Option<u64>,
    memory_mb: Option<u64>,
    overflow: Option<OverflowPolicy>,
    strict: Option<bool>,
    max_body_mb: Option<usize>,
    max_blob_mb: Option<u64>,
    stall_seconds: Option<u64>,
    log_prompts: Option<bool>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    grace_seconds: Option<u64>,
    ctx: Option<usize>,
    cache_tokens: Option<usize>,
    speculate: Option<String>,
    drafts: BTreeMap<String, String>,
    cache_type: Option<String>,
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
        self.max_wait = file.max_wait_seconds.map_or(self.max_wait, |s| Duration::from_secs(s.min(86_400)));
        self.stall = file.stall_seconds.map_or(self.stall, |s| Duration::from_secs(s.clamp(1, 3600)));
        self.log_prompts = file.log_prompts.unwrap_or(self.log_prompts);
        self.set_tls(file.tls_cert, file.tls_key)?;
        self.grace = file.grace_seconds.map_or(self.grace, |s| Duration::from_secs(s.min(3600)));
        self.engine.ctx = file.ctx.or(self.engine.ctx);
        self.engine.cache = file.cache_tokens.map_or(self.engine.cache, CacheSize::Tokens);
        if let Some(how) = file.speculate {
            self.engine.speculation = how.parse().map_err(|wanted| ConfigError::Value {
                name: "speculate".to_owned(),
                got: how.clone(),
                wanted,
            })?;
        }
        self.drafts.extend(file.drafts);
        self.set_cache_type("cache_type", file.cache_type)?;
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
        let seconds = number("MAX_WAIT", 86_400)?;
        self.max_wait = seconds.map_or(self.max_wait, |seconds| Duration::from_secs(seconds as u64));
        let path = |name: &str| variable(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        self.set_tls(path("WHIT_TLS_CERT"), path("WHIT_TLS_KEY"))?;
        self.engine.ctx = number("CONTEXT_LENGTH", 1 << 24)?.or(self.engine.ctx);
        self.engine.cache = number("CACHE_TOKENS", 1 << 30)?.map_or(self.engine.cache, CacheSize::Tokens);
        self.set_cache_type("KV_CACHE_TYPE", text("KV_CACHE_TYPE"))?;
        self.memory =
            number("MEMORY_MB", 1 << 24)?.map_or(self.memory, |mb| Some((mb as u64).saturating_mul(1 << 20)));
        // Not from OLLAMA_API_KEY: that is the key with which its clients call others.
        if let Some(keys) = variable("WHIT_API_KEYS") {
            let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
            self.keys.extend(keys.map(|key| ApiKey::new(key, Scope::Admin)));
        }
        Ok(())
    }
}

impl ServerConfig {
    fn set_cache_type(&mut self, name: &str, text: Option<String>) -> Result<(), ConfigError> {
        let Some(text) = text else { return Ok(()) };
        self.engine.cache_type = text.parse().map_err(|_| ConfigError::Value {
            name: name.to_owned(),
            got: text,
            wanted: "one of f16, q8_0, q4_0, f32",
        })?;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_ours_first() {
        let variables = [
            ("OLLAMA_HOST", "0.0.0.0"),
            ("WHIT_HOST", "127.0.0.1:1"),
            ("OLLAMA_ORIGINS", "https://a.example, https://b.example"),
            ("OLLAMA_KEEP_ALIVE", "-1"),
            ("OLLAMA_NUM_PARALLEL", "0"),
            ("OLLAMA_MAX_QUEUE", "7"),
            ("OLLAMA_CONTEXT_LENGTH", "8192"),
            ("WHIT_CACHE_TOKENS", "50000"),
            ("OLLAMA_KV_CACHE_TYPE", "q8_0"),
            ("WHIT_MEMORY_MB", "2048"),
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
        assert_eq!((config.engine.ctx, config.engine.cache), (Some(8192), CacheSize::Tokens(50_000)));
        assert_eq!(config.engine.cache_type, whit_engine::CacheType::Q8_0);
        assert_eq!(config.memory, Some(2 << 30));
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
        assert_eq!(load("cache_type = 'q4_0'").unwrap().engine.cache_type, whit_engine::CacheType::Q4_0);
        for text in [
            "hots = 'x'",
            "cache_type = 'q5_1'",
            "[[keys]]\nsha256 = 'abc'",
            "overflow = 'never'",
            "host = 1",
        ] {
            assert!(load(text).is_err(), "{text}");
        }
    }
}
