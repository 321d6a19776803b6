//! Log-probabilities under a row of logits, by a softmax that does not overflow, and how far two rows diverge.

/// Values summed in f32 before the sum goes on in f64: few enough that their rounding does not show.
const BLOCK: usize = 256;
const LANES: usize = 8;

/// What makes probabilities of a row of logits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax {
    /// The greatest logit.
    pub(crate) max: f32,
    /// `ln(sum(exp(logit - max)))`. NaN if any logit is.
    pub(crate) ln_sum: f64,
}

impl Softmax {
    pub(crate) fn of(logits: &[f32]) -> Softmax {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Softmax { max, ln_sum: sum_of_exp(logits, max).ln() }
    }

    /// The natural logarithm of the probability that belongs to this logit.
    pub(crate) fn log_probability(&self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.max) - self.ln_sum
    }
}

fn sum_of_exp(logits: &[f32], max: f32) -> f64 {
    let mut sum = 0.0f64;
    for block in logits.chunks(BLOCK) {
        let mut lanes = [0.0f32; LANES];
        let rows = block.chunks_exact(LANES);
        let rest = rows.remainder();
        for row in rows {
            for (lane, &logit) in lanes.iter_mut().zip(row) {
                *lane += exp(logit - max);
            }
        }
        sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        sum += rest.iter().map(|&logit| f64::from(exp(logit - max))).sum::<f64>();
    }
    sum
}

/// The divergence of one row from another, in nats: `sum(exp(base) * (base - own))` over log-probabilities, where `own` is
/// `logits - shift`. Tokens of which `base` thinks less than `e^-16` are left out, as llama.cpp does.
pub(crate) fn divergence(base: &[f32], logits: &[f32], shift: f32) -> f64 {
    const LEAST: f32 = -16.0;
    let term = |base: f32, logit: f32| {
        if base > LEAST { exp(base) * (base - (logit - shift)) } else { 0.0 }
    };
    let mut sum = 0.0f64;
    for (base, logits) in base.chunks(BLOCK).zip(logits.chunks(BLOCK)) {
        let mut lanes = [0.0f32; LANES];
        let (bases, rows) = (base.chunks_exact(LANES), logits.chunks_exact(LANES));
        let rest = bases.remainder().iter().zip(rows.remainder());
        sum += rest.map(|(&base, &logit)| f64::from(term(base, logit))).sum::<f64>();
        for (base, logits) in bases.zip(rows) {
            for ((lane, &base), &logit) in lanes.iter_mut().zip(base).zip(logits) {
                *lane += term(base, logit);
            }
        }
        sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    sum
}

/// Where the greatest value stands, the first if there are several.
pub(crate) fn first_greatest(values: &[f32]) -> usize {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter().position(|&value| value == max).unwrap_or(0)
}

/// `e^x` for `x <= 0`, within 2 units in the last place; 0 below -87. Without branches, so that it vectorizes: a row of
/// 262,144 logits is summed for each token scored.
#[inline]
fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| <= ln(2) / 2; ln 2 in two parts (Cody and Waite) keeps r exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // Not `max`, which would swallow a NaN.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    // Taylor to the seventh power: the rest is below 2^-28.
    let p = 1.0
        + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    let scale = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { p * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential() {
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let (got, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / expected - 1.0).abs() < 2.5e-7, "exp({x}) = {got}, not {expected}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    fn log_probability(logits: &[f32], token: usize) -> f64 {
        Softmax::of(logits).log_probability(logits[token])
    }

    #[test]
    fn log_probabilities() {
        // Against f64 throughout: many values, with a spread that would overflow without the shift.
        let logits: Vec<f32> = (0..50_003).map(|i| ((i * 7919) % 1013) as f32 * 0.2 - 30.0).collect();
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|&l| (f64::from(l) - f64::from(max)).exp()).sum();
        for token in [0, 1, 777, 50_002] {
            let expected = f64::from(logits[token]) - f64::from(max) - sum.ln();
            let got = log_probability(&logits, token);
            assert!((got - expected).abs() < 1e-7 * expected.abs().max(1.0), "{got} {expected}");
        }
        assert!((log_probability(&[3.0; 16], 5) + 16f64.ln()).abs() < 1e-12);
        assert_eq!(log_probability(&[0.0, f32::NEG_INFINITY], 0), 0.0);
        assert!(log_probability(&[0.0, f32::NAN], 0).is_nan());
    }
}
