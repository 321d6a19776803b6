//! OLMo 2, OLMo 3 and OLMoE.

use super::llama::LLAMA;
use super::{Family, Keys, RMS_5, SIZES, field, rope, windows};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, EXPERTS, GATED, NORMS_BEFORE, NORMS_BEHIND, QK_NORMS};
use crate::hf::settings::Settings;

pub(super) const OLMO2: Family = Family {
    model_types: &["olmo2"],
    architecture: "olmo2",
    class: "Olmo2ForCausalLM",
    biases: &[("attention_bias", "blk.0.attn_q.bias")],
    fields: &[SIZES, RMS_5],
    names: &[ENDS, ATTENTION, GATED, NORMS_BEHIND, QK_NORMS],
    in_pairs: false,
    ..LLAMA
};

pub(super) const OLMO3: Family = Family {
    model_types: &["olmo3"],
    class: "Olmo3ForCausalLM",
    period: Some(4),
    rope: Some(rope::RopeDefaults { base: 500_000.0, part: 1.0, local_base: Some(500_000.0) }),
    more: olmo3,
    ..OLMO2
};

/// Three layers of four have a window; a key says so even then.
fn olmo3(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    windows(settings, keys, Some(4096), &|layer| !(layer + 1).is_multiple_of(4), &|_| false)
}

pub(super) const OLMOE: Family = Family {
    model_types: &["olmoe"],
    architecture: "olmoe",
    class: "OlmoeForCausalLM",
    fields: &[SIZES, RMS_5, MIXTURE],
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
