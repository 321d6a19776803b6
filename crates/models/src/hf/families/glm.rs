//! GLM-4 of 2025.

use super::llama::LLAMA;
use super::{Family, RMS, SIZES, rope};
use crate::hf::names::{ATTENTION, ENDS, Name, name, norm};

pub(super) const GLM4: Family = Family {
    model_types: &["glm4"],
    architecture: "glm4",
    class: "Glm4ForCausalLM",
    biases: &[("attention_bias", "blk.0.attn_q.bias")],
    fields: &[SIZES, RMS],
    head_dim: Some(128),
    rope: Some(rope::RopeDefaults { part: 0.5, ..rope::PLAIN }),
    names: &[ENDS, ATTENTION, BLOCK],
    in_pairs: false,
    ..LLAMA
};

const BLOCK: &[Name] = &[
    norm("layers.{}.input_layernorm", "blk.{}.attn_norm"),
    norm("layers.{}.post_self_attn_layernorm", "blk.{}.post_attention_norm"),
    norm("layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"),
    norm("layers.{}.post_mlp_layernorm", "blk.{}.post_ffw_norm"),
    name("layers.{}.mlp.gate_up_proj", "blk.{}.ffn_up"),
    name("layers.{}.mlp.down_proj", "blk.{}.ffn_down"),
];
