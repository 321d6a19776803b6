//! The few vector operations that the f32 kernels are written in, once for all levels.
//!
//! A kernel is a generic `#[inline(always)]` function over [`Simd`]; each level instantiates it inside a function that
//! carries the level's target features, where the whole body inlines. Integer dot products are not here: their shapes
//! differ between instruction sets, and they are written per level in `kernels/blocks`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

use crate::kernels::FloatJob;
use crate::kernels::rows::QuantRow;

/// A register of `N` f32 lanes.
///
/// # Safety
/// The methods may only be reached from a function compiled for the implementing level's features, on a host that has
/// them. Pointers must be valid for `N` elements (`n` for the partial forms).
pub(crate) trait Simd: Copy {
    /// Lanes.
    const N: usize;
    /// The register.
    type V: Copy;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Loads the first `n < N` lanes, zero in the rest.
    unsafe fn load_partial(p: *const f32, n: usize) -> Self::V;
    /// Stores the first `n < N` lanes.
    unsafe fn store_partial(p: *mut f32, v: Self::V, n: usize);
    unsafe fn load_f16(p: *const u16) -> Self::V;
    unsafe fn store_f16(p: *mut u16, v: Self::V);
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// Rounds to the nearest integer, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `2^a` for integral lanes in -126..=127.
    unsafe fn exp2_int(a: Self::V) -> Self::V;
    /// `magnitude` with the sign of `sign`.
    unsafe fn copysign(magnitude: Self::V, sign: Self::V) -> Self::V;
    /// Exchanges lanes 0 and 1, 2 and 3, and so on; not called for one lane.
    unsafe fn swap_pairs(a: Self::V) -> Self::V;
    unsafe fn reduce_add(a: Self::V) -> f32;
    unsafe fn reduce_max(a: Self::V) -> f32;
    /// Stores lanes, which are integral and within i8, as bytes.
    unsafe fn store_i8(p: *mut i8, v: Self::V);
    /// Loads bytes as floats.
    unsafe fn load_i8(p: *const i8) -> Self::V;
    /// Loads the low and the high halves of bytes as floats, 8 less than they are.
    unsafe fn load_nibbles(p: *const u8) -> (Self::V, Self::V);
    /// Brings the cache line of `p` nearer. `p` need not be valid.
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
    /// Multiplies BF16 weights with several activation rows by instructions of the level's own; `false` if it has none.
    #[inline(always)]
    unsafe fn bf16_product(_job: &FloatJob) -> bool {
        false
    }
    /// Rounds as many leading groups of `kernels::rows::quantize` as a level can do in its own way; the values done.
    #[inline(always)]
    unsafe fn quantize_some(_x: *const f32, _row: QuantRow, _n0: usize, _n: usize) -> usize {
        0
    }
}

/// `e^x` to about 1 ulp; results below the smallest normal become zero-like (`e^-87`), above overflow saturate near
/// `e^88`.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the trait demands of this function's caller.
    unsafe {
        let x = S::min(S::max(x, S::splat(-87.3)), S::splat(88.0));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts keeps the remainder exact.
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        // Minimax polynomial of e^r on [-ln2/2, ln2/2] (Cephes expf).
        let mut p = S::splat(1.987_569_1e-4);
        p = S::fma(p, r, S::splat(1.398_199_9e-3));
        p = S::fma(p, r, S::splat(8.333_452e-3));
        p = S::fma(p, r, S::splat(4.166_579_6e-2));
        p = S::fma(p, r, S::splat(1.666_666_5e-1));
        p = S::fma(p, r, S::splat(0.5));
        let p = S::add(S::fma(p, S::mul(r, r), r), S::splat(1.0));
        S::mul(p, S::exp2_int(n))
    }
}

/// `tanh(x)`, absolute error below 2e-7.
#[inline(always)]
pub(crate) unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: as the trait demands of this function's caller.
    unsafe {
        // 1 - 2 / (e^{2|x|} + 1), with the sign put back.
        let a = S::min(S::abs(x), S::splat(20.0));
        let e = exp::<S>(S::add(a, a));
        let t = S::sub(S::splat(1.0), S::div(S::splat(2.0), S::add(e, S::splat(1.0))));
        S::copysign(t, x)
    }
}
