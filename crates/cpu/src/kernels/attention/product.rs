//! The two products of attention: queries with a page's keys, weights with its values.
//!
//! Each sum is one chain of multiplications and additions in the order of dimensions or tokens, however many queries
//! share the loads: see the invariant in the module above.

use whit_base::PAGE_TOKENS;

use super::{Element, PIECE_TOKENS};
use crate::simd::Simd;

/// Runs `$body` for queries `$i` to `$i + $count` until `$n` are done: evenly many at a time, at most `$most`.
macro_rules! in_groups {
    ($n:expr, $most:expr, |$i:ident, $count:ident| $body:expr) => {
        let mut $i = 0;
        while $i < $n {
            let left: usize = $n - $i;
            let count = left.div_ceil(left.div_ceil($most)).min($most);
            in_groups!(@ count, $most, $count, $body, 1 2 3 4 5 6 7 8);
            $i += count;
        }
    };
    (@ $n:ident, $most:expr, $count:ident, $body:expr, $($case:literal)*) => {
        match $n {
            // The comparison leaves nothing of cases that a level does not use.
            $($case => if $case <= $most {
                const $count: usize = $case;
                $body
            },)*
            _ => unreachable!("at most 8 queries share loads"),
        }
    };
}

/// Scores of all queries against all tokens of the page `k`, into rows that are [`PIECE_TOKENS`] apart, while the page
/// `next` is brought nearer.
#[inline(always)]
pub(super) unsafe fn scores<S: Simd, E: Element, const NT: usize, const QK: usize>(
    q: *const f32,
    n_queries: usize,
    head_dim: usize,
    k: *const u8,
    next: *const u8,
    out: *mut f32,
) {
    // SAFETY: the caller vouches for the queries, the page and the scores.
    unsafe {
        in_groups!(n_queries, QK, |i, QB| {
            let next = if i == 0 { next } else { k };
            let (q, out) = (q.add(i * head_dim), out.add(i * PIECE_TOKENS));
            for tokens in (0..PAGE_TOKENS).step_by(NT * S::N) {
                let (k, next) = (k.cast::<E>().add(tokens), next.cast::<E>().add(tokens));
                scores_tile::<S, E, NT, QB>(q, head_dim, k, next, out.add(tokens));
            }
        });
    }
}

#[inline(always)]
unsafe fn scores_tile<S: Simd, E: Element, const NT: usize, const QB: usize>(
    q: *const f32,
    head_dim: usize,
    k: *const E,
    next: *const E,
    out: *mut f32,
) {
    // SAFETY: see `scores`.
    unsafe {
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
                S::store(out.add(j * PIECE_TOKENS + n * S::N), v);
            }
        }
    }
}

/// Adds the first `n_tokens` values of the page `v` in the weights of all queries, whose rows are [`PIECE_TOKENS`] apart,
/// while the page `next` is brought nearer.
#[inline(always)]
pub(super) unsafe fn values<S: Simd, E: Element, const DT: usize, const QV: usize>(
    weights: *const f32,
    n_queries: usize,
    head_dim: usize,
    v: *const u8,
    n_tokens: usize,
    next: *const u8,
    acc: *mut f32,
) {
    // SAFETY: the caller vouches for the weights, the page and the sums.
    unsafe {
        in_groups!(n_queries, QV, |i, QB| {
            let next = if i == 0 { next } else { v };
            let (v, next) = (v.cast::<E>(), next.cast::<E>());
            let (weights, acc) = (weights.add(i * PIECE_TOKENS), acc.add(i * head_dim));
            let mut d = 0;
            while d + DT * S::N <= head_dim {
                values_tile::<S, E, DT, QB>(weights, head_dim, v.add(d), n_tokens, next.add(d), acc.add(d));
                d += DT * S::N;
            }
            while d < head_dim {
                values_tile::<S, E, 1, QB>(weights, head_dim, v.add(d), n_tokens, next.add(d), acc.add(d));
                d += S::N;
            }
        });
    }
}

#[inline(always)]
unsafe fn values_tile<S: Simd, E: Element, const DT: usize, const QB: usize>(
    weights: *const f32,
    head_dim: usize,
    v: *const E,
    n_tokens: usize,
    next: *const E,
    sums: *mut f32,
) {
    // SAFETY: see `values`.
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
