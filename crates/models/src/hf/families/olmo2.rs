//! OLMo 2.

use super::llama::LLAMA;
use super::{Family, SIZES, field};
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, GATED, NORMS_BEHIND, QK_NORMS};

pub(super) const OLMO2: Family = Family {
    model_types: &["olmo2"],
    architecture: "olmo2",
    class: "Olmo2ForCausalLM",
    biases: &[("attention_bias", "blk.0.attn_q.bias")],
    fields: &[SIZES, EPS],
    names: &[ENDS, ATTENTION, GATED, NORMS_BEHIND, QK_NORMS],
    in_pairs: false,
    ..LLAMA
};

const EPS: &[Field] = &[field::number("rms_norm_eps", "attention.layer_norm_rms_epsilon").or_number(1e-5)];
