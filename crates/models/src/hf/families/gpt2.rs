//! GPT-2. Its projections are stored the other way around.

use super::llama::LLAMA;
use super::{Family, Keys, field};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::names::{Name, name, norm, transposed};
use crate::hf::settings::Settings;

pub(super) const GPT2: Family = Family {
    model_types: &["gpt2"],
    architecture: "gpt2",
    class: "GPT2LMHeadModel",
    prefix: "transformer.",
    biases: &[],
    fields: &[SIZES],
    rope: None,
    activation: ("activation_function", &["gelu_new", "gelu_pytorch_tanh", "gelu_fast"]),
    more: gpt2,
    tied: true,
    names: &[NAMES],
    in_pairs: false,
    ..LLAMA
};

const SIZES: &[Field] = &[
    field::count("n_positions", "context_length"),
    field::count("n_embd", "embedding_length"),
    field::count("n_layer", "block_count"),
    field::count("n_inner", "feed_forward_length").or_left(),
    field::count("n_head", "attention.head_count"),
    field::number("layer_norm_epsilon", "attention.layer_norm_epsilon").or_number(1e-5),
];

const NAMES: &[Name] = &[
    name("wte", "token_embd"),
    name("wpe", "position_embd"),
    norm("ln_f", "output_norm"),
    name("lm_head", "output"),
    norm("h.{}.ln_1", "blk.{}.attn_norm"),
    transposed("h.{}.attn.c_attn", "blk.{}.attn_qkv"),
    transposed("h.{}.attn.c_proj", "blk.{}.attn_output"),
    norm("h.{}.ln_2", "blk.{}.ffn_norm"),
    transposed("h.{}.mlp.c_fc", "blk.{}.ffn_up"),
    transposed("h.{}.mlp.c_proj", "blk.{}.ffn_down"),
];

fn gpt2(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    if !settings.has("n_inner") {
        keys.set("feed_forward_length", settings.count("n_embd")?.saturating_mul(4));
    }
    if settings.opt_bool("scale_attn_by_inverse_layer_idx")? == Some(true)
        || settings.opt_bool("scale_attn_weights")? == Some(false)
    {
        return Err(settings.unsupported("another scale of attention scores"));
    }
    Ok(())
}
