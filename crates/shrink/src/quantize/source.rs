//! What is quantized: a GGUF file, or a model folder put into GGUF's terms.

use std::borrow::Cow;
use std::path::Path;

use whit_base::{Bytes, DType};
use whit_files::{Gguf, GgufWriter, Metadata, TensorInfo};
use whit_models::hf::HfTensor;

use crate::ShrinkError;
use crate::convert::{InGgufTerms, stored_as};

/// A model as it is.
pub(super) struct Source {
    /// Bytes of the file that are no tensor's.
    pub(super) overhead: u64,
    pub(super) metadata: Metadata,
    /// The same metadata, ready to be written.
    pub(super) head: GgufWriter,
    pub(super) tensors: Vec<Tensor>,
}

impl Source {
    /// Opens the file or folder at `path`.
    pub(super) fn open(path: &Path) -> Result<Source, ShrinkError> {
        if path.is_dir() {
            let InGgufTerms { head, tensors, .. } = InGgufTerms::of(path)?;
            // The keys can only be read back from a file; one without tensors does.
            let metadata = head.clone().assemble(path, 0, vec![])?.metadata().clone();
            let tensors = tensors.into_iter().map(Tensor::Folder).collect();
            return Ok(Source { overhead: 0, metadata, head, tensors });
        }
        Ok(Source::of(&Gguf::open(path)?))
    }

    /// The model in this file.
    pub(super) fn of(gguf: &Gguf) -> Source {
        let mut head = GgufWriter::new();
        for (key, value) in gguf.metadata().iter().filter(|(key, _)| !key.starts_with("split.")) {
            head.set(key, value);
        }
        let tensor = |info: &TensorInfo| Tensor::File { info: info.clone(), data: gguf.tensor_bytes(info) };
        let tensors = gguf.tensors().iter().map(tensor).collect();
        let of_tensors: usize = gguf.tensors().iter().map(|tensor| tensor.n_bytes()).sum();
        let overhead = gguf.n_bytes().saturating_sub(of_tensors) as u64;
        Source { overhead, metadata: gguf.metadata().clone(), head, tensors }
    }
}

/// A tensor under GGUF's name for it.
pub(super) enum Tensor {
    File { info: TensorInfo, data: Bytes },
    Folder(HfTensor),
}

impl Tensor {
    pub(super) fn name(&self) -> &str {
        match self {
            Tensor::File { info, .. } => &info.name,
            Tensor::Folder(tensor) => tensor.name(),
        }
    }

    /// Outermost dimension first.
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Tensor::File { info, .. } => &info.shape,
            Tensor::Folder(tensor) => tensor.shape(),
        }
    }

    /// The format that it has in a GGUF file when nothing is to be done to it.
    pub(super) fn dtype(&self) -> DType {
        match self {
            Tensor::File { info, .. } => info.dtype,
            Tensor::Folder(tensor) => stored_as(tensor, tensor.dtype()),
        }
    }

    /// Its values in that format: the file's own bytes, or those of this one tensor, made now.
    pub(super) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Tensor::File { data, .. } => Cow::Borrowed(data),
            Tensor::Folder(tensor) => {
                let mut made = Vec::new();
                // Writing to memory does not fail.
                let _ = tensor.write(self.dtype(), &mut made);
                Cow::Owned(made)
            }
        }
    }
}
