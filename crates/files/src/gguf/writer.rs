//! Writes GGUF version 3 as a stream: metadata and table first, then the data of each tensor in the order declared.
//! The file appears under its name when it is whole and on disk, never before.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use whit_base::{Bytes, DType};

use super::array::{Array, Number};
use super::cursor::Cursor;
use super::metadata::MAX_KEY;
use super::part::{self, ALIGNMENT_KEY, DEFAULT_ALIGNMENT};
use super::tensor::{MAX_DIMS, data_bytes, show};
use super::types;
use super::value::{Value, ValueType, write_string};
use super::{Gguf, Metadata, Part, TensorInfo};
use crate::FileError;
use crate::counted::Counted;

/// The version that is written.
const VERSION: u32 = 3;

/// The longest tensor name that other programs read: ggml's limit of 64 less the terminator.
const MAX_TENSOR_NAME: usize = 63;

/// Collects what the head of a file says. [`GgufWriter::create`] then starts the file.
///
/// `general.alignment` is honoured when set, and 32 otherwise.
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    /// Key, type, and the value as the file holds it.
    metadata: Vec<(String, ValueType, Vec<u8>)>,
    tensors: Vec<Declared>,
}

#[derive(Clone, Debug)]
struct Declared {
    name: String,
    dtype: DType,
    /// Outermost dimension first.
    shape: Vec<usize>,
}

impl GgufWriter {
    /// A file without metadata or tensors.
    pub fn new() -> GgufWriter {
        GgufWriter::default()
    }

    /// Sets a key to a value, such as `1u32`, `"text"` or a [`Value`] read from another file. A key that is set
    /// already keeps its place and takes the new value.
    pub fn set<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        let value = value.into();
        let mut encoded = Vec::new();
        value.write(&mut encoded);
        let entry = (key.to_owned(), value.value_type(), encoded);
        match self.metadata.iter_mut().find(|(known, ..)| known == key) {
            Some(known) => *known = entry,
            None => self.metadata.push(entry),
        }
    }

    /// Sets a key to an array of numbers.
    pub fn set_numbers<T: Number>(&mut self, key: &str, items: &[T]) {
        let mut data = Vec::with_capacity(size_of_val(items));
        items.iter().for_each(|item| item.extend(&mut data));
        self.set(key, Array::new(T::TYPE, items.len(), &data));
    }

    /// Sets a key to an array of strings, which need not be UTF-8.
    pub fn set_strings<S: AsRef<[u8]>>(&mut self, key: &str, items: impl IntoIterator<Item = S>) {
        let (mut n, mut data) = (0, Vec::new());
        for item in items {
            n += 1;
            write_string(&mut data, item.as_ref());
        }
        self.set(key, Array::new(ValueType::String, n, &data));
    }

    /// Sets a key to an array of bools.
    pub fn set_flags(&mut self, key: &str, items: &[bool]) {
        let data: Vec<u8> = items.iter().map(|&item| item.into()).collect();
        self.set(key, Array::new(ValueType::Bool, items.len(), &data));
    }

    /// Removes a key, if it is there.
    pub fn unset(&mut self, key: &str) {
        self.metadata.retain(|(known, ..)| known != key);
    }

    /// Declares a tensor; `shape` is outermost dimension first, as in [`crate::TensorInfo`]. Data follow in the order
    /// of declaration.
    pub fn declare(&mut self, name: &str, dtype: DType, shape: &[usize]) {
        self.tensors.push(Declared { name: name.to_owned(), dtype, shape: shape.to_vec() });
    }

    /// Starts the file: checks what was declared, and writes the head to a temporary file beside `path`.
    pub fn create(self, path: impl AsRef<Path>) -> Result<TensorWriter, FileError> {
        let path = path.as_ref();
        let refuse = |problem| FileError::Unwritable { path: path.to_owned(), problem };
        let alignment = self.alignment().map_err(refuse)?;
        let (head, pending) = self.head(alignment).map_err(refuse)?;

        let file_name = path.file_name().ok_or_else(|| refuse("the path names no file".to_owned()))?;
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(file_name);
        temporary_name.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(temporary_name);

        let fail = |source| FileError::io(&temporary, "create", source);
        let file = File::create(&temporary).map_err(fail)?;
        let mut writer = TensorWriter {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.to_owned(),
            temporary,
            alignment,
            n_bytes: 0,
            pending: pending.into_iter(),
            finished: false,
        };
        writer.put(&head)?;
        writer.pad()?;
        Ok(writer)
    }

    /// The model that the file would hold, with nothing written: `data` are the tensors' in the order of declaration, wherever
    /// they lie. For models in files of another format that have been put into GGUF's terms. `path` stands for these files,
    /// `n_bytes` is their length.
    pub fn assemble(
        self,
        path: impl AsRef<Path>,
        n_bytes: usize,
        data: Vec<Bytes>,
    ) -> Result<Gguf, FileError> {
        let path = path.as_ref();
        let refuse = |problem| FileError::Unwritable { path: path.to_owned(), problem };
        let alignment = self.alignment().map_err(refuse)?;
        let (n_keys, declared) = (self.metadata.len(), self.tensors.clone());
        let (head, pending) = self.head(alignment).map_err(refuse)?;
        let sizes: Vec<u64> = pending.iter().map(|tensor| tensor.n_bytes).collect();
        let given: Vec<u64> = data.iter().map(|data| data.len() as u64).collect();
        if sizes != given {
            return Err(refuse("the data have other lengths than the declared tensors".to_owned()));
        }
        let head = Bytes::from_vec(head);
        let mut cursor = Cursor::new(&head);
        // Behind the magic, the version and the two counts.
        cursor.take(4 + 4 + 8 + 8).map_err(|flaw| flaw.at(path, "the header"))?;
        let metadata = Metadata::read(&path.into(), &head, &mut cursor, n_keys)?;
        let tensor = |(Declared { name, dtype, shape }, data)| TensorInfo {
            name: String::into(name),
            shape,
            dtype,
            offset: 0,
            part: 0,
            data,
        };
        let tensors = declared.into_iter().zip(data).map(tensor).collect();
        let part = Part { path: path.to_owned(), version: VERSION, alignment: alignment as usize, n_bytes };
        Gguf::join(vec![part::Read { part, metadata, tensors }])
    }

    fn alignment(&self) -> Result<u64, String> {
        let Some((_, kind, encoded)) = self.metadata.iter().find(|(key, ..)| key == ALIGNMENT_KEY) else {
            return Ok(DEFAULT_ALIGNMENT);
        };
        let stated = match (kind, encoded.first_chunk()) {
            (ValueType::U32, Some(bytes)) => u64::from(u32::from_le_bytes(*bytes)),
            _ => 0,
        };
        if stated >= 8 && stated.is_power_of_two() {
            return Ok(stated);
        }
        Err(format!("`{ALIGNMENT_KEY}` must be a u32, a power of two from 8 up"))
    }

    /// The head as bytes, and the tensors' names and lengths.
    fn head(self, alignment: u64) -> Result<(Vec<u8>, Vec<Pending>), String> {
        let mut head = Vec::new();
        head.extend(b"GGUF");
        head.extend(VERSION.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, kind, encoded) in &self.metadata {
            if key.is_empty() || key.len() as u64 > MAX_KEY {
                return Err(format!("the metadata key `{key}` must have 1 to {MAX_KEY} bytes"));
            }
            write_string(&mut head, key.as_bytes());
            head.extend(kind.id().to_le_bytes());
            head.extend(encoded);
        }
        let (mut names, mut pending, mut offset) = (HashSet::new(), Vec::new(), 0u64);
        for Declared { name, dtype, shape } in self.tensors {
            let place = format!("tensor `{name}` of shape {}", show(&shape));
            if name.is_empty() || name.len() > MAX_TENSOR_NAME {
                return Err(format!("{place}: its name must have 1 to {MAX_TENSOR_NAME} bytes"));
            }
            if shape.len() > MAX_DIMS as usize || shape.contains(&0) {
                return Err(format!("{place}: it must have at most {MAX_DIMS} dimensions, each from 1 up"));
            }
            let n_bytes =
                data_bytes(dtype, &shape).map_err(|expected| format!("{place}: expected {expected}"))? as u64;
            write_string(&mut head, name.as_bytes());
            head.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|n| head.extend((*n as u64).to_le_bytes()));
            head.extend(types::id(dtype).to_le_bytes());
            head.extend(offset.to_le_bytes());
            let end = offset.checked_add(n_bytes).and_then(|end| end.checked_next_multiple_of(alignment));
            offset = end.ok_or_else(|| format!("{place}: the file would be too long"))?;
            if !names.insert(name.clone()) {
                return Err(format!("{place}: the name is declared twice"));
            }
            pending.push(Pending { name, n_bytes });
        }
        Ok((head, pending))
    }
}

/// A file whose head is written and whose tensors follow. Dropped before [`TensorWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct TensorWriter {
    file: BufWriter<File>,
    path: PathBuf,
    temporary: PathBuf,
    alignment: u64,
    n_bytes: u64,
    /// The tensors still to come.
    pending: std::vec::IntoIter<Pending>,
    finished: bool,
}

impl TensorWriter {
    /// Writes the data of the next tensor, which must be `name` and whose length must be the declared one.
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<(), FileError> {
        self.write_with(name, |out| out.write_all(data))
    }

    /// Writes the data of the next tensor piece by piece, for tensors that are made as they are written.
    pub fn write_with(
        &mut self,
        name: &str,
        produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), FileError> {
        let n_bytes = match self.pending.as_slice().first() {
            Some(next) if next.name == name => next.n_bytes,
            Some(next) => {
                return Err(self.refuse(format!("tensor `{}` is next, not `{name}`", next.name)));
            }
            None => return Err(self.refuse(format!("tensor `{name}` was not declared"))),
        };
        let mut counted = Counted::new(&mut self.file);
        let result = produce(&mut counted);
        let written = counted.n_bytes;
        self.n_bytes += written;
        result.map_err(|source| self.failed(source))?;
        if written != n_bytes {
            return Err(self.refuse(format!("tensor `{name}` has {n_bytes} bytes, but {written} were given")));
        }
        self.pending.next();
        self.pad()
    }

    /// Completes the file: everything is on disk and it stands under its name. Gives its length in bytes.
    pub fn finish(mut self) -> Result<u64, FileError> {
        if let Some(next) = self.pending.as_slice().first() {
            return Err(self.refuse(format!("tensor `{}` was declared but not written", next.name)));
        }
        let done = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        done.and_then(|()| fs::rename(&self.temporary, &self.path)).map_err(|source| self.failed(source))?;
        self.finished = true;
        Ok(self.n_bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.n_bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Zeros up to the next multiple of the alignment.
    fn pad(&mut self) -> Result<(), FileError> {
        let n = self.n_bytes.next_multiple_of(self.alignment) - self.n_bytes;
        self.n_bytes += n;
        io::copy(&mut io::Read::take(io::repeat(0), n), &mut self.file)
            .map_err(|source| self.failed(source))?;
        Ok(())
    }

    fn refuse(&self, problem: String) -> FileError {
        FileError::Unwritable { path: self.path.clone(), problem }
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::io(&self.path, "write", source)
    }
}

impl Drop for TensorWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing sensible can be done if this fails, and the next run overwrites it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A declared tensor whose data have not been written.
#[derive(Debug)]
struct Pending {
    name: String,
    n_bytes: u64,
}
