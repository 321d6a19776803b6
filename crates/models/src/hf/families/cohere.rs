//! Cohere's Command R7B.

use super::llama::LLAMA;
use super::{Family, Keys, LAYER_NORM, SIZES, field, windows};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, GATED, Name, norm};
use crate::hf::settings::Settings;

pub(super) const COHERE2: Family = Family {
    model_types: &["cohere2"],
    architecture: "cohere2",
    class: "Cohere2ForCausalLM",
    biases: &[("attention_bias", "blk.0.attn_q.bias")],
    period: Some(4),
    fields: &[SIZES, LAYER_NORM, FACTOR],
    more: cohere2,
    tied: true,
    names: &[ENDS, ATTENTION, GATED, ONE_NORM],
    in_pairs: false,
    ..LLAMA
};

const FACTOR: &[Field] = &[field::number("logit_scale", "logit_scale").or_number(0.0625)];

const ONE_NORM: &[Name] = &[norm("layers.{}.input_layernorm", "blk.{}.attn_norm")];

fn cohere2(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    // What other programs take for a scaling is that there is none.
    keys.set("rope.scaling.type", "none");
    let period = settings.opt_count("sliding_window_pattern")?.unwrap_or(4).max(1) as usize;
    let local = |period: usize| move |layer: usize| !(layer + 1).is_multiple_of(period);
    windows(settings, keys, Some(4096), &local(period), &local(4))
}
