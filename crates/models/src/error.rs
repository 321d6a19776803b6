//! What can keep a model file from becoming a plan.

use std::path::PathBuf;

use whit_base::PlanError;
use whit_files::FileError;

/// Every error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file's metadata could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The tokenizer could not be built.
    #[error(transparent)]
    Text(#[from] whit_text::TextError),
    /// A shape does not fit.
    #[error("{0}; the file is damaged or was converted wrongly: get the model from elsewhere")]
    Plan(#[from] PlanError),
    /// An architecture that there is no file for.
    #[error("the architecture `{architecture}` is not supported; supported are: {supported}")]
    UnknownArchitecture {
        /// The value of `general.architecture`.
        architecture: String,
        /// All that are, comma-separated.
        supported: String,
    },
    /// A model folder that cannot be used as it is.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A field of a folder's configuration that makes no sense.
    #[error("{}: `{field}` is {got}, but must be {expected}; get the model from elsewhere", path.display())]
    BadSetting {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value.
        got: String,
        /// What would make sense.
        expected: String,
    },
    /// A feature of a known architecture that is not supported.
    #[error("this {architecture} model uses {feature}, which is not supported")]
    Unsupported {
        /// The value of `general.architecture`.
        architecture: String,
        /// What it would need.
        feature: String,
    },
    /// A configuration value that makes no sense.
    #[error(
        "the metadata key `{key}` is {got}, but must be {expected}; the file is damaged: get the model from elsewhere"
    )]
    BadValue {
        /// The key.
        key: String,
        /// Its value.
        got: String,
        /// What would make sense.
        expected: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error(
        "the tensor `{tensor}` is missing, so this is no complete {architecture} model: get the file anew"
    )]
    MissingTensor {
        /// Its name.
        tensor: String,
        /// The value of `general.architecture`.
        architecture: String,
    },
    /// Tensors that the architecture has no use for: computing without them would give wrong answers.
    #[error(
        "{n} tensors have no place in this architecture, the first is `{first}`; the file holds a variant of the model \
         that is not supported"
    )]
    UnusedTensors {
        /// How many.
        n: usize,
        /// The first in the file's order.
        first: String,
    },
    /// A weight that is NaN or infinite.
    #[error("the tensor `{tensor}` holds {value} at position {index}: the file is damaged, get it anew")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Where in it.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
}
