//! Operations on rows of f32: norms, gates, rotation, rounding to 8-bit groups. Written once over [`Simd`].
//!
//! Their truth is `whit_base::reference::ops` and `whit_base::quant::quantize_activations`.

use whit_base::{Activation, RopeStyle};

use crate::simd::{Simd, exp, tanh};

/// A row rounded to 8-bit groups, padded with zeros so that kernels may read whole registers past its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantRow {
    /// `(n)` values, then at least 64 zeros.
    pub(crate) q: *mut i8,
    /// `(n / 32)` scales, then at least 16 zeros.
    pub(crate) d: *mut f32,
    /// `d * sum(q)` of each 32 values, then at least 16 zeros.
    pub(crate) sum32: *mut f32,
    /// `d * sum(q)` of each 16 values, then at least 16 zeros.
    pub(crate) sum16: *mut f32,
}

/// Applies `f` to every register of `x` and stores into `out`; `f` sees the element offset.
#[inline(always)]
unsafe fn map<S: Simd>(x: *const f32, out: *mut f32, n: usize, f: impl Fn(S::V, usize, usize) -> S::V) {
    // SAFETY: offsets stay below n; the partial forms touch n % N elements.
    unsafe {
        let mut i = 0;
        while i + S::N <= n {
            S::store(out.add(i), f(S::load(x.add(i)), i, S::N));
            i += S::N;
        }
        if i < n {
            S::store_partial(out.add(i), f(S::load_partial(x.add(i), n - i), i, n - i), n - i);
        }
    }
}

#[inline(always)]
unsafe fn load_some<S: Simd>(p: *const f32, n: usize) -> S::V {
    // SAFETY: the caller vouches for n elements.
    unsafe { if n == S::N { S::load(p) } else { S::load_partial(p, n) } }
}

#[inline(always)]
unsafe fn sum_of<S: Simd>(x: *const f32, n: usize, f: impl Fn(S::V) -> S::V) -> f32 {
    // SAFETY: offsets stay below n.
    unsafe {
        let mut acc = [S::splat(0.0); 4];
        let mut i = 0;
        while i + 4 * S::N <= n {
            for (k, acc) in acc.iter_mut().enumerate() {
                *acc = S::add(*acc, f(S::load(x.add(i + k * S::N))));
            }
            i += 4 * S::N;
        }
        while i + S::N <= n {
            acc[0] = S::add(acc[0], f(S::load(x.add(i))));
            i += S::N;
        }
        let mut total = S::reduce_add(S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3])));
        while i < n {
            // At most N - 1 values, where a partial register would add f(0) for the missing lanes.
            total += first_lane::<S>(f(S::splat(*x.add(i))));
            i += 1;
        }
        total
    }
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
        let mean_square = sum_of::<S>(x, n, |v| S::mul(v, v)) / n as f32;
        let factor = S::splat(1.0 / (mean_square + eps).sqrt());
        map::<S>(x, out, n, |v, i, len| {
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
        let mean = S::splat(sum_of::<S>(x, n, |v| v) / n as f32);
        let variance = sum_of::<S>(x, n, |v| {
            let v = S::sub(v, mean);
            S::mul(v, v)
        }) / n as f32;
        let factor = S::splat(1.0 / (variance + eps).sqrt());
        map::<S>(x, out, n, |v, i, len| {
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
                map::<S>(gate, out, n, |v, i, len| {
                    S::mul(activate::<S>($act, v), load_some::<S>(up.add(i), len))
                })
            };
        }
        match act {
            Activation::Silu => arm!(Activation::Silu),
            Activation::GeluTanh => arm!(Activation::GeluTanh),
            Activation::Gelu => arm!(Activation::Gelu),
            Activation::Relu => arm!(Activation::Relu),
        }
    }
}

/// `out = x + y`, `n` values.
#[inline(always)]
pub(crate) unsafe fn add<S: Simd>(x: *const f32, y: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the caller vouches for n elements behind each pointer.
    unsafe { map::<S>(x, out, n, |v, i, len| S::add(v, load_some::<S>(y.add(i), len))) }
}

/// `x *= factor` in place, `n` values.
#[inline(always)]
pub(crate) unsafe fn scale<S: Simd>(x: *mut f32, factor: f32, n: usize) {
    // SAFETY: the caller vouches for n elements.
    unsafe { map::<S>(x, x, n, |v, _, _| S::mul(v, S::splat(factor))) }
}

/// `x = cap * tanh(x / cap)` in place, `n` values.
#[inline(always)]
pub(crate) unsafe fn softcap<S: Simd>(x: *mut f32, cap: f32, n: usize) {
    // SAFETY: the caller vouches for n elements.
    unsafe { map::<S>(x, x, n, |v, _, _| S::mul(S::splat(cap), tanh::<S>(S::div(v, S::splat(cap))))) }
}

/// Rotates one head in place; `cos` and `sin` hold one value per pair.
#[inline(always)]
pub(crate) unsafe fn rope<S: Simd>(
    style: RopeStyle,
    head: *mut f32,
    cos: *const f32,
    sin: *const f32,
    n_pairs: usize,
) {
    // SAFETY: the head holds 2 * n_pairs values, the tables n_pairs.
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
                    rotate(head.add(i), head.add(n_pairs + i), *cos.add(i), *sin.add(i));
                }
            }
            RopeStyle::Interleaved => {
                for i in 0..n_pairs {
                    rotate(head.add(2 * i), head.add(2 * i + 1), *cos.add(i), *sin.add(i));
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn rotate(a: *mut f32, b: *mut f32, cos: f32, sin: f32) {
    // SAFETY: the caller vouches for both elements.
    unsafe {
        let (x, y) = (*a, *b);
        *a = x * cos - y * sin;
        *b = x * sin + y * cos;
    }
}

/// Rounds `n` values (a multiple of 32) starting at group `n0 / 32` of `row`; `x` points at value `n0`.
#[inline(always)]
pub(crate) unsafe fn quantize<S: Simd>(x: *const f32, row: QuantRow, n0: usize, n: usize) {
    // SAFETY: the caller vouches for n values behind x and for the row's groups.
    unsafe {
        for group in 0..n / 32 {
            let x = x.add(group * 32);
            let mut peak = S::splat(0.0);
            let mut nan = S::splat(0.0);
            let mut i = 0;
            while i < 32 {
                let v = S::load(x.add(i));
                peak = S::max(S::abs(v), peak);
                // Zero, but not a number if any value is not.
                nan = S::fma(v, S::splat(0.0), nan);
                i += S::N;
            }
            let peak = S::reduce_max(peak) + S::reduce_add(nan);
            let d = peak / 127.0;
            let inverse = S::splat(if peak > 0.0 { 127.0 / peak } else { 0.0 });
            let at = n0 / 32 + group;
            let mut sums = [0f32; 2];
            for (half, half_sum) in sums.iter_mut().enumerate() {
                let mut sum = S::splat(0.0);
                let mut i = 16 * half;
                while i < 16 * half + 16 {
                    let v = S::round(S::mul(S::load(x.add(i)), inverse));
                    sum = S::add(sum, v);
                    S::store_i8(row.q.add(at * 32 + i), v);
                    i += S::N;
                }
                *half_sum = S::reduce_add(sum);
                *row.sum16.add(2 * at + half) = d * *half_sum;
            }
            *row.d.add(at) = d;
            *row.sum32.add(at) = d * (sums[0] + sums[1]);
        }
    }
}
