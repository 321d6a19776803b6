//! The activation side of an integer dot product: rows of `f32` quantized to `i8` in groups.
//!
//! A weight block is met by whole groups, so that a dot product is a sum over groups of `d_weight *
//! d_activation * Σ q_weight * q_activation`; formats with an offset add `-min * sum`. The layout is three
//! flat slices and no struct, because kernels stream them apart.

use crate::DType;

/// Activations that share one scale, for weights in blocks of 32; and the step in which scales and sums are kept.
pub const ACT_GROUP: usize = 32;

/// Activations that share one scale, for weights in blocks of 256. Products may then be summed over four groups before
/// they meet the scale, an eighth of the work of a long prompt; perplexity stays the same (Qwen2.5-Coder 1.5B Q4_K_M, 20
/// chunks of 512 tokens: 16.0919, and 16.0908 with groups of 32).
pub const WIDE_ACT_GROUP: usize = 128;

/// Activations that share a scale before they meet weights of the format. An input that meets weights of
/// several formats takes the widest of their groups: [`Plan::act_groups`](crate::Plan::act_groups).
pub fn act_group(dtype: DType) -> usize {
    if dtype.block_len() == 256 { WIDE_ACT_GROUP } else { ACT_GROUP }
}

/// Quantizes a row: per group of `group` values, `d = max|x| / 127` and `q = round_ties_even(x / d)`; per 32 values, `sum =
/// d * Σ q`. Each 32 values have their scale in `d`, so a wider group has it several times.
///
/// A group of zeros, or one so small that `d` would be subnormal, gets `d = 0` and `q = 0`; `q` is never
/// -128. A group that holds a NaN or an infinity gets `q = 0` and `d = sum = NaN`: it poisons every product
/// that it enters instead of passing for zero.
///
/// # Panics
/// If `group` is not [`ACT_GROUP`] or [`WIDE_ACT_GROUP`], `x.len()` is not a multiple of it, `q` has another length, or
/// `d` and `sum` do not hold one value per 32.
pub fn quantize_activations(x: &[f32], group: usize, q: &mut [i8], d: &mut [f32], sum: &mut [f32]) {
    assert!(group == ACT_GROUP || group == WIDE_ACT_GROUP, "groups of 32 or 128");
    assert!(x.len().is_multiple_of(group), "activations fill whole groups");
    assert_eq!(q.len(), x.len(), "one quantized value per activation");
    let n = x.len() / ACT_GROUP;
    assert_eq!((d.len(), sum.len()), (n, n), "one scale and one sum per 32 activations");

    let each = group / ACT_GROUP;
    let groups = x.chunks_exact(group).zip(q.chunks_exact_mut(group));
    for ((x, q), (d, sum)) in groups.zip(d.chunks_exact_mut(each).zip(sum.chunks_exact_mut(each))) {
        // Adding 0 * x carries a NaN or an infinity into the maximum's place as a NaN, without a branch.
        let poison: f32 = x.iter().map(|x| 0.0 * x).sum();
        let amax = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let scale = amax / 127.0 + poison;
        if scale >= f32::MIN_POSITIVE {
            d.fill(scale);
            for (q, x) in q.iter_mut().zip(x) {
                *q = (x / scale).round_ties_even() as i8;
            }
            for (sum, q) in sum.iter_mut().zip(q.chunks_exact(ACT_GROUP)) {
                *sum = scale * q.iter().map(|q| i32::from(*q)).sum::<i32>() as f32;
            }
        } else {
            q.fill(0);
            d.fill(0.0 * scale);
            sum.fill(0.0 * scale);
        }
    }
}
