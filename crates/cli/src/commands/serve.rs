//! `whit serve`: the server, until it is told to stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum as _;
use whit_engine::{CacheSize, EngineOptions};
use whit_hub::Reference;
use whit_server::{ApiKey, KeepAlive, OverflowPolicy, Scope, Server, ServerConfig};

use crate::arguments::{EngineArguments, SpeculationArguments};
use crate::failure::Usage;
use crate::log::Format;
use crate::{Global, models};

/// Answer clients of Ollama, OpenAI and Anthropic, with a chat in the browser
///
/// Serves every model of the store, loading each when it is asked for. Settings come from the settings file, then the
/// environment (WHIT_HOST, WHIT_ORIGINS, WHIT_KEEP_ALIVE, WHIT_NUM_PARALLEL, WHIT_MAX_QUEUE, WHIT_CONTEXT_LENGTH, or the
/// same with OLLAMA_; WHIT_CACHE_TOKENS, WHIT_MEMORY_MB, WHIT_MAX_WAIT, WHIT_TLS_CERT, WHIT_TLS_KEY, WHIT_API_KEYS), then
/// these flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// GGUF files and model folders to serve from where they lie, each as NAME=PATH or PATH (its name is then that of the file)
    #[arg(value_name = "FILE")]
    files: Vec<String>,

    /// Where to listen [default: 127.0.0.1:11434]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,

    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A key that callers must show; may be given several times
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,

    /// A key that opens models, but not what changes them
    #[arg(long, value_name = "KEY")]
    inference_key: Vec<String>,

    /// Listen on addresses that others can reach without asking for a key
    #[arg(long)]
    allow_remote_without_key: bool,

    /// A page of another origin that may call, such as `https://chat.example`; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,

    /// A name by which this server may be called, beside localhost and its address
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// How long an idle model stays loaded; negative: for ever [default: 5m]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    keep_alive: Option<String>,

    /// Requests that run at the same time on one model [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: Option<u16>,

    /// Requests that may wait for a model; more are turned away [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_queue: Option<u16>,

    /// Tokens of context for a request that asks for no other number [default: what the model was trained for, as far as
    /// the cache holds it]
    #[arg(long, short, value_name = "TOKENS")]
    ctx: Option<usize>,

    /// Tokens that all requests of a model together may hold in its cache [default: 1024 for each that may run, or one
    /// whole context if that is more, within 512 MiB or the size of the model, and a quarter of the memory]
    #[arg(long, value_name = "TOKENS")]
    cache_tokens: Option<usize>,

    /// MiB that the loaded models may take together [default: what the machine has free]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,

    /// What happens to a conversation that outgrows the context: error, drop_oldest or shift [default: error]
    #[arg(long, value_name = "POLICY")]
    overflow: Option<String>,

    /// Refuse options that are not known, instead of ignoring them with a warning
    #[arg(long)]
    strict: bool,

    /// Seconds that a request may wait for room for its model while others are in use [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=86_400))]
    max_wait: Option<u32>,

    /// Certificate chain (PEM): answer over HTTPS alone
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// How the log on standard error is written [default: text] [env: WHIT_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,

    /// Write prompts into the log, which never holds them otherwise
    #[arg(long)]
    log_prompts: bool,

    /// Seconds that running answers get to finish when the server is told to stop [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16))]
    grace: Option<u16>,

    /// A small model with the same tokens that drafts for another; may be given several times
    #[arg(long, value_name = "MODEL=DRAFT", help_heading = "Speculation options", value_parser = draft)]
    draft: Vec<(String, String)>,

    #[command(flatten)]
    speculation: SpeculationArguments,

    #[command(flatten)]
    engine: EngineArguments,
}

fn draft(text: &str) -> Result<(String, String), String> {
    let names = text.split_once('=').filter(|(name, draft)| !name.is_empty() && !draft.is_empty());
    let (name, draft) = names.ok_or_else(|| "write the names of both: MODEL=DRAFT".to_owned())?;
    Ok((name.to_owned(), draft.to_owned()))
}

impl Arguments {
    /// What the flag asks for, or else the environment; a variable that is set to nothing asks for nothing.
    pub(crate) fn log_format(&self) -> Result<Format, Usage> {
        let variable = || std::env::var("WHIT_LOG_FORMAT").ok().filter(|value| !value.is_empty());
        match (self.log_format, variable()) {
            (Some(format), _) => Ok(format),
            (None, Some(text)) => Format::from_str(&text, true)
                .map_err(|_| Usage("WHIT_LOG_FORMAT: choose text or json".to_owned())),
            (None, None) => Ok(Format::default()),
        }
    }
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let config = config(arguments)?;
    let server = Server::start(config, models::served(global)?)?;
    note!("listening on {}", server.url());
    server.run_until_signal();
    Ok(())
}

/// The settings: file, environment, flags.
fn config(arguments: &Arguments) -> Result<ServerConfig> {
    let mut config = ServerConfig::load(arguments.config.as_deref(), |name| std::env::var(name).ok())?;
    let cache = arguments.cache_tokens.map_or(config.engine.cache, CacheSize::Tokens);
    let ctx = arguments.ctx.or(config.engine.ctx);
    let speculation = arguments.speculation.speculation(config.engine.speculation);
    let cache_type = arguments.engine.cache_type.unwrap_or(config.engine.cache_type);
    config.engine = EngineOptions { cache, cache_type, speculation, ..arguments.engine.options(ctx)? };
    config.drafts.extend(arguments.draft.iter().cloned());
    config.memory = arguments.memory.map(|mb| mb.saturating_mul(1 << 20)).or(config.memory);
    let usage = |error: whit_server::ConfigError| Usage(error.to_string());
    if let Some(host) = &arguments.host {
        config.set_host(host).map_err(usage)?;
    }
    config.keys.extend(arguments.api_key.iter().map(|key| ApiKey::new(key, Scope::Admin)));
    config.keys.extend(arguments.inference_key.iter().map(|key| ApiKey::new(key, Scope::Inference)));
    config.allow_remote_without_key |= arguments.allow_remote_without_key;
    config.origins.extend(arguments.origin.iter().cloned());
    config.hosts.extend(arguments.allow_host.iter().cloned());
    if let Some(text) = &arguments.keep_alive {
        config.keep_alive = KeepAlive::parse(text).map_err(usage)?;
    }
    config.num_parallel = arguments.parallel.map_or(config.num_parallel, usize::from);
    config.max_queue = arguments.max_queue.map_or(config.max_queue, usize::from);
    if let Some(text) = &arguments.overflow {
        config.overflow = OverflowPolicy::parse(text).map_err(usage)?;
    }
    config.strict |= arguments.strict;
    config.max_wait =
        arguments.max_wait.map_or(config.max_wait, |seconds| Duration::from_secs(seconds.into()));
    config.set_tls(arguments.tls_cert.clone(), arguments.tls_key.clone()).map_err(usage)?;
    config.log_prompts |= arguments.log_prompts;
    config.grace = arguments.grace.map_or(config.grace, |seconds| Duration::from_secs(seconds.into()));
    for file in &arguments.files {
        config.files.push(named(file)?);
    }
    Ok(config)
}

/// `NAME=PATH`, or a path alone.
fn named(text: &str) -> Result<(String, PathBuf), Usage> {
    if let Some((name, path)) = text.split_once('=')
        && matches!(name.parse::<Reference>(), Ok(Reference::Name(..)))
    {
        return Ok((name.to_lowercase(), path.into()));
    }
    let stem = Path::new(text).file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    match stem.parse::<Reference>() {
        Ok(Reference::Name(..)) => Ok((stem, text.into())),
        _ => Err(Usage(format!("`{text}` makes no name for a model; write NAME={text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_get_names() {
        for (text, expected) in [
            ("tiny=/m/a.gguf", Some(("tiny", "/m/a.gguf"))),
            ("/m/SmolLM2.gguf", Some(("smollm2", "/m/SmolLM2.gguf"))),
            ("qwen2.5:0.5b=x.gguf", Some(("qwen2.5:0.5b", "x.gguf"))),
            ("/m/a b.gguf", None),
            ("", None),
        ] {
            let got = named(text).ok();
            let got = got.as_ref().map(|(name, path)| (name.as_str(), path.to_str().unwrap_or_default()));
            assert_eq!(got, expected, "{text}");
        }
    }
}
