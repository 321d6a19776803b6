//! GGUF files, versions 2 and 3, little-endian, in one part or split.
//!
//! The layout is that of the GGUF specification (ggml, `docs/gguf.md`): magic, version, counts, metadata, the table
//! of tensors, padding to the alignment, data. Version 1 (32-bit counts, a few weeks of 2023) and big-endian files are
//! refused by name. What a tensor or key means is not known here.
//!
//! Opening reads the header alone. The time is that of one walk over it: 262,144 vocabulary strings take 1 to 2 ms.

pub(crate) mod array;
pub(crate) mod cursor;
pub(crate) mod metadata;
mod part;
mod split;
pub(crate) mod tensor;
mod types;
pub(crate) mod value;
pub(crate) mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use whit_base::Bytes;

use crate::{FileError, Mapping, Metadata, TensorInfo};

/// An open GGUF file: its metadata, its tensors, and their bytes, shared with the mapped file. Or a model in files of another
/// format, put into the same terms ([`GgufWriter::assemble`](crate::GgufWriter::assemble)).
#[derive(Clone, Debug)]
pub struct Gguf {
    parts: Vec<Part>,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<Arc<str>, usize>,
}

/// One of the files that make up a model; usually the only one.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it lies, or the label given for bytes in memory.
    pub path: PathBuf,
    /// The GGUF version of its header.
    pub version: u32,
    /// What the offsets of its tensors are multiples of, in bytes.
    pub alignment: usize,
    /// Its length in bytes.
    pub n_bytes: usize,
}

impl Gguf {
    /// Opens the file at `path`. Of a split file (`name-00001-of-00003.gguf`) any part will do: all of them are opened
    /// and appear as one. The metadata are those of the first part.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf, FileError> {
        let path = path.as_ref();
        let first = part::read(Mapping::open(path)?, path, 0)?;
        Gguf::join(split::collect(path, first)?)
    }

    /// Reads a file held in memory; `label` stands for the path in errors. A part of a split file is refused.
    ///
    /// Tensors are aligned within `bytes`; where `bytes` start is the caller's affair.
    pub fn from_bytes(bytes: Bytes, label: impl AsRef<Path>) -> Result<Gguf, FileError> {
        let label = label.as_ref();
        let only = part::read(Arc::new(bytes), label, 0)?;
        if let Some(place) = split::Place::of(label, &only.metadata)? {
            return Err(split::lonely(label, &place));
        }
        Gguf::join(vec![only])
    }

    fn join(read: Vec<part::Read>) -> Result<Gguf, FileError> {
        let (mut parts, mut tensors, mut metadata) = (Vec::new(), Vec::new(), None);
        for one in read {
            parts.push(one.part);
            tensors.extend(one.tensors);
            metadata.get_or_insert(one.metadata);
        }
        let mut index: HashMap<Arc<str>, usize> = HashMap::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter().enumerate() {
            if index.insert(tensor.name.clone(), i).is_some() {
                return Err(FileError::Malformed {
                    path: parts.get(tensor.part).map(|part: &Part| part.path.clone()).unwrap_or_default(),
                    place: format!("tensor `{}`", tensor.name),
                    offset: tensor.offset as u64,
                    expected: "every tensor name once".to_owned(),
                    got: "the name a second time".to_owned(),
                });
            }
        }
        match metadata {
            Some(metadata) => Ok(Gguf { parts, metadata, tensors, index }),
            None => Err(FileError::Split { path: PathBuf::new(), problem: "no part was given".to_owned() }),
        }
    }

    /// The metadata, of the first part if the file is split.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.index.get(name)?)
    }

    /// The data of a tensor, shared with the file; nothing is copied.
    pub fn tensor_bytes(&self, tensor: &TensorInfo) -> Bytes {
        tensor.data.clone()
    }

    /// The files that make up the model, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The path that the first part was opened from; the folder of a model that is no GGUF file.
    pub fn path(&self) -> &Path {
        self.parts.first().map_or(Path::new(""), |part| &part.path)
    }

    /// Bytes of all parts together.
    pub fn n_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.n_bytes).sum()
    }

    /// The GGUF version, of the first part if the file is split.
    pub fn version(&self) -> u32 {
        self.parts.first().map_or(0, |part| part.version)
    }

    /// The alignment in bytes, of the first part if the file is split.
    pub fn alignment(&self) -> usize {
        self.parts.first().map_or(0, |part| part.alignment)
    }
}
