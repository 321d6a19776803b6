//! Rotary embeddings: the published scalings, each reduced to one frequency per rotated pair and one magnitude.
//!
//! Sources: position interpolation (Chen et al. 2023), NTK-by-parts or YaRN (Peng et al. 2023; constants as in its
//! reference code), LongRoPE (Ding et al. 2024). Llama 3's scaling comes ready-made from the converter as a divisor per
//! pair, `rope_freqs.weight`.

use std::f64::consts::PI;

use whit_base::{Rope, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::tensors::Tensors;

/// How the frequencies of a file are stretched.
#[derive(Clone, Debug, PartialEq)]
enum Scaling {
    None,
    /// All frequencies divided by a factor.
    Linear(f64),
    Yarn {
        factor: f64,
        n_ctx_original: f64,
        beta_fast: f64,
        beta_slow: f64,
        /// Share of the blend by frequency; 0 makes the scaling linear.
        mix: f64,
        magnitude: f64,
    },
    /// A divisor per pair, and a magnitude.
    Divisors(Vec<f32>, f64),
}

/// Unscaled frequencies: `base^(-2i / n_rot)`.
fn frequencies(base: f64, n_rot: usize) -> impl Iterator<Item = f64> {
    (0..n_rot / 2).map(move |i| base.powf(-2.0 * i as f64 / n_rot as f64))
}

/// The plain rotation with this base.
pub(crate) fn plain(base: f32, n_rot: usize, style: RopeStyle) -> Rope {
    table(f64::from(base), n_rot, style, &Scaling::None)
}

/// `scaled`, the rotation of [`from_config`], as it were without the file's scaling.
pub(crate) fn unscaled(config: &Config<'_>, scaled: &Rope) -> Result<Rope, ModelError> {
    let base = config.opt_positive("rope.freq_base_swa")?.map_or_else(|| base(config), Ok)?;
    Ok(plain(base, 2 * scaled.inv_freq.len(), scaled.style))
}

/// The rotation of layers that see a window alone, where it is one of their own: the `_swa` keys, for heads of `head_dim`.
pub(crate) fn local(config: &Config<'_>, head_dim: usize, style: RopeStyle) -> Result<Rope, ModelError> {
    let n_rot = n_rot(config, "rope.dimension_count_swa", head_dim)?;
    Ok(plain(config.opt_positive("rope.freq_base_swa")?.unwrap_or(10_000.0), n_rot, style))
}

/// How many values of a head of `head_dim` are rotated.
fn n_rot(config: &Config<'_>, name: &str, head_dim: usize) -> Result<usize, ModelError> {
    let n_rot = config.opt_size(name)?.unwrap_or(head_dim);
    if n_rot > head_dim || !n_rot.is_multiple_of(2) {
        let expected = format!("an even number up to the {head_dim} values of a head");
        return Err(config.bad(name, n_rot, expected));
    }
    Ok(n_rot)
}

fn base(config: &Config<'_>) -> Result<f32, ModelError> {
    Ok(config.opt_positive("rope.freq_base")?.unwrap_or(10_000.0))
}

/// The rotation that the file's `rope.*` keys and factor tensors describe, for heads of `head_dim`.
pub(crate) fn from_config(
    config: &Config<'_>,
    tensors: &mut Tensors<'_>,
    head_dim: usize,
    style: RopeStyle,
) -> Result<Rope, ModelError> {
    let n_rot = n_rot(config, "rope.dimension_count", head_dim)?;
    let base = f64::from(base(config)?);
    let scaling = scaling(config, tensors, n_rot)?;
    let style = if config.rope_in_halves()? { RopeStyle::Halves } else { style };
    Ok(table(base, n_rot, style, &scaling))
}

fn scaling(config: &Config<'_>, tensors: &mut Tensors<'_>, n_rot: usize) -> Result<Scaling, ModelError> {
    let kind = config.metadata().opt_str(&config.key("rope.scaling.type"))?;
    // Files from before 2023-10 give a linear factor alone, under another name.
    let factor = match config.opt_float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => config.opt_float("rope.scale_linear")?,
    };
    // 0 is what some converters write for none.
    let factor = f64::from(factor.filter(|&factor| factor != 0.0).unwrap_or(1.0));
    if factor < 0.0 {
        return Err(config.bad("rope.scaling.factor", factor, "above 0"));
    }
    let n_ctx_original = match config.opt_size("rope.scaling.original_context_length")? {
        Some(n) => n,
        None => config.n_ctx_train()?,
    };
    let magnitude = f64::from(config.opt_positive("rope.scaling.attn_factor")?.unwrap_or(1.0));

    if let Some(mut divisors) = tensors.table("rope_freqs.weight")? {
        if matches!(kind, None | Some("linear")) {
            divisors.iter_mut().for_each(|divisor| *divisor *= factor as f32);
        }
        return divisor_table(config, "rope_freqs.weight", divisors, n_rot, 1.0);
    }
    // Phi-3's converter writes the tables alone.
    let kind = match kind {
        None if tensors.has("rope_factors_short.weight") => Some("longrope"),
        kind => kind,
    };
    match kind {
        Some("longrope") => {
            let long = config.n_ctx()? > n_ctx_original;
            let name = if long { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
            let divisors = tensors.table(name)?.ok_or_else(|| ModelError::MissingTensor {
                tensor: name.to_owned(),
                architecture: config.architecture().to_owned(),
            })?;
            divisor_table(config, name, divisors, n_rot, magnitude)
        }
        Some("yarn") => {
            let beta =
                |name, default| config.opt_positive(name).map(|beta| f64::from(beta.unwrap_or(default)));
            // Only files of `mistral3` have it among the supported ones. Its makers divide the magnitude by what YaRN would make
            // of it with this factor on its logarithm.
            let key = "rope.scaling.yarn_log_multiplier";
            let multiplier = f64::from(config.opt_float(key)?.unwrap_or(0.0));
            if multiplier < 0.0 {
                return Err(config.bad(key, multiplier, "0 or more"));
            }
            Ok(Scaling::Yarn {
                factor,
                n_ctx_original: n_ctx_original as f64,
                beta_fast: beta("rope.scaling.yarn_beta_fast", 32.0)?,
                beta_slow: beta("rope.scaling.yarn_beta_slow", 1.0)?,
                mix: f64::from(config.opt_float("rope.scaling.yarn_ext_factor")?.unwrap_or(1.0)),
                magnitude: magnitude / yarn_magnitude(factor, multiplier)
                    * f64::from(config.opt_positive("rope.scaling.yarn_attn_factor")?.unwrap_or(1.0)),
            })
        }
        None | Some("none" | "linear") if factor == 1.0 => Ok(Scaling::None),
        Some("none") => Ok(Scaling::None),
        None | Some("linear") => Ok(Scaling::Linear(factor)),
        Some(other) => Err(config.bad("rope.scaling.type", other, "none, linear, yarn or longrope")),
    }
}

/// YaRN's magnitude for contexts stretched by `factor`, with another factor on its logarithm.
fn yarn_magnitude(factor: f64, multiplier: f64) -> f64 {
    1.0 + 0.1 * multiplier * factor.max(1.0).ln()
}

fn divisor_table(
    config: &Config<'_>,
    name: &str,
    divisors: Vec<f32>,
    n_rot: usize,
    magnitude: f64,
) -> Result<Scaling, ModelError> {
    // Some converters write one divisor for each pair of the whole head, of which the rotated part uses the first.
    if divisors.len() < n_rot / 2 || divisors.iter().any(|&divisor| divisor <= 0.0) {
        let expected = format!("a table `{name}` of that many pairs, each above 0");
        return Err(config.bad("rope.dimension_count", n_rot, expected));
    }
    Ok(Scaling::Divisors(divisors, magnitude))
}

fn table(base: f64, n_rot: usize, style: RopeStyle, scaling: &Scaling) -> Rope {
    let plain = frequencies(base, n_rot);
    let (inv_freq, magnitude): (Vec<f64>, f64) = match scaling {
        Scaling::None => (plain.collect(), 1.0),
        Scaling::Linear(factor) => (plain.map(|f| f / factor).collect(), 1.0),
        Scaling::Divisors(divisors, magnitude) => {
            (plain.zip(divisors).map(|(f, &divisor)| f / f64::from(divisor)).collect(), *magnitude)
        }
        Scaling::Yarn { factor, n_ctx_original, beta_fast, beta_slow, mix, magnitude } => {
            // The pair that turns `turns` times within the original context.
            let pair_of =
                |turns: f64| n_rot as f64 * (n_ctx_original / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
            let first = pair_of(*beta_fast).floor().max(0.0);
            let last = pair_of(*beta_slow).ceil().min(n_rot as f64 - 1.0);
            let blend = |(i, f): (usize, f64)| {
                let slow = ((i as f64 - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
                let keep = (1.0 - slow) * mix;
                f / factor * (1.0 - keep) + f * keep
            };
            let stretch = if *mix == 0.0 { 1.0 } else { yarn_magnitude(*factor, 1.0) };
            (plain.enumerate().map(blend).collect(), magnitude * stretch)
        }
    };
    Rope { inv_freq: inv_freq.into_iter().map(|f| f as f32).collect(), magnitude: magnitude as f32, style }
}
