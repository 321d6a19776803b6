//! Phi-1, 1.5 and 2 (`phi`); Phi-3, Phi-3.5 mini, Phi-4 and Phi-4-mini (`phi3`).

use super::llama::LLAMA;
use super::{Family, Keys, LAYER_NORM, RMS, SILU, SIZES, rope, windows};
use crate::ModelError;
use crate::hf::names::{ATTENTION, ENDS, NORMS_BEFORE, Name, name, norm};
use crate::hf::settings::Settings;

pub(super) const PHI: Family = Family {
    model_types: &["phi"],
    architecture: "phi2",
    class: "PhiForCausalLM",
    biases: &[],
    fields: &[SIZES, LAYER_NORM],
    rope: Some(rope::RopeDefaults { part: 0.5, ..rope::PLAIN }),
    activation: ("hidden_act", &["gelu_new", "gelu_pytorch_tanh", "gelu_fast"]),
    more: phi,
    names: &[PHI_NAMES, ENDS, ATTENTION],
    in_pairs: false,
    ..LLAMA
};

const PHI_NAMES: &[Name] = &[
    norm("final_layernorm", "output_norm"),
    norm("layers.{}.input_layernorm", "blk.{}.attn_norm"),
    name("layers.{}.self_attn.dense", "blk.{}.attn_output"),
    name("layers.{}.mlp.fc1", "blk.{}.ffn_up"),
    name("layers.{}.mlp.fc2", "blk.{}.ffn_down"),
];

fn phi(settings: &Settings, _: &mut Keys<'_>) -> Result<(), ModelError> {
    match settings.opt_bool("qk_layernorm")? {
        Some(true) => Err(settings.unsupported("norms on q and k")),
        _ => Ok(()),
    }
}

pub(super) const PHI3: Family = Family {
    model_types: &["phi3"],
    architecture: "phi3",
    class: "Phi3ForCausalLM",
    biases: &[],
    period: Some(0),
    fields: &[SIZES, RMS],
    activation: SILU,
    more: phi3,
    names: &[ENDS, NORMS_BEFORE, PHI3_NAMES],
    in_pairs: false,
    ..LLAMA
};

const PHI3_NAMES: &[Name] = &[
    name("layers.{}.self_attn.qkv_proj", "blk.{}.attn_qkv"),
    name("layers.{}.self_attn.o_proj", "blk.{}.attn_output"),
    name("layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up"),
    name("layers.{}.mlp.down_proj", "blk.{}.ffn_down"),
];

fn phi3(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    // 0 tells other programs that there is none; the key must be there.
    keys.set("attention.sliding_window", 0u32);
    if let Some(original) = settings.opt_count("original_max_position_embeddings")? {
        keys.set("rope.scaling.original_context_length", original);
    }
    windows(settings, keys, None, &|_| true, &|_| true)
}
