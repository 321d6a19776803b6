//! ModernBERT and what is made of it.

use serde_json::{Map, Value};

use super::bert::{BERT, SIZES, encoder, head_back};
use super::{Family, Keys, field, rope};
use crate::ModelError;
use crate::config::Config;
use crate::hf::field::Field;
use crate::hf::names::{Name, head, name, norm};
use crate::hf::settings::Settings;

pub(super) const MODERN_BERT: Family = Family {
    model_types: &["modernbert"],
    architecture: "modern-bert",
    class: "ModernBertModel",
    prefix: "model.",
    biases: &[
        ("attention_bias", "blk.0.attn_qkv.bias"),
        ("mlp_bias", "blk.0.ffn_up.bias"),
        ("norm_bias", "output_norm.bias"),
        ("classifier_bias", "cls.bias"),
    ],
    fields: &[SIZES, EPS],
    rope: Some(rope::RopeDefaults { base: 160_000.0, part: 1.0, local_base: Some(10_000.0) }),
    activation: ("hidden_activation", &["gelu", "silu"]),
    more: modern_bert,
    back: modern_bert_back,
    names: &[NAMES],
    left_out: &["decoder."],
    ..BERT
};

/// Converters write it under both names.
const EPS: &[Field] = &[
    field::number("norm_eps", "attention.layer_norm_rms_epsilon").or_number(1e-5),
    field::number("norm_eps", "attention.layer_norm_epsilon").or_number(1e-5),
];

const NAMES: &[Name] = &[
    name("embeddings.tok_embeddings", "token_embd"),
    norm("embeddings.norm", "token_embd_norm"),
    norm("layers.{}.attn_norm", "blk.{}.attn_norm"),
    name("layers.{}.attn.Wqkv", "blk.{}.attn_qkv"),
    name("layers.{}.attn.Wo", "blk.{}.attn_output"),
    norm("layers.{}.mlp_norm", "blk.{}.ffn_norm"),
    name("layers.{}.mlp.Wi", "blk.{}.ffn_up"),
    name("layers.{}.mlp.Wo", "blk.{}.ffn_down"),
    norm("final_norm", "output_norm"),
    head("head.dense", "cls"),
    head("head.norm", "cls.norm"),
    name("classifier", "cls.output"),
];

fn modern_bert(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    if let Some(activation) = settings.opt_str("hidden_activation")? {
        keys.set("hidden_activation", activation);
    }
    // Version 4 of `transformers` has the bases in fields of their own.
    for (field, key) in [("global_rope_theta", "rope.freq_base"), ("local_rope_theta", "rope.freq_base_swa")]
    {
        if let Some(base) = settings.opt_number(field)?.filter(|_| !settings.has("rope_parameters")) {
            keys.set(key, base as f32);
        }
    }
    if settings.opt_str("classifier_activation")?.is_some_and(|activation| activation != "gelu") {
        return Err(settings.unsupported("another activation in its head than GELU"));
    }
    keys.set("rope.scaling.type", "none");
    keys.set("attention.sliding_window", settings.opt_count("local_attention")?.unwrap_or(128));
    let period = settings.opt_count("global_attn_every_n_layers")?.unwrap_or(3).max(1);
    keys.set("attention.sliding_window_pattern", period);
    if let Some(types) = settings.opt_texts("layer_types")? {
        let is_local = |layer: usize| !layer.is_multiple_of(period as usize);
        let as_usual = |(layer, kind): (usize, &&str)| (*kind == "sliding_attention") == is_local(layer);
        if !types.iter().enumerate().all(as_usual) {
            return Err(settings.unsupported("layers that see everything at other places than by a period"));
        }
    }
    match settings.opt_str("classifier_pooling")? {
        None | Some("cls") => keys.set("classifier.pooling_type", 2u32),
        Some("mean") => keys.set("classifier.pooling_type", 1u32),
        Some(other) => return Err(settings.unsupported(&format!("the pooling `{other}`"))),
    }
    encoder(settings, keys)
}

fn modern_bert_back(config: &Config<'_>, out: &mut Map<String, Value>) -> Result<(), ModelError> {
    for (theirs, ours) in [("rope_theta", "global_rope_theta"), ("rope_local_base_freq", "local_rope_theta")]
    {
        if let Some(base) = out.remove(theirs) {
            out.insert(ours.to_owned(), base);
        }
    }
    let metadata = config.metadata();
    let mut set = |field: &str, value: Value| out.insert(field.to_owned(), value);
    if let Some(activation) = metadata.opt_str(&config.key("hidden_activation"))? {
        set("hidden_activation", activation.into());
    }
    set("local_attention", config.opt_usize("attention.sliding_window")?.unwrap_or(128).into());
    let period = config.opt_size("attention.sliding_window_pattern")?.unwrap_or(3);
    set("global_attn_every_n_layers", period.into());
    if let Some(kind) = config.opt_usize("classifier.pooling_type")? {
        set("classifier_pooling", if kind == 1 { "mean" } else { "cls" }.into());
    }
    head_back(config, "ModernBertForSequenceClassification", out)
}
