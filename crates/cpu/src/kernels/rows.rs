//! Operations on rows of f32: norms, gates, rotation, rounding to 8-bit groups. Written once over [`Simd`].
//!
//! Their truth is `whit_base::reference::ops` and `whit_base::quant::quantize_activations`.

use whit_base::{Activation, RopeStyle};

use crate::simd::{Simd, exp, tanh};

/// Whether kernels read [`QuantRow::sum16`]; what nobody reads would only push other things out of the caches.
pub(crate) const SUMS_OF_16: bool = cfg!(target_arch = "aarch64");

/// A row rounded to 8-bit groups, padded with zeros so that kernels may read whole registers past its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantRow {
    /// `(n)` values, then at least 64 zeros.
    pub(crate) q: *mut i8,
    /// `(n / 32)` scales, then at least 16 zeros.
    pub(crate) d: *mut f32,
    /// `d * sum(q)` of each 32 values, then at least 16 zeros.
    pub(crate) sum32: *mut f32,
    /// `d * sum(q)` of each 16 values, then at least 16 zeros, where [`SUMS_OF_16`] are wanted.
    pub(crate) sum16: *mut f32,
    /// `sum(q)` of each 32 values; kernels may read one past the last.
    pub(crate) total32: *mut i16,
    /// `sum(q)` of each 16 values; kernels may read one past the last.
    pub(crate) total16: *mut i16,
    /// Values that share a scale: [`ACT_GROUP`](whit_base::quant::ACT_GROUP) or
    /// [`WIDE_ACT_GROUP`](whit_base::quant::WIDE_ACT_GROUP).
    pub(crate) group: usize,
}

impl QuantRow {
    /// The row from value `n`, a multiple of 32, on.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) unsafe fn from(&self, n: usize) -> QuantRow {
        // SAFETY: the caller knows the row to be so long.
        unsafe {
            QuantRow {
                q: self.q.add(n),
                d: self.d.add(n / 32),
                sum32: self.sum32.add(n / 32),
                sum16: self.sum16.wrapping_add(n / 16),
                total32: self.total32.add(n / 32),
                total16: self.total16.add(n / 16),
                group: self.group,
            }
        }
    }
}

/// Stores `$value` for every register of `$x` into `$out`; `$v` is the register, `$i` its offset, `$len` its lanes in use.
/// A macro and not a function of a closure: closures do not carry the caller's target features.
macro_rules! map {
    ($simd:ty, $x:expr, $out:expr, $n:expr, |$v:ident, $i:ident, $len:ident| $value:expr) => {{
        let (x, out, n): (*const f32, *mut f32, usize) = ($x, $out, $n);
        let mut $i = 0;
        while $i + <$simd>::N <= n {
            let $len = <$simd>::N;
            let $v = <$simd>::load(x.add($i));
            let value = $value;
            <$simd>::store(out.add($i), value);
            $i += $len;
        }
        if $i < n {
            let $len = n - $i;
            let $v = <$simd>::load_partial(x.add($i), $len);
            let value = $value;
            <$simd>::store_partial(out.add($i), value, $len);
        }
    }};
}

/// The sum of `$term` over `$x`.
macro_rules! sum {
    ($simd:ty, $x:expr, $n:expr, |$v:ident| $term:expr) => {{
        let (x, n): (*const f32, usize) = ($x, $n);
        let mut acc = [<$simd>::splat(0.0); 4];
        let mut i = 0;
        while i + 4 * <$simd>::N <= n {
            for k in 0..4 {
                let $v = <$simd>::load(x.add(i + k * <$simd>::N));
                acc[k] = <$simd>::add(acc[k], $term);
            }
            i += 4 * <$simd>::N;
        }
        while i + <$simd>::N <= n {
            let $v = <$simd>::load(x.add(i));
            acc[0] = <$simd>::add(acc[0], $term);
            i += <$simd>::N;
        }
        let both = <$simd>::add(<$simd>::add(acc[0], acc[1]), <$simd>::add(acc[2], acc[3]));
        let mut total = <$simd>::reduce_add(both);
        while i < n {
            // At most N - 1 values; the missing lanes of a partial register would add their own terms.
            let $v = <$simd>::splat(*x.add(i));
            total += first_lane::<$simd>($term);
            i += 1;
        }
        total
    }};
}

#[inline(always)]
unsafe fn load_some<S: Simd>(p: *const f32, n: usize) -> S::V {
    // SAFETY: the caller vouches for n elements.
    unsafe { if n == S::N { S::load(p) } else { S::load_partial(p, n) } }
}

#[inline(always)]
unsafe fn first_lane<S: Simd>(v: S::V) -> f32 {
    let mut lanes = [0f32; 16];
    // SAFETY: N is at most 16.
    unsafe { S::store(lanes.as_mut_ptr(), v) };
    lanes[0]
}

/// RMS norm of `n` values; `weight` may be null.
#[inline(always)]
pub(crate) unsafe fn rms_norm<S: Simd>(x: *const f32, weight: *const f32, eps: f32, out: *mut f32, n: usize) {
    // SAFETY: the caller vouches for n elements behind each pointer.
    unsafe {
        let mean_square = sum!(S, x, n, |v| S::mul(v, v)) / n as f32;
        let factor = S::splat(1.0 / (mean_square + eps).sqrt());
        map!(S, x, out, n, |v, i, len| {
            let v = S::mul(v, factor);
            if weight.is_null() { v } else { S::mul(v, load_some::<S>(weight.add(i), len)) }
        });
    }
}

/// Layer norm of `n` values; `weight` and `bias` may be null.
#[inline(always)]
pub(crate) unsafe fn layer_norm<S: Simd>(
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    eps: f32,
    out: *mut f32,
    n: usize,
) {
    // SAFETY: the caller vouches for n elements behind each pointer.
    unsafe {
        let mean = S::splat(sum!(S, x, n, |v| v) / n as f32);
        let variance = sum!(S, x, n, |v| S::mul(S::sub(v, mean), S::sub(v, mean))) / n as f32;
        let factor = S::splat(1.0 / (variance + eps).sqrt());
        map!(S, x, out, n, |v, i, len| {
            let mut v = S::mul(S::sub(v, mean), factor);
            if !weight.is_null() {
                v = S::mul(v, load_some::<S>(weight.add(i), len));
            }
            if bias.is_null() { v } else { S::add(v, load_some::<S>(bias.add(i), len)) }
        });
    }
}

#[inline(always)]
unsafe fn activate<S: Simd>(act: Activation, x: S::V) -> S::V {
    // SAFETY: as the trait demands of this function's caller.
    unsafe {
        let one = S::splat(1.0);
        match act {
            Activation::Silu => S::div(x, S::add(one, exp::<S>(S::sub(S::splat(0.0), x)))),
            Activation::GeluTanh => {
                let cubic = S::fma(S::mul(S::mul(x, x), x), S::splat(0.044_715), x);
                let t = tanh::<S>(S::mul(cubic, S::splat(0.797_884_6)));
                S::mul(S::mul(S::splat(0.5), x), S::add(one, t))
            }
            Activation::Gelu => {
                S::mul(S::mul(S::splat(0.5), x), S::add(one, erf::<S>(S::mul(x, S::splat(0.707_106_77)))))
            }
            Activation::Relu => S::max(x, S::splat(0.0)),
            Activation::ReluSquared => {
                let x = S::max(x, S::splat(0.0));
                S::mul(x, x)
            }
            Activation::Tanh => tanh::<S>(x),
            Activation::Identity => x,
        }
    }
}

/// The error function, absolute error below 2e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the trait demands of this function's caller.
    unsafe {
        let a = S::abs(x);
        let t = S::div(S::splat(1.0), S::fma(a, S::splat(0.327_591_1), S::splat(1.0)));
        let mut p = S::splat(1.061_405_4);
        p = S::fma(p, t, S::splat(-1.453_152));
        p = S::fma(p, t, S::splat(1.421_413_7));
        p = S::fma(p, t, S::splat(-0.284_496_74));
        p = S::fma(p, t, S::splat(0.254_829_6));
        let e = exp::<S>(S::sub(S::splat(0.0), S::mul(a, a)));
        S::copysign(S::sub(S::splat(1.0), S::mul(S::mul(p, t), e)), x)
    }
}

/// `out = act(gate) * up`, `n` values.
#[inline(always)]
pub(crate) unsafe fn glu<S: Simd>(
    act: Activation,
    gate: *const f32,
    up: *const f32,
    out: *mut f32,
    n: usize,
) {
    // SAFETY: the caller vouches for n elements behind each pointer.
    unsafe {
        macro_rules! arm {
            ($act:expr) => {
                map!(S, gate, out, n, |v, i, len| {
                    S::mul(activate::<S>($act, v), load_some::<S>(up.add(i), len))
                })
            };
        }
        match act {
            Activation::Silu => arm!(Activation::Silu),
            Activation::GeluTanh => arm!(Activation::GeluTanh),
            Activation::Gelu => arm!(Activation::Gelu),
            Activation::Relu => arm!(Activation::Relu),
            Activation::ReluSquared => arm!(Activation::ReluSquared),
            Activation::Tanh => arm!(Activation::Tanh),
            Activation::Identity => arm!(Activation::Identity),
        }
    }
}

/// `out = act(x)`, `n` values.
#[inline(always)]
pub(crate) unsafe fn act<S: Simd>(act: Activation, x: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the caller vouches for n elements behind each pointer.
    unsafe {
        macro_rules! arm {
            ($act:expr) => {
                map!(S, x, out, n, |v, i, len| activate::<S>($act, v))
            };
        }
        match act {
            Activation::Silu => arm!(Activation::Silu),
            Activation::GeluTanh => arm!(Activation::GeluTanh),
            Activation::Gelu => arm!(Activation::Gelu),
            Activation::Relu => arm!(Activation::Relu),
            Activation::ReluSquared => arm!(Activation::ReluSquared),
            Activation::Tanh => arm!(Activation::Tanh),
            Activation::Identity => arm!(Activation::Identity),
        }
    }
}

/// `out = x + y`, `n` values.
#[inline(always)]
pub(crate) unsafe fn add<S: Simd>(x: *const f32, y: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the caller vouches for n elements behind each pointer.
    unsafe { map!(S, x, out, n, |v, i, len| S::add(v, load_some::<S>(y.add(i), len))) }
}

/// `x *= factor` in place, `n` values.
#[inline(always)]
pub(crate) unsafe fn scale<S: Simd>(x: *mut f32, factor: f32, n: usize) {
    // SAFETY: the caller vouches for n elements.
    unsafe { map!(S, x, x, n, |v, i, len| S::mul(v, S::splat(factor))) }
}

/// `x = cap * tanh(x / cap)` in place, `n` values.
#[inline(always)]
pub(crate) unsafe fn softcap<S: Simd>(x: *mut f32, cap: f32, n: usize) {
    // SAFETY: the caller vouches for n elements.
    unsafe { map!(S, x, x, n, |v, i, len| S::mul(S::splat(cap), tanh::<S>(S::div(v, S::splat(cap))))) }
}

/// Entries of a row's cosine and sine tables: one per pair, or for [`RopeStyle::Interleaved`] one per value, the sine of
/// each pair's first value negated, so that whole registers rotate as `x * cos + swap(x) * sin`.
pub(crate) fn rope_table_len(style: RopeStyle, n_pairs: usize) -> usize {
    match style {
        RopeStyle::Halves => n_pairs,
        RopeStyle::Interleaved => 2 * n_pairs,
    }
}

/// Writes pair `i` of the tables.
pub(crate) unsafe fn set_rope_pair(
    style: RopeStyle,
    cos: *mut f32,
    sin: *mut f32,
    i: usize,
    (c, s): (f32, f32),
) {
    // SAFETY: the caller vouches for `rope_table_len` entries.
    unsafe {
        match style {
            RopeStyle::Halves => {
                *cos.add(i) = c;
                *sin.add(i) = s;
            }
            RopeStyle::Interleaved => {
                *cos.add(2 * i) = c;
                *cos.add(2 * i + 1) = c;
                *sin.add(2 * i) = -s;
                *sin.add(2 * i + 1) = s;
            }
        }
    }
}

/// Rotates one head in place; `cos` and `sin` as [`set_rope_pair`] wrote them.
#[inline(always)]
pub(crate) unsafe fn rope<S: Simd>(
    style: RopeStyle,
    head: *mut f32,
    cos: *const f32,
    sin: *const f32,
    n_pairs: usize,
) {
    // SAFETY: the head holds 2 * n_pairs values, the tables `rope_table_len`.
    unsafe {
        match style {
            RopeStyle::Halves => {
                let mut i = 0;
                while i + S::N <= n_pairs {
                    let (x, y) = (S::load(head.add(i)), S::load(head.add(n_pairs + i)));
                    let (c, s) = (S::load(cos.add(i)), S::load(sin.add(i)));
                    S::store(head.add(i), S::sub(S::mul(x, c), S::mul(y, s)));
                    S::store(head.add(n_pairs + i), S::fma(x, s, S::mul(y, c)));
                    i += S::N;
                }
                for i in i..n_pairs {
                    let (x, y) = (*head.add(i), *head.add(n_pairs + i));
                    *head.add(i) = x * *cos.add(i) - y * *sin.add(i);
                    *head.add(n_pairs + i) = x * *sin.add(i) + y * *cos.add(i);
                }
            }
            RopeStyle::Interleaved => {
                let mut i = 0;
                while S::N > 1 && i + S::N <= 2 * n_pairs {
                    let x = S::load(head.add(i));
                    let rotated = S::mul(S::swap_pairs(x), S::load(sin.add(i)));
                    S::store(head.add(i), S::fma(x, S::load(cos.add(i)), rotated));
                    i += S::N;
                }
                while i < 2 * n_pairs {
                    let (x, y) = (*head.add(i), *head.add(i + 1));
                    *head.add(i) = x * *cos.add(i) + y * *sin.add(i);
                    *head.add(i + 1) = y * *cos.add(i + 1) + x * *sin.add(i + 1);
                    i += 2;
                }
            }
        }
    }
}

/// Rounds `n` values from value `n0` of `row` on, both multiples of its groups; `x` points at value `n0`.
#[inline(always)]
pub(crate) unsafe fn quantize<S: Simd>(x: *const f32, row: QuantRow, n0: usize, n: usize) {
    // SAFETY: the caller vouches for n values behind x and for the row's groups.
    unsafe {
        let mut from = S::quantize_some(x, row, n0, n);
        while from < n {
            let x = x.add(from);
            let mut peak = S::splat(0.0);
            let mut nan = S::splat(0.0);
            let mut i = 0;
            while i < row.group {
                let v = S::load(x.add(i));
                peak = S::max(S::abs(v), peak);
                // Zero, but not a number if any value is not.
                nan = S::fma(v, S::splat(0.0), nan);
                i += S::N;
            }
            let peak = S::reduce_max(peak) + S::reduce_add(nan);
            let d = peak / 127.0;
            let inverse = S::splat(if peak > 0.0 { 127.0 / peak } else { 0.0 });
            for part in 0..row.group / 32 {
                let at = (n0 + from) / 32 + part;
                let mut sums = [0f32; 2];
                for (half, half_sum) in sums.iter_mut().enumerate() {
                    let mut sum = S::splat(0.0);
                    let mut i = 16 * half;
                    while i < 16 * half + 16 {
                        let v = S::round(S::mul(S::load(x.add(32 * part + i)), inverse));
                        sum = S::add(sum, v);
                        S::store_i8(row.q.add(at * 32 + i), v);
                        i += S::N;
                    }
                    *half_sum = S::reduce_add(sum);
                    if SUMS_OF_16 {
                        *row.sum16.add(2 * at + half) = d * *half_sum;
                    }
                    *row.total16.add(2 * at + half) = *half_sum as i16;
                }
                *row.d.add(at) = d;
                *row.sum32.add(at) = d * (sums[0] + sums[1]);
                *row.total32.add(at) = (sums[0] + sums[1]) as i16;
            }
            from += row.group;
        }
    }
}
