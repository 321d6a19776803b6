//! LFM2, dense.

use serde_json::{Map, Value};

use super::llama::LLAMA;
use super::{Family, Keys, field, rope};
use crate::ModelError;
use crate::config::Config;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, Name, Role, name, norm};
use crate::hf::settings::Settings;

pub(super) const LFM2: Family = Family {
    model_types: &["lfm2"],
    architecture: "lfm2",
    class: "Lfm2ForCausalLM",
    biases: &[],
    fields: &[SIZES],
    rope: Some(rope::RopeDefaults { base: 1_000_000.0, ..rope::PLAIN }),
    more: lfm2,
    tied: true,
    names: &[NAMES, ATTENTION],
    in_pairs: false,
    back: lfm2_back,
    ..LLAMA
};

const SIZES: &[Field] = &[
    field::count("max_position_embeddings", "context_length").or_count(128_000),
    field::count("hidden_size", "embedding_length"),
    field::count("num_hidden_layers", "block_count"),
    field::count("num_attention_heads", "attention.head_count"),
    field::count("num_key_value_heads", "attention.head_count_kv").or_count(8),
    field::count("conv_L_cache", "shortconv.l_cache").or_count(3),
    field::number("norm_eps", "attention.layer_norm_rms_epsilon").or_number(1e-5),
];

const NAMES: &[Name] = &[
    name("embed_tokens", "token_embd"),
    norm("embedding_norm", "token_embd_norm"),
    name("lm_head", "output"),
    norm("layers.{}.operator_norm", "blk.{}.attn_norm"),
    name("layers.{}.self_attn.out_proj", "blk.{}.attn_output"),
    norm("layers.{}.self_attn.q_layernorm", "blk.{}.attn_q_norm"),
    norm("layers.{}.self_attn.k_layernorm", "blk.{}.attn_k_norm"),
    name("layers.{}.conv.in_proj", "blk.{}.shortconv.in_proj"),
    Name { module: "layers.{}.conv.conv", gguf: "blk.{}.shortconv.conv", role: Role::Squeezed },
    name("layers.{}.conv.out_proj", "blk.{}.shortconv.out_proj"),
    norm("layers.{}.ffn_norm", "blk.{}.ffn_norm"),
    name("layers.{}.feed_forward.w1", "blk.{}.ffn_gate"),
    name("layers.{}.feed_forward.w3", "blk.{}.ffn_up"),
    name("layers.{}.feed_forward.w2", "blk.{}.ffn_down"),
];

fn lfm2(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    let n_layers = settings.count("num_hidden_layers")?.min(1 << 16) as usize;
    let n_kv_heads = settings.opt_count("num_key_value_heads")?.unwrap_or(8);
    let n_kv_heads = i32::try_from(n_kv_heads).unwrap_or(i32::MAX);
    let attends: Vec<bool> =
        match (settings.opt_texts("layer_types")?, settings.opt_numbers("full_attn_idxs")?) {
            (Some(types), _) => {
                if let Some(other) = types.iter().find(|kind| !matches!(**kind, "conv" | "full_attention")) {
                    return Err(settings.unsupported(&format!("layers of the kind `{other}`")));
                }
                types.iter().map(|kind| *kind == "full_attention").collect()
            }
            (None, Some(those)) => (0..n_layers).map(|layer| those.contains(&(layer as f32))).collect(),
            (None, None) => vec![true; n_layers],
        };
    let counts: Vec<i32> = attends.iter().map(|&attends| if attends { n_kv_heads } else { 0 }).collect();
    keys.set_counts("attention.head_count_kv", &counts);
    keys.set("feed_forward_length", feed_forward_length(settings)?);
    Ok(())
}

/// The width of the feed-forward part, which the configuration states before some arithmetic.
fn feed_forward_length(settings: &Settings) -> Result<u32, ModelError> {
    let stated = match settings.opt_count("block_ff_dim")? {
        Some(stated) => stated,
        None => settings.count("intermediate_size")?,
    };
    if settings.opt_bool("block_auto_adjust_ff_dim")? == Some(false) {
        return Ok(stated);
    }
    let multiple_of = settings.opt_count("block_multiple_of")?.unwrap_or(256).max(1);
    let factor = settings.opt_number("block_ffn_dim_multiplier")?.unwrap_or(1.0);
    let wanted = (f64::from((u64::from(stated) * 2 / 3) as u32) * factor) as u32;
    Ok(wanted.div_ceil(multiple_of).saturating_mul(multiple_of))
}

fn lfm2_back(config: &Config<'_>, out: &mut Map<String, Value>) -> Result<(), ModelError> {
    if config.opt_usize("attention.sliding_window")?.is_some_and(|window| window > 0) {
        return Err(config.unsupported("attention within a window"));
    }
    let attention = config.attention()?;
    let mut counts: Vec<usize> = attention.n_kv_heads.iter().copied().filter(|&n| n > 0).collect();
    counts.dedup();
    if counts.len() > 1 {
        return Err(config.unsupported("a number of its own for the heads of each layer"));
    }
    let kind = |&n: &usize| if n > 0 { "full_attention" } else { "conv" };
    let has_bias = config.gguf().tensors().iter().any(|tensor| tensor.name.ends_with("shortconv.conv.bias"));
    let mut set = |name: &str, value: Value| out.insert(name.to_owned(), value);
    set("num_key_value_heads", counts.first().copied().unwrap_or(attention.n_heads).into());
    set("layer_types", attention.n_kv_heads.iter().map(kind).collect());
    set("conv_bias", has_bias.into());
    set("intermediate_size", config.size("feed_forward_length")?.into());
    set("block_auto_adjust_ff_dim", false.into());
    Ok(())
}
