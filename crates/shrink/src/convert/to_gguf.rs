//! A model folder to a GGUF file, with the keys and names that the field's converter writes, so that other programs read it.
//!
//! Which tensors stay f32 follows `prepare_tensors` of llama.cpp's converter.

use std::path::Path;

use whit_base::DType;
use whit_files::GgufWriter;
use whit_models::hf::{Folder, HfTensor, file_type, set_tokenizer};

use super::{Converted, Format, Progress};
use crate::ShrinkError;

/// Endings of tensors that are small, or that programs take as f32 alone.
const ALWAYS_F32: [&str; 7] = [
    "position_embd.weight",
    "token_types.weight",
    "rope_freqs.weight",
    ".ffn_gate_inp.weight",
    ".shortconv.conv.weight",
    ".altup_correct_coef.weight",
    ".altup_predict_coef.weight",
];

/// Writes the folder at `from` as the GGUF file `to`, with matrices in this format, or in the folder's own. A file of that
/// name is replaced.
///
/// # Errors
/// A folder that is no model or one that is not supported; a tokenizer that GGUF has no words for; what the system refuses.
pub fn to_gguf(
    from: &Path,
    to: &Path,
    format: Option<Format>,
    report: &mut dyn FnMut(Progress),
) -> Result<Converted, ShrinkError> {
    let InGgufTerms { head: mut writer, tensors, dtype } = InGgufTerms::of(from)?;
    let format = format.unwrap_or_else(|| Format::of(dtype));
    writer.set("general.file_type", file_type(format.dtype()));
    for tensor in &tensors {
        writer.declare(tensor.name(), stored_as(tensor, format.dtype()), tensor.shape());
    }
    let mut out = writer.create(to)?;
    for (n_done, tensor) in tensors.iter().enumerate() {
        report(Progress { n_done, n_tensors: tensors.len() });
        let dtype = stored_as(tensor, format.dtype());
        out.write_with(tensor.name(), |out| tensor.write(dtype, out))?;
    }
    let n_bytes = out.finish()?;
    report(Progress { n_done: tensors.len(), n_tensors: tensors.len() });
    Ok(Converted { format, n_tensors: tensors.len(), n_bytes })
}

/// A folder as GGUF files of its kind have it.
pub(crate) struct InGgufTerms {
    /// All keys, the tokenizer's among them, but that of the format.
    pub(crate) head: GgufWriter,
    pub(crate) tensors: Vec<HfTensor>,
    /// The format of most matrices.
    pub(crate) dtype: DType,
}

impl InGgufTerms {
    pub(crate) fn of(folder: &Path) -> Result<InGgufTerms, ShrinkError> {
        let translation = Folder::open(folder)?.translate()?.for_file(folder)?;
        let dtype = translation.dtype();
        let (mut head, tensors) = (translation.metadata, translation.tensors);
        let n_vocab = tensors.iter().find(|tensor| tensor.name() == "token_embd.weight");
        let n_vocab = n_vocab.and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0);
        set_tokenizer(folder, n_vocab, &mut head)?;
        Ok(InGgufTerms { head, tensors, dtype })
    }
}

/// The format that a tensor gets.
pub(crate) fn stored_as(tensor: &HfTensor, wanted: DType) -> DType {
    let (name, shape) = (tensor.name(), tensor.shape());
    let n_cols = shape.last().copied().unwrap_or(1);
    if shape.len() < 2
        || name.ends_with("_norm.weight")
        || !name.ends_with(".weight")
        || ALWAYS_F32.iter().any(|ending| name.ends_with(ending))
    {
        DType::F32
    } else if !n_cols.is_multiple_of(wanted.block_len()) {
        // Rows that are no whole number of blocks.
        DType::F16
    } else {
        wanted
    }
}
