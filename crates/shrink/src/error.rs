//! What can keep a model from being converted.

use std::path::PathBuf;

use whit_files::FileError;
use whit_models::ModelError;
use whit_text::TextError;

/// Every error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShrinkError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model is not supported.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer cannot be put into the other form.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A format that the other form does not have.
    #[error("{}: a folder cannot hold {format}; choose f32, f16 or bf16", path.display())]
    NoSuchFormat {
        /// What was to be written.
        path: PathBuf,
        /// The format.
        format: &'static str,
    },
    /// Something is in the way.
    #[error("{}: there is something of that name already; choose another", path.display())]
    Exists {
        /// What was to be written.
        path: PathBuf,
    },
}
