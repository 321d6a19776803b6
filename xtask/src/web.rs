//! The web chat: its types, its tests, whether the embedded bundle is what its sources give, and the page in a real browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{data, shell};

/// Names and places of a Chromium; `CHROMIUM` names another.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const BROWSER_HINT: &str =
    "hint: install Chromium (apt-get install chromium on Debian), or set CHROMIUM to the path of one";

/// The whole step.
pub(crate) fn run() -> anyhow::Result<()> {
    let web = shell::root().join("web");
    install(&web)?;
    for script in ["check", "test", "verify"] {
        npm(&web, &["run", "--silent", script])?;
    }
    let chromium = chromium()?;
    let mut e2e = data::npm();
    e2e.args(["run", "--silent", "e2e"]).current_dir(&web).env("CHROMIUM", chromium);
    shell::run(&mut e2e)
}

/// The packages of the lock file, unless they are there already.
fn install(web: &Path) -> anyhow::Result<()> {
    if !shell::works(data::npm().arg("--version")) {
        bail!(
            "npm is not installed, and the web chat is built with it\n\nhint: install nodejs (20 or later) and npm"
        );
    }
    let lock = fs::read(web.join("package-lock.json")).context("web/package-lock.json")?;
    let stamp = web.join("node_modules/.installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    npm(web, &["ci", "--silent", "--no-audit", "--no-fund", "--no-update-notifier"])?;
    fs::write(&stamp, lock).context("cannot write into web/node_modules")
}

fn npm(web: &Path, args: &[&str]) -> anyhow::Result<()> {
    shell::run(data::npm().args(args).current_dir(web))
}

/// A Chromium's path; Debian's package is installed where there is none and we may.
fn chromium() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            bail!("CHROMIUM names {}, which is no file", path.display())
        };
    }
    if let Some(path) = find_browser() {
        return Ok(path);
    }
    let is_root = cfg!(unix) && shell::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root || !shell::works(Command::new("apt-get").arg("--version")) {
        bail!("no Chromium was found\n\n{BROWSER_HINT}");
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2");
        apt
    };
    shell::run(apt().arg("update"))?;
    shell::run(apt().args(["install", "--yes", "--no-install-recommends", "chromium"]))?;
    find_browser().with_context(|| format!("the package chromium brought no program\n\n{BROWSER_HINT}"))
}

fn find_browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    let names = BROWSERS.iter().map(|name| format!("{name}{}", std::env::consts::EXE_SUFFIX));
    names
        .flat_map(|name| folders.iter().map(move |folder| folder.join(&name)).collect::<Vec<_>>())
        .find(|path| path.is_file())
}
