//! The activation side of an integer dot product: rows of `f32` quantized to `i8` in groups of 32.
//!
//! A weight block is met by whole groups, so that a dot product is a sum over groups of `d_weight *
//! d_activation * Σ q_weight * q_activation`; formats with an offset add `-min * sum`. The layout is three
//! flat slices and no struct, because kernels stream them apart.

/// Activations that share one scale.
pub const ACT_GROUP: usize = 32;

/// Quantizes a row: per group of 32, `d = max|x| / 127`, `q = round_ties_even(x / d)` and `sum = d * Σ q`.
///
/// A group of zeros, or one so small that `d` would be subnormal, gets `d = 0` and `q = 0`; `q` is never
/// -128. A group that holds a NaN or an infinity gets `q = 0` and `d = sum = NaN`: it poisons every product
/// that it enters instead of passing for zero.
///
/// # Panics If `x.len()` is not a multiple of 32, `q` has another length, or `d` and `sum` do not hold one
/// value per group.
pub fn quantize_activations(x: &[f32], q: &mut [i8], d: &mut [f32], sum: &mut [f32]) {
    let n_groups = x.len() / ACT_GROUP;
    assert_eq!(x.len(), n_groups * ACT_GROUP, "activations fill whole groups");
    assert_eq!(q.len(), x.len(), "one quantized value per activation");
    assert_eq!((d.len(), sum.len()), (n_groups, n_groups), "one scale and one sum per group");

    let x = x.as_chunks::<ACT_GROUP>().0;
    let q = q.as_chunks_mut::<ACT_GROUP>().0;
    for (((x, q), d), sum) in x.iter().zip(q).zip(d).zip(sum) {
        // Adding 0 * x carries a NaN or an infinity into the maximum's place as a NaN, without a branch.
        let poison: f32 = x.iter().map(|x| 0.0 * x).sum();
        let amax = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let scale = amax / 127.0 + poison;
        if scale >= f32::MIN_POSITIVE {
            *d = scale;
            let mut total = 0_i32;
            for (q, x) in q.iter_mut().zip(x) {
                *q = (x / scale).round_ties_even() as i8;
                total += i32::from(*q);
            }
            *sum = scale * total as f32;
        } else {
            q.fill(0);
            *d = 0.0 * scale;
            *sum = *d;
        }
    }
}
