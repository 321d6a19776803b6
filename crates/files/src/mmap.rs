//! A file mapped read-only into memory: the owner behind every weight that is used in place.
//!
//! The only `unsafe` of this crate. Nothing is read here: the operating system loads a page when it is first touched.
#![expect(
    unsafe_code,
    reason = "mapping a file is unsafe by nature; the condition is stated at the one call"
)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::FileError;

/// A read-only memory map of a whole file.
pub struct Mapping {
    map: memmap2::Mmap,
}

impl Mapping {
    /// Maps the file at `path`.
    ///
    /// The file must stay as it is while mapped. Whit's own store never rewrites a model in place (it writes beside
    /// and renames), and so do download tools; a program that truncates a model in use ends the process with a bus
    /// error, as with every program that maps its weights.
    pub fn open(path: &Path) -> Result<Arc<Mapping>, FileError> {
        let fail = |source| FileError::io(path, "open", source);
        let file = File::open(path).map_err(fail)?;
        let facts = file.metadata().map_err(fail)?;
        if facts.is_dir() {
            return Err(FileError::NotGguf {
                path: path.to_owned(),
                found: "a folder".to_owned(),
                hint: "name the .gguf file inside it",
            });
        }
        // SAFETY: the map is private to this owner, read-only, and handed out only as `&[u8]`. The remaining
        // condition, that nobody changes the file under the map, is the documented duty of whoever owns the file.
        let map = unsafe { memmap2::MmapOptions::new().map(&file) };
        Ok(Arc::new(Mapping { map: map.map_err(|source| FileError::io(path, "map", source))? }))
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}
