//! Tiles: what the rows of a register are unpacked to.
//!
//! `q` is `(n_cols / 4, L::ROWS, 4)` bytes, so that a register holds four consecutive values of each row and meets a
//! broadcast of four activation values; `s` and `m` are `(n_groups, L::ROWS)` f32. A tile lies in a thread's scratch, or
//! its registers are used one by one ([`Sink`]).

use std::marker::PhantomData;

use super::formats::Format;
use super::lanes::{Lanes, Rows};
use crate::kernels::GemmJob;

/// What a product must know of a format.
pub(crate) trait Factor {
    /// A scale per 16 values instead of 32.
    const FINE: bool;
    /// No value of `u` is greater.
    const MAX_U: u32;
    /// Dwords of a row in a group.
    const STEPS: usize = if Self::FINE { 4 } else { 8 };
}

pub(crate) struct Class<const FINE: bool, const MAX_U: u32>;

impl<const FINE: bool, const MAX_U: u32> Factor for Class<FINE, MAX_U> {
    const FINE: bool = FINE;
    const MAX_U: u32 = MAX_U;
}

/// Whether weights are kept as signed bytes, 128 below `u`.
#[inline(always)]
pub(crate) const fn is_signed<X: Factor, L: Lanes>() -> bool {
    L::SIGNED && X::MAX_U > 127
}

/// Where a part of a tile is written to, or read from.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) q: *mut u8,
    pub(crate) s: *mut f32,
    pub(crate) m: *mut f32,
}

impl Span {
    /// Tile `index` in the scratch of a job whose rows have `n_cols` values.
    #[inline(always)]
    pub(super) unsafe fn of<L: Lanes>(scratch: *mut u8, n_cols: usize, index: usize) -> Span {
        // SAFETY: the scratch holds `GEMM_ROWS` rows with a scale and an offset per 16 values.
        unsafe {
            let n_scales = L::ROWS * n_cols.div_ceil(16);
            let q = scratch.add(index * (L::ROWS * n_cols + 8 * n_scales));
            let s = q.add(L::ROWS * n_cols).cast::<f32>();
            Span { q, s, m: s.add(n_scales) }
        }
    }

    /// The part from value `256 * span` on.
    #[inline(always)]
    unsafe fn after<X: Factor, L: Lanes>(&self, span: usize) -> Span {
        let groups = span * 64 / X::STEPS;
        // SAFETY: the caller knows the part to exist.
        unsafe {
            Span {
                q: self.q.add(span * 256 * L::ROWS),
                s: self.s.add(groups * L::ROWS),
                m: self.m.add(groups * L::ROWS),
            }
        }
    }
}

/// What is done with the registers of a span as they are unpacked: the groups of a
/// *unit* of the format come together.
///
/// # Safety
/// Methods may only be reached from code compiled for the level of `L`, and for steps and groups that the span has.
pub(crate) trait Sink<L: Lanes> {
    /// Takes the scales and offsets of group `g`.
    unsafe fn scales(&mut self, g: usize, s: L::F, m: L::F);
    /// Takes `u` of values `4 step .. 4 step + 4` of each row.
    unsafe fn put(&mut self, step: usize, u: L::I);
    /// Group `g` is whole. Groups end in order.
    unsafe fn flush(&mut self, g: usize);
}

/// `u` as products take it.
#[inline(always)]
pub(super) unsafe fn as_factor<X: Factor, L: Lanes>(u: L::I) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { if is_signed::<X, L>() { L::xor(u, L::set1(0x8080_8080_u32 as i32)) } else { u } }
}

/// The offset that belongs to [`as_factor`].
#[inline(always)]
pub(super) unsafe fn offset<X: Factor, L: Lanes>(s: L::F, m: L::F) -> L::F {
    // SAFETY: as `Lanes` demands.
    unsafe { if is_signed::<X, L>() { L::fma(s, L::set1_f(128.0), m) } else { m } }
}

/// Keeps a span in memory.
struct Keep<X> {
    span: Span,
    class: PhantomData<X>,
}

impl<X: Factor, L: Lanes> Sink<L> for Keep<X> {
    #[inline(always)]
    unsafe fn scales(&mut self, g: usize, s: L::F, m: L::F) {
        // SAFETY: as the trait demands.
        unsafe {
            L::store_f(self.span.s.add(g * L::ROWS), s);
            L::store_f(self.span.m.add(g * L::ROWS), offset::<X, L>(s, m));
        }
    }
    #[inline(always)]
    unsafe fn put(&mut self, step: usize, u: L::I) {
        // SAFETY: as the trait demands.
        unsafe { L::store(self.span.q.add(step * 4 * L::ROWS), as_factor::<X, L>(u)) }
    }
    #[inline(always)]
    unsafe fn flush(&mut self, _: usize) {}
}

/// Unpacks the first `n_cols` values of each row.
#[inline(always)]
pub(crate) unsafe fn unpack<F: Format, L: Lanes, const FULL: bool>(
    rows: &Rows<FULL>,
    n_cols: usize,
    out: Span,
) {
    // SAFETY: the caller vouches for the rows and for a tile behind `out`; reached only from code compiled for the level.
    unsafe {
        for span in 0..n_cols.div_ceil(256) {
            let n = ((n_cols - span * 256) / 32).min(8);
            let span_out = out.after::<F::Class, L>(span);
            let mut keep = Keep::<F::Class> { span: span_out, class: PhantomData };
            F::unpack::<L, _, FULL>(&rows.from::<L>(span * F::SPAN_BYTES), n, &mut keep);
        }
    }
}

/// Bytes of a row.
#[inline(always)]
pub(super) const fn row_bytes<F: Format>(n_cols: usize) -> usize {
    n_cols / F::BLOCK_LEN * (F::SPAN_BYTES * F::BLOCK_LEN / 256)
}

/// Unpacks values `from .. from + n_cols` of the tile from weight row `row` on.
pub(super) unsafe fn unpack_rows<F: Format, L: Lanes>(
    job: &GemmJob,
    row: usize,
    from: usize,
    n_cols: usize,
    out: Span,
) {
    let stride = row_bytes::<F>(job.n_cols);
    let last = (job.n_rows - row).min(L::ROWS) - 1;
    let p = job.w.wrapping_add(row * stride);
    // SAFETY: the rows exist, and the caller vouches for the tile.
    unsafe {
        let at = from / 256 * F::SPAN_BYTES;
        if last == L::ROWS - 1 {
            let rows = Rows::new::<L>(p, stride, last).from::<L>(at);
            L::outlined_unpack::<F, true>(&rows, n_cols, out);
        } else {
            let rows = Rows::new::<L>(p, stride, last).from::<L>(at);
            L::outlined_unpack::<F, false>(&rows, n_cols, out);
        }
    }
}
