//! safetensors files and folders: what the Hugging Face Hub keeps weights in.
//!
//! A file is the length of a header in 8 bytes, the header (a JSON object that names each tensor's type, shape and place),
//! and the bytes of all tensors, little-endian, without gaps. A model is one such file, `model.safetensors`, or several
//! beside an index that says which holds what. Truth: the format's description at github.com/huggingface/safetensors;
//! the crate of that name is what the tests compare with. What a tensor means is not known here.

mod folder;
mod header;
mod types;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use whit_base::{Bytes, DType};

use crate::{FileError, Mapping};

pub use types::SafeType;
pub use writer::{SafeTensorsWriter, ShardWriter};

/// The name of the only file of a model.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The name of the index of several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The open safetensors files of a model: their tensors, shared with the mapped files.
#[derive(Clone, Debug)]
pub struct SafeTensors {
    files: Vec<PathBuf>,
    n_bytes: usize,
    tensors: Vec<SafeTensor>,
    index: HashMap<Arc<str>, usize>,
}

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub struct SafeTensor {
    /// Its name, unique over all files.
    pub name: Arc<str>,
    /// Its dimensions, outermost first. A dimension may be 0.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub kind: SafeType,
    /// Where its data start, in bytes from the start of its file.
    pub offset: usize,
    /// Its data, shared with the file. Their start has no alignment to rely on.
    pub data: Bytes,
}

impl SafeTensor {
    /// The format in which the values can be computed with, for the types that can.
    pub fn dtype(&self) -> Option<DType> {
        self.kind.dtype()
    }
}

impl SafeTensors {
    /// Whether `folder` looks as if [`open_folder`](Self::open_folder) could open it.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(SINGLE).is_file() || folder.join(INDEX).is_file()
    }

    /// Opens the weights in `folder`: `model.safetensors`, or the files that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// A folder without either, files that are missing, lie or lead out of the folder, and an index that does not agree
    /// with them.
    pub fn open_folder(folder: impl AsRef<Path>) -> Result<SafeTensors, FileError> {
        folder::open(folder.as_ref())
    }

    /// Opens one file.
    ///
    /// # Errors
    /// A file that cannot be read or that lies.
    pub fn open(path: impl AsRef<Path>) -> Result<SafeTensors, FileError> {
        let mut all = SafeTensors::empty();
        all.add(path.as_ref(), Mapping::open(path.as_ref())?)?;
        Ok(all)
    }

    /// Reads a file held in memory; `label` stands for the path in errors.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn from_bytes(bytes: Bytes, label: impl AsRef<Path>) -> Result<SafeTensors, FileError> {
        let mut all = SafeTensors::empty();
        all.add(label.as_ref(), Arc::new(bytes))?;
        Ok(all)
    }

    fn empty() -> SafeTensors {
        SafeTensors { files: Vec::new(), n_bytes: 0, tensors: Vec::new(), index: HashMap::new() }
    }

    /// Adds a file, whose names must be new.
    fn add(&mut self, path: &Path, owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Result<(), FileError> {
        let n_bytes = (*owner).as_ref().len();
        for tensor in header::read(path, owner)? {
            if self.index.insert(tensor.name.clone(), self.tensors.len()).is_some() {
                let problem = format!(
                    "it has a tensor `{}`, and so has another file of the model: download the model again",
                    tensor.name
                );
                return Err(FileError::Split { path: path.to_owned(), problem });
            }
            self.tensors.push(tensor);
        }
        self.files.push(path.to_owned());
        self.n_bytes += n_bytes;
        Ok(())
    }

    /// All tensors, by file, in the order of their data.
    pub fn tensors(&self) -> &[SafeTensor] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&SafeTensor> {
        self.tensors.get(*self.index.get(name)?)
    }

    /// The files, in the order of their names.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Bytes of all files together.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }
}
