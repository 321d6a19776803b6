//! Attention of a block of query vectors over the pages of one key-value head, with an online softmax.
//!
//! Keys lie transposed within a page, `(head_dim, PAGE_TOKENS)`, so that scores of neighbouring tokens fill a register
//! without horizontal sums; values lie `(PAGE_TOKENS, head_dim)`. Query vectors of all heads that share the key-value
//! head go through together: each page is read, and widened from f16, once per `QB` of them.

use whit_base::PAGE_TOKENS;

use crate::simd::{Simd, exp};

/// How a cache element is read and written.
pub(crate) trait Element: Copy {
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
}

/// An f16 cache element.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Half(pub(crate) u16);

impl Element for Half {
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

impl Element for f32 {
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

/// One block of queries against one span of positions.
#[derive(Clone, Copy)]
pub(crate) struct AttendBlock<'a> {
    /// `(n_queries, head_dim)` query vectors, already scaled; `q_stride` elements apart.
    pub(crate) q: *const f32,
    /// Query vectors.
    pub(crate) n_queries: usize,
    /// Distance of query vectors in elements.
    pub(crate) q_stride: usize,
    /// Values per vector: a multiple of 16.
    pub(crate) head_dim: usize,
    /// Position of each query vector.
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
    /// Positions to visit.
    pub(crate) span: (usize, usize),
    /// Keys of page 0 of this layer and head.
    pub(crate) k: *const u8,
    /// Values of page 0 of this layer and head.
    pub(crate) v: *const u8,
    /// Bytes between pages.
    pub(crate) page_stride: usize,
    /// Scratch: `(n_queries, PAGE_TOKENS)`.
    pub(crate) scores: *mut f32,
    /// Result: running maximum of each query.
    pub(crate) max: *mut f32,
    /// Result: running sum of each query.
    pub(crate) sum: *mut f32,
    /// Result, not yet divided by the sum: `(n_queries, head_dim)`.
    pub(crate) acc: *mut f32,
}

/// Visits the block's span; `NV * S::N` must be [`PAGE_TOKENS`], `QB` queries share a page's loads.
#[inline(always)]
pub(crate) unsafe fn attend<S: Simd, E: Element, const NV: usize, const QB: usize, const DT: usize>(
    b: &AttendBlock<'_>,
) {
    debug_assert_eq!(NV * S::N, PAGE_TOKENS);
    // SAFETY: the caller vouches for the block's pointers; every page in the span is present.
    unsafe {
        for i in 0..b.n_queries {
            *b.max.add(i) = f32::NEG_INFINITY;
            *b.sum.add(i) = 0.0;
        }
        std::ptr::write_bytes(b.acc, 0, b.n_queries * b.head_dim);
        let lowest = b.positions.iter().copied().min().unwrap_or(0) as usize;
        let highest = b.positions.iter().copied().max().unwrap_or(0) as usize;
        for page in b.span.0 / PAGE_TOKENS..b.span.1.div_ceil(PAGE_TOKENS) {
            let first = page * PAGE_TOKENS;
            let offset = b.pages[page] as usize * b.page_stride;
            let (k, v) = (b.k.add(offset).cast::<E>(), b.v.add(offset).cast::<E>());
            // Tokens of this page that exist for at least one query; later ones hold nothing.
            let n_tokens =
                (highest + 1).saturating_add(b.ahead).min(b.span.1).saturating_sub(first).min(PAGE_TOKENS);
            let masked = first + PAGE_TOKENS > (lowest + 1).saturating_add(b.ahead)
                || first.saturating_add(b.window) <= highest
                || first < b.span.0
                || first + PAGE_TOKENS > b.span.1;

            let mut i = 0;
            while i + QB <= b.n_queries {
                scores::<S, E, NV, QB>(b, k, i);
                i += QB;
            }
            while i < b.n_queries {
                scores::<S, E, NV, 1>(b, k, i);
                i += 1;
            }
            for i in 0..b.n_queries {
                let position = b.positions[i] as usize;
                if let Some(bias) = &b.bias {
                    let reach = bias.reach as isize;
                    let beyond = reach + PAGE_TOKENS as isize;
                    let distance = (first as isize - position as isize).clamp(-beyond, reach + 1);
                    let row = bias.table.add(i % bias.group * bias.stride).offset(beyond + distance);
                    for n in (0..PAGE_TOKENS).step_by(S::N) {
                        let scores = b.scores.add(i * PAGE_TOKENS + n);
                        S::store(scores, S::add(S::load(scores), S::load(row.add(n))));
                    }
                }
                if masked {
                    let from = (position + 1).saturating_sub(b.window).max(b.span.0).saturating_sub(first);
                    let to = (position + 1).saturating_add(b.ahead).min(b.span.1);
                    let to = to.saturating_sub(first).min(PAGE_TOKENS);
                    let row = std::slice::from_raw_parts_mut(b.scores.add(i * PAGE_TOKENS), PAGE_TOKENS);
                    row[..from.min(PAGE_TOKENS)].fill(f32::NEG_INFINITY);
                    row[to..].fill(f32::NEG_INFINITY);
                }
                softmax_step::<S, NV>(b, i);
            }
            let mut i = 0;
            while i + QB <= b.n_queries {
                values::<S, E, QB, DT>(b, v, i, n_tokens);
                i += QB;
            }
            while i < b.n_queries {
                values::<S, E, 1, DT>(b, v, i, n_tokens);
                i += 1;
            }
        }
    }
}

/// Scores of queries `i..i + QB` against all tokens of a page.
#[inline(always)]
unsafe fn scores<S: Simd, E: Element, const NV: usize, const QB: usize>(
    b: &AttendBlock<'_>,
    k: *const E,
    i: usize,
) {
    // SAFETY: see `attend`.
    unsafe {
        let mut acc = [[S::splat(0.0); NV]; QB];
        let q = b.q.add(i * b.q_stride);
        for d in 0..b.head_dim {
            let mut keys = [S::splat(0.0); NV];
            for (n, key) in keys.iter_mut().enumerate() {
                *key = E::load::<S>(k.add(d * PAGE_TOKENS + n * S::N));
            }
            for (j, acc) in acc.iter_mut().enumerate() {
                let q = S::splat(*q.add(j * b.q_stride + d));
                for (acc, &key) in acc.iter_mut().zip(&keys) {
                    *acc = S::fma(q, key, *acc);
                }
            }
        }
        for (j, acc) in acc.iter().enumerate() {
            for (n, &v) in acc.iter().enumerate() {
                S::store(b.scores.add((i + j) * PAGE_TOKENS + n * S::N), v);
            }
        }
    }
}

/// Turns the scores of query `i` into weights against its running maximum, and rescales what it has gathered.
#[inline(always)]
unsafe fn softmax_step<S: Simd, const NV: usize>(b: &AttendBlock<'_>, i: usize) {
    // SAFETY: see `attend`.
    unsafe {
        let row = b.scores.add(i * PAGE_TOKENS);
        if let Some(cap) = b.softcap {
            for t in 0..PAGE_TOKENS {
                let score = *row.add(t);
                if score > f32::NEG_INFINITY {
                    *row.add(t) = cap * (score / cap).tanh();
                }
            }
        }
        let mut peak = S::splat(f32::NEG_INFINITY);
        for n in 0..NV {
            peak = S::max(S::load(row.add(n * S::N)), peak);
        }
        let old = *b.max.add(i);
        let new = old.max(S::reduce_max(peak));
        if new == f32::NEG_INFINITY {
            // Nothing visible so far: weights must be zero, not exp(-inf + inf).
            std::ptr::write_bytes(row, 0, PAGE_TOKENS);
            return;
        }
        if new > old {
            let correction = (old - new).exp();
            *b.max.add(i) = new;
            *b.sum.add(i) *= correction;
            let acc = b.acc.add(i * b.head_dim);
            let mut d = 0;
            while d < b.head_dim {
                S::store(acc.add(d), S::mul(S::load(acc.add(d)), S::splat(correction)));
                d += S::N;
            }
        }
        let mut total = S::splat(0.0);
        for n in 0..NV {
            let p = row.add(n * S::N);
            let score = S::load(p);
            let weight = exp::<S>(S::sub(score, S::splat(new)));
            // `exp` floors at e^-87.3; a masked token must weigh nothing at all.
            let weight = S::max(S::sub(weight, S::splat(1.3e-38)), S::splat(0.0));
            total = S::add(total, weight);
            S::store(p, weight);
        }
        *b.sum.add(i) += S::reduce_add(total);
    }
}

/// Adds the weighted values of a page's first `n_tokens` to queries `i..i + QB`.
#[inline(always)]
unsafe fn values<S: Simd, E: Element, const QB: usize, const DT: usize>(
    b: &AttendBlock<'_>,
    v: *const E,
    i: usize,
    n_tokens: usize,
) {
    // SAFETY: see `attend`.
    unsafe {
        let mut d = 0;
        while d + DT * S::N <= b.head_dim {
            values_tile::<S, E, QB, DT>(b, v, i, n_tokens, d);
            d += DT * S::N;
        }
        while d < b.head_dim {
            values_tile::<S, E, QB, 1>(b, v, i, n_tokens, d);
            d += S::N;
        }
    }
}

#[inline(always)]
unsafe fn values_tile<S: Simd, E: Element, const QB: usize, const DT: usize>(
    b: &AttendBlock<'_>,
    v: *const E,
    i: usize,
    n_tokens: usize,
    d: usize,
) {
    // SAFETY: see `attend`.
    unsafe {
        let mut acc = [[S::splat(0.0); DT]; QB];
        for (j, acc) in acc.iter_mut().enumerate() {
            for (n, acc) in acc.iter_mut().enumerate() {
                *acc = S::load(b.acc.add((i + j) * b.head_dim + d + n * S::N));
            }
        }
        let weights = b.scores.add(i * PAGE_TOKENS);
        for t in 0..n_tokens {
            let mut vals = [S::splat(0.0); DT];
            for (n, val) in vals.iter_mut().enumerate() {
                *val = E::load::<S>(v.add(t * b.head_dim + d + n * S::N));
            }
            for (j, acc) in acc.iter_mut().enumerate() {
                let weight = S::splat(*weights.add(j * PAGE_TOKENS + t));
                for (acc, &val) in acc.iter_mut().zip(&vals) {
                    *acc = S::fma(weight, val, *acc);
                }
            }
        }
        for (j, acc) in acc.iter().enumerate() {
            for (n, &v) in acc.iter().enumerate() {
                S::store(b.acc.add((i + j) * b.head_dim + d + n * S::N), v);
            }
        }
    }
}

/// Writes one token's key and value into its page. `head_dim` is a multiple of 16.
#[inline(always)]
pub(crate) unsafe fn append<S: Simd, E: Element>(
    key: *const f32,
    value: *const f32,
    k: *mut E,
    v: *mut E,
    token: usize,
    head_dim: usize,
) {
    // SAFETY: the caller vouches for head_dim floats and for the page.
    unsafe {
        let mut d = 0;
        while d < head_dim {
            E::store::<S>(v.add(token * head_dim + d), S::load(value.add(d)));
            let mut lanes = [std::mem::MaybeUninit::<E>::uninit(); 16];
            E::store::<S>(lanes.as_mut_ptr().cast(), S::load(key.add(d)));
            for (lane, element) in lanes.iter().take(S::N).enumerate() {
                *k.add((d + lane) * PAGE_TOKENS + token) = element.assume_init();
            }
            d += S::N;
        }
    }
}
