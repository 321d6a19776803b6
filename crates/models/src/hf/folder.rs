//! What is in a model folder, and its translation by the family that it belongs to.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use whit_base::{Bytes, DType};
use whit_files::packed::{self, Packed};
use whit_files::{FileError, GgufWriter, SafeTensors};

use super::families::{self, Family};
use super::names::{Place, Role, place};
use super::settings::Settings;
use super::tensor::{Change, HfTensor};
use super::{Translation, card};
use crate::{ModelError, encoder};

/// The longest configuration that is read.
const MAX_CONFIG: u64 = 16 << 20;
/// The longest file of a tokenizer that is read; the largest in use have some tens of megabytes.
pub(super) const MAX_TEXT: u64 = 256 << 20;

/// An open model folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    settings: Settings,
    family: &'static Family,
    weights: SafeTensors,
    /// The tensors as they would be without quantization.
    stored: Vec<Stored>,
}

/// A tensor of the folder, or a quantized matrix that several of them make.
#[derive(Debug)]
struct Stored {
    name: String,
    shape: Vec<usize>,
    /// `None`: the values cannot be computed with.
    dtype: Option<DType>,
    /// What the file calls its values.
    kind: &'static str,
    data: Bytes,
    packed: Option<Arc<Packed>>,
}

impl Stored {
    /// Under its new name.
    fn renamed(&self, name: String, shape: &[usize], dtype: DType, change: Change) -> HfTensor {
        match &self.packed {
            Some(packed) => HfTensor::of_packed(name, packed.clone(), 0..packed.shape()[0], change),
            None => HfTensor::new(name, shape, dtype, self.data.clone(), change),
        }
    }
}

impl Folder {
    /// Opens the folder at `path`: its `config.json` and its weights.
    ///
    /// # Errors
    /// A folder without these, a family that is not known, a quantized model.
    pub fn open(path: &Path) -> Result<Folder, ModelError> {
        let config = path.join("config.json");
        if !config.is_file() {
            // What it has instead is said by who looks for weights.
            let weights = SafeTensors::open_folder(path)?;
            let problem = format!(
                "it holds weights ({} tensors), but no `config.json` that says what they are; download the whole folder",
                weights.tensors().len()
            );
            return Err(ModelError::Folder { path: path.to_owned(), problem });
        }
        let settings = settings(&config)?;
        let family = families::find(&settings)?;
        let weights = SafeTensors::open_folder(path)?;
        let stored = stored(path, &settings, &weights)?;
        Ok(Folder { path: path.to_owned(), settings, family, weights, stored })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its weights.
    pub fn weights(&self) -> &SafeTensors {
        &self.weights
    }

    /// Puts it into GGUF's terms.
    ///
    /// # Errors
    /// Settings that make no sense or need what is not supported, tensors that have no place, or are stored in a type that
    /// cannot be computed with.
    pub fn translate(&self) -> Result<Translation, ModelError> {
        let Family { architecture, .. } = *self.family;
        let mut metadata = GgufWriter::new();
        metadata.set("general.architecture", architecture);
        metadata.set("general.type", "model");
        card::describe(&self.path, &self.settings, &mut metadata)?;
        let made = self.family.translate(&self.settings, &mut metadata)?;
        metadata.set("general.quantization_version", 2u32);

        let mut tensors: Vec<HfTensor> =
            made.iter().map(|table| HfTensor::of_values(table.name, &table.values)).collect();
        self.place_weights(&mut tensors)?;
        let Family { in_pairs, converts, .. } = *self.family;
        Ok(Translation { metadata, tensors, in_pairs, converts })
    }

    fn place_weights(&self, tensors: &mut Vec<HfTensor>) -> Result<(), ModelError> {
        let family = self.family;
        let is_tied = match self.settings.opt_bool("tie_word_embeddings")? {
            Some(tied) => tied,
            None => family.tied,
        };
        let heads = |role| family.n_heads(&self.settings, role);
        let (mut unknown, mut has_output) = (Vec::new(), false);
        let places = || family.names.iter().flat_map(|table| table.iter());
        let classifies = self.stored.iter().any(|tensor| match place(family.names, &tensor.name) {
            Place::Here { gguf, .. } => gguf == encoder::HEAD_OUTPUT,
            Place::Nowhere | Place::Unknown => false,
        });
        for tensor in &self.stored {
            if family.left_out.iter().any(|part| tensor.name.starts_with(part)) {
                continue;
            }
            let (name, gguf, second) = match place(family.names, &tensor.name) {
                Place::Nowhere => continue,
                Place::Here { name, gguf, second } => (name, gguf, second),
                Place::Unknown => {
                    unknown.push(&tensor.name);
                    continue;
                }
            };
            if gguf == "output.weight" {
                // Some folders hold tied weights twice.
                if is_tied {
                    continue;
                }
                has_output = true;
            }
            let dtype = tensor.dtype.ok_or_else(|| ModelError::Folder {
                path: self.path.clone(),
                problem: format!(
                    "tensor `{}` is stored as {}, which cannot be run; get the model in BF16, F16 or F32, or as GGUF",
                    tensor.name, tensor.kind
                ),
            })?;
            if name.role == Role::Head && !classifies {
                continue;
            }
            if name.role == Role::Positions {
                tensors.push(self.positions(gguf, tensor, dtype)?);
                continue;
            }
            if let Some(second) = second {
                tensors.extend(self.halves([gguf, second], tensor, dtype)?);
                continue;
            }
            let change = match name.role {
                Role::Norm if family.norms_from_one && gguf.ends_with(".weight") => Change::AddOne,
                Role::Queries | Role::Keys if family.in_pairs => {
                    let n_heads = heads(name.role)? as usize;
                    let n_rows = tensor.shape.first().copied().unwrap_or(0);
                    if n_heads == 0 || !n_rows.is_multiple_of(2 * n_heads) {
                        let problem = format!(
                            "tensor `{}` has {n_rows} rows, but `config.json` says {n_heads} heads of an even width; \
                             download the model again",
                            tensor.name
                        );
                        return Err(ModelError::Folder { path: self.path.clone(), problem });
                    }
                    Change::Pair { n_heads }
                }
                Role::Transposed if tensor.shape.len() == 2 => Change::Transpose,
                _ => Change::None,
            };
            let mut shape = tensor.shape.clone();
            if name.role == Role::Squeezed {
                shape.retain(|&n| n != 1);
            }
            tensors.push(tensor.renamed(gguf, &shape, dtype, change));
        }
        if let Some(first) = unknown.first() {
            return Err(ModelError::UnusedTensors { n: unknown.len(), first: first.to_string() });
        }
        let projects = places().any(|name| name.gguf == "output");
        if projects && !has_output && self.settings.opt_bool("tie_word_embeddings")? == Some(false) {
            let (tensor, architecture) = ("lm_head.weight".to_owned(), family.architecture.to_owned());
            return Err(ModelError::MissingTensor { tensor, architecture });
        }
        Ok(())
    }
}

impl Folder {
    /// The two tensors that stand one below the other in one.
    fn halves(&self, names: [String; 2], tensor: &Stored, dtype: DType) -> Result<[HfTensor; 2], ModelError> {
        let n_rows = tensor.shape.first().copied().unwrap_or(0);
        if let Some(packed) = tensor.packed.as_ref().filter(|_| n_rows.is_multiple_of(2)) {
            let [one, other] = names;
            let half = |name, rows| HfTensor::of_packed(name, packed.clone(), rows, Change::None);
            return Ok([half(one, 0..n_rows / 2), half(other, n_rows / 2..n_rows)]);
        }
        let middle = tensor.data.len() / 2;
        let mut shape = tensor.shape.clone();
        let parts = [tensor.data.slice(0..middle), tensor.data.slice(middle..tensor.data.len())];
        match (parts, shape.first_mut()) {
            ([Some(first), Some(second)], Some(n)) if n_rows.is_multiple_of(2) => {
                *n = n_rows / 2;
                let [one, other] = names;
                Ok([(one, first), (other, second)]
                    .map(|(name, data)| HfTensor::new(name, &shape, dtype, data, Change::None)))
            }
            _ => {
                let problem = format!(
                    "tensor `{}` has {n_rows} rows, but holds two of equal height; download the model again",
                    tensor.name
                );
                Err(ModelError::Folder { path: self.path.clone(), problem })
            }
        }
    }

    /// The table of positions, from the row of the first token on.
    fn positions(&self, name: String, tensor: &Stored, dtype: DType) -> Result<HfTensor, ModelError> {
        let first = (self.family.first_position)(&self.settings)? as usize;
        let n_rows = tensor.shape.first().copied().unwrap_or(0);
        let row_bytes = tensor.data.len() / n_rows.max(1);
        let data = tensor.data.slice(first.saturating_mul(row_bytes)..tensor.data.len());
        let mut shape = tensor.shape.clone();
        match (data, shape.first_mut()) {
            (Some(data), Some(n)) if first < n_rows => {
                *n -= first;
                Ok(HfTensor::new(name, &shape, dtype, data, Change::None))
            }
            _ => {
                let problem = format!(
                    "tensor `{}` has {n_rows} rows, of which {first} are for padding; download the model again",
                    tensor.name
                );
                Err(ModelError::Folder { path: self.path.clone(), problem })
            }
        }
    }
}

/// The tensors of a folder: those that stand for themselves, and the matrices that a quantizer made several of.
fn stored(path: &Path, settings: &Settings, weights: &SafeTensors) -> Result<Vec<Stored>, ModelError> {
    let mut config = None;
    for name in ["quantization_config", "compression_config", "quantization"] {
        config = config.or(settings.object(name)?);
    }
    let beside = path.join("quantize_config.json");
    if config.is_none() && beside.is_file() {
        config = Some(Settings::new(&beside, object(&beside)?));
    }
    let packed = match &config {
        Some(config) => packed::read(path, weights, config.fields())?,
        None => packed::PackedTensors::default(),
    };
    let plain = weights.tensors().iter().filter(|tensor| !packed.parts.contains(&*tensor.name));
    let mut all: Vec<Stored> = plain
        .map(|tensor| Stored {
            name: tensor.name.to_string(),
            shape: tensor.shape.clone(),
            dtype: tensor.dtype(),
            kind: tensor.kind.name(),
            data: tensor.data.clone(),
            packed: None,
        })
        .collect();
    all.extend(packed.matrices.into_iter().map(|matrix| Stored {
        name: matrix.name().to_owned(),
        shape: matrix.shape().to_vec(),
        dtype: Some(matrix.dtype()),
        kind: matrix.dtype().name(),
        data: Bytes::from_vec(vec![]),
        packed: Some(Arc::new(matrix)),
    }));
    Ok(all)
}

/// The settings in a JSON file. Of a model of more than text, those of the part for text.
fn settings(path: &Path) -> Result<Settings, ModelError> {
    let outer = Settings::new(path, object(path)?);
    match outer.object("text_config")? {
        Some(text) => Ok(outer.with(text)),
        None => Ok(outer),
    }
}

/// The object in a JSON file of bounded length.
pub(super) fn object(path: &Path) -> Result<Map<String, Value>, ModelError> {
    let fail = |problem: String| ModelError::Folder { path: path.to_owned(), problem };
    let text = bounded(path, MAX_CONFIG)?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(fail("it is no JSON object; download it again".to_owned())),
        Err(error) => Err(fail(format!("it is no JSON ({error}); download it again"))),
    }
}

/// A file of at most `most` bytes.
pub(super) fn bounded(path: &Path, most: u64) -> Result<Vec<u8>, ModelError> {
    let io = |source| ModelError::File(FileError::io(path, "read", source));
    let length = fs::metadata(path).map_err(io)?.len();
    if length > most {
        let problem =
            format!("it has {length} bytes, more than the {most} that it may have; download it again");
        return Err(ModelError::Folder { path: path.to_owned(), problem });
    }
    fs::read(path).map_err(io)
}
