//! StarCoder2.

use super::llama::LLAMA;
use super::{Family, Keys, SIZES, field, windows};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, NORMS_BEFORE, Name, name};
use crate::hf::settings::Settings;

pub(super) const STARCODER2: Family = Family {
    model_types: &["starcoder2"],
    architecture: "starcoder2",
    class: "Starcoder2ForCausalLM",
    biases: &[("use_bias", "blk.0.attn_q.bias")],
    period: Some(0),
    fields: &[SIZES, EPS],
    activation: ("hidden_act", &["gelu_pytorch_tanh", "gelu_new", "gelu_fast"]),
    more: starcoder2,
    tied: true,
    names: &[ENDS, ATTENTION, NORMS_BEFORE, FEED_FORWARD],
    in_pairs: false,
    ..LLAMA
};

const EPS: &[Field] = &[field::number("norm_epsilon", "attention.layer_norm_epsilon").or_number(1e-5)];

const FEED_FORWARD: &[Name] =
    &[name("layers.{}.mlp.c_fc", "blk.{}.ffn_up"), name("layers.{}.mlp.c_proj", "blk.{}.ffn_down")];

fn starcoder2(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    windows(settings, keys, None, &|_| true, &|_| true)
}
