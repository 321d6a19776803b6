//! The cache that the tools of the Hugging Face Hub share (huggingface.co/docs/huggingface_hub/guides/manage-cache):
//!
//! ```text
//! models--<owner>--<repo>/blobs/<etag>                   a file, by its digest
//!                         snapshots/<commit>/<path>      links to blobs
//!                         refs/<revision>                the commit that a branch or tag meant when it was asked for
//! .locks/models--<owner>--<repo>/<etag>.lock             held while a blob is fetched
//! ```
//!
//! Read and written as they do it. A fetch under way lies in `.whit/` of the repository, on the same disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::choose::{self, Choice};
use super::{HubName, is_name, is_path};
use crate::digest::Digest;
use crate::progress::Report;
use crate::staging::Staging;
use crate::store::hold;
use crate::{Extras, HubError, Manifest, Resolved, manifest};

/// How deep below a snapshot files are looked for.
const MAX_DEPTH: usize = 4;

/// A cache of the Hub.
pub(crate) struct HubCache {
    root: PathBuf,
}

/// Whether `text` is the name of a commit, or of a blob of git: 40 hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl HubCache {
    pub(crate) fn at(root: &Path) -> HubCache {
        HubCache { root: root.to_owned() }
    }

    fn repo(&self, name: &HubName) -> PathBuf {
        self.root.join(repo_folder(name))
    }

    fn blob(&self, name: &HubName, etag: &str) -> PathBuf {
        self.repo(name).join("blobs").join(etag)
    }

    pub(super) fn has_blob(&self, name: &HubName, etag: &str, size: u64) -> bool {
        fs::metadata(self.blob(name, etag)).is_ok_and(|facts| facts.is_file() && facts.len() == size)
    }

    /// The lock of a blob, the same that other tools take.
    pub(super) fn lock(&self, name: &HubName, etag: &str, report: Report<'_>) -> Result<File, HubError> {
        let folder = self.root.join(".locks").join(repo_folder(name));
        let path = folder.join(format!("{etag}.lock"));
        let opened = fs::create_dir_all(&folder)
            .and_then(|()| OpenOptions::new().write(true).create(true).truncate(false).open(&path));
        hold(opened.map_err(|error| HubError::io(&path, "open the lock file", error))?, &path, report)
    }

    pub(super) fn staging(
        &self,
        name: &HubName,
        etag: &str,
        size: u64,
        report: Report<'_>,
    ) -> Result<Staging, HubError> {
        Staging::open(&self.repo(name).join(".whit").join(etag), etag, Some(size), report)
    }

    /// Puts what was fetched among the blobs.
    pub(super) fn install(&self, name: &HubName, etag: &str, staging: Staging) -> Result<(), HubError> {
        let blob = self.blob(name, etag);
        create_parent(&blob)?;
        staging.install(&blob)?;
        // It stays while another fetch is in it.
        let _ = fs::remove_dir(self.repo(name).join(".whit"));
        Ok(())
    }

    /// Lets a snapshot have a blob under its path.
    pub(super) fn link(&self, name: &HubName, commit: &str, path: &str, etag: &str) -> Result<(), HubError> {
        let place = self.repo(name).join("snapshots").join(commit).join(path);
        if place.is_file() {
            return Ok(());
        }
        create_parent(&place)?;
        let up = "../".repeat(path.split('/').count() + 1);
        let linked = symlink(Path::new(&format!("{up}blobs/{etag}")), &place);
        let linked = match linked {
            // Another process was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && place.is_file() => Ok(()),
            // Where links are not allowed, the file itself goes there, as other tools do it.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) =>
            {
                fs::rename(self.blob(name, etag), &place)
            }
            linked => linked,
        };
        linked.map_err(|error| HubError::io(&place, "link", error))
    }

    /// Writes down which commit a revision is.
    pub(super) fn set_revision(&self, name: &HubName, commit: &str) -> Result<(), HubError> {
        if is_commit(name.revision()) {
            return Ok(());
        }
        let path = self.repo(name).join("refs").join(name.revision());
        create_parent(&path)?;
        manifest::write_whole(&path, commit.as_bytes())
    }

    /// The model, if it is here.
    pub(crate) fn find(&self, name: &HubName) -> Result<Option<Resolved>, HubError> {
        let revision = name.revision();
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => fs::read_to_string(self.repo(name).join("refs").join(revision)).unwrap_or_default(),
        };
        let commit = commit.trim();
        if !is_commit(commit) {
            return Ok(None);
        }
        let snapshot = self.repo(name).join("snapshots").join(commit);
        let files = files(&snapshot);
        let paths: Vec<&str> = files.iter().map(String::as_str).collect();
        let Ok(chosen) = choose::choose(&paths, name.which.as_deref()) else { return Ok(None) };
        Ok(Some(resolved(&format!("hf:{name}"), &snapshot, &chosen)))
    }

    /// The models of the cache, each by the branch or tag that it was asked for by.
    pub(crate) fn list(&self) -> Vec<Manifest> {
        let mut found = Vec::new();
        for repo in entries(&self.root) {
            let Some((owner, name)) = repo.strip_prefix("models--").and_then(|rest| rest.split_once("--"))
            else {
                continue;
            };
            if !is_name(owner) || !is_name(name) {
                continue;
            }
            let folder = self.root.join(&repo);
            for revision in files(&folder.join("refs")) {
                let commit = fs::read_to_string(folder.join("refs").join(&revision)).unwrap_or_default();
                let commit = commit.trim();
                if !is_commit(commit) {
                    continue;
                }
                let snapshot = folder.join("snapshots").join(commit);
                let paths = files(&snapshot);
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                let suffix = if revision == super::MAIN { String::new() } else { format!("@{revision}") };
                for path in &paths {
                    if let Ok(chosen) = choose::choose(&paths, Some(path)) {
                        let name = format!("hf:{owner}/{name}:{path}{suffix}");
                        found.extend(resolved(&name, &snapshot, &chosen).manifest);
                    }
                }
                if let Ok(chosen @ Choice::Folder(_)) = choose::choose(&paths, None) {
                    let name = format!("hf:{owner}/{name}{suffix}");
                    found.extend(resolved(&name, &snapshot, &chosen).manifest);
                }
            }
        }
        found
    }
}

fn repo_folder(name: &HubName) -> String {
    format!("models--{}--{}", name.owner, name.repo)
}

/// What is known of a model of a snapshot.
fn resolved(name: &str, snapshot: &Path, chosen: &Choice<'_>) -> Resolved {
    let size = |file: &&str| fs::metadata(snapshot.join(file)).map_or(0, |facts| facts.len());
    let (path, size) = match chosen {
        Choice::Gguf(files) => {
            let path = snapshot.join(files.first().copied().unwrap_or_default());
            let size = fs::metadata(&path).map_or(0, |facts| facts.len());
            (path, size)
        }
        Choice::Folder(files) => (snapshot.to_owned(), files.iter().map(size).sum()),
    };
    // The blob's name is the digest, where the file is kept outside of git. A folder is many.
    let blob = fs::canonicalize(&path).ok();
    let digest = blob.as_deref().and_then(Path::file_name).and_then(|name| Digest::from_hex(name.to_str()?));
    let modified = fs::metadata(&path).and_then(|facts| facts.modified()).ok();
    let manifest = Manifest {
        name: name.to_owned(),
        source: name.to_owned(),
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        size,
        sha256: digest.map_or_else(String::new, |digest| digest.hex().to_owned()),
        licence: None,
        parameters: None,
        description: None,
        pulled: manifest::time(modified),
        extras: Extras::default(),
    };
    Resolved { path, name: name.to_owned(), manifest: Some(manifest) }
}

fn create_parent(path: &Path) -> Result<(), HubError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|error| HubError::io(folder, "create the folder", error))
}

/// Names in a folder that are text; none where there is no folder.
fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Paths of the files below a folder, with plain names.
fn files(folder: &Path) -> Vec<String> {
    fn visit(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
        for name in entries(folder) {
            let path = format!("{prefix}{name}");
            let place = folder.join(&name);
            match fs::metadata(&place) {
                Ok(facts) if facts.is_dir() && depth > 1 => {
                    visit(&place, &format!("{path}/"), depth - 1, found)
                }
                Ok(facts) if facts.is_file() && is_path(&path) => found.push(path),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    visit(folder, "", MAX_DEPTH, &mut found);
    found
}

#[cfg(unix)]
fn symlink(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(windows)]
fn symlink(to: &Path, at: &Path) -> io::Result<()> {
    // Error 1314: links need a privilege that few users have.
    std::os::windows::fs::symlink_file(to, at).map_err(|error| match error.raw_os_error() {
        Some(1314) => io::Error::from(io::ErrorKind::PermissionDenied),
        _ => error,
    })
}
