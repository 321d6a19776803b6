//! Gemma 4, the part for text. Its global layers have heads of another width, and in one size fewer of them.

use serde_json::{Map, Value};

use super::gemma::GEMMA3;
use super::{Family, Keys, RMS, SIZES, field, rope, windows};
use crate::ModelError;
use crate::config::Config;
use crate::gemma3n::sharing;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, GATED, NORMS_BEHIND, Name, QK_NORMS, bare, name, norm};
use crate::hf::settings::Settings;

pub(super) const GEMMA4: Family = Family {
    model_types: &["gemma4_text", "gemma4"],
    architecture: "gemma4",
    class: "Gemma4ForCausalLM",
    fields: &[SIZES, RMS, MORE],
    stated_head_dim: |settings| global(settings, "global_head_dim", "head_dim"),
    head_dim: Some(512),
    rope: Some(rope::RopeDefaults { base: 1_000_000.0, part: 0.25, local_base: Some(10_000.0) }),
    more: gemma4,
    names: &[ENDS, ATTENTION, GATED, BLOCK, NORMS_BEHIND, QK_NORMS, PER_LAYER],
    norms_from_one: false,
    back: gemma4_back,
    ..GEMMA3
};

const MORE: &[Field] = &[
    field::number("final_logit_softcapping", "final_logit_softcapping").or_left(),
    field::count("num_kv_shared_layers", "attention.shared_kv_layers").or_count(0),
    field::count("hidden_size_per_layer_input", "embedding_length_per_layer_input").or_count(256),
];

const BLOCK: &[Name] = &[
    norm("layers.{}.input_layernorm", "blk.{}.attn_norm"),
    norm("layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm"),
    bare("layers.{}.layer_scalar", "blk.{}.layer_output_scale"),
];

pub(super) const PER_LAYER: &[Name] = &[
    name("embed_tokens_per_layer", "per_layer_token_embd"),
    name("per_layer_model_projection", "per_layer_model_proj"),
    norm("per_layer_projection_norm", "per_layer_proj_norm"),
    name("layers.{}.per_layer_input_gate", "blk.{}.inp_gate"),
    name("layers.{}.per_layer_projection", "blk.{}.proj"),
    norm("layers.{}.post_per_layer_input_norm", "blk.{}.post_norm"),
];

/// A number of the global layers: under a name of its own, or, as version 5 of `transformers` writes it, for each of them.
fn global(settings: &Settings, own: &str, each: &str) -> Result<Option<u32>, ModelError> {
    if let Some(stated) = settings.opt_count(own)? {
        return Ok(Some(stated));
    }
    let Some(layers) = settings.object("per_layer_config")? else { return Ok(None) };
    let mut found = None;
    for layer in layers.names() {
        let stated = layers.object(layer)?.map(|layer| layer.opt_count(each)).transpose()?.flatten();
        if stated.is_some() && found.is_some() && stated != found {
            return Err(settings.unsupported("a width of its own for the heads of each layer"));
        }
        found = found.or(stated);
    }
    Ok(found)
}

fn gemma4(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    if settings.opt_bool("enable_moe_block")? == Some(true) {
        return Err(settings.unsupported("experts beside a feed-forward part that every token goes through"));
    }
    if settings.opt_str("use_bidirectional_attention")? == Some("all") {
        return Err(settings.unsupported("attention to both sides"));
    }
    if !settings.has("rope_parameters") {
        return Err(settings.missing("rope_parameters"));
    }
    // A lying count is refused when weights are looked for; until then it must cost nothing.
    let n_layers = settings.count("num_hidden_layers")?.min(1 << 16) as usize;
    let usual = |layer: usize| !(layer + 1).is_multiple_of(6) && layer + 1 != n_layers;
    windows(settings, keys, Some(512), &usual, &|_| false)?;
    let local_head_dim = settings.opt_count("head_dim")?.unwrap_or(256);
    for key in ["attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa"] {
        keys.set(key, local_head_dim);
    }
    let n_kv_heads = settings.count("num_key_value_heads")?;
    let are_keys = settings.opt_bool("attention_k_eq_v")? == Some(true);
    let n_global = global(settings, "num_global_key_value_heads", "num_key_value_heads")?;
    if let Some(n_global) = n_global.filter(|_| are_keys) {
        let types = settings.opt_texts("layer_types")?.unwrap_or_default();
        let is_local =
            |layer: usize| types.get(layer).map_or(usual(layer), |kind| *kind == "sliding_attention");
        let counts: Vec<i32> = (0..n_layers)
            .map(|layer| if is_local(layer) { n_kv_heads } else { n_global })
            .map(|n| i32::try_from(n).unwrap_or(i32::MAX))
            .collect();
        keys.set_counts("attention.head_count_kv", &counts);
    }
    if settings.opt_bool("use_double_wide_mlp")? == Some(true) {
        let n_sharing = settings.opt_count("num_kv_shared_layers")?.unwrap_or(0) as usize;
        let n_ff = i32::try_from(settings.count("intermediate_size")?).unwrap_or(i32::MAX);
        let wide = |layer: usize| if layer + n_sharing < n_layers { n_ff } else { n_ff.saturating_mul(2) };
        let widths: Vec<i32> = (0..n_layers).map(wide).collect();
        keys.set_counts("feed_forward_length", &widths);
    }
    Ok(())
}

/// The way back, in the names of the makers' own files.
fn gemma4_back(config: &Config<'_>, out: &mut Map<String, Value>) -> Result<(), ModelError> {
    if config.opt_usize("expert_count")?.is_some_and(|n| n > 0) {
        return Err(config.unsupported("experts beside a feed-forward part that every token goes through"));
    }
    let attention = config.attention()?;
    let n_layers = attention.n_kv_heads.len();
    let is_local = config.local_layers(n_layers, 6)?;
    let mut set = |name: &str, value: Value| out.insert(name.to_owned(), value);
    set("head_dim", attention.local_head_dim.into());
    set("global_head_dim", attention.head_dim.into());

    let of_kind = |local: bool| {
        let mut counts =
            (0..n_layers).filter(|&layer| is_local[layer] == local).map(|layer| attention.n_kv_heads[layer]);
        let first = counts.next();
        match first.is_none_or(|first| counts.all(|n| n == first)) {
            true => Ok(first),
            false => Err(config.unsupported("a number of its own for the heads of each layer")),
        }
    };
    let (n_local, n_global) = (of_kind(true)?, of_kind(false)?);
    set("num_key_value_heads", n_local.or(n_global).into());
    let has_values = |layer: usize| config.gguf().tensor(&format!("blk.{layer}.attn_v.weight")).is_some();
    let n_sharing = sharing(config, n_layers)?;
    let are_keys = (0..n_layers - n_sharing).any(|layer| !is_local[layer] && !has_values(layer));
    set("attention_k_eq_v", are_keys.into());
    if n_local.is_some() && n_global != n_local {
        set("num_global_key_value_heads", n_global.into());
    }

    let widths = config.per_layer("feed_forward_length", n_layers)?;
    let widths = widths.ok_or_else(|| config.metadata().missing(&config.key("feed_forward_length")))?;
    let n_ff = widths.first().copied().unwrap_or(0);
    let is_wide = widths.iter().any(|&width| width != n_ff);
    let width = |layer: usize| if is_wide && layer + n_sharing >= n_layers { 2 * n_ff } else { n_ff };
    if (0..n_layers).any(|layer| widths[layer] != width(layer)) {
        return Err(config.unsupported("a width of its own for each feed-forward part"));
    }
    set("intermediate_size", n_ff.into());
    set("use_double_wide_mlp", is_wide.into());
    per_layer_back(config, out);
    Ok(())
}

/// The small embeddings of each token for every layer.
pub(super) fn per_layer_back(config: &Config<'_>, out: &mut Map<String, Value>) {
    out.entry("hidden_size_per_layer_input").or_insert(0.into());
    if let Some(table) = config.gguf().tensor("per_layer_token_embd.weight") {
        out.insert("vocab_size_per_layer_input".to_owned(), table.n_rows().into());
    }
}
