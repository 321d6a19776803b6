//! StableLM 2.

use super::llama::LLAMA;
use super::{Family, LAYER_NORM, SIZES, field, rope};
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, GATED, NORMS_BEFORE, Name, norm};

pub(super) const STABLELM: Family = Family {
    model_types: &["stablelm"],
    architecture: "stablelm",
    class: "StableLmForCausalLM",
    biases: &[("use_qkv_bias", "blk.0.attn_q.bias"), ("qk_layernorm", "blk.0.attn_q_norm.weight")],
    fields: &[SIZES, LAYER_NORM, PARALLEL],
    rope: Some(rope::RopeDefaults { part: 0.25, ..rope::PLAIN }),
    names: &[ENDS, ATTENTION, GATED, NORMS_BEFORE, HEAD_NORMS],
    in_pairs: false,
    ..LLAMA
};

const PARALLEL: &[Field] = &[field::flag("use_parallel_residual", "use_parallel_residual")];

/// Of the largest size: a norm for each head.
const HEAD_NORMS: &[Name] = &[
    norm("layers.{}.self_attn.q_layernorm.norms.{}", "blk.{}.attn_q_norm.{}"),
    norm("layers.{}.self_attn.k_layernorm.norms.{}", "blk.{}.attn_k_norm.{}"),
];
