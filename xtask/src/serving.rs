//! A running server for the steps that want one: the release program, real models that its own `pull` fetched, a home of
//! its own, a port that the system chose. Also the Python and Node packages of such steps.
//!
//! Everything lies below the folder of test data, so a second run downloads nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::data::{self, Staging};
use crate::shell;

/// Small and quick; knows no tools.
pub(crate) const SMOLLM2: &str = "smollm2:135m";
/// Knows tools and code, and fills in the middle.
pub(crate) const QWEN: &str = "qwen2.5-coder:0.5b";

/// A server that does not listen by then never will.
const START: Duration = Duration::from_secs(60);
/// Lines of the server's standard error that are shown when a step fails.
const SHOWN_LINES: usize = 40;

/// Builds the release program and gives its path.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    Ok(built(&["--package", "whit"])?.join(format!("whit{}", std::env::consts::EXE_SUFFIX)))
}

/// Builds what the arguments name, in release mode, and gives the folder in which it lies.
pub(crate) fn built(args: &[&str]) -> anyhow::Result<PathBuf> {
    shell::run(&mut shell::cargo(&[&["build", "--release"], args].concat()))?;
    let text = shell::output(&mut shell::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join("release"))
}

/// A `whit serve`. Dropping it kills it; [`end`](Self::end) also says how it fared.
pub(crate) struct Server {
    child: Child,
    url: String,
    /// Its `WHIT_HOME`.
    home: Staging,
}

impl Server {
    /// Starts a server with these models of the catalog and nothing else; `args` follow `whit serve`. Returns when it
    /// listens.
    pub(crate) fn start(program: &Path, models: &[&str], args: &[&str]) -> anyhow::Result<Self> {
        let data = data::existing_folder()?;
        let store = data.join("home");
        let home = Staging::new(&data)?;
        for model in models {
            link_model(program, &store, &home.path, model)?;
        }
        let log = File::create(log_path(&home)).context("cannot make the server's log")?;
        let mut command = whit(program, &home.path);
        command.args(["serve", "--host", "127.0.0.1:0"]).args(args).stdin(Stdio::null()).stderr(log);
        let line = shell::line_of(&command);
        eprintln!("$ {line}");
        let child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        let mut server = Self { child, url: String::new(), home };
        let begin = Instant::now();
        while server.url.is_empty() {
            if server.child.try_wait()?.is_some() || begin.elapsed() > START {
                return server
                    .end(Err(anyhow::anyhow!("`{line}` does not listen")))
                    .and(Err(anyhow::anyhow!("it ended without an error")));
            }
            thread::sleep(Duration::from_millis(10));
            // A line counts once it is whole.
            let log = server.log();
            let listening = log.split_inclusive('\n').find_map(|line| {
                line.strip_suffix('\n').and_then(|line| line.split_once("listening on ")).map(|parts| parts.1)
            });
            server.url = listening.unwrap_or_default().trim().to_owned();
        }
        Ok(server)
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its process, for those who look at its memory.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server, and gives `result` of what was done with it; an error too if it had ended already, or a thread of it
    /// panicked. On an error, shows the last that it said.
    pub(crate) fn end(mut self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        let log = self.log();
        let panic = log.lines().find(|line| line.contains("panicked at"));
        let result = match (result, ended, panic) {
            (Err(error), ..) => Err(error),
            (Ok(()), _, Some(line)) => Err(anyhow::anyhow!("the server panicked: {line}")),
            (Ok(()), Some(status), None) => Err(anyhow::anyhow!("the server ended by itself ({status})")),
            (Ok(()), None, None) => Ok(()),
        };
        if result.is_err() {
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                eprintln!("whit serve: {line}");
            }
        }
        result
    }

    /// What it said on standard error.
    fn log(&self) -> String {
        fs::read(log_path(&self.home))
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_path(home: &Staging) -> PathBuf {
    home.path.join("serve.log")
}

/// The program in a home, deaf to settings of whoever runs the tests. How it computes stays theirs to choose.
fn whit(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_setting = text.starts_with("WHIT_") || text.starts_with("OLLAMA_");
        if is_setting && !["WHIT_CPU_LEVEL", "WHIT_THREADS", "WHIT_PIP"].contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command.env("WHIT_HOME", home);
    command
}

/// The folder of a model in the store, where it is pulled to if it is not there.
fn pulled(program: &Path, store: &Path, below: &Path, model: &str) -> anyhow::Result<PathBuf> {
    let folder = store.join(below);
    if !folder.join("manifest.json").is_file() {
        shell::run(whit(program, store).args(["pull", model]))?;
    }
    Ok(folder)
}

/// Where a model of the catalog lies below a home.
fn below(model: &str) -> anyhow::Result<PathBuf> {
    let (name, tag) = model.split_once(':').with_context(|| format!("`{model}` has no tag"))?;
    Ok(Path::new("models").join(name).join(tag))
}

/// The file of a model of the catalog, for programs that want a path.
pub(crate) fn model_file(program: &Path, model: &str) -> anyhow::Result<PathBuf> {
    let folder = pulled(program, &data::existing_folder()?.join("home"), &below(model)?, model)?;
    let mut paths = fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .with_context(|| format!("{} holds no model", folder.display()))
}

/// Puts a model into `home`: linked, so that a test may delete it.
fn link_model(program: &Path, store: &Path, home: &Path, model: &str) -> anyhow::Result<()> {
    let below = below(model)?;
    let (from, to) = (pulled(program, store, &below, model)?, home.join(&below));
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
        let (from, to) = (entry?.path(), &to);
        let to = to.join(from.file_name().unwrap_or_default());
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// A Python with the packages of a requirements file, in an environment of its own.
pub(crate) fn python_with(requirements: &Path) -> anyhow::Result<PathBuf> {
    let python = data::python()?;
    let text = fs::read(requirements).with_context(|| requirements.display().to_string())?;
    let version = shell::output(Command::new(python).arg("--version"))?;
    let folder = data::existing_folder()?.join("python").join(key(&[&text, version.as_bytes()]));
    let inside = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    once(&folder, || {
        shell::run(Command::new(python).args(["-m", "venv"]).arg(&folder)).context(
            "cannot make a virtual environment\n\nhint: install Python's venv module (python3-venv on Debian)",
        )?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"];
        shell::run(Command::new(&inside).args(install).arg(requirements))
    })?;
    Ok(inside)
}

/// The `node_modules` of a folder's package.json and package-lock.json.
pub(crate) fn node_modules(folder: &Path) -> anyhow::Result<PathBuf> {
    if !shell::works(Command::new("node").arg("--version")) || !shell::works(data::npm().arg("--version")) {
        bail!(
            "Node with npm is not installed, and this step runs clients in it\n\nhint: install nodejs and npm"
        );
    }
    let files = ["package.json", "package-lock.json"];
    let texts = files.map(|name| fs::read(folder.join(name)));
    let [manifest, lock] = texts.map(|text| text.with_context(|| folder.display().to_string()));
    let (manifest, lock) = (manifest?, lock?);
    let target = data::existing_folder()?.join("node").join(key(&[&manifest, &lock]));
    once(&target, || {
        fs::create_dir_all(&target)?;
        fs::write(target.join(files[0]), &manifest)?;
        fs::write(target.join(files[1]), &lock)?;
        let args = ["ci", "--silent", "--no-audit", "--no-fund", "--no-update-notifier"];
        shell::run(data::npm().args(args).current_dir(&target))
    })?;
    Ok(target.join("node_modules"))
}

/// The name of a folder whose content follows from `parts`.
fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fills a folder, unless an earlier run did so to the end; two runs at once wait for each other.
fn once(folder: &Path, fill: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let done = folder.join(".complete");
    if done.is_file() {
        return Ok(());
    }
    let parent = folder.parent().context("a folder at the root")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    if !done.is_file() {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fill()?;
        fs::write(&done, "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_parts_apart() {
        let keys = [key(&[b"ab", b"c"]), key(&[b"a", b"bc"]), key(&[b"abc"]), key(&[b"abc", b""])];
        let mut distinct = keys.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(key(&[b"abc"]), key(&[b"abc"]));
    }

    #[test]
    fn a_folder_is_filled_once_and_after_a_failure_anew() -> anyhow::Result<()> {
        let staging = Staging::new(&std::env::temp_dir())?;
        let folder = staging.path.join("below/it");
        let fill = |result: anyhow::Result<()>| {
            once(&folder, || {
                fs::create_dir(&folder)?;
                fs::write(folder.join("file"), "")?;
                result
            })
        };
        assert!(fill(Err(anyhow::anyhow!("no network"))).is_err());
        fill(Ok(()))?;
        assert!(once(&folder, || bail!("filled twice")).is_ok());
        Ok(())
    }
}
