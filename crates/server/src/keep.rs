//! What the server keeps for its clients, below `WHIT_HOME/server/<kind>/`: documents in JSON, and the bytes that may
//! belong to one. Everything is bounded in number and size, and is put in its place whole or not at all.
//!
//! All of it blocks. One process at a time is the keeper of a folder; another that serves from the same home may read and
//! write, but leaves what is half done alone. Left out: what the documents mean, and searching them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Ends the names of documents.
const DOCUMENT: &str = "json";
/// Ends the names of what belongs to a document.
const DATA: &str = "data";
/// Begins the names of what is not yet in its place.
const PARTIAL: &str = ".partial-";
const LOCK: &str = ".lock";

/// How much is kept of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Documents.
    pub(crate) n_documents: usize,
    /// Bytes of one document, and of the data of one.
    pub(crate) one: u64,
    /// Bytes of all.
    pub(crate) total: u64,
    pub(crate) when_full: WhenFull,
    /// Wait until it is on the disk, so that it outlives a power failure. A killed process loses nothing either way.
    pub(crate) durable: bool,
}

impl Limits {
    fn full(&self) -> ApiError {
        let Limits { n_documents, total, .. } = self;
        ApiError::BadRequest(format!(
            "there is no room for more: at most {n_documents} of this kind are kept, of {} MB together; delete some",
            total >> 20
        ))
    }
}

/// What happens to one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It is refused.
    Refuse,
    /// The one with the lowest id goes: with ids of [`new_id`], the oldest.
    DropOldest,
}

/// An id that sorts after those made before it, e.g. `batch_0193…`: milliseconds since 1970, then something random.
pub(crate) fn new_id(prefix: &str) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    // Two of one millisecond would be in no order: the second borrows from the next.
    let before = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    let time = now.max(before.unwrap_or_else(|last| last) + 1);
    let random = RandomState::new().hash_one(prefix);
    format!("{prefix}{time:012x}{random:016x}")
}

/// Documents of one kind.
#[derive(Debug)]
pub(crate) struct Keep {
    folder: PathBuf,
    limits: Limits,
    /// Id to bytes, document and data together.
    sizes: Mutex<BTreeMap<String, u64>>,
    /// Held for as long as this process is the keeper.
    lock: Option<File>,
}

impl Keep {
    /// Opens a folder, and makes it if it is not there. One that cannot be had is said in the log; then there is nothing,
    /// and nothing can be put.
    pub(crate) fn open(folder: PathBuf, limits: Limits) -> Keep {
        let (sizes, lock) = prepare(&folder).unwrap_or_else(|error| {
            tracing::error!(folder = %folder.display(), %error, "nothing can be kept here");
            (BTreeMap::new(), None)
        });
        Keep { folder, limits, sizes: Mutex::new(sizes), lock }
    }

    /// Whether this process is the one that looks after what is half done.
    pub(crate) fn is_keeper(&self) -> bool {
        self.lock.is_some()
    }

    /// The ids, those that sort last first: with ids of [`new_id`], the newest.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.sizes().keys().rev().cloned().collect()
    }

    /// A document; `None` when there is none of this id.
    pub(crate) fn get<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>, ApiError> {
        if !is_id(id) {
            return Ok(None);
        }
        match fs::read(self.path(id, DOCUMENT)) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| failed("read", id, &error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", id, &error)),
        }
    }

    /// Writes a document, in the place of an earlier one of the same id.
    pub(crate) fn put(&self, id: &str, document: &impl Serialize) -> Result<(), ApiError> {
        let text = serde_json::to_vec(document).map_err(|error| failed("write", id, &error.into()))?;
        let mut new = self.create(id)?;
        new.append(&text)?;
        self.install(new, DOCUMENT)
    }

    /// Begins the data of a document. It comes before the document: without one it is not kept.
    pub(crate) fn create(&self, id: &str) -> Result<New, ApiError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if !is_id(id) {
            return Err(ApiError::BadRequest(
                "an id has 8 to 80 of the characters a-z, 0-9, - and _".to_owned(),
            ));
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{PARTIAL}{}-{number}", std::process::id()));
        let file = File::create_new(&path).map_err(|error| failed("write", id, &error))?;
        Ok(New { id: id.to_owned(), limits: self.limits, file, path, n_written: 0 })
    }

    /// Puts data in its place.
    pub(crate) fn finish(&self, new: New) -> Result<(), ApiError> {
        self.install(new, DATA)
    }

    /// The data of a document, to be read.
    pub(crate) fn data(&self, id: &str) -> Result<Option<File>, ApiError> {
        if !is_id(id) {
            return Ok(None);
        }
        match File::open(self.path(id, DATA)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", id, &error)),
        }
    }

    /// The data of a document that is there, to be read and appended to.
    pub(crate) fn journal(&self, id: &str) -> Result<File, ApiError> {
        if !self.sizes().contains_key(id) {
            return Err(ApiError::NotFound(format!("there is no `{id}`")));
        }
        let opened = OpenOptions::new().read(true).append(true).create(true).open(self.path(id, DATA));
        opened.map_err(|error| failed("write", id, &error))
    }

    /// Removes a document and its data; false when there is none.
    pub(crate) fn delete(&self, id: &str) -> Result<bool, ApiError> {
        let mut sizes = self.sizes();
        if sizes.remove(id).is_none() {
            return Ok(false);
        }
        self.remove(id)?;
        Ok(true)
    }

    /// Removes the data of a document.
    pub(crate) fn delete_data(&self, id: &str) -> Result<(), ApiError> {
        let mut sizes = self.sizes();
        let Some(size) = sizes.get_mut(id) else { return Ok(()) };
        remove_file(&self.path(id, DATA)).map_err(|error| failed("delete", id, &error))?;
        *size = size_of(&self.path(id, DOCUMENT));
        Ok(())
    }

    /// The document goes first: data without one is removed at the next start.
    fn remove(&self, id: &str) -> Result<(), ApiError> {
        let gone = remove_file(&self.path(id, DOCUMENT)).and_then(|()| remove_file(&self.path(id, DATA)));
        gone.map_err(|error| failed("delete", id, &error))
    }

    /// Puts what was written in its place.
    fn install(&self, new: New, extension: &str) -> Result<(), ApiError> {
        let fail = |error: io::Error| failed("write", &new.id, &error);
        if self.limits.durable {
            new.file.sync_all().map_err(fail)?;
        }
        let mut sizes = self.sizes();
        let other = if extension == DATA { DOCUMENT } else { DATA };
        let size = new.n_written + size_of(&self.path(&new.id, other));
        self.make_room(&mut sizes, &new.id, size)?;
        fs::rename(&new.path, self.path(&new.id, extension)).map_err(fail)?;
        // A name is in its folder for good once the folder is on the disk. Windows has no such call.
        if self.limits.durable && cfg!(unix) {
            File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
        }
        sizes.insert(new.id.clone(), size);
        Ok(())
    }

    /// Makes sure that `id` may have `size` bytes.
    fn make_room(&self, sizes: &mut BTreeMap<String, u64>, id: &str, size: u64) -> Result<(), ApiError> {
        loop {
            let others = || sizes.iter().filter(|(other, _)| *other != id);
            let total: u64 = others().map(|(_, size)| size).sum();
            if others().count() < self.limits.n_documents && total + size <= self.limits.total {
                return Ok(());
            }
            let oldest = others().map(|(other, _)| other).next().cloned();
            match oldest.filter(|_| self.limits.when_full == WhenFull::DropOldest) {
                Some(oldest) => {
                    sizes.remove(&oldest);
                    self.remove(&oldest)?;
                }
                None => return Err(self.limits.full()),
            }
        }
    }

    fn path(&self, id: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }

    fn sizes(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is being written. Dropped before it is in its place, it leaves nothing.
#[derive(Debug)]
pub(crate) struct New {
    id: String,
    limits: Limits,
    file: File,
    path: PathBuf,
    n_written: u64,
}

impl New {
    /// Appends, within the limits.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        let n_written = self.n_written + bytes.len() as u64;
        if n_written > self.limits.one {
            return Err(ApiError::TooLarge { limit: usize::try_from(self.limits.one).unwrap_or(usize::MAX) });
        }
        self.file.write_all(bytes).map_err(|error| failed("write", &self.id, &error))?;
        self.n_written = n_written;
        Ok(())
    }

    /// Whose data it becomes.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Bytes so far.
    pub(crate) fn n_written(&self) -> u64 {
        self.n_written
    }
}

impl io::Write for New {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // Gone already when it has been put in its place.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the lock, clears away what a killed process left, and reads what there is.
fn prepare(folder: &Path) -> io::Result<(BTreeMap<String, u64>, Option<File>)> {
    fs::create_dir_all(folder)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(LOCK))?;
    let lock = lock.try_lock().is_ok().then_some(lock);
    let mut sizes = BTreeMap::new();
    let mut data = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(PARTIAL) && lock.is_some() {
            fs::remove_file(entry.path())?;
        }
        match name.rsplit_once('.') {
            Some((id, DOCUMENT)) if is_id(id) => {
                sizes.insert(id.to_owned(), entry.metadata()?.len());
            }
            Some((id, DATA)) if is_id(id) => data.push((id.to_owned(), entry.metadata()?.len())),
            _ => {}
        }
    }
    for (id, size) in data {
        match sizes.get_mut(&id) {
            Some(sum) => *sum += size,
            None if lock.is_some() => fs::remove_file(folder.join(format!("{id}.{DATA}")))?,
            None => {}
        }
    }
    Ok((sizes, lock))
}

/// Whether this can be an id. It is to be a file's name on any system: of one case, and longer than the names of devices.
fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    (8..=80).contains(&id.len()) && id.bytes().all(plain)
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(what: &str, id: &str, error: &io::Error) -> ApiError {
    tracing::error!(id, %error, "cannot {what} what is kept");
    ApiError::Internal(format!("the server could not {what} `{id}`; its log says more"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::io::Read as _;

    use serde_json::{Value, json};

    use super::*;

    const LIMITS: Limits =
        Limits { n_documents: 3, one: 100, total: 150, when_full: WhenFull::Refuse, durable: true };

    fn open(limits: Limits) -> (Keep, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Keep::open(folder.path().join("kind"), limits), folder)
    }

    fn read(keep: &Keep, id: &str) -> Option<Value> {
        keep.get(id).unwrap()
    }

    #[test]
    fn documents_come_back_also_after_a_restart() {
        let (keep, folder) = open(LIMITS);
        keep.put("chat_0001", &json!({"a": 1})).unwrap();
        keep.put("chat_0002", &json!({"a": 2})).unwrap();
        keep.put("chat_0001", &json!({"a": 3})).unwrap();
        assert_eq!(keep.ids(), ["chat_0002", "chat_0001"]);
        assert_eq!(read(&keep, "chat_0001"), Some(json!({"a": 3})));
        assert!(keep.delete("chat_0002").unwrap());
        assert!(!keep.delete("chat_0002").unwrap());
        drop(keep);
        let keep = Keep::open(folder.path().join("kind"), LIMITS);
        assert_eq!((keep.ids(), read(&keep, "chat_0002")), (vec!["chat_0001".to_owned()], None));
        assert_eq!(read(&keep, "chat_0001"), Some(json!({"a": 3})));
    }

    #[test]
    fn ids_are_no_paths() {
        let (keep, folder) = open(LIMITS);
        fs::write(folder.path().join("outside.json"), "1").unwrap();
        for id in
            ["../outside", "outside/../../x", "", "short", "CAPITALS1", "with.dots", "nul", &"x".repeat(81)]
        {
            assert_eq!(read(&keep, id), None, "{id}");
            assert!(keep.put(id, &json!(1)).is_err(), "{id}");
            assert!(keep.data(id).unwrap().is_none() && keep.journal(id).is_err(), "{id}");
            assert!(!keep.delete(id).unwrap(), "{id}");
        }
    }

    #[test]
    fn limits_hold() {
        let text = |n: usize| Value::String("x".repeat(n));
        let (keep, _folder) = open(LIMITS);
        assert!(matches!(keep.put("document1", &text(99)), Err(ApiError::TooLarge { limit: 100 })));
        keep.put("document1", &text(98)).unwrap();
        // 100 bytes and 51 are too many; in place of the first they are not.
        assert!(matches!(keep.put("document2", &text(49)), Err(ApiError::BadRequest(_))));
        keep.put("document1", &text(49)).unwrap();
        keep.put("document2", &text(49)).unwrap();
        keep.put("document3", &json!(1)).unwrap();
        assert!(matches!(keep.put("document4", &json!(1)), Err(ApiError::BadRequest(_))));

        let (keep, _folder) = open(Limits { when_full: WhenFull::DropOldest, ..LIMITS });
        for id in ["document1", "document2", "document3", "document4"] {
            keep.put(id, &json!(1)).unwrap();
        }
        assert_eq!(keep.ids(), ["document4", "document3", "document2"]);
        keep.put("document5", &text(98)).unwrap();
        keep.put("document6", &text(98)).unwrap();
        assert_eq!(keep.ids(), ["document6"]);
        assert_eq!(read(&keep, "document5"), None);
    }

    #[test]
    fn data_belongs_to_its_document() {
        let (keep, folder) = open(LIMITS);
        let folder = folder.path().join("kind");
        let write = |id: &str| {
            let mut new = keep.create(id).unwrap();
            new.append(b"one ").unwrap();
            new.append(b"two").unwrap();
            new
        };
        assert_eq!(write("document1").n_written(), 7);
        assert!(keep.data("document1").unwrap().is_none());
        keep.finish(write("document1")).unwrap();
        keep.put("document1", &json!(1)).unwrap();
        let mut text = String::new();
        keep.data("document1").unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
        let mut new = keep.create("document2").unwrap();
        assert!(matches!(new.append(&[0; 101]), Err(ApiError::TooLarge { limit: 100 })));
        drop(new);
        // As a killed process would leave it: data whose document never came, and half a file.
        fs::write(folder.join("document3.data"), "x").unwrap();
        fs::write(folder.join(".partial-1-1"), "x").unwrap();
        let other = Keep::open(folder.clone(), LIMITS);
        assert!(keep.is_keeper() && !other.is_keeper());
        assert!(folder.join("document3.data").exists() && folder.join(".partial-1-1").exists());
        drop((keep, other));
        let keep = Keep::open(folder.clone(), LIMITS);
        assert!(!folder.join("document3.data").exists() && !folder.join(".partial-1-1").exists());
        assert_eq!(*keep.sizes(), BTreeMap::from([("document1".to_owned(), 8)]));
        keep.delete_data("document1").unwrap();
        assert!(keep.data("document1").unwrap().is_none() && read(&keep, "document1").is_some());
        keep.delete("document1").unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "only the lock is left");
    }

    #[test]
    fn new_ids_are_in_order() {
        let ids: Vec<String> = (0..1000).map(|_| new_id("batch_")).collect();
        assert!(ids.is_sorted_by(|a, b| a < b) && ids.iter().all(|id| is_id(id)));
    }
}
