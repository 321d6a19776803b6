//! Gemma 3n, the part for text.

use serde_json::{Map, Value};

use super::gemma::GEMMA3;
use super::gemma4::{PER_LAYER, per_layer_back};
use super::{Family, Keys, RMS, field, rope, windows};
use crate::ModelError;
use crate::config::Config;
use crate::gemma3n::deviations;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, GATED, NORMS_BEHIND, Name, QK_NORMS, bare, name, norm};
use crate::hf::settings::Settings;

pub(super) const GEMMA3N: Family = Family {
    model_types: &["gemma3n_text", "gemma3n"],
    architecture: "gemma3n",
    class: "Gemma3nForCausalLM",
    fields: &[SIZES, RMS],
    rope: Some(rope::RopeDefaults { base: 1_000_000.0, part: 1.0, local_base: Some(10_000.0) }),
    more: gemma3n,
    names: &[ENDS, ATTENTION, GATED, BLOCK, NORMS_BEHIND, QK_NORMS, PER_LAYER],
    norms_from_one: false,
    back: gemma3n_back,
    ..GEMMA3
};

const SIZES: &[Field] = &[
    field::count("max_position_embeddings", "context_length").or_count(32_768),
    field::count("hidden_size", "embedding_length"),
    field::count("num_hidden_layers", "block_count"),
    field::count("num_attention_heads", "attention.head_count"),
    field::count("num_key_value_heads", "attention.head_count_kv").or_count(2),
    field::number("final_logit_softcapping", "final_logit_softcapping").or_number(30.0),
    field::count("num_kv_shared_layers", "attention.shared_kv_layers").or_count(15),
    field::count("hidden_size_per_layer_input", "embedding_length_per_layer_input").or_count(256),
    field::count("altup_num_inputs", "altup.num_inputs").or_count(4),
    field::count("altup_active_idx", "altup.active_idx").or_count(0),
];

const BLOCK: &[Name] = &[
    name("altup_projections.{}", "altup_proj.{}"),
    name("altup_unembed_projections.{}", "altup_unembd_proj.{}"),
    norm("layers.{}.input_layernorm", "blk.{}.attn_norm"),
    norm("layers.{}.pre_feedforward_layernorm", "blk.{}.ffn_norm"),
    name("layers.{}.laurel.linear_left", "blk.{}.laurel_l"),
    name("layers.{}.laurel.linear_right", "blk.{}.laurel_r"),
    norm("layers.{}.laurel.post_laurel_norm", "blk.{}.laurel_post_norm"),
    bare("layers.{}.altup.correct_output_scale", "blk.{}.altup_correct_scale"),
    name("layers.{}.altup.correction_coefs", "blk.{}.altup_correct_coef"),
    name("layers.{}.altup.prediction_coefs", "blk.{}.altup_predict_coef"),
    name("layers.{}.altup.modality_router", "blk.{}.altup_router"),
    norm("layers.{}.altup.router_norm", "blk.{}.altup_router_norm"),
];

fn gemma3n(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    if settings.opt_bool("altup_correct_scale")? == Some(false) {
        return Err(settings.unsupported("streams that are not scaled (`altup_correct_scale`)"));
    }
    // A lying count is refused when weights are looked for; until then it must cost nothing.
    let n_layers = settings.count("num_hidden_layers")?.min(1 << 16) as usize;
    let each = |name: &str, one: f32| -> Result<Vec<f32>, ModelError> {
        match settings.get(name) {
            Some(Value::Array(_)) => Ok(settings.opt_numbers(name)?.unwrap_or_default()),
            Some(_) => Ok(vec![settings.number(name)? as f32; n_layers]),
            None => Ok(vec![one; n_layers]),
        }
    };
    let widths: Vec<i32> = each("intermediate_size", 16_384.0)?.iter().map(|&width| width as i32).collect();
    keys.set_counts("feed_forward_length", &widths);
    let sparsity = match settings.has("activation_sparsity_pattern") {
        true => each("activation_sparsity_pattern", 0.0)?,
        false => (0..n_layers).map(|layer| if n_layers > 10 && layer < 10 { 0.95 } else { 0.0 }).collect(),
    };
    let deviations: Vec<f32> = sparsity.iter().map(|&part| quantile(f64::from(part)) as f32).collect();
    keys.set_floats("activation_sparsity_scale", &deviations);
    let usual = |layer: usize| !(layer + 1).is_multiple_of(5);
    windows(settings, keys, Some(512), &usual, &|_| false)
}

fn gemma3n_back(config: &Config<'_>, out: &mut Map<String, Value>) -> Result<(), ModelError> {
    let n_layers = config.n_layers()?;
    let widths = config.per_layer("feed_forward_length", n_layers)?;
    out.insert("intermediate_size".to_owned(), widths.unwrap_or_default().into());
    // As it was stated: no more digits than the parts that people choose.
    let part = |deviations: Option<f32>| deviations.map_or(0.0, |z| (below(z.into()) * 1e6).round() / 1e6);
    let sparsity: Vec<f64> = deviations(config, n_layers)?.into_iter().map(part).collect();
    out.insert("activation_sparsity_pattern".to_owned(), sparsity.into());
    if let Some(rank) = config.gguf().tensor("blk.0.laurel_l.weight") {
        out.insert("laurel_rank".to_owned(), rank.n_rows().into());
    }
    per_layer_back(config, out);
    Ok(())
}

/// The part of a normal distribution below so many standard deviations above its mean, by Marsaglia's series.
fn below(z: f64) -> f64 {
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term *= z * z / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + sum * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}

/// How many standard deviations above the mean of a normal distribution so great a part of it ends.
fn quantile(part: f64) -> f64 {
    if part <= 0.0 || part >= 1.0 {
        return if part <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        match below(middle) {
            found if found == part => return middle,
            found if found < part => low = middle,
            _ => high = middle,
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    #[test]
    fn quantiles_are_the_published_ones() {
        for (part, expected) in
            [(0.5, 0.0), (0.95, 1.644_853_627), (0.975, 1.959_963_985), (0.01, -2.326_347_874)]
        {
            assert!((super::quantile(part) - expected).abs() < 1e-8, "{part}");
        }
        assert_eq!(super::quantile(0.0), f64::NEG_INFINITY);
    }
}
