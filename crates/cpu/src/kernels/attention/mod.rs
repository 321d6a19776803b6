//! Attention of a block of query vectors over one piece of the pages of one key-value head.
//!
//! Query vectors of all heads that share the key-value head go through together, so that a page is read from memory, and
//! widened, once for several of them. A piece's scores are all formed before its softmax, so nothing is rescaled on the
//! way; [`merge`] joins pieces. `product` has the two products, `store` and `blocks` how the cache stores what goes into them.
//!
//! **A query's result does not depend, bit for bit, on what else is in its block**: pieces lie at multiples of
//! [`PIECE_TOKENS`], every sum runs over them in one order, and what a query does not see adds zeros.

mod blocks;
mod product;
mod store;

use whit_base::{CacheType, PAGE_TOKENS, rotation_span};

use crate::simd::{Simd, exp, tanh};
pub(crate) use blocks::{Blocks, Bytes, Nibbles};
use product::{scores, values};
pub(crate) use store::{Half, Store};

/// Pages whose scores a block holds at once.
pub(crate) const PIECE_PAGES: usize = 4;
/// Positions in them.
pub(crate) const PIECE_TOKENS: usize = PIECE_PAGES * PAGE_TOKENS;

/// Values that a head takes room for: whole registers of the widest level, and whole blocks.
pub(crate) fn padded_head_dim(cache_type: CacheType, head_dim: usize) -> usize {
    cache_type.padded(head_dim).next_multiple_of(16)
}

/// Bytes that the keys of a head of padded size take in a page, and its values.
pub(crate) fn head_bytes(cache_type: CacheType, head_dim: usize) -> usize {
    match cache_type {
        CacheType::F32 => f32::head_bytes(head_dim),
        CacheType::F16 => Half::head_bytes(head_dim),
        CacheType::Q8_0 => Blocks::<Bytes>::head_bytes(head_dim),
        CacheType::Q4_0 => Blocks::<Nibbles>::head_bytes(head_dim),
    }
}

/// What a key's score gains by its distance from the query.
#[derive(Clone, Copy)]
pub(crate) struct DistanceBias {
    /// Of the first head: [`bias_row`], for distances from `-reach - PAGE_TOKENS` on.
    pub(crate) table: *const f32,
    /// Elements between heads.
    pub(crate) stride: usize,
    /// Heads of the block; query `i` is of head `i % group`.
    pub(crate) group: usize,
    /// Distances beyond it count as it.
    pub(crate) reach: usize,
}

/// One head's bias for distances from `-reach` to `reach`, with what lies beyond written out as far as a page that begins
/// or ends at the table's edge reads.
pub(crate) fn bias_row(by_distance: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let last = by_distance.len().saturating_sub(1);
    (0..by_distance.len() + 2 * PAGE_TOKENS)
        .map(move |i| by_distance[i.saturating_sub(PAGE_TOKENS).min(last)])
}

/// What each query of a block has gathered of some positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partial {
    /// Highest score; minus infinity where nothing was seen.
    pub(crate) max: *mut f32,
    /// Sum of `e^(score - max)`.
    pub(crate) sum: *mut f32,
    /// Values in these weights, not divided by the sum: `(n_queries, head_dim)`.
    pub(crate) acc: *mut f32,
}

impl Partial {
    /// Floats that the results of `n_queries` take.
    pub(crate) const fn floats(n_queries: usize, head_dim: usize) -> usize {
        2 * n_queries.next_multiple_of(16) + n_queries * head_dim
    }

    /// The results in [`Partial::floats`] floats from `p` on.
    pub(crate) unsafe fn at(p: *mut f32, n_queries: usize) -> Partial {
        let column = n_queries.next_multiple_of(16);
        // SAFETY: the caller vouches for the floats.
        unsafe { Partial { max: p, sum: p.add(column), acc: p.add(2 * column) } }
    }
}

/// One block of queries against the positions of one piece.
#[derive(Clone, Copy)]
pub(crate) struct AttendBlock<'a> {
    /// `(n_queries, head_dim)` query vectors, already scaled.
    pub(crate) q: *const f32,
    /// Query vectors.
    pub(crate) n_queries: usize,
    /// Values per vector: a multiple of 16.
    pub(crate) head_dim: usize,
    /// Position of each query vector, ascending.
    pub(crate) positions: &'a [u32],
    /// Positions that a query sees: itself and `window - 1` before it...
    pub(crate) window: usize,
    /// ...and so many behind it.
    pub(crate) ahead: usize,
    /// Added to the scores.
    pub(crate) bias: Option<DistanceBias>,
    /// `c * tanh(score / c)`.
    pub(crate) softcap: Option<f32>,
    /// The sequence's page table.
    pub(crate) pages: &'a [u32],
    /// Positions to visit: within one piece.
    pub(crate) span: (usize, usize),
    /// Keys of page 0 of this layer and head.
    pub(crate) k: *const u8,
    /// Values of page 0 of this layer and head.
    pub(crate) v: *const u8,
    /// Bytes between pages.
    pub(crate) page_stride: usize,
    /// Keys that will probably be visited next, in the order of their pages: they are brought nearer. Null for none.
    pub(crate) next: [*const u8; PIECE_PAGES],
    /// Scratch: `(n_queries, PIECE_TOKENS)`.
    pub(crate) scores: *mut f32,
    /// What comes out.
    pub(crate) result: Partial,
}

impl AttendBlock<'_> {
    /// Where `page` of the sequence begins, `of` being where page 0 does.
    #[inline(always)]
    unsafe fn page(&self, of: *const u8, page: usize) -> *const u8 {
        // SAFETY: every page in the span is present.
        unsafe { of.add(self.pages[page] as usize * self.page_stride) }
    }

    /// Tokens of a page, which begins at position `first`, that exist for at least one query; later ones hold nothing.
    #[inline(always)]
    fn n_tokens(&self, first: usize) -> usize {
        let highest = self.positions.last().map_or(0, |&position| position as usize);
        (highest + 1).saturating_add(self.ahead).min(self.span.1).saturating_sub(first).min(PAGE_TOKENS)
    }
}

/// Visits the block's span. Registers hold `NT` registers of tokens for each of `QK` queries, then `DT` registers of
/// values for each of `QV`.
#[inline(always)]
pub(crate) unsafe fn attend<
    S: Simd,
    T: Store,
    const NT: usize,
    const QK: usize,
    const DT: usize,
    const QV: usize,
>(
    b: &AttendBlock<'_>,
) {
    let pages = b.span.0 / PAGE_TOKENS..b.span.1.div_ceil(PAGE_TOKENS);
    debug_assert!(b.span.0 / PIECE_TOKENS == (b.span.1 - 1) / PIECE_TOKENS, "one piece");
    // A token's column depends on its position alone.
    let column = |page: usize| page * PAGE_TOKENS % PIECE_TOKENS;
    // SAFETY: the caller vouches for the block's pointers; every page in the span is present.
    unsafe {
        for page in pages.clone() {
            let out = b.scores.add(column(page));
            // Memory is a piece ahead: a page's values come while its keys are read, and then the next keys.
            let (k, next) = (b.page(b.k, page), b.page(b.v, page));
            scores::<S, T, NT, QK>(b.q, b.n_queries, b.head_dim, k, next, out);
            adjust::<S>(b, page * PAGE_TOKENS, out);
        }
        let (from, n) = (column(pages.start), pages.len() * PAGE_TOKENS);
        for i in 0..b.n_queries {
            let (max, sum) = softmax::<S>(b.scores.add(i * PIECE_TOKENS + from), n);
            *b.result.max.add(i) = max;
            *b.result.sum.add(i) = sum;
        }
        std::ptr::write_bytes(b.result.acc, 0, b.n_queries * b.head_dim);
        for (page, next) in pages.zip(b.next) {
            let v = b.page(b.v, page);
            let next = if next.is_null() { v } else { next };
            let (weights, n_tokens) = (b.scores.add(column(page)), b.n_tokens(page * PAGE_TOKENS));
            values::<S, T, DT, QV>(weights, b.n_queries, b.head_dim, v, n_tokens, next, b.result.acc);
        }
    }
}

/// Adds the bias to a page's scores, caps them, and takes out what a query does not see.
#[inline(always)]
unsafe fn adjust<S: Simd>(b: &AttendBlock<'_>, first: usize, scores: *mut f32) {
    let (lowest, highest) = (b.positions[0] as usize, b.positions[b.n_queries - 1] as usize);
    let masked = first + PAGE_TOKENS > (lowest + 1).saturating_add(b.ahead)
        || first.saturating_add(b.window) <= highest
        || first < b.span.0
        || first + PAGE_TOKENS > b.span.1;
    if b.bias.is_none() && b.softcap.is_none() && !masked {
        return;
    }
    // SAFETY: see `attend`.
    unsafe {
        for i in 0..b.n_queries {
            let position = b.positions[i] as usize;
            let scores = scores.add(i * PIECE_TOKENS);
            if let Some(bias) = &b.bias {
                let reach = bias.reach as isize;
                let beyond = reach + PAGE_TOKENS as isize;
                let distance = (first as isize - position as isize).clamp(-beyond, reach + 1);
                let row = bias.table.add(i % bias.group * bias.stride).offset(beyond + distance);
                for n in (0..PAGE_TOKENS).step_by(S::N) {
                    S::store(scores.add(n), S::add(S::load(scores.add(n)), S::load(row.add(n))));
                }
            }
            if let Some(cap) = b.softcap {
                let cap = S::splat(cap);
                for n in (0..PAGE_TOKENS).step_by(S::N) {
                    let capped = tanh::<S>(S::div(S::load(scores.add(n)), cap));
                    S::store(scores.add(n), S::mul(cap, capped));
                }
            }
            if masked {
                let from = (position + 1).saturating_sub(b.window).max(b.span.0).saturating_sub(first);
                let to = (position + 1).saturating_add(b.ahead).min(b.span.1);
                let to = to.saturating_sub(first).min(PAGE_TOKENS);
                let row = std::slice::from_raw_parts_mut(scores, PAGE_TOKENS);
                row[..from.min(PAGE_TOKENS)].fill(f32::NEG_INFINITY);
                row[to..].fill(f32::NEG_INFINITY);
            }
        }
    }
}

/// Turns `n` scores, whole pages, into weights; their maximum and the weights' sum.
#[inline(always)]
unsafe fn softmax<S: Simd>(row: *mut f32, n: usize) -> (f32, f32) {
    // SAFETY: the caller vouches for the scores.
    unsafe {
        let mut peaks = [S::splat(f32::NEG_INFINITY); 2];
        for at in (0..n).step_by(2 * S::N) {
            for (half, peak) in peaks.iter_mut().enumerate() {
                *peak = S::max(S::load(row.add(at + half * S::N)), *peak);
            }
        }
        let max = S::reduce_max(S::max(peaks[0], peaks[1]));
        if max == f32::NEG_INFINITY {
            // Nothing visible: weights must be zero, not exp(-inf + inf).
            std::ptr::write_bytes(row, 0, n);
            return (max, 0.0);
        }
        let mut totals = [S::splat(0.0); 2];
        for at in (0..n).step_by(2 * S::N) {
            for (half, total) in totals.iter_mut().enumerate() {
                let p = row.add(at + half * S::N);
                let weight = exp::<S>(S::sub(S::load(p), S::splat(max)));
                // `exp` floors at e^-87.3; a masked token must weigh nothing at all.
                let weight = S::max(S::sub(weight, S::splat(1.3e-38)), S::splat(0.0));
                *total = S::add(*total, weight);
                S::store(p, weight);
            }
        }
        (max, S::reduce_add(S::add(totals[0], totals[1])))
    }
}

/// Adds what `from` has gathered to `into`. Pieces are always merged in the order of their positions.
#[inline(always)]
pub(crate) unsafe fn merge<S: Simd>(from: Partial, into: Partial, n_queries: usize, head_dim: usize) {
    // SAFETY: the caller vouches for both results.
    unsafe {
        for i in 0..n_queries {
            let (new, old) = (*from.max.add(i), *into.max.add(i));
            if new == f32::NEG_INFINITY {
                continue;
            }
            let max = old.max(new);
            let (keep, gain) = ((old - max).exp(), (new - max).exp());
            *into.max.add(i) = max;
            *into.sum.add(i) = keep * *into.sum.add(i) + gain * *from.sum.add(i);
            let (from, into) = (from.acc.add(i * head_dim), into.acc.add(i * head_dim));
            for d in (0..head_dim).step_by(S::N) {
                let gained = S::mul(S::splat(gain), S::load(from.add(d)));
                S::store(into.add(d), S::fma(S::splat(keep), S::load(into.add(d)), gained));
            }
        }
    }
}

/// [`whit_base::rotate`] of `n` values, a multiple of 16.
#[inline(always)]
pub(crate) unsafe fn rotate<S: Simd>(x: *mut f32, n: usize) {
    let span = rotation_span(n);
    // SAFETY: the caller vouches for the values.
    unsafe {
        for at in (0..n).step_by(span) {
            let x = x.add(at);
            let mut half = 1;
            while half < span {
                for i in (0..span).step_by(2 * half) {
                    let (a, b) = (x.add(i), x.add(i + half));
                    if half >= S::N {
                        for j in (0..half).step_by(S::N) {
                            let (u, v) = (S::load(a.add(j)), S::load(b.add(j)));
                            S::store(a.add(j), S::add(u, v));
                            S::store(b.add(j), S::sub(u, v));
                        }
                    } else {
                        for j in 0..half {
                            let (u, v) = (*a.add(j), *b.add(j));
                            (*a.add(j), *b.add(j)) = (u + v, u - v);
                        }
                    }
                }
                half *= 2;
            }
            let scale = S::splat(1.0 / (span as f32).sqrt());
            for i in (0..span).step_by(S::N) {
                S::store(x.add(i), S::mul(S::load(x.add(i)), scale));
            }
        }
    }
}
