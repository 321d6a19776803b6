//! The families of `transformers`: which of its types of model is which architecture, and in which terms.
//!
//! To add one: a file here with a [`Family`], and a line in [`ALL`].

mod bert;
mod cohere;
mod ernie;
mod exaone;
mod gemma;
mod gemma3n;
mod gemma4;
mod glm;
mod gpt2;
mod hunyuan;
mod lfm2;
mod llama;
mod modern_bert;
mod olmo2;
mod phi;
mod qwen;
mod stablelm;
mod starcoder;

use serde_json::{Map, Value};
use whit_files::GgufWriter;

use super::field::{self, Field, Kind};
use super::names::{Name, Role};
use super::rope::{self, RopeDefaults, Table};
use super::settings::Settings;
use crate::ModelError;
use crate::config::Config;

/// All that are known. Of those with the same architecture, the first is what a GGUF file of it becomes.
pub(super) const ALL: &[&Family] = &[
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::MINISTRAL,
    &llama::MINISTRAL3,
    &llama::MIXTRAL,
    &llama::SMOLLM3,
    &llama::GRANITE,
    &llama::GRANITE4,
    &llama::GRANITE_MOE,
    &llama::ARCEE,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN3_MOE,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma3n::GEMMA3N,
    &gemma4::GEMMA4,
    &phi::PHI,
    &phi::PHI3,
    &olmo2::OLMO2,
    &olmo2::OLMO3,
    &olmo2::OLMOE,
    &stablelm::STABLELM,
    &gpt2::GPT2,
    &cohere::COHERE2,
    &ernie::ERNIE45,
    &exaone::EXAONE4,
    &glm::GLM4,
    &hunyuan::HUNYUAN,
    &lfm2::LFM2,
    &starcoder::STARCODER2,
    &bert::BERT,
    &bert::ROBERTA,
    &bert::NOMIC_BERT,
    &bert::MPNET,
    &modern_bert::MODERN_BERT,
];

/// The widest head. Tables are made of it before any weight is looked at.
const MAX_HEAD_DIM: u32 = 1 << 16;

/// A family: what it calls its numbers and modules, and how its files differ from GGUF's.
#[derive(Debug)]
pub(super) struct Family {
    /// `model_type` of `config.json`; of several, the first is the usual one.
    pub(super) model_types: &'static [&'static str],
    /// `general.architecture`.
    pub(super) architecture: &'static str,
    pub(super) fields: &'static [&'static [Field]],
    /// Where the width of a head is stated.
    pub(super) stated_head_dim: fn(&Settings) -> Result<Option<u32>, ModelError>,
    /// What it is where it is not stated; `None`: the width, divided among the heads.
    pub(super) head_dim: Option<u32>,
    /// `None` where nothing is rotated.
    pub(super) rope: Option<RopeDefaults>,
    /// The field with the activation, and what may be in it; a model without the field has the first.
    pub(super) activation: (&'static str, &'static [&'static str]),
    /// What no table can say.
    pub(super) more: fn(&Settings, &mut Keys<'_>) -> Result<(), ModelError>,
    /// Whether embeddings are the output projection, too, where the configuration does not say.
    pub(super) tied: bool,
    pub(super) names: &'static [&'static [Name]],
    /// What its tensors begin with that are for other tasks, such as guessing masked words.
    pub(super) left_out: &'static [&'static str],
    /// The row of the table of positions that the first token has.
    pub(super) first_position: fn(&Settings) -> Result<u32, ModelError>,
    /// Whether the architecture rotates pairs of neighbours, where `transformers` rotates halves.
    pub(super) in_pairs: bool,
    /// Whether GGUF files are written of its folders, and folders of its GGUF files; if not, it is only read where it lies.
    pub(super) converts: bool,
    /// On the way back: what no table can say.
    pub(super) back: fn(&Config<'_>, &mut Map<String, Value>) -> Result<(), ModelError>,
    /// What stands before the names of all modules but the projection onto the vocabulary; of encoders, only where a head
    /// stands beside them.
    pub(super) prefix: &'static str,
    /// The class of `transformers`.
    pub(super) class: &'static str,
    /// Fields that say whether there are biases or norms, and a tensor that is there where there are.
    pub(super) biases: &'static [(&'static str, &'static str)],
    /// In families with windows: one in so many layers sees everything where nothing says which do; 0: none does.
    pub(super) period: Option<usize>,
    /// The one size (27B) whose attention is scaled by the width per head rather than by the head's own, by its layers.
    pub(super) layers_of_27b: Option<usize>,
    /// Whether weights of norms are stored as their distance from 1.
    pub(super) norms_from_one: bool,
}

/// Sets keys of one architecture.
pub(super) struct Keys<'a> {
    architecture: &'static str,
    out: &'a mut GgufWriter,
}

impl Keys<'_> {
    pub(super) fn set<'v>(&mut self, key: &str, value: impl Into<whit_files::Value<'v>>) {
        self.out.set(&format!("{}.{key}", self.architecture), value);
    }

    pub(super) fn set_texts(&mut self, key: &str, texts: &[&str]) {
        self.out.set_strings(&format!("{}.{key}", self.architecture), texts);
    }

    /// Sets a key that has no architecture's name before it.
    pub(super) fn set_plain<'v>(&mut self, key: &str, value: impl Into<whit_files::Value<'v>>) {
        self.out.set(key, value);
    }

    pub(super) fn set_counts(&mut self, key: &str, counts: &[i32]) {
        self.out.set_numbers(&format!("{}.{key}", self.architecture), counts);
    }

    pub(super) fn set_floats(&mut self, key: &str, numbers: &[f32]) {
        self.out.set_numbers(&format!("{}.{key}", self.architecture), numbers);
    }

    pub(super) fn set_flags(&mut self, key: &str, flags: &[bool]) {
        self.out.set_flags(&format!("{}.{key}", self.architecture), flags);
    }
}

/// The family of a configuration.
pub(super) fn find(settings: &Settings) -> Result<&'static Family, ModelError> {
    let wanted = settings.opt_str("model_type")?.ok_or_else(|| settings.missing("model_type"))?;
    ALL.iter().copied().find(|family| family.model_types.contains(&wanted)).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().flat_map(|family| family.model_types).copied().collect();
        ModelError::UnknownArchitecture { architecture: wanted.to_owned(), supported: known.join(", ") }
    })
}

impl Family {
    /// Sets the keys, and gives the tensors that are made of settings.
    pub(super) fn translate(
        &self,
        settings: &Settings,
        out: &mut GgufWriter,
    ) -> Result<Vec<Table>, ModelError> {
        let (field, allowed) = self.activation;
        if let Some(activation) = settings.opt_str(field)?
            && !allowed.contains(&activation)
        {
            return Err(settings.bad(field, &Value::from(activation), allowed.join(" or ")));
        }
        for field in self.fields.iter().flat_map(|fields| fields.iter()) {
            field.translate(settings, self.architecture, out)?;
        }
        let head_dim = self.head_dim(settings)?;
        if !(1..=MAX_HEAD_DIM).contains(&head_dim) {
            let expected = format!("from 1 to {MAX_HEAD_DIM}");
            return Err(settings.bad("head_dim", &Value::from(head_dim), expected));
        }
        let mut keys = Keys { architecture: self.architecture, out };
        keys.set("vocab_size", settings.count("vocab_size")?);
        let mut tables = Vec::new();
        if let Some(defaults) = &self.rope {
            keys.set("attention.key_length", head_dim);
            keys.set("attention.value_length", head_dim);
            tables = rope::translate(settings, self.architecture, defaults, head_dim, keys.out)?;
        }
        (self.more)(settings, &mut keys)?;
        Ok(tables)
    }

    fn head_dim(&self, settings: &Settings) -> Result<u32, ModelError> {
        if let Some(head_dim) = (self.stated_head_dim)(settings)?.or(self.head_dim) {
            return Ok(head_dim);
        }
        let width = self.number("embedding_length", settings)?;
        let n_heads = self.number("attention.head_count", settings)?;
        match width.checked_div(n_heads) {
            Some(head_dim) => Ok(head_dim),
            None => Err(settings.missing("num_attention_heads")),
        }
    }

    /// Heads of queries, or of keys.
    pub(super) fn n_heads(&self, settings: &Settings, role: Role) -> Result<u32, ModelError> {
        match role {
            Role::Keys => self.number("attention.head_count_kv", settings),
            _ => self.number("attention.head_count", settings),
        }
    }

    /// What the fields say of a key.
    fn number(&self, key: &str, settings: &Settings) -> Result<u32, ModelError> {
        let mut fields = self.fields.iter().flat_map(|fields| fields.iter());
        let field = fields.find(|field| field.key == key && field.kind == Kind::Count);
        let value = field.map(|field| field.count(settings)).transpose()?.flatten();
        value.ok_or_else(|| settings.missing(key))
    }
}

/// Sizes under the names of most families.
const SIZES: &[Field] = &[
    field::count("max_position_embeddings", "context_length"),
    field::count("hidden_size", "embedding_length"),
    field::count("num_hidden_layers", "block_count"),
    field::count("intermediate_size", "feed_forward_length"),
    field::count("num_attention_heads", "attention.head_count"),
    field::count("num_key_value_heads", "attention.head_count_kv").or_as("num_attention_heads"),
];

const RMS: &[Field] = &[field::number("rms_norm_eps", "attention.layer_norm_rms_epsilon").or_number(1e-6)];

/// The same in families with another default.
const RMS_5: &[Field] = &[field::number("rms_norm_eps", "attention.layer_norm_rms_epsilon").or_number(1e-5)];

const LAYER_NORM: &[Field] =
    &[field::number("layer_norm_eps", "attention.layer_norm_epsilon").or_number(1e-5)];

const SILU: (&str, &[&str]) = ("hidden_act", &["silu", "swish"]);

/// For families of which the tables say all.
fn nothing_more(_: &Settings, _: &mut Keys<'_>) -> Result<(), ModelError> {
    Ok(())
}

/// The window of layers that have one, and which do, from `sliding_window` and `layer_types`. `usual` is which do where
/// `layer_types` does not say, by layer; no key says so where the architecture assumes the same.
fn windows(
    settings: &Settings,
    keys: &mut Keys<'_>,
    default: Option<u32>,
    usual: &dyn Fn(usize) -> bool,
    assumed: &dyn Fn(usize) -> bool,
) -> Result<(), ModelError> {
    let n_layers = settings.opt_texts("layer_types")?.map_or(0, |types| types.len());
    let n_layers = settings.opt_count("num_hidden_layers")?.map_or(n_layers, |n| n as usize);
    // A lying count is refused when weights are looked for; until then it must cost nothing.
    let n_layers = n_layers.min(1 << 16);
    let local: Vec<bool> = match settings.opt_texts("layer_types")? {
        Some(types) => {
            let known = ["sliding_attention", "full_attention"];
            if let Some(other) = types.iter().find(|kind| !known.contains(kind)) {
                return Err(settings.unsupported(&format!("layers of the kind `{other}`")));
            }
            types.iter().map(|kind| *kind == "sliding_attention").collect()
        }
        None => (0..n_layers).map(usual).collect(),
    };
    let window = match settings.has("sliding_window") {
        true => settings.opt_count("sliding_window")?,
        false => default,
    };
    let window = window.filter(|_| local.contains(&true));
    let Some(window) = window else { return Ok(()) };
    keys.set("attention.sliding_window", window);
    if (0..local.len()).any(|layer| local[layer] != assumed(layer)) {
        keys.set_flags("attention.sliding_window_pattern", &local);
    }
    Ok(())
}
