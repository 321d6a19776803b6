//! Gemma 1 to 3. Their norms are stored as the distance from 1. Of Gemma 3's larger sizes, the part for text.

use super::llama::LLAMA;
use super::{Family, Keys, RMS, SIZES, field, nothing_more, rope, windows};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, GATED, NORMS_BEFORE, NORMS_BEHIND, Name, QK_NORMS, norm};
use crate::hf::settings::Settings;

pub(super) const GEMMA: Family = Family {
    model_types: &["gemma"],
    architecture: "gemma",
    class: "GemmaForCausalLM",
    biases: &[("attention_bias", "blk.0.attn_q.bias")],
    head_dim: Some(256),
    // The first of the makers' own files say `gelu`, and mean the other, too.
    activation: ("hidden_act", &["gelu_pytorch_tanh", "gelu"]),
    more: nothing_more,
    tied: true,
    names: &[ENDS, ATTENTION, GATED, NORMS_BEFORE],
    in_pairs: false,
    norms_from_one: true,
    ..LLAMA
};

const BEFORE_AND_BEHIND: &[Name] = &[
    norm("layers.{}.input_layernorm", "blk.{}.attn_norm"),
    norm("layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm"),
];

pub(super) const GEMMA2: Family = Family {
    model_types: &["gemma2"],
    architecture: "gemma2",
    class: "Gemma2ForCausalLM",
    period: Some(2),
    layers_of_27b: Some(46),
    fields: &[SIZES, RMS, CAPS],
    activation: ("hidden_activation", &["gelu_pytorch_tanh", "gelu"]),
    more: |settings, keys| {
        windows(settings, keys, Some(4096), &|layer| layer % 2 == 0, &|layer| layer % 2 == 0)?;
        scale(settings, keys, 46)
    },
    names: &[ENDS, ATTENTION, GATED, BEFORE_AND_BEHIND, NORMS_BEHIND],
    ..GEMMA
};

const CAPS: &[Field] = &[
    field::number("attn_logit_softcapping", "attn_logit_softcapping").or_left(),
    field::number("final_logit_softcapping", "final_logit_softcapping").or_left(),
];

pub(super) const GEMMA3: Family = Family {
    model_types: &["gemma3_text", "gemma3"],
    architecture: "gemma3",
    class: "Gemma3ForCausalLM",
    period: Some(6),
    layers_of_27b: Some(62),
    fields: &[GEMMA3_SIZES, RMS, CAPS],
    rope: Some(rope::RopeDefaults { base: 1_000_000.0, part: 1.0, local_base: Some(10_000.0) }),
    more: gemma3,
    names: &[ENDS, ATTENTION, GATED, BEFORE_AND_BEHIND, NORMS_BEHIND, QK_NORMS],
    ..GEMMA2
};

/// The makers' own files of the larger sizes leave most of these out.
const GEMMA3_SIZES: &[Field] = &[
    field::count("max_position_embeddings", "context_length").or_count(131_072),
    field::count("hidden_size", "embedding_length").or_count(2304),
    field::count("num_hidden_layers", "block_count").or_count(26),
    field::count("intermediate_size", "feed_forward_length").or_count(9216),
    field::count("num_attention_heads", "attention.head_count").or_count(8),
    field::count("num_key_value_heads", "attention.head_count_kv").or_count(4),
];

fn gemma3(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    if settings.opt_bool("use_bidirectional_attention")? == Some(true) {
        return Err(settings.unsupported("attention to both sides"));
    }
    let period = settings.opt_count("sliding_window_pattern")?.unwrap_or(6).max(1) as usize;
    let local = |period: usize| move |layer: usize| !(layer + 1).is_multiple_of(period);
    windows(settings, keys, Some(4096), &local(period), &local(6))?;
    scale(settings, keys, 62)
}

/// Scores are scaled by a number of the configuration, which no key holds where it is what the architecture assumes:
/// the width of a head, or, in the one size that has so many layers, the width divided among the heads.
fn scale(settings: &Settings, keys: &mut Keys<'_>, layers_of_27b: u32) -> Result<(), ModelError> {
    let stated = settings.opt_number("query_pre_attn_scalar")?.unwrap_or(256.0);
    let head_dim = f64::from(settings.opt_count("head_dim")?.unwrap_or(256));
    let assumed = match settings.opt_count("num_hidden_layers")? {
        Some(n) if n == layers_of_27b => {
            let n_heads = settings.opt_count("num_attention_heads")?.unwrap_or(8).max(1);
            f64::from(settings.opt_count("hidden_size")?.unwrap_or(2304) / n_heads)
        }
        _ => head_dim,
    };
    if stated != assumed {
        keys.set("attention.scale", (1.0 / stated.sqrt()) as f32);
    }
    Ok(())
}
