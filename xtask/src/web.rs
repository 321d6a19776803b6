//! The step `web`: the web chat's types and tests, whether the embedded bundle is what its sources give, and the page in a real
//! browser, on a running server with a real model. The tests themselves are in `web/tests/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::serving::{self, SMOLLM2, Server};
use crate::{apt, data, shell};

/// Names of a Chromium; `CHROMIUM` may be the path of another.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const BROWSER_HINT: &str =
    "hint: install Chromium (apt-get install chromium on Debian), or set CHROMIUM to the path of one";
/// The browser resolves these names to this machine, so that the tests have pages of other origins.
const ALLOWED_ORIGIN: &str = "http://friend.example:*";

pub(crate) fn run() -> anyhow::Result<()> {
    let web = shell::root().join("web");
    install(&web)?;
    for script in ["check", "test", "verify"] {
        npm(&web, &["run", "--silent", script])?;
    }
    let chromium = chromium()?;
    let program = serving::build()?;
    let server = Server::start(&program, &[SMOLLM2], &["--origin", ALLOWED_ORIGIN])?;
    let mut e2e = Command::new("node");
    e2e.arg("tests/e2e.mjs").current_dir(&web);
    e2e.env("CHROMIUM", chromium).env("WHIT_URL", server.url()).env("WHIT_MODEL", SMOLLM2);
    let result = shell::run(&mut e2e).context("screenshots are in web/shots");
    server.end(result)
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
        if !path.is_file() {
            bail!("CHROMIUM names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    if let Some(path) = find_browser() {
        return Ok(path);
    }
    apt::install(&["chromium"], BROWSER_HINT)?;
    find_browser().with_context(|| format!("the package chromium brought no program\n\n{BROWSER_HINT}"))
}

fn find_browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let paths = std::env::split_paths(&folders).flat_map(|folder| {
        BROWSERS.map(|name| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
    });
    paths.into_iter().find(|path| path.is_file())
}
