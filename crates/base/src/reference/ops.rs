//! What each operation means, one plain function each. Inputs are whole rows in f32; sums run in f64 so that the truth
//! does not depend on an order.

use crate::{Activation, NormKind, PoolKind, Rope, RopeStyle};

/// Normalizes `x` into `out`; both are one row, or one head of it.
pub fn norm(kind: NormKind, x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, out: &mut [f32]) {
    let n = x.len() as f64;
    let (mean, factor) = match kind {
        NormKind::Rms { eps } => {
            let mean_square = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / n;
            (0.0, 1.0 / (mean_square + f64::from(eps)).sqrt())
        }
        NormKind::Layer { eps } => {
            let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            (mean, 1.0 / (variance + f64::from(eps)).sqrt())
        }
    };
    for (i, (out, &v)) in out.iter_mut().zip(x).enumerate() {
        let scaled = (f64::from(v) - mean) * factor * weight.map_or(1.0, |w| f64::from(w[i]));
        *out = (scaled + bias.map_or(0.0, |b| f64::from(b[i]))) as f32;
    }
}

/// Rotates one head in place for `position`.
pub fn rope(rope: &Rope, position: usize, head: &mut [f32]) {
    let n_pairs = rope.inv_freq.len();
    for (i, &inv_freq) in rope.inv_freq.iter().enumerate() {
        let (a, b) = match rope.style {
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            RopeStyle::Halves => (i, i + n_pairs),
        };
        let angle = position as f64 * f64::from(inv_freq);
        let (sin, cos) = angle.sin_cos();
        let (sin, cos) = (sin * f64::from(rope.magnitude), cos * f64::from(rope.magnitude));
        let (x, y) = (f64::from(head[a]), f64::from(head[b]));
        head[a] = (x * cos - y * sin) as f32;
        head[b] = (x * sin + y * cos) as f32;
    }
}

/// The activation's value at `x`.
pub fn activation(act: Activation, x: f32) -> f32 {
    let x = f64::from(x);
    let y = match act {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
            0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)).tanh())
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::Relu => x.max(0.0),
        Activation::ReluSquared => x.max(0.0).powi(2),
        Activation::Tanh => x.tanh(),
        Activation::Identity => x,
    };
    y as f32
}

/// `c * tanh(x / c)`.
pub fn softcap(cap: f32, x: f32) -> f32 {
    (f64::from(cap) * (f64::from(x) / f64::from(cap)).tanh()) as f32
}

/// Attention of one query head over the visible keys and values, oldest first: `(n, head_dim)` each. `bias` is added to
/// the score of each key; none, where it is empty.
pub fn attend(
    q: &[f32],
    keys: &[&[f32]],
    values: &[&[f32]],
    (scale, cap, bias): (f32, Option<f32>, &[f32]),
    out: &mut [f32],
) {
    let scores: Vec<f64> = keys
        .iter()
        .enumerate()
        .map(|(i, key)| {
            let dot: f64 = q.iter().zip(*key).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let score = dot * f64::from(scale) + bias.get(i).map_or(0.0, |&bias| f64::from(bias));
            cap.map_or(score, |cap| f64::from(softcap(cap, score as f32)))
        })
        .collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    for (d, out) in out.iter_mut().enumerate() {
        let sum: f64 = weights.iter().zip(values).map(|(weight, value)| weight * f64::from(value[d])).sum();
        *out = (sum / total) as f32;
    }
}

/// The mean of the squares.
fn mean_square(x: &[f32]) -> f64 {
    x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len() as f64
}

/// Gives `x` the root mean square of `like`: see [`Op::Match`](crate::Op::Match).
pub fn match_size(x: &mut [f32], like: &[f32], least: f32) {
    let factor = (mean_square(like) / mean_square(x).max(f64::from(least))).sqrt();
    x.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
}

/// Keeps what stands out: see [`Op::Outliers`](crate::Op::Outliers).
pub fn outliers(x: &mut [f32], deviations: f32) {
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / x.len() as f64;
    let least = mean + f64::from(deviations) * variance.sqrt();
    x.iter_mut().for_each(|v| *v = (f64::from(*v) - least).max(0.0) as f32);
}

/// One value of a convolution: `rows` are the last of the column, of which the last is the token's own; what is missing at
/// their beginning is 0.
pub fn convolve(rows: &[f32], kernel: &[f32], bias: f32) -> f32 {
    let terms = rows.iter().rev().zip(kernel.iter().rev());
    let sum: f64 = terms.map(|(&row, &weight)| f64::from(row) * f64::from(weight)).sum();
    (sum + f64::from(bias)) as f32
}

/// The weights of the `n_used` best of some experts: see [`Op::Route`](crate::Op::Route).
pub fn route(scores: &[f32], n_used: usize, normalize: bool, weights: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |score: f32| (f64::from(score) - f64::from(max)).exp();
    let mut best: Vec<usize> = (0..scores.len()).collect();
    best.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    best.truncate(n_used);
    let total: f64 = if normalize {
        best.iter().map(|&expert| exp(scores[expert])).sum()
    } else {
        scores.iter().map(|&score| exp(score)).sum()
    };
    weights.fill(0.0);
    for expert in best {
        weights[expert] = (exp(scores[expert]) / total) as f32;
    }
}

/// The error function, to about 1e-16: its Maclaurin series near zero, a continued fraction of erfc beyond.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let y = if a < 2.5 {
        let mut term = a;
        let mut sum = a;
        for n in 1..80 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let mut fraction = 0.0;
        for n in (1..60).rev() {
            fraction = f64::from(n) / 2.0 / (a + fraction);
        }
        1.0 - (-a * a).exp() / (std::f64::consts::PI.sqrt() * (a + fraction))
    };
    y.copysign(x)
}

/// Takes a sequence's next states, `(n, width)`, into the vector that is made of it. `first`: the position of the first
/// token that ran with them; 0 begins anew. `end`: the length of the sequence, if it ends with them.
pub fn pool(
    kind: PoolKind,
    normalize: bool,
    states: &[&[f32]],
    first: usize,
    end: Option<usize>,
    vector: &mut [f32],
) {
    match kind {
        PoolKind::Mean => {
            for (i, value) in vector.iter_mut().enumerate() {
                let before = if first == 0 { 0.0 } else { f64::from(*value) };
                let sum = before + states.iter().map(|state| f64::from(state[i])).sum::<f64>();
                *value = (sum / end.unwrap_or(1) as f64) as f32;
            }
        }
        PoolKind::First | PoolKind::Last => {
            if let Some(state) = states.last() {
                vector.copy_from_slice(state);
            }
        }
    }
    if normalize && end.is_some() {
        let length = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;

    #[test]
    fn activations_match_published_values() {
        // torch.nn.functional.{silu,gelu,gelu(approximate="tanh")} in float64.
        let table = [
            (Activation::Silu, 1.0, 0.731_058_6),
            (Activation::Silu, -2.0, -0.238_405_84),
            (Activation::Gelu, 1.0, 0.841_344_8),
            (Activation::Gelu, -3.0, -0.004_049_694),
            (Activation::Gelu, 5.0, 4.999_998_6),
            (Activation::GeluTanh, 1.0, 0.841_192),
            (Activation::GeluTanh, -2.0, -0.045_402_3),
            (Activation::Relu, -1.0, 0.0),
            (Activation::ReluSquared, -1.0, 0.0),
            (Activation::ReluSquared, 3.0, 9.0),
            (Activation::Tanh, 0.5, 0.462_117_17),
            (Activation::Identity, -2.5, -2.5),
        ];
        for (act, x, expected) in table {
            let got = activation(act, x);
            assert!((got - expected).abs() < 1e-6, "{act:?}({x}) = {got}, expected {expected}");
        }
    }

    #[test]
    fn rope_rotates_by_position_times_frequency() {
        let table = |style| Rope { inv_freq: vec![1.0, 0.5], magnitude: 1.0, style };
        let mut head = [1.0, 0.0, 0.0, 2.0];
        rope(&table(RopeStyle::Interleaved), 3, &mut head);
        let expected = [3f32.cos(), 3f32.sin(), -2.0 * 1.5f32.sin(), 2.0 * 1.5f32.cos()];
        assert!(head.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{head:?}");
        let mut head = [1.0, 0.0, 0.0, 2.0];
        rope(&table(RopeStyle::Halves), 3, &mut head);
        let expected = [3f32.cos(), -2.0 * 1.5f32.sin(), 3f32.sin(), 2.0 * 1.5f32.cos()];
        assert!(head.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{head:?}");
    }

    #[test]
    fn rows_are_resized_and_cut() {
        // Worked out by hand: mean squares 9 and 4; mean 2, standard deviation 2.
        let mut x = [3.0, -3.0];
        match_size(&mut x, &[2.0, 2.0, -2.0], 1e-5);
        assert_eq!(x, [2.0, -2.0]);
        let mut small = [1e-3, -1e-3];
        match_size(&mut small, &[2.0], 4.0);
        assert_eq!(small, [1e-3, -1e-3]);
        let mut x = [0.0, 4.0, 0.0, 4.0];
        outliers(&mut x, 0.5);
        assert_eq!(x, [0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn convolutions_see_what_stands_before() {
        // Worked out by hand.
        for (rows, kernel, bias, expected) in [
            (&[1.0, 2.0, 3.0][..], &[10.0, 100.0, 1000.0][..], 0.0, 3210.0),
            (&[2.0, 3.0], &[10.0, 100.0, 1000.0], 0.5, 3200.5),
            (&[9.0, 1.0, 2.0, 3.0], &[10.0, 100.0], 0.0, 320.0),
            (&[], &[10.0], -1.0, -1.0),
        ] {
            assert_eq!(convolve(rows, kernel, bias), expected, "{rows:?}");
        }
    }

    #[test]
    fn the_best_experts_stay() {
        // Worked out by hand: softmax of logarithms gives the numbers back, over their sum.
        let scores = [1f32.ln(), 5f32.ln(), 2f32.ln(), 2f32.ln()];
        for (n_used, normalize, expected) in [
            (1, false, [0.0, 0.5, 0.0, 0.0]),
            (1, true, [0.0, 1.0, 0.0, 0.0]),
            (2, false, [0.0, 0.5, 0.2, 0.0]),
            (2, true, [0.0, 5.0 / 7.0, 2.0 / 7.0, 0.0]),
            (4, true, [0.1, 0.5, 0.2, 0.2]),
        ] {
            let mut weights = [9.0; 4];
            route(&scores, n_used, normalize, &mut weights);
            let near = weights.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near, "{n_used} {normalize}: {weights:?}");
        }
    }

    #[test]
    fn pools_in_pieces() {
        let states: [&[f32]; 3] = [&[3.0, 0.0], &[0.0, 3.0], &[0.0, 9.0]];
        // Worked out by hand.
        for (kind, normalize, expected) in [
            (PoolKind::Mean, false, [1.0, 4.0]),
            (PoolKind::Mean, true, [1.0 / 17f32.sqrt(), 4.0 / 17f32.sqrt()]),
            (PoolKind::First, false, [3.0, 0.0]),
            (PoolKind::Last, false, [0.0, 9.0]),
            (PoolKind::Last, true, [0.0, 1.0]),
        ] {
            for cut in 0..3 {
                let mut vector = [7.0, 7.0];
                let (mut first, mut next) = (0, 0);
                for end in [cut, 3] {
                    let range = next..end;
                    let segment = Segment { rows: range.clone(), first_position: first, pages: vec![] };
                    if range.is_empty() {
                        continue;
                    }
                    let ends = end == 3;
                    let rows = &states[kind.rows(&segment, ends)];
                    pool(kind, normalize, rows, first, ends.then_some(3), &mut vector);
                    (first, next) = (end, end);
                }
                let near = vector.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
                assert!(near, "{kind:?} {normalize} cut at {cut}: {vector:?}");
            }
        }
        let mut zeros = [0.0; 2];
        pool(PoolKind::Mean, true, &[&[0.0, 0.0]], 0, Some(1), &mut zeros);
        assert_eq!(zeros, [0.0, 0.0]);
    }
}
