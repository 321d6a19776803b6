//! Qwen2, Qwen2.5 and Qwen3, the last also with experts.

use super::llama::LLAMA;
use super::{Family, Keys, RMS, SIZES, field, nothing_more, windows};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, EXPERTS, GATED, NORMS_BEFORE, QK_NORMS};
use crate::hf::settings::Settings;

pub(super) const QWEN2: Family = Family {
    model_types: &["qwen2"],
    architecture: "qwen2",
    class: "Qwen2ForCausalLM",
    biases: &[],
    more: qwen,
    in_pairs: false,
    ..LLAMA
};

pub(super) const QWEN3: Family = Family {
    model_types: &["qwen3"],
    architecture: "qwen3",
    class: "Qwen3ForCausalLM",
    biases: &[("attention_bias", "blk.0.attn_q.bias")],
    head_dim: Some(128),
    names: &[ENDS, ATTENTION, GATED, NORMS_BEFORE, QK_NORMS],
    ..QWEN2
};

pub(super) const QWEN3_MOE: Family = Family {
    model_types: &["qwen3_moe"],
    architecture: "qwen3moe",
    class: "Qwen3MoeForCausalLM",
    fields: &[SIZES, RMS, MIXTURE],
    more: |settings, keys| {
        // The architecture does it always.
        if settings.opt_bool("norm_topk_prob")? != Some(true) {
            return Err(settings.unsupported("experts whose proportions do not come to 1 (`norm_topk_prob`)"));
        }
        qwen(settings, keys)
    },
    names: &[ENDS, ATTENTION, GATED, EXPERTS, NORMS_BEFORE, QK_NORMS],
    back: |_, out| {
        out.insert("norm_topk_prob".to_owned(), true.into());
        Ok(())
    },
    ..QWEN3
};

const MIXTURE: &[Field] = &[
    field::count("num_experts", "expert_count").or_as("num_local_experts"),
    field::count("num_experts_per_tok", "expert_used_count"),
    field::count("moe_intermediate_size", "expert_feed_forward_length"),
];

/// The window is only used where a flag says so, and there from some layer on.
fn qwen(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    if settings.opt_bool("use_sliding_window")? != Some(true) {
        return nothing_more(settings, keys);
    }
    let first = settings.opt_count("max_window_layers")?.unwrap_or(28) as usize;
    windows(settings, keys, Some(4096), &|layer| layer >= first, &|_| true)
}
