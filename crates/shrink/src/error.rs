//! What can keep a model from being converted.

use std::path::PathBuf;

use whit_base::DType;
use whit_engine::EngineError;
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
    /// A pattern of tensor names that is none.
    #[error("`{pattern}` is no regular expression: {problem}; dots match any character, `\\.` a dot")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model would be written over itself.
    #[error("{}: this is the model that is read; choose another name", path.display())]
    OntoItself {
        /// The model.
        path: PathBuf,
    },
    /// The model failed while it read a text.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Not enough text for one chunk.
    #[error(
        "the text has {n_tokens} tokens, but one chunk needs {n_needed}; give a longer text, or a smaller --ctx"
    )]
    TextTooShort {
        /// Tokens in the text.
        n_tokens: usize,
        /// Tokens in a chunk.
        n_needed: usize,
    },
    /// What goes into a tensor is no number.
    #[error(
        "what goes into `{tensor}` is not a number; the model is damaged, or its computation overflowed: check its digest"
    )]
    NotANumber {
        /// The tensor.
        tensor: String,
    },
    /// A file that is no importance matrix.
    #[error("{}: cannot be used as an importance matrix: {problem}", path.display())]
    Imatrix {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No choice of formats is that small.
    #[error(
        "no choice of formats makes the model that small: the smallest takes {excess} bytes more; allow it more"
    )]
    Budget {
        /// Bytes of the smallest over those allowed.
        excess: u64,
    },
    /// Who asked for it has it stopped.
    #[error("stopped; nothing was written")]
    Stopped,
    /// A value that the format cannot hold.
    #[error(
        "tensor `{tensor}`, row {row}: {value} cannot be stored as {format}; {}",
        if value.is_finite() { "choose bf16 or f32 for it (--tensor)" } else { "the model is damaged: get it anew" }
    )]
    BadValue {
        /// The tensor.
        tensor: String,
        /// The row, from 0.
        row: usize,
        /// The value.
        value: f32,
        /// What it was to be stored as.
        format: DType,
    },
}
