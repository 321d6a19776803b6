//! The way back: a GGUF file in the terms of a folder, `config.json` and the names and layouts of `transformers`.
//!
//! The configuration is in the fields of version 4, which version 5 reads, too. Formats of blocks become floats. Left out:
//! families whose files `transformers` has no names for, and rotation tables that none of its parameters make.

use serde_json::{Map, Value, json};
use whit_base::DType;
use whit_files::{Gguf, TensorInfo};

use super::families::{self, Family};
use super::field::Kind;
use super::names::{Role, back_place};
use super::tensor::{Change, HfTensor};
use super::{ROPE_IN_HALVES, rope};
use crate::ModelError;
use crate::config::Config;
use crate::tensors::{is_made, shape_error};

/// A model in the terms of a folder.
#[derive(Debug)]
pub struct BackTranslation {
    /// `config.json`.
    pub config: Map<String, Value>,
    /// The tensors under their names in the folder.
    pub tensors: Vec<HfTensor>,
}

/// Puts a GGUF model into the terms of a folder whose matrices are stored as `dtype`.
///
/// # Errors
/// An architecture without a family, keys and tensors that make no sense.
pub fn translate_back(gguf: &Gguf, dtype: DType) -> Result<BackTranslation, ModelError> {
    let config = Config::new(gguf)?;
    let family = family_of(&config)?;
    if config.metadata().get(ROPE_IN_HALVES).is_some() {
        let problem = "it is a model folder already".to_owned();
        return Err(ModelError::Folder { path: gguf.path().to_owned(), problem });
    }
    let mut tensors = Vec::new();
    for tensor in gguf.tensors().iter().filter(|tensor| !is_made(&tensor.name)) {
        tensors.push(tensor_back(gguf, family, &config, tensor)?);
    }
    Ok(BackTranslation { config: settings(gguf, family, &config, dtype)?, tensors })
}

/// The family that a file of this architecture becomes.
fn family_of(config: &Config<'_>) -> Result<&'static Family, ModelError> {
    let windowed = config.opt_usize("attention.sliding_window")?.is_some_and(|window| window > 0);
    let model_type = match (config.architecture(), windowed) {
        ("llama", true) => Some("mistral"),
        _ => None,
    };
    let fits = |family: &&&Family| {
        family.converts
            && family.architecture == config.architecture()
            && model_type.is_none_or(|model_type| family.model_types.contains(&model_type))
    };
    families::ALL.iter().find(fits).copied().ok_or_else(|| {
        config.unsupported("names and layouts for which `transformers` folders are not written")
    })
}

fn tensor_back(
    gguf: &Gguf,
    family: &Family,
    config: &Config<'_>,
    tensor: &TensorInfo,
) -> Result<HfTensor, ModelError> {
    let Some((name, module)) = back_place(family.names, &tensor.name) else {
        return Err(ModelError::UnusedTensors { n: 1, first: tensor.name.to_string() });
    };
    let prefix = if name.module == "lm_head" { "" } else { family.prefix };
    let change = match name.role {
        Role::Norm if family.norms_from_one && tensor.name.ends_with(".weight") => Change::SubtractOne,
        Role::Queries | Role::Keys if family.in_pairs => {
            let attention = config.attention()?;
            let n_heads = match name.role {
                Role::Keys => attention.n_kv_heads.first().copied().unwrap_or(1),
                _ => attention.n_heads,
            };
            if !tensor.shape.first().is_some_and(|rows| rows.is_multiple_of(2 * n_heads)) {
                return Err(shape_error(
                    tensor,
                    "rotated heads",
                    format!("a multiple of {} rows", 2 * n_heads),
                ));
            }
            Change::Unpair { n_heads }
        }
        Role::Transposed if tensor.shape.len() == 2 => Change::Transpose,
        _ => Change::None,
    };
    let data = gguf.tensor_bytes(tensor);
    Ok(HfTensor::new(format!("{prefix}{module}"), &tensor.shape, tensor.dtype, data, change))
}

fn settings(
    gguf: &Gguf,
    family: &Family,
    config: &Config<'_>,
    dtype: DType,
) -> Result<Map<String, Value>, ModelError> {
    let metadata = config.metadata();
    let mut out = Map::new();
    let mut set = |name: &str, value: Value| out.insert(name.to_owned(), value);
    set("architectures", json!([family.class]));
    set("model_type", family.model_types.first().copied().into());
    for field in family.fields.iter().flat_map(|fields| fields.iter()) {
        let value = match field.kind {
            Kind::Count => metadata.opt_u32(&config.key(field.key))?.map(Value::from),
            Kind::Number => config.opt_float(field.key)?.map(short),
            Kind::Flag => metadata.opt_bool(&config.key(field.key))?.map(Value::from),
        };
        if let Some(value) = value {
            set(field.field, value);
        }
    }
    let attention = config.attention()?;
    let n_layers = attention.n_kv_heads.len();
    if family.rope.is_some()
        && (family.head_dim.is_some() || attention.head_dim * attention.n_heads != config.n_embd()?)
    {
        set("head_dim", attention.head_dim.into());
    }
    let (field, allowed) = family.activation;
    set(field, allowed.first().copied().into());
    for (field, tensor) in family.biases {
        set(field, gguf.tensor(tensor).is_some().into());
    }
    let table = gguf.tensor(crate::tensors::EMBEDDINGS);
    set("vocab_size", table.map_or(0, TensorInfo::n_rows).into());
    set("tie_word_embeddings", gguf.tensor("output.weight").is_none().into());
    if let Some(period) = family.period {
        let window = config.opt_usize("attention.sliding_window")?.filter(|&window| window > 0);
        set("sliding_window", window.map_or(Value::Null, Value::from));
        if window.is_some() && period > 0 {
            let kind = |local| if local { "sliding_attention" } else { "full_attention" };
            let types = config.local_layers(n_layers, period)?.into_iter().map(kind);
            set("layer_types", types.collect());
        }
    }
    if family.norms_from_one && family.period.is_some() {
        // Gemma 2 and 3 scale scores by a number of their own.
        let of_27b = family.layers_of_27b == Some(n_layers);
        let assumed = if of_27b { config.n_embd()? / attention.n_heads } else { attention.head_dim };
        let stated = config.opt_positive("attention.scale")?.map(|scale| short(1.0 / (scale * scale)));
        set("query_pre_attn_scalar", stated.unwrap_or_else(|| assumed.into()));
    }
    for (field, key) in [
        ("bos_token_id", "bos_token_id"),
        ("eos_token_id", "eos_token_id"),
        ("pad_token_id", "padding_token_id"),
    ] {
        if let Some(id) = metadata.opt_u32(&format!("tokenizer.ggml.{key}"))? {
            set(field, id.into());
        }
    }
    let name = match dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    };
    set("torch_dtype", name.into());
    if let Some(defaults) = &family.rope {
        rope::back(gguf, config, defaults, attention.head_dim, &mut out)?;
    }
    Ok(out)
}

/// A number with no more digits than it takes to tell it from its neighbours.
pub(super) fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
