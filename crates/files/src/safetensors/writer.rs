//! Writes a folder of safetensors as a stream: what will be in it is declared first, then the data of each tensor follow.
//! The folder appears under its name when it is whole and on disk, never before.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};
use whit_base::DType;

use super::{INDEX, SINGLE, SafeType};
use crate::FileError;
use crate::counted::Counted;

/// Bytes of data in one file, unless a single tensor has more: what the tools of the Hub make by default.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Collects what the files will hold. [`SafeTensorsWriter::create`] then starts the folder.
#[derive(Clone, Debug)]
pub struct SafeTensorsWriter {
    tensors: Vec<Declared>,
    shard_bytes: u64,
}

#[derive(Clone, Debug)]
struct Declared {
    name: String,
    kind: SafeType,
    /// Outermost dimension first.
    shape: Vec<usize>,
    n_bytes: u64,
}

impl Default for SafeTensorsWriter {
    fn default() -> SafeTensorsWriter {
        SafeTensorsWriter::new()
    }
}

impl SafeTensorsWriter {
    /// A folder without tensors.
    pub fn new() -> SafeTensorsWriter {
        SafeTensorsWriter { tensors: Vec::new(), shard_bytes: SHARD_BYTES }
    }

    /// Begins a new file after this many bytes of data.
    #[must_use]
    pub fn with_shard_bytes(self, shard_bytes: u64) -> SafeTensorsWriter {
        SafeTensorsWriter { shard_bytes, ..self }
    }

    /// Declares a tensor; `shape` is outermost dimension first. Data follow in the order of [`ShardWriter::next_name`].
    ///
    /// # Errors
    /// A format of blocks, which safetensors do not have; a name twice; a tensor too large.
    pub fn declare(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<(), FileError> {
        let refuse = |problem: &str| {
            let problem = format!("tensor `{name}`: {problem}");
            FileError::Unwritable { path: PathBuf::from(SINGLE), problem }
        };
        let kind = SafeType::of(dtype)
            .ok_or_else(|| refuse(&format!("{dtype} cannot stand in a safetensors file")))?;
        let n_bytes = kind.bytes(shape).ok_or_else(|| refuse("it is too large"))? as u64;
        self.tensors.push(Declared { name: name.to_owned(), kind, shape: shape.to_vec(), n_bytes });
        Ok(())
    }

    /// Starts the folder under a temporary name beside `path`, where nothing may be.
    ///
    /// # Errors
    /// A name declared twice, a folder that is there already, and what the system refuses.
    pub fn create(mut self, path: impl AsRef<Path>) -> Result<ShardWriter, FileError> {
        let path = path.as_ref();
        // Wide values first, so that all of them stand at multiples of their width.
        self.tensors.sort_by_key(|tensor| Reverse(tensor.kind.bits()));
        let refuse = |problem: String| FileError::Unwritable { path: path.to_owned(), problem };
        let mut names = HashSet::new();
        if let Some(twice) = self.tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
            return Err(refuse(format!("the tensor `{}` is declared twice", twice.name)));
        }
        if fs::symlink_metadata(path).is_ok() {
            return Err(refuse("there is something of that name already; choose another".to_owned()));
        }
        let file_name = path.file_name().ok_or_else(|| refuse("the path names no folder".to_owned()))?;
        let mut temporary = OsString::from(".");
        temporary.push(file_name);
        temporary.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(temporary);
        // What a run of the same number left, if any.
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir_all(&temporary).map_err(|source| FileError::io(&temporary, "create", source))?;
        let shards = shards(self.tensors, self.shard_bytes);
        let mut writer = ShardWriter {
            path: path.to_owned(),
            temporary,
            n_shards: shards.len(),
            shards: shards.into_iter(),
            open: None,
            weight_map: Map::new(),
            n_data: 0,
            n_bytes: 0,
            finished: false,
        };
        writer.advance()?;
        Ok(writer)
    }
}

/// Tensors by file.
fn shards(tensors: Vec<Declared>, shard_bytes: u64) -> Vec<Vec<Declared>> {
    let mut shards: Vec<Vec<Declared>> = Vec::new();
    let mut filled = 0u64;
    for tensor in tensors {
        filled = filled.saturating_add(tensor.n_bytes);
        match shards.last_mut() {
            Some(shard) if filled <= shard_bytes => shard.push(tensor),
            _ => {
                filled = tensor.n_bytes;
                shards.push(vec![tensor]);
            }
        }
    }
    shards
}

/// A folder whose tensors follow. Dropped before [`ShardWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct ShardWriter {
    path: PathBuf,
    temporary: PathBuf,
    n_shards: usize,
    /// Those not begun.
    shards: std::vec::IntoIter<Vec<Declared>>,
    open: Option<Shard>,
    weight_map: Map<String, Value>,
    /// Bytes of tensors, and of all files.
    n_data: u64,
    n_bytes: u64,
    finished: bool,
}

#[derive(Debug)]
struct Shard {
    out: BufWriter<File>,
    pending: std::vec::IntoIter<Declared>,
}

impl ShardWriter {
    /// The name of the tensor whose data are next; `None` when all are written.
    pub fn next_name(&self) -> Option<&str> {
        Some(&self.open.as_ref()?.pending.as_slice().first()?.name)
    }

    /// Writes the data of the next tensor, which must be `name` and whose length must be the declared one, piece by piece.
    ///
    /// # Errors
    /// Another tensor than the next, another length, and what the system refuses.
    pub fn write_with(
        &mut self,
        name: &str,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), FileError> {
        let refuse = |problem: String| FileError::Unwritable { path: self.path.clone(), problem };
        let Some(shard) = &mut self.open else {
            return Err(refuse(format!("tensor `{name}` was not declared")));
        };
        let next = match shard.pending.as_slice().first() {
            Some(next) if next.name == name => next.n_bytes,
            Some(next) => return Err(refuse(format!("tensor `{}` is next, not `{name}`", next.name))),
            None => return Err(refuse(format!("tensor `{name}` was not declared"))),
        };
        let mut counted = Counted::new(&mut shard.out);
        let result = produce(&mut counted);
        let written = counted.n_bytes;
        result.map_err(|source| FileError::io(&self.path, "write", source))?;
        if written != next {
            return Err(refuse(format!("tensor `{name}` has {next} bytes, but {written} were given")));
        }
        shard.pending.next();
        self.n_data += written;
        self.n_bytes += written;
        if shard.pending.as_slice().is_empty() {
            self.advance()?;
        }
        Ok(())
    }

    /// Puts a small file beside the tensors, such as `config.json` or `1_Pooling/config.json`.
    ///
    /// # Errors
    /// A name that leads out of the folder, and what the system refuses.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let is_plain = |part| matches!(part, Component::Normal(_));
        if name.is_empty() || !Path::new(name).components().all(is_plain) {
            let problem = format!("`{name}` is no name within the folder");
            return Err(FileError::Unwritable { path: self.path.clone(), problem });
        }
        self.n_bytes += bytes.len() as u64;
        let path = self.temporary.join(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.temporary))?;
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| FileError::io(&path, "write", source))
    }

    /// Completes the folder: everything is on disk and it stands under its name. Gives the bytes of all files.
    ///
    /// # Errors
    /// Tensors that were declared and not written, and what the system refuses.
    pub fn finish(mut self) -> Result<u64, FileError> {
        if let Some(next) = self.open.as_ref().and_then(|shard| shard.pending.as_slice().first()) {
            let problem = format!("tensor `{}` was declared but not written", next.name);
            return Err(FileError::Unwritable { path: self.path.clone(), problem });
        }
        if self.n_shards > 1 {
            let index = json!({ "metadata": { "total_size": self.n_data }, "weight_map": self.weight_map });
            let text = serde_json::to_vec_pretty(&index).map_err(io::Error::from);
            let text = text.map_err(|source| FileError::io(&self.path, "write", source))?;
            self.put(INDEX, &text)?;
        }
        fs::rename(&self.temporary, &self.path)
            .map_err(|source| FileError::io(&self.path, "create", source))?;
        self.finished = true;
        Ok(self.n_bytes)
    }

    /// Closes the file under way and begins the next.
    fn advance(&mut self) -> Result<(), FileError> {
        let fail = |source| FileError::io(&self.path, "write", source);
        if let Some(mut shard) = self.open.take() {
            shard.out.flush().and_then(|()| shard.out.get_ref().sync_all()).map_err(fail)?;
        }
        let Some(tensors) = self.shards.next() else { return Ok(()) };
        let number = self.n_shards - self.shards.len();
        let name = match self.n_shards {
            1 => SINGLE.to_owned(),
            n => format!("model-{number:05}-of-{n:05}.safetensors"),
        };
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        let mut offset = 0u64;
        for tensor in &tensors {
            let end = offset + tensor.n_bytes;
            let entry =
                json!({ "dtype": tensor.kind.name(), "shape": tensor.shape, "data_offsets": [offset, end] });
            header.insert(tensor.name.clone(), entry);
            self.weight_map.insert(tensor.name.clone(), Value::from(name.clone()));
            offset = end;
        }
        let mut text = serde_json::to_vec(&header).map_err(|error| fail(error.into()))?;
        // Data begin at a multiple of 8.
        text.resize(text.len().next_multiple_of(8), b' ');
        let file = File::create(self.temporary.join(&name)).map_err(fail)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&(text.len() as u64).to_le_bytes())
            .and_then(|()| out.write_all(&text))
            .map_err(fail)?;
        self.n_bytes += 8 + text.len() as u64;
        self.open = Some(Shard { out, pending: tensors.into_iter() });
        Ok(())
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing sensible can be done if this fails.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}
