//! Hunyuan, dense.

use super::llama::LLAMA;
use super::{Family, Keys, RMS_5, SIZES};
use crate::ModelError;
use crate::hf::names::{ATTENTION, ENDS, GATED, NORMS_BEFORE, Name, norm};
use crate::hf::settings::Settings;

pub(super) const HUNYUAN: Family = Family {
    model_types: &["hunyuan_v1_dense"],
    architecture: "hunyuan-dense",
    class: "HunYuanDenseV1ForCausalLM",
    biases: &[("attention_bias", "blk.0.attn_q.bias")],
    fields: &[SIZES, RMS_5],
    more: hunyuan,
    names: &[ENDS, ATTENTION, GATED, NORMS_BEFORE, HEAD_NORMS],
    in_pairs: false,
    ..LLAMA
};

const HEAD_NORMS: &[Name] = &[
    norm("layers.{}.self_attn.query_layernorm", "blk.{}.attn_q_norm"),
    norm("layers.{}.self_attn.key_layernorm", "blk.{}.attn_k_norm"),
];

/// The stretch of the base that these models were trained with reaches as far as their makers say; the configuration has
/// the length of what stands before it.
const STRETCHED: u32 = 256 << 10;

fn hunyuan(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    for parameters in ["rope_parameters", "rope_scaling"] {
        if settings.object(parameters)?.is_some_and(|parameters| parameters.has("alpha")) {
            keys.set("context_length", STRETCHED);
            // So that nobody stretches it again.
            keys.set("rope.scaling.type", "none");
            keys.set("rope.scaling.factor", 1.0f32);
            keys.set("rope.scaling.original_context_length", STRETCHED);
        }
    }
    Ok(())
}
