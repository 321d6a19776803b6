//! What can be wrong with a model file, said so that a person can act on it.

use std::io;
use std::path::{Path, PathBuf};

/// A model file could not be read or written. Every variant names the file and the place in it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot {action} the file: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },

    /// The first bytes are those of something else.
    #[error("{}: this is not a GGUF file but {found}; {hint}", path.display())]
    NotGguf { path: PathBuf, found: String, hint: &'static str },

    /// The first bytes are not those of a safetensors file.
    #[error("{}: this is not a safetensors file but {found}; {hint}", path.display())]
    NotSafetensors { path: PathBuf, found: String, hint: &'static str },

    /// A GGUF version that is not read.
    #[error("{}: GGUF version {version} is not supported, only 2 and 3 are; {hint}", path.display())]
    Version { path: PathBuf, version: u32, hint: &'static str },

    /// The file ends before something that it announces.
    #[error(
        "{}: {place} needs {need} bytes from offset {offset}, but only {have} are left; \
         the file is shorter than its header says: download it again", path.display()
    )]
    Truncated { path: PathBuf, place: String, offset: u64, need: u64, have: u64 },

    /// A value that the format forbids.
    #[error(
        "{}: {place} at offset {offset}: expected {expected}, got {got}; the file is damaged or was written by a \
         faulty tool: download it again or get it from elsewhere", path.display()
    )]
    Malformed { path: PathBuf, place: String, offset: u64, expected: String, got: String },

    /// A tensor stored in a type that cannot be computed with.
    #[error(
        "{}: tensor `{tensor}` is stored as type {id} ({name}), which is not supported; \
         get the model in another format, such as Q4_K_M or Q8_0", path.display()
    )]
    UnsupportedType { path: PathBuf, tensor: String, id: u32, name: &'static str },

    /// A metadata key that is needed and absent.
    #[error("{}: the metadata key `{key}` is missing; the file was made by a tool that leaves it out: \
             get the model from elsewhere or convert it anew", path.display())]
    MissingKey { path: PathBuf, key: String },

    /// A metadata key whose value has an unexpected type or does not fit.
    #[error("{}: the metadata key `{key}` should hold {expected}, but holds {got}; \
             get the model from elsewhere or convert it anew", path.display())]
    WrongValue { path: PathBuf, key: String, expected: &'static str, got: String },

    /// The files of a model do not belong together, or there are none.
    #[error("{}: {problem}", path.display())]
    Split { path: PathBuf, problem: String },

    /// A quantized matrix whose parts do not go together, or that is of no layout that is read.
    #[error("{}: tensor `{tensor}`: {problem}; download the model again, or get it in another format, such as GGUF",
            path.display())]
    Packed { path: PathBuf, tensor: String, problem: String },

    /// The caller of the writer broke its contract.
    #[error("{}: cannot write this model file: {problem}", path.display())]
    Unwritable { path: PathBuf, problem: String },
}

impl FileError {
    /// An input or output error at `path` while trying to `action` it.
    pub fn io(path: &Path, action: &'static str, source: io::Error) -> FileError {
        FileError::Io { path: path.to_owned(), action, source }
    }
}
