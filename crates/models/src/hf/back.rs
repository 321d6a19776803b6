//! The way back: a GGUF file in the terms of a folder, `config.json` and the names and layouts of `transformers`.
//!
//! The configuration is in the fields of version 4, which version 5 reads, too. Formats of blocks become floats. Left out:
//! rotation tables that none of its parameters make, and MPNet, which has no GGUF files in the field.

use serde_json::{Map, Value, json};
use whit_base::DType;
use whit_files::{Gguf, TensorInfo};

use super::families::{self, Family};
use super::field::{Field, Kind};
use super::names::{Role, back_place};
use super::tensor::{Change, HfTensor};
use super::{ROPE_IN_HALVES, rope, stack};
use crate::config::Config;
use crate::tensors::{is_made, shape_error};
use crate::{ENCODERS, ModelError};

/// A model in the terms of a folder.
#[derive(Debug)]
pub struct BackTranslation {
    /// `config.json`.
    pub config: Map<String, Value>,
    /// Of a model that generates: how it begins and ends a text, for `generation_config.json`.
    pub generation: Option<Map<String, Value>>,
    /// Of a model of sentences: the files of `sentence-transformers` that say how their states are pooled, by name.
    pub pooling: Vec<(&'static str, Value)>,
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
        for part in stack::unstack(gguf, family.names, tensor)? {
            tensors.push(tensor_back(family, &config, tensor, part)?);
        }
    }
    let settings = settings(gguf, family, &config, dtype)?;
    let generation = (!is_encoder(family)).then(|| generation(&settings));
    Ok(BackTranslation { generation, pooling: pooling(&config)?, config: settings, tensors })
}

fn is_encoder(family: &Family) -> bool {
    ENCODERS.contains(&family.architecture)
}

fn generation(config: &Map<String, Value>) -> Map<String, Value> {
    let ids = ["bos_token_id", "eos_token_id", "pad_token_id"];
    ids.iter().filter_map(|id| Some(((*id).to_owned(), config.get(*id)?.clone()))).collect()
}

/// The modules behind each other, and the settings of the one that pools.
fn pooling(config: &Config<'_>) -> Result<Vec<(&'static str, Value)>, ModelError> {
    // The numbers of llama.cpp's `llama_pooling_type`.
    let chosen = match config.opt_usize("pooling_type")? {
        Some(1) => "pooling_mode_mean_tokens",
        Some(2) => "pooling_mode_cls_token",
        Some(3) => "pooling_mode_lasttoken",
        _ => return Ok(vec![]),
    };
    let module = |idx: u32, path: &str, kind: &str| {
        let kind = format!("sentence_transformers.models.{kind}");
        json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": kind })
    };
    let mut settings = json!({ "word_embedding_dimension": config.n_embd()? });
    for mode in ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken"] {
        let mode = format!("pooling_mode_{mode}");
        settings[&mode] = (mode == chosen).into();
    }
    let modules = json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")]);
    Ok(vec![("modules.json", modules), ("1_Pooling/config.json", settings)])
}

/// The family that a file of this architecture becomes.
fn family_of(config: &Config<'_>) -> Result<&'static Family, ModelError> {
    let windowed = config.opt_usize("attention.sliding_window")?.is_some_and(|window| window > 0);
    let mixed = config.opt_usize("expert_count")?.is_some_and(|n| n > 0);
    let model_type = match config.architecture() {
        "llama" if mixed => Some("mixtral"),
        "llama" if windowed => Some("mistral"),
        "olmo2" if windowed => Some("olmo3"),
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

/// What stands beside the model itself.
const OUTSIDE: [&str; 4] = ["lm_head", "classifier", "head.dense", "head.norm"];

/// `part`, which is `tensor` or a part of it, under its name in a folder.
fn tensor_back(
    family: &Family,
    config: &Config<'_>,
    tensor: &TensorInfo,
    part: HfTensor,
) -> Result<HfTensor, ModelError> {
    let Some((name, module)) = back_place(family.names, part.name()) else {
        return Err(ModelError::UnusedTensors { n: 1, first: tensor.name.to_string() });
    };
    let is_bare = is_encoder(family) && !config.ranks();
    let prefix = if is_bare || OUTSIDE.contains(&name.module) { "" } else { family.prefix };
    let change = match name.role {
        Role::Norm if family.norms_from_one && module.ends_with(".weight") => Change::SubtractOne,
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
    let tensor = part.renamed(format!("{prefix}{module}"), change);
    Ok(if name.role == Role::Squeezed { tensor.unsqueezed() } else { tensor })
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
    let mut by_layer: Vec<&Field> = Vec::new();
    for field in family.fields.iter().flat_map(|fields| fields.iter()) {
        let value = match field.kind {
            Kind::Count => match metadata.get(&config.key(field.key)) {
                Some(whit_files::Value::Array(_)) => {
                    let counts = config.per_layer(field.key, config.n_layers()?)?.unwrap_or_default();
                    let first = counts.first().copied().filter(|first| counts.iter().all(|n| n == first));
                    by_layer.extend(first.is_none().then_some(field));
                    first.map(Value::from)
                }
                _ => metadata.opt_u32(&config.key(field.key))?.map(Value::from),
            },
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
    (family.back)(config, &mut out)?;
    match by_layer.iter().find(|field| !out.contains_key(field.field)) {
        Some(field) => Err(config.unsupported(format!("a `{}` for each layer", field.key))),
        None => Ok(out),
    }
}

/// A number with no more digits than it takes to tell it from its neighbours.
pub(super) fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
