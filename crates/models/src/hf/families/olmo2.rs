//! OLMo 2 and OLMoE.

use super::llama::LLAMA;
use super::{Family, SIZES, field};
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, EXPERTS, GATED, NORMS_BEFORE, NORMS_BEHIND, QK_NORMS};

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

pub(super) const OLMOE: Family = Family {
    model_types: &["olmoe"],
    architecture: "olmoe",
    class: "OlmoeForCausalLM",
    fields: &[SIZES, EPS, MIXTURE],
    more: |settings, _| {
        // The architecture never does it.
        if settings.opt_bool("norm_topk_prob")? == Some(true) {
            return Err(settings.unsupported("experts whose proportions come to 1 (`norm_topk_prob`)"));
        }
        if settings.has("clip_qkv") {
            return Err(settings.unsupported("bounds on q, k and v"));
        }
        Ok(())
    },
    names: &[ENDS, ATTENTION, EXPERTS, NORMS_BEFORE, QK_NORMS],
    ..OLMO2
};

const MIXTURE: &[Field] = &[
    field::count("num_experts", "expert_count").or_as("num_local_experts"),
    field::count("num_experts_per_tok", "expert_used_count"),
];
