//! How the cache stores keys and values: what the two products of attention need of it, and the floats among the types.
//!
//! A page of one key-value head has its keys transposed, `(head_dim, PAGE_TOKENS)`, so that scores of neighbouring tokens
//! fill a register without horizontal sums, and its values as they come, `(PAGE_TOKENS, head_dim)`. `blocks` has the
//! quantized types.
//!
//! Each sum of a product is one chain in the order of dimensions or tokens, however many queries share the loads: see the
//! invariant in the module above.

use whit_base::PAGE_TOKENS;

use super::PIECE_TOKENS;
use crate::simd::Simd;

/// Keys and values of a page, as one type stores them. Pointers are to a head's part of a page.
pub(crate) trait Store {
    /// Bytes that one head's keys take in a page, and its values.
    fn head_bytes(head_dim: usize) -> usize;

    /// Scores of `QB` queries against `NT` registers of tokens of the keys `k`, from `token` on, into rows that are
    /// [`PIECE_TOKENS`] apart. Meanwhile what lies at the same place in the page `next` is brought nearer.
    unsafe fn scores<S: Simd, const NT: usize, const QB: usize>(
        q: *const f32,
        head_dim: usize,
        k: *const u8,
        token: usize,
        next: *const u8,
        out: *mut f32,
    );

    /// Adds the first `n_tokens` of the values `v`, in the weights of `QB` queries, to `acc`, `(QB, head_dim)`. Rows of
    /// weights are [`PIECE_TOKENS`] apart. A tile has at most `DT` registers. Meanwhile the page `next` is brought nearer.
    unsafe fn values<S: Simd, const DT: usize, const QB: usize>(
        weights: *const f32,
        head_dim: usize,
        v: *const u8,
        n_tokens: usize,
        next: *const u8,
        acc: *mut f32,
    );

    /// Writes one token's key and value.
    unsafe fn append<S: Simd>(
        key: *const f32,
        value: *const f32,
        k: *mut u8,
        v: *mut u8,
        token: usize,
        head_dim: usize,
    );
}

/// A float that the cache may consist of.
pub(crate) trait Float: Copy {
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
}

/// An f16 cache element.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Half(pub(crate) u16);

impl Float for Half {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Half) -> S::V {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::load_f16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut Half, v: S::V) {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::store_f16(p.cast(), v) }
    }
}

impl Float for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut f32, v: S::V) {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::store(p, v) }
    }
}

// SAFETY (all blocks below): the caller vouches for the queries, the page, the scores and the sums.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one contract for all methods, stated above")]
impl<E: Float> Store for E {
    fn head_bytes(head_dim: usize) -> usize {
        PAGE_TOKENS * head_dim * size_of::<E>()
    }

    #[inline(always)]
    unsafe fn scores<S: Simd, const NT: usize, const QB: usize>(
        q: *const f32,
        head_dim: usize,
        k: *const u8,
        token: usize,
        next: *const u8,
        out: *mut f32,
    ) {
        unsafe {
            let (k, next) = (k.cast::<E>().add(token), next.cast::<E>().add(token));
            let mut acc = [[S::splat(0.0); NT]; QB];
            for d in 0..head_dim {
                S::prefetch(next.add(d * PAGE_TOKENS).cast());
                let mut keys = [S::splat(0.0); NT];
                for (n, key) in keys.iter_mut().enumerate() {
                    *key = E::load::<S>(k.add(d * PAGE_TOKENS + n * S::N));
                }
                for (j, acc) in acc.iter_mut().enumerate() {
                    let q = S::splat(*q.add(j * head_dim + d));
                    for (acc, &key) in acc.iter_mut().zip(&keys) {
                        *acc = S::fma(q, key, *acc);
                    }
                }
            }
            for (j, acc) in acc.iter().enumerate() {
                for (n, &v) in acc.iter().enumerate() {
                    S::store(out.add(j * PIECE_TOKENS + token + n * S::N), v);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn values<S: Simd, const DT: usize, const QB: usize>(
        weights: *const f32,
        head_dim: usize,
        v: *const u8,
        n_tokens: usize,
        next: *const u8,
        acc: *mut f32,
    ) {
        unsafe {
            let (v, next) = (v.cast::<E>(), next.cast::<E>());
            let mut d = 0;
            while d + DT * S::N <= head_dim {
                values_tile::<S, E, DT, QB>(weights, head_dim, v.add(d), n_tokens, next.add(d), acc.add(d));
                d += DT * S::N;
            }
            while d < head_dim {
                values_tile::<S, E, 1, QB>(weights, head_dim, v.add(d), n_tokens, next.add(d), acc.add(d));
                d += S::N;
            }
        }
    }

    #[inline(always)]
    unsafe fn append<S: Simd>(
        key: *const f32,
        value: *const f32,
        k: *mut u8,
        v: *mut u8,
        token: usize,
        head_dim: usize,
    ) {
        unsafe {
            let (k, v) = (k.cast::<E>(), v.cast::<E>());
            for d in (0..head_dim).step_by(S::N) {
                E::store::<S>(v.add(token * head_dim + d), S::load(value.add(d)));
                let mut lanes = [std::mem::MaybeUninit::<E>::uninit(); 16];
                E::store::<S>(lanes.as_mut_ptr().cast(), S::load(key.add(d)));
                for (lane, element) in lanes.iter().take(S::N).enumerate() {
                    *k.add((d + lane) * PAGE_TOKENS + token) = element.assume_init();
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn values_tile<S: Simd, E: Float, const DT: usize, const QB: usize>(
    weights: *const f32,
    head_dim: usize,
    v: *const E,
    n_tokens: usize,
    next: *const E,
    sums: *mut f32,
) {
    // SAFETY: as for `Store::values`, for DT registers.
    unsafe {
        let mut acc = [[S::splat(0.0); DT]; QB];
        for (j, acc) in acc.iter_mut().enumerate() {
            for (n, acc) in acc.iter_mut().enumerate() {
                *acc = S::load(sums.add(j * head_dim + n * S::N));
            }
        }
        for t in 0..n_tokens {
            for line in (0..DT * S::N * size_of::<E>()).step_by(64) {
                S::prefetch(next.add(t * head_dim).cast::<u8>().add(line));
            }
            let mut vals = [S::splat(0.0); DT];
            for (n, val) in vals.iter_mut().enumerate() {
                *val = E::load::<S>(v.add(t * head_dim + n * S::N));
            }
            for (j, acc) in acc.iter_mut().enumerate() {
                let weight = S::splat(*weights.add(j * PIECE_TOKENS + t));
                for (acc, &val) in acc.iter_mut().zip(&vals) {
                    *acc = S::fma(weight, val, *acc);
                }
            }
        }
        for (j, acc) in acc.iter().enumerate() {
            for (n, &v) in acc.iter().enumerate() {
                S::store(sums.add(j * head_dim + n * S::N), v);
            }
        }
    }
}
