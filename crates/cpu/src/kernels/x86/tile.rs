//! Tiles: what the rows of a register are unpacked to.
//!
//! `q` is `(n_cols / 4, L::ROWS, 4)` bytes, so that a register holds four consecutive values of each row and meets a
//! broadcast of four activation values; `s` is `(n_groups, L::ROWS)` f32, and so is `m`, or it holds what [`Offset`] says.
//! A tile lies in a thread's scratch, or its registers are used one by one ([`Sink`]).

use std::marker::PhantomData;

use whit_base::quant::WIDE_ACT_GROUP;

use super::formats::Format;
use super::lanes::{Lanes, Rows};
use crate::kernels::GemmJob;

/// What turns `s * u` into a weight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offset {
    /// `s * (u - c)`: taken from the integers, by the sum of the activations.
    Fixed(i16),
    /// `s * u + m`, a float per group.
    Float,
    /// `s * u - dmin * m` with a small integer `m` per group, in pairs of 16 bits, and `dmin` of a super-block in the last
    /// slot of its groups.
    Minimums,
}

/// What a product must know of a format.
pub(crate) trait Factor {
    /// Values in one block: 32, 64 or 256. Rows of shorter blocks may end inside a span; those of 256-value blocks meet
    /// activations in wide groups.
    const BLOCK_LEN: usize;
    /// A scale per 16 values instead of 32.
    const FINE: bool;
    /// No value of `u` is greater.
    const MAX_U: u32;
    const OFFSET: Offset;
    /// Dwords of a row in a group.
    const STEPS: usize = if Self::FINE { 4 } else { 8 };
    /// Whether activations come in wide groups.
    const WIDE: bool = Self::BLOCK_LEN == 256;
    /// Groups in a wide one.
    const WIDE_GROUPS: usize = WIDE_ACT_GROUP / (4 * Self::STEPS);
}

/// `u - C` with a scale per group.
pub(crate) struct Symmetric<const BLOCK_LEN: usize, const FINE: bool, const MAX_U: u32, const C: i16>;

impl<const BLOCK_LEN: usize, const FINE: bool, const MAX_U: u32, const C: i16> Factor
    for Symmetric<BLOCK_LEN, FINE, MAX_U, C>
{
    const BLOCK_LEN: usize = BLOCK_LEN;
    const FINE: bool = FINE;
    const MAX_U: u32 = MAX_U;
    const OFFSET: Offset = Offset::Fixed(C);
}

/// Blocks of 32 with a scale and a float offset.
pub(crate) struct Affine<const MAX_U: u32>;

impl<const MAX_U: u32> Factor for Affine<MAX_U> {
    const BLOCK_LEN: usize = 32;
    const FINE: bool = false;
    const MAX_U: u32 = MAX_U;
    const OFFSET: Offset = Offset::Float;
}

/// Super-blocks with integer minimums.
pub(crate) struct WithMinimums<const FINE: bool, const MAX_U: u32>;

impl<const FINE: bool, const MAX_U: u32> Factor for WithMinimums<FINE, MAX_U> {
    const BLOCK_LEN: usize = 256;
    const FINE: bool = FINE;
    const MAX_U: u32 = MAX_U;
    const OFFSET: Offset = Offset::Minimums;
}

/// Whether weights are kept as signed bytes, 128 below `u`.
#[inline(always)]
pub(crate) const fn is_signed<X: Factor, L: Lanes>() -> bool {
    L::SIGNED && X::MAX_U > 127
}

/// What lies between a [`Offset::Fixed`] weight and its factor ([`as_factor`]).
#[inline(always)]
pub(crate) const fn fixed<X: Factor, L: Lanes>() -> i16 {
    match X::OFFSET {
        Offset::Fixed(c) => c - if is_signed::<X, L>() { 128 } else { 0 },
        _ => 0,
    }
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
    /// Takes the scales of group `g`.
    unsafe fn scale(&mut self, g: usize, s: L::F);
    /// Takes the offsets of group `g`, of [`Offset::Float`] formats.
    unsafe fn offset(&mut self, g: usize, m: L::F);
    /// Takes the minimums of groups `2 pair` and `2 pair + 1`, of [`Offset::Minimums`] formats.
    unsafe fn minimums(&mut self, pair: usize, m: L::I);
    /// Takes the negative scales of all minimums.
    unsafe fn minimum_scale(&mut self, s: L::F);
    /// Takes `u` of values `4 step .. 4 step + 4` of each row. Those of a group come in order: narrow sums are widened after
    /// so many of them.
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

/// Keeps a span in memory.
struct Keep<X> {
    span: Span,
    class: PhantomData<X>,
}

impl<X: Factor, L: Lanes> Sink<L> for Keep<X> {
    #[inline(always)]
    unsafe fn scale(&mut self, g: usize, s: L::F) {
        // SAFETY: as the trait demands.
        unsafe { L::store_f(self.span.s.add(g * L::ROWS), s) }
    }
    #[inline(always)]
    unsafe fn offset(&mut self, g: usize, m: L::F) {
        // SAFETY: as the trait demands.
        unsafe { L::store_f(self.span.m.add(g * L::ROWS), m) }
    }
    #[inline(always)]
    unsafe fn minimums(&mut self, pair: usize, m: L::I) {
        // SAFETY: as the trait demands; there are fewer pairs than groups.
        unsafe { L::store(self.span.m.add(pair * L::ROWS).cast(), m) }
    }
    #[inline(always)]
    unsafe fn minimum_scale(&mut self, s: L::F) {
        // SAFETY: a span has so many groups.
        unsafe { L::store_f(self.span.m.add((64 / X::STEPS - 1) * L::ROWS), s) }
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
    n_cols / F::Class::BLOCK_LEN * (F::SPAN_BYTES * F::Class::BLOCK_LEN / 256)
}

/// Unpacks values `from .. from + n_cols` of the tile from weight row `row` on. `asks`: for what lies ahead of them.
pub(super) unsafe fn unpack_rows<F: Format, L: Lanes>(
    job: &GemmJob,
    row: usize,
    (from, n_cols): (usize, usize),
    asks: bool,
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
            let rows = if asks { rows } else { rows.quiet() };
            L::outlined_unpack::<F, true>(&rows, n_cols, out);
        } else {
            let rows = Rows::new::<L>(p, stride, last).from::<L>(at);
            let rows = if asks { rows } else { rows.quiet() };
            L::outlined_unpack::<F, false>(&rows, n_cols, out);
        }
    }
}
