//! StableLM 2, but for the size with norms on q and k.

use super::llama::LLAMA;
use super::{Family, Keys, LAYER_NORM, SIZES, field, rope};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::settings::Settings;

pub(super) const STABLELM: Family = Family {
    model_types: &["stablelm"],
    architecture: "stablelm",
    class: "StableLmForCausalLM",
    biases: &[("use_qkv_bias", "blk.0.attn_q.bias")],
    fields: &[SIZES, LAYER_NORM, PARALLEL],
    rope: Some(rope::RopeDefaults { part: 0.25, ..rope::PLAIN }),
    more: stablelm,
    in_pairs: false,
    ..LLAMA
};

const PARALLEL: &[Field] = &[field::flag("use_parallel_residual", "use_parallel_residual")];

fn stablelm(settings: &Settings, _: &mut Keys<'_>) -> Result<(), ModelError> {
    match settings.opt_bool("qk_layernorm")? {
        Some(true) => Err(settings.unsupported("norms on q and k (StableLM 2 12B)")),
        _ => Ok(()),
    }
}
