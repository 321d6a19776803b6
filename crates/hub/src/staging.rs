//! A model on its way in: the file that its parts are appended to, and a record of which parts it holds.
//!
//! After each part the record says where it ends and what the digest of everything up to there is. A pull that was
//! killed, even in the middle of a write, goes on from the last part whose digest still holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::{Digest, hex};
use crate::manifest::write_whole;
use crate::progress::{Phase, Progress, Report};
use crate::{FolderFile, HubError};

const DATA: &str = "data.partial";
const RECORD: &str = "parts.json";

/// Folders for what is being downloaded start like this; they never outlive a pull.
const SCRATCH: &str = "fetch-";

/// The partial file of one model.
pub(crate) struct Staging {
    folder: PathBuf,
    data: PathBuf,
    file: File,
    record: Record,
    /// The digest of everything that the record covers.
    settled: Sha256,
    /// The most bytes that the whole may have, where known.
    limit: Option<u64>,
}

#[derive(Default, Serialize, Deserialize)]
struct Record {
    /// What is being fetched: parts of something else are of no use.
    source: String,
    parts: Vec<Settled>,
}

/// A part that is in the partial file.
#[derive(Serialize, Deserialize)]
struct Settled {
    /// Where it ends in the file.
    end: u64,
    /// SHA-256 of the file up to there.
    sha256: String,
    /// Bytes that were downloaded for it.
    fetched: u64,
}

impl Staging {
    /// Opens the partial file in `folder`, keeping the parts of `source` that are there and whole. The caller holds the
    /// model's lock.
    pub(crate) fn open(
        folder: &Path,
        source: &str,
        limit: Option<u64>,
        report: Report<'_>,
    ) -> Result<Staging, HubError> {
        fs::create_dir_all(folder).map_err(|error| HubError::io(folder, "create the folder", error))?;
        clear_scratch(folder)?;
        let data = folder.join(DATA);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&data)
            .map_err(|error| HubError::io(&data, "open", error))?;

        // A record that cannot be read is no record.
        let found: Option<Record> =
            fs::read(folder.join(RECORD)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut record = found.filter(|record| record.source == source).unwrap_or_default();
        record.source = source.to_owned();
        let (settled, n_whole) =
            verify(&mut file, &record.parts, report).map_err(|error| HubError::io(&data, "read", error))?;
        record.parts.truncate(n_whole);
        Ok(Staging { folder: folder.to_owned(), data, file, record, settled, limit })
    }

    /// How many parts are there.
    pub(crate) fn n_parts(&self) -> usize {
        self.record.parts.len()
    }

    /// Bytes of the model that are there.
    pub(crate) fn len(&self) -> u64 {
        self.record.parts.last().map_or(0, |part| part.end)
    }

    /// Bytes that the next part may have, where the size of the whole is known.
    pub(crate) fn room(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.len()))
    }

    /// Bytes that were downloaded for the parts that are there.
    pub(crate) fn fetched(&self) -> u64 {
        self.record.parts.iter().fold(0, |sum, part| sum.saturating_add(part.fetched))
    }

    /// A folder for one download, new and empty.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf, HubError> {
        let path = self.folder.join(format!("{SCRATCH}{}-{name}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| HubError::io(&path, "create the folder", error))?;
        Ok(path)
    }

    /// Begins the next part, at the end of the last whole one.
    pub(crate) fn part(&mut self) -> Result<Part<'_>, HubError> {
        let end = self.len();
        // What a part that was not finished left is written over, or cut off at the end.
        self.file.seek(SeekFrom::Start(end)).map_err(|error| HubError::io(&self.data, "write", error))?;
        Ok(Part { hasher: self.settled.clone(), end, staging: self })
    }

    /// Forgets everything that is there.
    pub(crate) fn clear(&mut self) -> Result<(), HubError> {
        self.record.parts.clear();
        self.settled = Sha256::new();
        self.save()
    }

    /// The digest of what is there.
    pub(crate) fn digest(&self) -> Digest {
        Digest::finished(self.settled.clone())
    }

    /// Where a part begins and ends.
    pub(crate) fn range(&self, i: usize) -> (u64, u64) {
        let end = |i: usize| self.record.parts.get(i).map_or(0, |part| part.end);
        (i.checked_sub(1).map_or(0, end), end(i))
    }

    /// Puts other bytes in the place of a part, if they are others; says whether they were.
    pub(crate) fn replace(&mut self, i: usize, bytes: &[u8]) -> Result<bool, HubError> {
        let fail = |error| HubError::io(&self.data, "write", error);
        let (start, end) = self.range(i);
        if end - start != bytes.len() as u64 {
            return Ok(false);
        }
        let mut there = vec![0; bytes.len()];
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.file.read_exact(&mut there))
            .map_err(fail)?;
        if there == bytes {
            return Ok(false);
        }
        self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.write_all(bytes)).map_err(fail)?;
        // Every digest from here on is of other bytes.
        self.settled = settle(&mut self.file, &mut self.record.parts).map_err(fail)?;
        self.save()?;
        Ok(true)
    }

    fn save(&self) -> Result<(), HubError> {
        let path = self.folder.join(RECORD);
        let text =
            serde_json::to_vec(&self.record).map_err(|error| HubError::io(&path, "write", error.into()))?;
        write_whole(&path, &text)
    }

    /// The digest and the length of the whole, and its first bytes.
    pub(crate) fn facts(&mut self) -> Result<(String, u64, Vec<u8>), HubError> {
        let mut head = Vec::new();
        let read =
            self.file.seek(SeekFrom::Start(0)).and_then(|_| (&self.file).take(4).read_to_end(&mut head));
        read.map_err(|error| HubError::io(&self.data, "read", error))?;
        Ok((hex(&self.settled.clone().finalize()), self.len(), head))
    }

    /// Puts the whole on the disk and at `place`, and removes the rest.
    pub(crate) fn install(self, place: &Path) -> Result<(), HubError> {
        let end = self.len();
        let fail = |error| HubError::io(place, "write", error);
        let longer = self.file.metadata().map_err(fail)?.len() > end;
        if longer {
            self.file.set_len(end).map_err(fail)?;
        }
        self.file.sync_all().map_err(fail)?;
        drop(self.file);
        fs::rename(&self.data, place).map_err(fail)?;
        remove_folder(&self.folder)
    }

    /// Cuts the whole into these files, puts them on the disk in the folder `place`, and removes the rest.
    pub(crate) fn install_folder(mut self, place: &Path, files: &[FolderFile]) -> Result<(), HubError> {
        let fail = |error| HubError::io(place, "write", error);
        // Beside its place, so that it can be renamed; what a pull before left there is of no use.
        let unfinished = place.with_extension("partial");
        remove_folder(&unfinished)?;
        remove_folder(place)?;
        self.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        for file in files {
            let path = unfinished.join(file.name);
            fs::create_dir_all(path.parent().unwrap_or(&unfinished)).map_err(fail)?;
            let copy = || {
                let mut to = File::create(&path)?;
                let copied = io::copy(&mut (&self.file).take(file.size), &mut to)?;
                to.sync_all().map(|()| copied)
            };
            if copy().map_err(fail)? != file.size {
                return Err(fail(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        fs::rename(&unfinished, place).map_err(fail)?;
        self.discard()
    }

    /// Removes everything.
    pub(crate) fn discard(self) -> Result<(), HubError> {
        drop(self.file);
        remove_folder(&self.folder)
    }
}

/// A part that is being appended. Dropped before it is settled, it leaves no trace.
pub(crate) struct Part<'a> {
    staging: &'a mut Staging,
    hasher: Sha256,
    end: u64,
}

impl Part<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.staging
            .file
            .write_all(bytes)
            .map_err(|error| HubError::io(&self.staging.data, "write", error))?;
        self.hasher.update(bytes);
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Records the part as whole; `fetched` bytes were downloaded for it.
    pub(crate) fn settle(self, fetched: u64) -> Result<(), HubError> {
        let Part { staging, hasher, end } = self;
        let sha256 = hex(&hasher.clone().finalize());
        staging.record.parts.push(Settled { end, sha256, fetched });
        staging.settled = hasher;
        staging.save()
    }
}

/// Reads the file again and counts the leading parts whose digests hold; gives the digest state after them.
fn verify(file: &mut File, parts: &[Settled], report: Report<'_>) -> io::Result<(Sha256, usize)> {
    let total = parts.last().map_or(0, |part| part.end);
    let mut whole = (Sha256::new(), 0);
    let (mut hasher, mut at) = (Sha256::new(), 0u64);
    let mut buffer = vec![0; 1 << 20];
    file.seek(SeekFrom::Start(0))?;
    for (i, part) in parts.iter().enumerate() {
        while at < part.end {
            let want = usize::try_from(part.end - at).unwrap_or(usize::MAX).min(buffer.len());
            let n = file.read(&mut buffer[..want])?;
            if n == 0 {
                return Ok(whole);
            }
            hasher.update(&buffer[..n]);
            at += n as u64;
            report(Progress {
                done: at,
                total: Some(total),
                parts_done: i,
                n_parts: parts.len(),
                ..Progress::new(Phase::Checking)
            });
        }
        if at != part.end || hex(&hasher.clone().finalize()) != part.sha256 {
            return Ok(whole);
        }
        whole = (hasher.clone(), i + 1);
    }
    Ok(whole)
}

/// Calculates the digests of all parts anew; gives the state after the last.
fn settle(file: &mut File, parts: &mut [Settled]) -> io::Result<Sha256> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    file.seek(SeekFrom::Start(0))?;
    for part in parts {
        while at < part.end {
            let want = usize::try_from(part.end - at).unwrap_or(usize::MAX).min(buffer.len());
            file.read_exact(&mut buffer[..want])?;
            hasher.update(&buffer[..want]);
            at += want as u64;
        }
        part.sha256 = hex(&hasher.clone().finalize());
    }
    Ok(hasher)
}

/// Removes what a killed pull was downloading.
fn clear_scratch(folder: &Path) -> Result<(), HubError> {
    let entries = fs::read_dir(folder).map_err(|error| HubError::io(folder, "list", error))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder and what is in it; one that is not there is fine.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), HubError> {
    // A download that was orphaned by a kill may still be writing into the folder while it is emptied.
    let mut last = fs::remove_dir_all(folder);
    for _ in 0..20 {
        match &last {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(std::time::Duration::from_millis(50));
                last = fs::remove_dir_all(folder);
            }
            _ => break,
        }
    }
    match last {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HubError::io(folder, "remove the folder", error))
        }
        _ => Ok(()),
    }
}
