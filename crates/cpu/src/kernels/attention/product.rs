//! The two products of attention over all queries of a block: queries with a page's keys, weights with its values.

use whit_base::PAGE_TOKENS;

use super::{PIECE_TOKENS, Store};
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
pub(super) unsafe fn scores<S: Simd, T: Store, const NT: usize, const QK: usize>(
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
            for token in (0..PAGE_TOKENS).step_by(NT * S::N) {
                T::scores::<S, NT, QB>(q, head_dim, k, token, next, out);
            }
        });
    }
}

/// Adds the first `n_tokens` values of the page `v` in the weights of all queries, whose rows are [`PIECE_TOKENS`] apart,
/// while the page `next` is brought nearer.
#[inline(always)]
pub(super) unsafe fn values<S: Simd, T: Store, const DT: usize, const QV: usize>(
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
            let (weights, acc) = (weights.add(i * PIECE_TOKENS), acc.add(i * head_dim));
            T::values::<S, DT, QB>(weights, head_dim, v, n_tokens, next, acc);
        });
    }
}
