//! ModernBERT and what is made of it.

use super::bert::{BERT, encoder};
use super::{Family, Keys, field, rope};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::names::{Name, head, name, norm};
use crate::hf::settings::Settings;

pub(super) const MODERN_BERT: Family = Family {
    model_types: &["modernbert"],
    architecture: "modern-bert",
    fields: &[SIZES],
    rope: Some(rope::RopeDefaults { base: 160_000.0, part: 1.0, local_base: Some(10_000.0) }),
    activation: ("hidden_activation", &["gelu", "silu"]),
    more: modern_bert,
    names: &[NAMES],
    left_out: &["decoder."],
    ..BERT
};

const SIZES: &[Field] = &[
    field::count("max_position_embeddings", "context_length"),
    field::count("hidden_size", "embedding_length"),
    field::count("num_hidden_layers", "block_count"),
    field::count("intermediate_size", "feed_forward_length"),
    field::count("num_attention_heads", "attention.head_count"),
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
