//! The searches that encoders share: which scale, or scale and minimum, stands best for a group of values.
//!
//! All of them minimise a weighted sum of squared errors. A group is fitted by trying inverse scales around
//! the one that maps its largest value to the end of the grid, and solving least squares for each rounding
//! that this gives (the method that the K-quants were published with in llama.cpp). A super-block then fits
//! its `f16` scales to the groups and, beyond the published method, alternates: groups choose among
//! neighbouring integer scales, the `f16` scales are solved anew, and the best pair seen is kept.
//!
//! A grid is a function from `x / scale` to the nearest level, as `f32`. Left out: which bits hold what; that
//! is each format's own.

use half::f16;

/// Rounds of alternation in a super-block; later ones no longer lower the error measurably.
const ROUNDS: usize = 4;

/// Rounds to the nearest integer, ties to even, for magnitudes below 2^22: exact, and unlike a library call
/// it compiles to two vector additions on every target.
#[inline(always)]
pub(super) fn nearest(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: the sum's last bit is the integer's
    (v + SHIFT) - SHIFT
}

/// The grid of the integers from `low` to `high`.
pub(super) fn clamped(low: f32, high: f32) -> impl Fn(f32) -> f32 + Copy {
    move |v| nearest(v.max(low).min(high))
}

/// The value as `f16` will hold it, except that what is not zero does not become zero.
pub(super) fn storable(v: f32) -> f32 {
    let rounded = f16::from_f32(v).to_f32();
    if rounded == 0.0 && v != 0.0 { f16::MIN_POSITIVE_SUBNORMAL.to_f32().copysign(v) } else { rounded }
}

/// The value of largest magnitude (the first of equals), with its sign.
pub(super) fn peak(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |peak: f32, x| if x.abs() > peak.abs() { *x } else { peak })
}

/// The smallest and the largest value.
pub(super) fn range(x: &[f32]) -> (f32, f32) {
    x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), x| (min.min(*x), max.max(*x)))
}

/// Whether importance weights can steer the fit of a block: something counts, and the sum is finite.
pub(super) fn usable(importance: &[f32]) -> bool {
    let total: f32 = importance.iter().copied().map(counted).sum();
    total > 0.0 && total.is_finite()
}

/// An importance weight as the fit takes it: what is negative or not finite counts as zero.
fn counted(importance: f32) -> f32 {
    if importance.is_finite() { importance.max(0.0) } else { 0.0 }
}

/// Weights of the squared errors in a block: `importance·√(2·mean(x²) + x²)`, or `√mean(x²) + |x|` without
/// importance (the field's choice: large weights tend to meet large activations).
pub(super) fn weights<const L: usize>(x: &[f32; L], importance: Option<&[f32; L]>) -> [f32; L] {
    let mean = x.iter().map(|x| x * x).sum::<f32>() / L as f32;
    let Some(importance) = importance else {
        let rms = mean.sqrt();
        return x.map(|x| rms + x.abs());
    };
    let importance = importance.map(counted);
    // The floor keeps a group of unused columns solvable without drawing precision from the others.
    let floor = importance.iter().sum::<f32>() / L as f32 * 1e-6;
    std::array::from_fn(|i| importance[i].max(floor) * (2.0 * mean + x[i] * x[i]).sqrt())
}

/// Sums `f(i)` over `0..N` in eight lanes, which lets the compiler use vectors.
#[inline(always)]
fn sum<const N: usize>(f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for chunk in (0..N).step_by(8) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += f(chunk + lane);
        }
    }
    lanes.iter().sum()
}

/// The reciprocal, or zero for zero: an empty scale sends everything to level zero.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The scale `s` that minimises `Σ w (x - s·level(x / s))²` over candidates that map the peak to each of
/// `anchors`, off by up to nine `step`s to either side.
pub(super) fn scale<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    anchors: &[f32],
    step: f32,
    level: impl Fn(f32) -> f32 + Copy,
) -> f32 {
    let peak = peak(x);
    if peak == 0.0 {
        return 0.0;
    }
    let mut best = peak / anchors[0];
    let mut best_gain = 0.0;
    for anchor in anchors {
        for k in -9..=9 {
            let candidate = (anchor + step * k as f32) / peak;
            let levels: [f32; N] = std::array::from_fn(|i| level(x[i] * candidate));
            let xl = sum::<N>(|i| w[i] * x[i] * levels[i]);
            let ll = sum::<N>(|i| w[i] * levels[i] * levels[i]);
            // Least squares leaves the error Σ w x² - xl² / ll.
            let gain = xl * xl / ll;
            if gain > best_gain {
                best_gain = gain;
                best = xl / ll;
            }
        }
    }
    best
}

/// The scale `d`, as `f16` holds it, that minimises `Σ w (x - d·t)²` over `t` of -1, 0 and 1; and `t + 1` of each value.
///
/// Exact: with `t` nonzero for the largest magnitudes down to some rank, `d` is their weighted mean; every rank is tried.
pub(super) fn ternary<const N: usize>(x: &[f32; N], importance: Option<&[f32; N]>) -> (f32, [u8; N]) {
    let w = weights(x, importance);
    let mut terms: [(f32, f32); N] = std::array::from_fn(|i| (x[i].abs(), w[i]));
    terms.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut wx, mut ww, mut d, mut best_gain) = (0.0, 0.0, 0.0, 0.0);
    for (x, w) in terms {
        wx += w * x;
        ww += w;
        // The error is Σ w x² less this.
        let gain = wx * wx / ww;
        if gain > best_gain {
            (d, best_gain) = (wx / ww, gain);
        }
    }
    let d = storable(if wx.is_finite() { d } else { f32::INFINITY });
    (d, x.map(|x| if x.abs() <= 0.5 * d { 1 } else { (x.signum() as i8 + 1) as u8 }))
}

/// The scale and minimum `(s, m)` that minimise `Σ w (x - s·q - m)²` over integer `q` in `0..=n_max`, with
/// `m <= cap` (K-quants can only subtract: cap 0).
pub(super) fn affine<const N: usize>(x: &[f32; N], w: &[f32; N], n_max: f32, cap: f32) -> (f32, f32) {
    let (min, max) = range(x);
    let min = min.min(cap);
    if max <= min {
        return (0.0, min);
    }
    let level = clamped(0.0, n_max);
    let sum_w = sum::<N>(|i| w[i]);
    let sum_x = sum::<N>(|i| w[i] * x[i]);
    // The least squares (s, m) for the rounding that scale `1 / inv` and minimum `from` give.
    let solve = |inv: f32, from: f32| {
        let levels: [f32; N] = std::array::from_fn(|i| level((x[i] - from) * inv));
        let sum_l = sum::<N>(|i| w[i] * levels[i]);
        let sum_ll = sum::<N>(|i| w[i] * levels[i] * levels[i]);
        let sum_xl = sum::<N>(|i| w[i] * x[i] * levels[i]);
        let det = sum_w * sum_ll - sum_l * sum_l;
        let m = (sum_ll * sum_x - sum_l * sum_xl) / det;
        if m > cap {
            ((sum_xl - cap * sum_l) / sum_ll, cap)
        } else {
            ((sum_w * sum_xl - sum_x * sum_l) / det, m)
        }
    };

    let mut best = ((max - min) / n_max, min);
    let mut best_error = affine_error(x, w, best.0, best.1, level);
    // Candidates map the range to 0.9 levels less up to 2.1 more than there are (more: the extremes give way).
    let candidates = (-6..=14).map(|k| Some((n_max + 0.15 * k as f32) / (max - min)));
    // Then a few rounds of alternation polish the best of them.
    for candidate in candidates.chain([None; 3]) {
        let (s, m) = candidate.map_or_else(|| solve(1.0 / best.0, best.1), |inv| solve(inv, min));
        // A singular system (all values at one level) solves to a NaN, which no comparison takes.
        let error = affine_error(x, w, s, m, level);
        if s > 0.0 && error < best_error {
            (best, best_error) = ((s, m), error);
        } else if candidate.is_none() {
            break;
        }
    }
    best
}

/// The weighted error of `x` under scale `s` and minimum `m`.
#[inline(always)]
pub(super) fn affine_error<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    s: f32,
    m: f32,
    level: impl Fn(f32) -> f32,
) -> f32 {
    let inv = inverse(s);
    sum::<N>(|i| {
        let e = x[i] - m - s * level((x[i] - m) * inv);
        w[i] * e * e
    })
}

/// A super-block of `G` groups under one `f16` scale: group `g` has the scale `d * groups[g]`.
pub(super) struct Scaled<const G: usize> {
    pub(super) d: f32,
    pub(super) groups: [f32; G],
}

/// Fits `d` and the integer group scales in `low..=high` to `x`, from each group's own best scale.
pub(super) fn scaled<const N: usize, const G: usize>(
    x: &[[f32; N]],
    w: &[[f32; N]],
    own: &[f32; G],
    (low, high): (f32, f32),
    level: impl Fn(f32) -> f32 + Copy,
) -> Scaled<G> {
    let integer = clamped(low, high);
    let mut best = Scaled { d: 0.0, groups: [0.0; G] };
    let mut best_error = f32::INFINITY;
    let mut d = storable(peak(own) / low);
    let mut groups = own.map(|s| integer(s * inverse(d)));
    for _ in 0..ROUNDS {
        let (mut error, mut xl, mut ll) = (0.0, 0.0, 0.0);
        for g in 0..G {
            let (x, w) = (&x[g], &w[g]);
            let mut group_error = f32::INFINITY;
            let centre = groups[g];
            for near in [centre, centre - 1.0, centre + 1.0] {
                let near = near.max(low).min(high);
                let e = affine_error(x, w, d * near, 0.0, level);
                if e < group_error {
                    group_error = e;
                    groups[g] = near;
                }
            }
            error += group_error;
            let l = groups[g];
            let inv = inverse(d * l);
            let levels: [f32; N] = std::array::from_fn(|i| l * level(x[i] * inv));
            xl += sum::<N>(|i| w[i] * x[i] * levels[i]);
            ll += sum::<N>(|i| w[i] * levels[i] * levels[i]);
        }
        if error < best_error {
            best_error = error;
            best = Scaled { d, groups };
        }
        let next = storable(xl / ll);
        if next == d || !next.is_finite() {
            break;
        }
        d = next;
    }
    if best_error.is_finite() { best } else { Scaled { d: f32::NAN, groups } }
}

/// A super-block of `G` groups under two `f16` scales: group `g` has the scale `d * scales[g]` and the
/// minimum `-dmin * mins[g]`.
pub(super) struct ScaledMin<const G: usize> {
    pub(super) d: f32,
    pub(super) dmin: f32,
    pub(super) scales: [f32; G],
    pub(super) mins: [f32; G],
}

/// Fits `d`, `dmin` and the integer group scales and minima in `0..=n_scale` to `x`, whose grid is
/// `0..=n_max`.
pub(super) fn scaled_min<const N: usize, const G: usize>(
    x: &[[f32; N]],
    w: &[[f32; N]],
    n_max: f32,
    n_scale: f32,
) -> ScaledMin<G> {
    let level = clamped(0.0, n_max);
    let integer = clamped(0.0, n_scale);
    let own: [(f32, f32); G] = std::array::from_fn(|g| affine(&x[g], &w[g], n_max, 0.0));
    let d = storable(own.iter().fold(0.0, |m: f32, own| m.max(own.0)) / n_scale);
    let dmin = storable(own.iter().fold(0.0, |m: f32, own| m.max(-own.1)) / n_scale);
    let mut now = ScaledMin {
        d,
        dmin,
        scales: own.map(|own| integer(own.0 * inverse(d))),
        mins: own.map(|own| integer(-own.1 * inverse(dmin))),
    };
    let mut best = ScaledMin { d: f32::NAN, ..now };
    let mut best_error = f32::INFINITY;
    for _ in 0..ROUNDS {
        let mut error = 0.0;
        // Normal equations of x = d·a - dmin·b, with a = scale·q and b = min.
        let (mut aa, mut ab, mut bb, mut xa, mut xb) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for g in 0..G {
            let (x, w) = (&x[g], &w[g]);
            let mut group_error = f32::INFINITY;
            let (scale, min) = (now.scales[g], now.mins[g]);
            for near_scale in [scale, scale - 1.0, scale + 1.0] {
                for near_min in [min, min - 1.0, min + 1.0] {
                    let (s, m) = (near_scale.max(0.0).min(n_scale), near_min.max(0.0).min(n_scale));
                    let e = affine_error(x, w, now.d * s, -now.dmin * m, level);
                    if e < group_error {
                        group_error = e;
                        (now.scales[g], now.mins[g]) = (s, m);
                    }
                }
            }
            error += group_error;
            let (s, b) = (now.scales[g], now.mins[g]);
            let inv = inverse(now.d * s);
            let a: [f32; N] = std::array::from_fn(|i| s * level((x[i] + now.dmin * b) * inv));
            let sum_a = sum::<N>(|i| w[i] * a[i]);
            aa += sum::<N>(|i| w[i] * a[i] * a[i]);
            ab += sum_a * b;
            bb += sum::<N>(|i| w[i]) * b * b;
            xa += sum::<N>(|i| w[i] * x[i] * a[i]);
            xb += sum::<N>(|i| w[i] * x[i]) * b;
        }
        if error < best_error {
            best_error = error;
            best = ScaledMin { ..now };
        }
        let det = aa * bb - ab * ab;
        let (d, dmin) = if det > 0.0 {
            ((xa * bb - xb * ab) / det, (xa * ab - xb * aa) / det)
        } else {
            (xa / aa, now.dmin)
        };
        if !(d > 0.0 && dmin >= 0.0) {
            break;
        }
        let (d, dmin) = (storable(d), storable(dmin));
        if (d, dmin) == (now.d, now.dmin) || !(d + dmin).is_finite() {
            break;
        }
        (now.d, now.dmin) = (d, dmin);
    }
    best
}

/// The levels of `x` in a group with scale `s` and minimum `m`, shifted by `offset` to start at zero.
pub(super) fn indices<const N: usize>(
    x: &[f32; N],
    s: f32,
    m: f32,
    level: impl Fn(f32) -> f32,
    offset: f32,
) -> [u8; N] {
    let inv = inverse(s);
    x.map(|x| (level((x - m) * inv) + offset) as u8)
}
