//! Model folders as the Hugging Face Hub and `transformers` keep them, put into GGUF's terms: its metadata keys and its names
//! of tensors. So an architecture is written once, in its own file beside this folder, whatever its weights come in.
//!
//! `config.json` says what `families` know how to say in keys; weights stay where they are, in the mapped safetensors.
//! Small ones are made anew in memory (vectors become f32, as they are in every GGUF; Gemma's norms get the 1 that they are
//! told from). What the converters of GGUF files would move, the rows of rotated queries and keys, stays too: the key
//! `whit.rope_in_halves` says so. Versions 4 and 5 of `transformers` write different fields; both are read.
//!
//! To add a family: a file in `families/`, and a line in its list. Quantized folders are unpacked into blocks as they are loaded
//! (`whit_files::packed`). Left out: pickles, vision towers.
//! Truth: `transformers` for what a field means, the converter of llama.cpp for what a key is called.

mod back;
mod card;
mod families;
mod field;
mod folder;
mod names;
mod rope;
mod settings;
mod stack;
mod template;
mod tensor;
mod tokenizer;

use std::path::Path;

use whit_base::DType;
use whit_files::{Gguf, GgufWriter};

use crate::ModelError;

pub use back::{BackTranslation, translate_back};
pub use folder::Folder;
pub use tensor::{HfTensor, file_type};
pub use tokenizer::set_tokenizer;
pub(crate) use tokenizer::tokenizer;

/// The key that says that all of a head's first half is rotated with its second, whatever the architecture's own way is.
pub(crate) const ROPE_IN_HALVES: &str = "whit.rope_in_halves";

/// The most bytes of weights that are made in memory when a folder is used in place.
const MAX_MADE: u64 = 2 << 30;

/// A folder in GGUF's terms.
#[derive(Debug)]
pub struct Translation {
    /// All keys but those of the tokenizer and the format. No tensor is declared.
    pub metadata: GgufWriter,
    /// The tensors, in the order of the folder's.
    pub tensors: Vec<HfTensor>,
    /// Whether rows of rotated queries and keys have to be moved, where the folder is not used in place.
    in_pairs: bool,
    /// Whether there are GGUF files of its kind.
    converts: bool,
}

/// Opens a model folder in place.
///
/// # Errors
/// A folder that is no model, or one that is not supported.
pub(crate) fn open(path: &Path) -> Result<Gguf, ModelError> {
    let folder = Folder::open(path)?;
    let Translation { mut metadata, tensors, in_pairs, .. } = folder.translate()?;
    if in_pairs {
        metadata.set(ROPE_IN_HALVES, true);
    }
    metadata.set("general.file_type", tensor::file_type(tensor::most_common(&tensors)));
    if let Some(template) = template::chat_template(path)? {
        metadata.set("tokenizer.chat_template", &template);
    }
    let made: u64 = tensors.iter().map(HfTensor::bytes_in_memory).sum();
    if made > MAX_MADE {
        return Err(ModelError::Folder {
            path: path.to_owned(),
            problem: format!(
                "its weights stand the other way around, and turning them needs {} MiB of memory; \
                 `whit convert` makes a GGUF file of it",
                made >> 20
            ),
        });
    }
    let mut data = Vec::with_capacity(tensors.len());
    for tensor in &tensors {
        let (dtype, bytes) = tensor.in_place();
        metadata.declare(tensor.name(), dtype, tensor.shape());
        data.push(bytes);
    }
    Ok(metadata.assemble(path, folder.weights().n_bytes(), data)?)
}

impl Translation {
    /// The translation of `folder` as GGUF files have it: what the folder has in several tensors stands in one.
    ///
    /// # Errors
    /// A kind of model that there are no such files of; tensors that do not go together.
    pub fn for_file(mut self, folder: &Path) -> Result<Translation, ModelError> {
        if !self.converts {
            let problem = "no program reads GGUF files of models of its kind; it runs as it is".to_owned();
            return Err(ModelError::Folder { path: folder.to_owned(), problem });
        }
        self.tensors = stack::stack(self.tensors, folder)?;
        Ok(self)
    }

    /// The format that most weights are stored in.
    pub fn dtype(&self) -> DType {
        tensor::most_common(&self.tensors)
    }
}
