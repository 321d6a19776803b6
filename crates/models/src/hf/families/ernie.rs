//! ERNIE 4.5, dense.

use super::llama::LLAMA;
use super::{Family, RMS_5, SIZES, rope};

pub(super) const ERNIE45: Family = Family {
    model_types: &["ernie4_5"],
    architecture: "ernie4_5",
    class: "Ernie4_5ForCausalLM",
    biases: &[("use_bias", "blk.0.attn_q.bias")],
    fields: &[SIZES, RMS_5],
    head_dim: Some(128),
    rope: Some(rope::RopeDefaults { base: 500_000.0, ..rope::PLAIN }),
    tied: true,
    in_pairs: false,
    ..LLAMA
};
