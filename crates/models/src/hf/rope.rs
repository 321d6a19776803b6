//! Rotary embeddings: from `rope_parameters` (version 5 of `transformers`) or `rope_theta` and `rope_scaling` (4) to keys and
//! tables of divisors.
//!
//! Truth: `modeling_rope_utils.py` of `transformers`; keys and tables as the converter of llama.cpp writes them.

use std::f64::consts::TAU;

use serde_json::{Map, Value, json};
use whit_base::DType;
use whit_files::{Gguf, GgufWriter};

use super::back::short;
use super::settings::Settings;
use crate::ModelError;
use crate::config::Config;

/// Whose rotation is told in fields that no version before 5 of `transformers` knows.
const MISTRAL3: &str = "mistral3";

/// A rotation of which the pairs beyond a part stand still.
const PROPORTIONAL: &str = "proportional";

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
    // Hunyuan's stretch of the base, which it calls dynamic although it is always the same.
    let base = match global.opt_number("alpha")? {
        Some(alpha) if kind(&global)? == "dynamic" && head_dim > 2 => {
            base * alpha.powf(f64::from(head_dim) / f64::from(head_dim - 2))
        }
        _ => base,
    };
    let part = match global.opt_number("partial_rotary_factor")? {
        Some(part) => part,
        None => settings.opt_number("partial_rotary_factor")?.unwrap_or(defaults.part),
    };
    let kind_of_all = kind(&global)?;
    // As the reference rounds it. What is called proportional counts the rest of a head as pairs that stand still.
    let n_rot = if kind_of_all == PROPORTIONAL { head_dim } else { (f64::from(head_dim) * part) as u32 };
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
    match kind_of_all {
        // Stretching begins beyond the context that the model was trained for, and there no engine goes.
        "default" | "dynamic" => Ok(vec![]),
        PROPORTIONAL => {
            if global.opt_number("factor")?.is_some_and(|factor| factor != 1.0) {
                return Err(global.unsupported("a proportional rotation that is stretched"));
            }
            let n_moving = (f64::from(head_dim) * part / 2.0) as u32;
            let divisor = |pair| if pair < n_moving { 1.0 } else { STANDING };
            let values = (0..head_dim / 2).map(divisor).collect();
            Ok(vec![Table { name: "rope_freqs.weight", values }])
        }
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
                // The one architecture whose files have a key for it.
                (None, Some(1.0), Some(all)) if architecture == MISTRAL3 => {
                    out.set(&scaling("yarn_log_multiplier"), all as f32);
                    None
                }
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
            let values = llama3_divisors(base, n_rot, factor, low, high, original);
            Ok(vec![Table { name: "rope_freqs.weight", values }])
        }
        other => Err(global.unsupported(&format!("the rotation `{other}`"))),
    }
}

/// What the frequency of a pair that stands still is divided by, in the converter's tables.
const STANDING: f32 = 1e30;

/// What Llama 3's scaling divides the frequency of each pair by.
fn llama3_divisors(base: f64, n_rot: u32, factor: f64, low: f64, high: f64, original: f64) -> Vec<f32> {
    let divisor = |i: u32| {
        // Turns within the original context.
        let turns = original * base.powf(-f64::from(2 * i) / f64::from(n_rot)) / TAU;
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    (0..n_rot / 2).map(divisor).collect()
}

/// The bounds of every model that was published with Llama 3's scaling; a GGUF file has its table alone.
const LLAMA3: (f64, f64) = (1.0, 4.0);
/// The original context of most of them.
const LLAMA3_CONTEXT: f64 = 8192.0;

/// The way back: fields of version 4 from a file's keys and tables.
pub(super) fn back(
    gguf: &Gguf,
    config: &Config<'_>,
    defaults: &RopeDefaults,
    head_dim: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ModelError> {
    let mut set = |name: &str, value: Value| out.insert(name.to_owned(), value);
    let base = config.opt_positive("rope.freq_base")?.unwrap_or(10_000.0);
    if let Some(n_moving) = n_moving(gguf) {
        let local =
            config.opt_positive("rope.freq_base_swa")?.map_or(Value::from(defaults.local_base), short);
        let parameters = json!({
            "full_attention": {
                "rope_type": PROPORTIONAL, "rope_theta": short(base),
                "partial_rotary_factor": (2 * n_moving) as f64 / head_dim as f64,
            },
            "sliding_attention": { "rope_type": "default", "rope_theta": local },
        });
        set("rope_parameters", parameters);
        return Ok(());
    }
    set("rope_theta", short(base));
    if let Some(local) = defaults.local_base {
        let stated = config.opt_positive("rope.freq_base_swa")?;
        set("rope_local_base_freq", short(stated.unwrap_or(local as f32)));
    }
    let n_rot = config.opt_size("rope.dimension_count")?.unwrap_or(head_dim);
    if n_rot != head_dim || defaults.part != 1.0 {
        set("partial_rotary_factor", Value::from(n_rot as f64 / head_dim as f64));
    }
    let scaling = scaling_back(gguf, config, base, n_rot)?;
    // A parameter of some scalings; this family has it beside them, and always.
    if config.architecture() == "phi3"
        && let Some(original) = config.opt_size("rope.scaling.original_context_length")?
    {
        set("original_max_position_embeddings", original.into());
    }
    if let Some(mut scaling) = scaling {
        let is_new = config.architecture() == MISTRAL3;
        if is_new {
            scaling["rope_theta"] = short(base);
        }
        set(if is_new { "rope_parameters" } else { "rope_scaling" }, scaling);
    }
    Ok(())
}

/// The numbers of a table of divisors.
fn table(gguf: &Gguf, name: &str) -> Option<Vec<f32>> {
    let data = gguf.tensor_bytes(gguf.tensor(name).filter(|tensor| tensor.dtype == DType::F32)?);
    Some(data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// How many pairs are rotated, where the table says that the others stand still.
fn n_moving(gguf: &Gguf) -> Option<usize> {
    let divisors = table(gguf, "rope_freqs.weight")?;
    let n_moving = divisors.iter().take_while(|&&divisor| divisor == 1.0).count();
    let standing = &divisors[n_moving..];
    (!standing.is_empty() && standing.iter().all(|&divisor| divisor == STANDING)).then_some(n_moving)
}

/// `rope_scaling`.
fn scaling_back(
    gguf: &Gguf,
    config: &Config<'_>,
    base: f32,
    n_rot: usize,
) -> Result<Option<Value>, ModelError> {
    let table = |name: &str| table(gguf, name);
    let original = config.opt_size("rope.scaling.original_context_length")?;
    let magnitude = config.opt_positive("rope.scaling.attn_factor")?;
    let factor = config.opt_positive("rope.scaling.factor")?;
    if let Some(divisors) = table("rope_freqs.weight") {
        let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
        let (low, high) = LLAMA3;
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs();
        let makes = |original: &f64| {
            let made = llama3_divisors(f64::from(base), n_rot as u32, factor, low, high, *original);
            made.len() == divisors.len() && made.iter().zip(&divisors).all(close)
        };
        let contexts = std::iter::once(LLAMA3_CONTEXT).chain((5..20).map(|n| f64::from(1u32 << n)));
        let Some(original) = contexts.into_iter().find(makes) else {
            return Err(
                config.unsupported("a table of rotation frequencies that no setting of `transformers` makes")
            );
        };
        let scaling = json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original as u32,
        });
        return Ok(Some(scaling));
    }
    if let (Some(short_factor), Some(long_factor)) =
        (table("rope_factors_short.weight"), table("rope_factors_long.weight"))
    {
        let numbers = |values: Vec<f32>| -> Value { values.into_iter().map(short).collect() };
        let (short_factor, long_factor) = (numbers(short_factor), numbers(long_factor));
        let mut scaling =
            json!({ "type": "longrope", "short_factor": short_factor, "long_factor": long_factor });
        if let Some(magnitude) = magnitude {
            scaling["attention_factor"] = short(magnitude);
        }
        return Ok(Some(scaling));
    }
    let kind = config.metadata().opt_str(&config.key("rope.scaling.type"))?;
    match (kind, factor) {
        (None | Some("none" | "longrope"), _) | (Some("linear"), None) => Ok(None),
        (Some("linear"), Some(factor)) => Ok(Some(json!({ "rope_type": "linear", "factor": short(factor) }))),
        (Some("yarn"), Some(factor)) => {
            let mut scaling = json!({ "rope_type": "yarn", "factor": short(factor) });
            if let Some(original) = original {
                scaling["original_max_position_embeddings"] = original.into();
            }
            for (field, name) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(value) = config.opt_positive(&format!("rope.scaling.{name}"))? {
                    scaling[field] = short(value);
                }
            }
            if let Some(magnitude) = magnitude {
                scaling["attention_factor"] = short(magnitude * (0.1 * factor.max(1.0).ln() + 1.0));
            }
            if let Some(multiplier) = config.opt_positive("rope.scaling.yarn_log_multiplier")? {
                (scaling["mscale"], scaling["mscale_all_dim"]) = (json!(1.0), short(multiplier));
            }
            if let Some(by) = config.opt_float("attention.temperature_scale")? {
                scaling["llama_4_scaling_beta"] = short(by);
            }
            Ok(Some(scaling))
        }
        (Some(_), _) => Err(config.unsupported("a rotation that `transformers` has no name for")),
    }
}

/// The parameters of all layers or of those that see everything, and of those that see a window alone where these have
/// their own.
pub(super) fn parameters(settings: &Settings) -> Result<(Settings, Option<Settings>), ModelError> {
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
pub(super) fn kind(parameters: &Settings) -> Result<&str, ModelError> {
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
