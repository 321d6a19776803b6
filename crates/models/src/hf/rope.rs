//! Rotary embeddings: from `rope_parameters` (version 5 of `transformers`) or `rope_theta` and `rope_scaling` (4) to keys and
//! tables of divisors.
//!
//! Truth: `modeling_rope_utils.py` of `transformers`; keys and tables as the converter of llama.cpp writes them.

use std::f64::consts::TAU;

use serde_json::Value;
use whit_files::GgufWriter;

use super::settings::Settings;
use crate::ModelError;

/// What a family assumes where `config.json` does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct RopeDefaults {
    pub(super) base: f64,
    /// The part of each head that is rotated.
    pub(super) part: f64,
    /// The base of layers that see a window alone, in families that give them one of their own.
    pub(super) local_base: Option<f64>,
}

/// The usual defaults.
pub(super) const PLAIN: RopeDefaults = RopeDefaults { base: 10_000.0, part: 1.0, local_base: None };

/// A tensor that is made of settings.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) values: Vec<f32>,
}

/// Sets the keys, and gives the tables, for heads of `head_dim`.
pub(super) fn translate(
    settings: &Settings,
    architecture: &str,
    defaults: &RopeDefaults,
    head_dim: u32,
    out: &mut GgufWriter,
) -> Result<Vec<Table>, ModelError> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let (global, local) = parameters(settings)?;
    let base =
        global.opt_number("rope_theta")?.or(settings.opt_number("rope_theta")?).unwrap_or(defaults.base);
    let part = match global.opt_number("partial_rotary_factor")? {
        Some(part) => part,
        None => settings.opt_number("partial_rotary_factor")?.unwrap_or(defaults.part),
    };
    // As the reference rounds it.
    let n_rot = (f64::from(head_dim) * part) as u32;
    out.set(&key("dimension_count"), n_rot);
    out.set(&key("freq_base"), base as f32);
    if let Some(local_base) = defaults.local_base {
        let stated = match &local {
            Some(local) => {
                if kind(local)? != "default" {
                    return Err(local.unsupported("a scaled rotation in the layers that see a window alone"));
                }
                local.opt_number("rope_theta")?
            }
            None => settings.opt_number("rope_local_base_freq")?,
        };
        out.set(&key("freq_base_swa"), stated.unwrap_or(local_base) as f32);
    }

    let trained = f64::from(settings.opt_count("max_position_embeddings")?.unwrap_or(0));
    // What a family says beside its parameters goes before what is in them.
    let original = match settings.opt_number("original_max_position_embeddings")? {
        Some(original) => original,
        None => global.opt_number("original_max_position_embeddings")?.unwrap_or(trained),
    };
    let scaling = |name: &str| key(&format!("scaling.{name}"));
    match kind(&global)? {
        // Stretching begins beyond the context that the model was trained for, and there no engine goes.
        "default" | "dynamic" => Ok(vec![]),
        "linear" => {
            out.set(&scaling("type"), "linear");
            out.set(&scaling("factor"), global.number("factor")? as f32);
            Ok(vec![])
        }
        "yarn" => {
            if global.opt_bool("truncate")? == Some(false) {
                return Err(global.unsupported("YaRN without whole bounds (`truncate`)"));
            }
            let factor = global.opt_number("factor")?.unwrap_or(trained / original);
            out.set(&scaling("type"), "yarn");
            out.set(&scaling("factor"), factor as f32);
            out.set(&scaling("original_context_length"), original as u32);
            for (field, name) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(value) = global.opt_number(field)?.filter(|&value| value != 0.0) {
                    out.set(&scaling(name), value as f32);
                }
            }
            let stretch = |by: f64| if factor > 1.0 { 0.1 * by * factor.ln() + 1.0 } else { 1.0 };
            let nonzero =
                |field| Ok::<_, ModelError>(global.opt_number(field)?.filter(|&value| value != 0.0));
            let stated = match (
                global.opt_number("attention_factor")?,
                nonzero("mscale")?,
                nonzero("mscale_all_dim")?,
            ) {
                (Some(stated), ..) => Some(stated),
                (None, Some(one), Some(all)) => Some(stretch(one) / stretch(all)),
                _ => None,
            };
            if let Some(stated) = stated {
                // The key is on top of the usual one.
                out.set(&scaling("attn_factor"), (stated / stretch(1.0)) as f32);
            }
            Ok(vec![])
        }
        "longrope" => {
            let factor = trained / original;
            let usual = match global.opt_number("factor")?.unwrap_or(factor) {
                factor if factor > 1.0 => (1.0 + factor.ln() / original.ln()).sqrt(),
                _ => 1.0,
            };
            let stated = global.opt_number("attention_factor")?.unwrap_or(usual);
            out.set(&scaling("original_context_length"), original as u32);
            out.set(&scaling("attn_factor"), stated as f32);
            let table = |name, field| {
                let values = global.opt_numbers(field)?.ok_or_else(|| global.missing(field))?;
                if values.len() * 2 != n_rot as usize {
                    let expected = format!("a divisor for each of {} pairs", n_rot / 2);
                    return Err(global.bad(field, &Value::from(values.len()), expected));
                }
                Ok(Table { name, values })
            };
            let long = table("rope_factors_long.weight", "long_factor")?;
            Ok(vec![long, table("rope_factors_short.weight", "short_factor")?])
        }
        "llama3" => {
            let factor = global.number("factor")?;
            let (low, high) = (global.number("low_freq_factor")?, global.number("high_freq_factor")?);
            let divisor = |i: u32| {
                // Turns within the original context.
                let turns = original * base.powf(-f64::from(2 * i) / f64::from(n_rot)) / TAU;
                let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
            };
            Ok(vec![Table { name: "rope_freqs.weight", values: (0..n_rot / 2).map(divisor).collect() }])
        }
        other => Err(global.unsupported(&format!("the rotation `{other}`"))),
    }
}

/// The parameters of all layers or of those that see everything, and of those that see a window alone where these have
/// their own.
fn parameters(settings: &Settings) -> Result<(Settings, Option<Settings>), ModelError> {
    let given = match settings.object("rope_parameters")? {
        Some(given) => Some(given),
        None => settings.object("rope_scaling")?,
    };
    let Some(given) = given else { return Ok((settings.empty(), None)) };
    let (full, local) = (given.object("full_attention")?, given.object("sliding_attention")?);
    match full {
        Some(full) => Ok((full, local)),
        None if local.is_some() => Ok((settings.empty(), local)),
        None => Ok((given, None)),
    }
}

/// The kind of scaling; older files call the field `type`, and LongRoPE `su`.
fn kind(parameters: &Settings) -> Result<&str, ModelError> {
    let kind = match parameters.opt_str("rope_type")? {
        Some(kind) => Some(kind),
        None => parameters.opt_str("type")?,
    };
    Ok(match kind {
        None => "default",
        Some("su") => "longrope",
        Some(other) => other,
    })
}
