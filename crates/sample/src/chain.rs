//! The stages that narrow the candidates: top-k, typical-p, top-p, min-p; and the weights of temperature.
//!
//! Semantics are those of llama.cpp's samplers of the same names, which keep at least one candidate each. Sources of
//! the methods: top-p, Holtzman et al. 2020 (arXiv:1904.09751); typical, Meister et al. 2023 (arXiv:2202.00666);
//! min-p, Nguyen et al. 2024 (arXiv:2407.01082).
//!
//! Every stage leaves its candidates in an order that the logits alone determine, for the draw walks that order.

use crate::scan::{Candidate, View, by_key};
use crate::{SampleError, SamplerConfig, math};

/// Leaves in `out` the tokens that `config` allows to be drawn, each with its weight, and gives the sum of weights.
pub(crate) fn narrow(
    config: &SamplerConfig,
    view: View<'_>,
    out: &mut Vec<Candidate>,
) -> Result<f64, SampleError> {
    let n_vocab = view.logits.len();
    let k = config.top_k as usize;
    let is_typical = config.typical_p < 1.0;
    let mut total = None;
    if k > 0 && k < n_vocab {
        view.top(k, out)?;
    } else {
        let (_, max) = view.best()?;
        let mut floor = f32::NEG_INFINITY;
        if !is_typical {
            if config.min_p > 0.0 {
                floor = min_p_floor(max, config.min_p);
            }
            if config.top_p < 1.0 {
                total = Some(view.mass(max));
                floor = floor.max(nucleus_floor(max, config.top_p, n_vocab));
            }
        }
        view.at_least(floor, out);
    }
    if is_typical {
        keep_typical(out, config.typical_p);
    }
    if config.top_p < 1.0 {
        let sum = weigh(out, 1.0);
        for candidate in out.iter_mut() {
            candidate.key = -candidate.logit;
        }
        let goal = f64::from(config.top_p) * total.unwrap_or(sum);
        keep_until(out, |mass| mass >= goal);
    }
    if config.min_p > 0.0 {
        let floor = min_p_floor(max_logit(out), config.min_p);
        out.retain(|candidate| candidate.logit >= floor);
    }
    Ok(weigh(out, config.temperature))
}

/// A logit below which no candidate can belong to the nucleus: all tokens that are less than (1 - p) / n as likely as
/// the likeliest hold less than 1 - p together.
fn nucleus_floor(max: f32, top_p: f32, n_vocab: usize) -> f32 {
    // The margin is far above the rounding of the weights.
    const MARGIN: f64 = 0.01;
    (f64::from(max) + math::ln((1.0 - f64::from(top_p)) / n_vocab as f64) - MARGIN) as f32
}

fn min_p_floor(max: f32, min_p: f32) -> f32 {
    (f64::from(max) + math::ln(f64::from(min_p))) as f32
}

fn max_logit(candidates: &[Candidate]) -> f32 {
    candidates.iter().map(|candidate| candidate.logit).fold(f32::NEG_INFINITY, f32::max)
}

/// Sets each weight to e^((logit - max) / temperature) and gives their sum.
fn weigh(candidates: &mut [Candidate], temperature: f32) -> f64 {
    let max = max_logit(candidates);
    let mut sum = 0.0;
    for candidate in candidates {
        candidate.weight = math::exp_nonpositive((candidate.logit - max) / temperature);
        sum += f64::from(candidate.weight);
    }
    sum
}

/// Keeps those whose surprise is nearest to the entropy, until their probabilities exceed `p`.
fn keep_typical(candidates: &mut Vec<Candidate>, p: f32) {
    let sum = weigh(candidates, 1.0);
    let log_sum = f64::from(max_logit(candidates)) + math::ln(sum);
    let surprise = |candidate: &Candidate| log_sum - f64::from(candidate.logit);
    let entropy = candidates.iter().map(|c| f64::from(c.weight) / sum * surprise(c)).sum::<f64>();
    for candidate in candidates.iter_mut() {
        candidate.key = (surprise(candidate) - entropy).abs() as f32;
    }
    let goal = f64::from(p) * sum;
    keep_until(candidates, |mass| mass > goal);
}

/// Keeps the first by key up to and including the one at which `enough` holds of the weights so far.
///
/// Sorts 64 of them, then 4 times as many, and so on, since a nucleus is nearly always small.
fn keep_until(candidates: &mut Vec<Candidate>, enough: impl Fn(f64) -> bool) {
    let mut mass = 0.0;
    let mut n_sorted = 0;
    let mut n = 64;
    while n_sorted < candidates.len() {
        let rest = &mut candidates[n_sorted..];
        let n_more = (n - n_sorted).min(rest.len());
        if n_more < rest.len() {
            rest.select_nth_unstable_by(n_more - 1, by_key);
        }
        rest[..n_more].sort_unstable_by(by_key);
        for (i, candidate) in rest[..n_more].iter().enumerate() {
            mass += f64::from(candidate.weight);
            if enough(mass) {
                candidates.truncate(n_sorted + i + 1);
                return;
            }
        }
        n_sorted += n_more;
        n *= 4;
    }
}
