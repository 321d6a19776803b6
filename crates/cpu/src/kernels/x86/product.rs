//! Products of quantized weights with activations, a lane per weight row.
//!
//! Up to [`FEW_ROWS`] activation rows meet each span of a tile as soon as it is unpacked; for more of them whole tiles are
//! unpacked once.
//!
//! Whatever the number of activation rows, a sum is formed in one order: exact integers within a group, groups from
//! first to last, those of a wide group of activations before they meet its scale. So a row's result does not depend on the
//! batch that it is in.

use std::marker::PhantomData;

use whit_base::quant::WIDE_ACT_GROUP;

use super::formats::Format;
use super::lanes::{Ahead, Lanes, Rows};
use super::tile::{Factor, Offset, Sink, Span, as_factor, fixed, is_signed, row_bytes, unpack_rows};
use crate::kernels::rows::QuantRow;
use crate::kernels::{FEW_ROWS, GEMM_ROWS, GemmJob};

/// Multiplies a span with one activation row, register by register.
struct Multiply<F, L: Lanes> {
    x: QuantRow,
    s: [L::F; 16],
    /// Offsets, of [`Offset::Float`].
    m: [L::F; 16],
    minimums: [L::I; 8],
    minimum_scale: L::F,
    /// Of the unit's groups.
    dots: [L::I; 8],
    sums: [L::I; 8],
    /// Of the groups of a wide one, or the first of two fine ones.
    part: L::F,
    acc: L::F,
    format: PhantomData<F>,
}

impl<F: Format, L: Lanes> Multiply<F, L> {
    /// Where the scales of group `g` are: those of short blocks come with the block.
    #[inline(always)]
    fn slot(g: usize) -> usize {
        if F::Class::WIDE { g } else { 0 }
    }
}

impl<F: Format, L: Lanes> Sink<L> for Multiply<F, L> {
    #[inline(always)]
    unsafe fn scale(&mut self, g: usize, s: L::F) {
        self.s[Self::slot(g)] = s;
    }
    #[inline(always)]
    unsafe fn offset(&mut self, g: usize, m: L::F) {
        self.m[Self::slot(g)] = m;
    }
    #[inline(always)]
    unsafe fn minimums(&mut self, pair: usize, m: L::I) {
        self.minimums[pair] = m;
    }
    #[inline(always)]
    unsafe fn minimum_scale(&mut self, s: L::F) {
        self.minimum_scale = s;
    }
    #[inline(always)]
    unsafe fn put(&mut self, step: usize, u: L::I) {
        // SAFETY: as the trait demands; the row has the span's values.
        unsafe {
            let steps = F::Class::STEPS;
            let (slot, run) = (step / steps % F::UNIT, L::run(F::Class::MAX_U));
            if step.is_multiple_of(steps) {
                let start = start::<F::Class, L>(&self.x, step / steps);
                (self.dots[slot], self.sums[slot]) = split::<L>(start);
            }
            let x = L::set1(self.x.q.add(step * 4).cast::<i32>().read_unaligned());
            let w = as_factor::<F::Class, L>(u);
            self.sums[slot] = L::products(self.sums[slot], w, x, is_signed::<F::Class, L>());
            let done = step + 1;
            if done.is_multiple_of(run) || done.is_multiple_of(steps) {
                self.dots[slot] = L::widen(self.dots[slot], self.sums[slot]);
                self.sums[slot] = L::zero();
            }
        }
    }
    #[inline(always)]
    unsafe fn flush(&mut self, g: usize) {
        // SAFETY: as the trait demands.
        unsafe {
            let (dot, s) = (self.dots[g % F::UNIT], self.s[Self::slot(g)]);
            if F::Class::WIDE {
                let place = g % F::Class::WIDE_GROUPS;
                let before = if place == 0 { L::zero_f() } else { self.part };
                self.part = L::fma(L::to_f32(dot), s, before);
                if place + 1 == F::Class::WIDE_GROUPS {
                    let first = g + 1 - F::Class::WIDE_GROUPS;
                    if let Offset::Minimums = F::Class::OFFSET {
                        let mut sum = L::zero();
                        for pair in first / 2..g.div_ceil(2) {
                            sum = L::add(sum, minimum::<F::Class, L>(&self.x, pair, self.minimums[pair]));
                        }
                        self.part = L::fma(L::to_f32(sum), self.minimum_scale, self.part);
                    }
                    let d = L::set1_f(*self.x.d.add(4 * F::Class::STEPS * first / 32));
                    self.acc = L::fma(self.part, d, self.acc);
                }
            } else if F::Class::FINE && g.is_multiple_of(2) {
                self.part = L::mul(L::to_f32(dot), s);
            } else {
                let dot = if F::Class::FINE {
                    Dot::Scaled(L::fma(L::to_f32(dot), s, self.part))
                } else {
                    Dot::Plain(dot, s)
                };
                let g = if F::Class::FINE { g / 2 } else { g };
                self.acc = accumulate::<F::Class, L>(self.acc, dot, self.m[0], &self.x, g);
            }
        }
    }
}

/// Where the sum of group `g` begins: at what its offset takes from it.
#[inline(always)]
unsafe fn start<X: Factor, L: Lanes>(x: &QuantRow, g: usize) -> L::I {
    // SAFETY: the caller knows the row to have the group.
    unsafe {
        let c = const { fixed::<X, L>() };
        if c == 0 {
            return L::zero();
        }
        let totals = if X::FINE { x.total16 } else { x.total32 };
        // The total of the next group, in the upper half, meets zero.
        let totals = totals.add(g).cast::<i32>().read_unaligned();
        L::halves(L::set1(totals), L::set1(i32::from(c.wrapping_neg() as u16)))
    }
}

/// A start for wide sums and for those that are widened into them.
#[inline(always)]
unsafe fn split<L: Lanes>(start: L::I) -> (L::I, L::I) {
    // SAFETY: as `Lanes` demands.
    unsafe { if L::WIDENS { (start, L::zero()) } else { (L::zero(), start) } }
}

/// What the minimums of two groups take away, but for their scale.
#[inline(always)]
unsafe fn minimum<X: Factor, L: Lanes>(x: &QuantRow, pair: usize, m: L::I) -> L::I {
    // SAFETY: the caller knows the row to have the groups.
    unsafe {
        let totals = if X::FINE { x.total16 } else { x.total32 };
        L::halves(m, L::set1(totals.add(2 * pair).cast::<i32>().read_unaligned()))
    }
}

/// Products of 32 values.
enum Dot<L: Lanes> {
    /// Integers and their scale.
    Plain(L::I, L::F),
    Scaled(L::F),
}

/// What 32 values in a block of their own add to a sum. There is one place for it, as every path must round alike.
#[inline(always)]
unsafe fn accumulate<X: Factor, L: Lanes>(acc: L::F, dot: Dot<L>, m: L::F, x: &QuantRow, g: usize) -> L::F {
    // SAFETY: as `Lanes` demands; the caller knows the row to have the group.
    unsafe {
        let d = L::set1_f(*x.d.add(g));
        let acc = match dot {
            Dot::Plain(dot, s) => L::fma(L::to_f32(dot), L::mul(s, d), acc),
            Dot::Scaled(dot) => L::fma(dot, d, acc),
        };
        if let Offset::Float = X::OFFSET { L::fma(m, L::set1_f(*x.sum32.add(g)), acc) } else { acc }
    }
}

/// One activation row, all that there is, with the tile from weight row `row` on.
#[inline(always)]
pub(crate) unsafe fn one_row<F: Format, L: Lanes, const FULL: bool>(job: &GemmJob, row: usize) {
    // SAFETY: the caller vouches for the job; reached only from code compiled for the level.
    unsafe {
        let row_bytes = row_bytes::<F>(job.n_cols);
        let p = job.w.wrapping_add(row * row_bytes);
        let rows = Rows::<FULL>::new::<L>(p, row_bytes, job.n_rows - row - 1);
        let mut sink = Multiply::<F, L> {
            x: job.x.row(0),
            s: [L::zero_f(); 16],
            m: [L::zero_f(); 16],
            minimums: [L::zero(); 8],
            minimum_scale: L::zero_f(),
            dots: [L::zero(); 8],
            sums: [L::zero(); 8],
            part: L::zero_f(),
            acc: L::zero_f(),
            format: PhantomData,
        };
        for span in 0..job.n_cols.div_ceil(256) {
            let n = ((job.n_cols - span * 256) / 32).min(8);
            sink.x = job.x.row(0).from(span * 256);
            F::unpack::<L, _, FULL>(&rows.from::<L>(span * F::SPAN_BYTES), n, &mut sink);
        }
        store::<L, 1, 1>(job, row, 0, &[[sink.acc]]);
    }
}

/// The integer sums of group `g` of `T` tiles with `M` activation rows, whose group `g` begins at `xq`.
// Indices and not iterators: a call that is not inlined would cost more than all the rest.
#[inline(always)]
unsafe fn dots<X: Factor, L: Lanes, const M: usize, const T: usize>(
    x: &[QuantRow; M],
    tiles: &[Span; T],
    g: usize,
) -> [[L::I; T]; M] {
    // SAFETY: the caller vouches for the tiles and the rows; reached only from code compiled for the level.
    unsafe {
        let run = L::run(X::MAX_U);
        let run = if run < X::STEPS { run } else { X::STEPS };
        let signed = is_signed::<X, L>();
        let (mut dots, mut sums) = ([[L::zero(); T]; M], [[L::zero(); T]; M]);
        for m in 0..M {
            let (dot, sum) = split::<L>(start::<X, L>(&x[m], g));
            dots[m] = [dot; T];
            sums[m] = [sum; T];
        }
        for part in 0..X::STEPS / run {
            for step in part * run..(part + 1) * run {
                let step = g * X::STEPS + step;
                let mut w = [L::zero(); T];
                for t in 0..T {
                    w[t] = L::load(tiles[t].q.add(step * 4 * L::ROWS));
                }
                for m in 0..M {
                    let x = x[m].q.add(step * 4).cast::<i32>().read_unaligned();
                    for t in 0..T {
                        sums[m][t] = L::products(sums[m][t], w[t], L::set1(x), signed);
                    }
                }
            }
            for m in 0..M {
                for t in 0..T {
                    dots[m][t] = L::widen(dots[m][t], sums[m][t]);
                    sums[m][t] = L::zero();
                }
            }
        }
        dots
    }
}

/// Adds the products of `32 n` values of the rows of `T` tiles, which begin there, with `M` activation rows from value `32
/// g0` of row `m0` on, and asks for what lies `ahead`.
#[expect(
    clippy::needless_range_loop,
    reason = "a call that is not inlined would cost more than all the rest"
)]
#[inline(always)]
unsafe fn multiply<X: Factor, L: Lanes, const M: usize, const T: usize>(
    job: &GemmJob,
    tiles: &[Span; T],
    (g0, n): (usize, usize),
    m0: usize,
    ahead: Option<Ahead>,
    acc: &mut [[L::F; T]; M],
) {
    // SAFETY: the caller vouches for the tiles and the rows; reached only from code compiled for the level.
    unsafe {
        let mut x = [job.x.row(m0); M];
        for m in 0..M {
            x[m] = job.x.row(m0 + m).from(32 * g0);
        }
        if X::WIDE {
            for wide in 0..n / (WIDE_ACT_GROUP / 32) {
                let first = wide * X::WIDE_GROUPS;
                let mut part = [[L::zero_f(); T]; M];
                for g in first..first + X::WIDE_GROUPS {
                    if let Some(ahead) = ahead
                        && (!X::FINE || g.is_multiple_of(2))
                    {
                        ahead.ask(g * X::STEPS / 8);
                    }
                    let dots = dots::<X, L, M, T>(&x, tiles, g);
                    for t in 0..T {
                        let s = L::load_f(tiles[t].s.add(g * L::ROWS));
                        for m in 0..M {
                            part[m][t] = L::fma(L::to_f32(dots[m][t]), s, part[m][t]);
                        }
                    }
                }
                for t in 0..T {
                    if let Offset::Minimums = X::OFFSET {
                        let slots = 64 / X::STEPS;
                        let span = first / slots * slots;
                        let s = L::load_f(tiles[t].m.add((span + slots - 1) * L::ROWS));
                        for m in 0..M {
                            let mut sum = L::zero();
                            for pair in first / 2..(first + X::WIDE_GROUPS) / 2 {
                                // The pairs of a span lie in the first of its slots.
                                let at = span + pair - span / 2;
                                let minimums = L::load(tiles[t].m.add(at * L::ROWS).cast());
                                sum = L::add(sum, minimum::<X, L>(&x[m], pair, minimums));
                            }
                            part[m][t] = L::fma(L::to_f32(sum), s, part[m][t]);
                        }
                    }
                    for m in 0..M {
                        let d = L::set1_f(*x[m].d.add(wide * (WIDE_ACT_GROUP / 32)));
                        acc[m][t] = L::fma(part[m][t], d, acc[m][t]);
                    }
                }
            }
            return;
        }
        for g in 0..n {
            if let Some(ahead) = ahead {
                ahead.ask(g);
            }
            if X::FINE {
                let both = [dots::<X, L, M, T>(&x, tiles, 2 * g), dots::<X, L, M, T>(&x, tiles, 2 * g + 1)];
                for t in 0..T {
                    let at = tiles[t].s.add(2 * g * L::ROWS);
                    let s = [L::load_f(at), L::load_f(at.add(L::ROWS))];
                    for m in 0..M {
                        let dot = L::mul(L::to_f32(both[0][m][t]), s[0]);
                        let dot = Dot::Scaled(L::fma(L::to_f32(both[1][m][t]), s[1], dot));
                        acc[m][t] = accumulate::<X, L>(acc[m][t], dot, L::zero_f(), &x[m], g);
                    }
                }
                continue;
            }
            let dots = dots::<X, L, M, T>(&x, tiles, g);
            for t in 0..T {
                let s = L::load_f(tiles[t].s.add(g * L::ROWS));
                let offset = L::load_f(tiles[t].m.add(g * L::ROWS));
                for m in 0..M {
                    acc[m][t] = accumulate::<X, L>(acc[m][t], Dot::Plain(dots[m][t], s), offset, &x[m], g);
                }
            }
        }
    }
}

/// Stores the sums of weight rows `row ..`.
#[inline(always)]
unsafe fn store<L: Lanes, const M: usize, const T: usize>(
    job: &GemmJob,
    row: usize,
    m0: usize,
    acc: &[[L::F; T]; M],
) {
    // SAFETY: the job's output has these rows and columns; reached only from code compiled for the level.
    unsafe {
        for (m, acc) in acc.iter().enumerate() {
            for (t, &acc) in acc.iter().enumerate() {
                let row = row + t * L::ROWS;
                let out = job.out.wrapping_add((m0 + m) * job.out_stride + row);
                if row + L::ROWS <= job.n_rows {
                    L::store_f(out, acc);
                } else {
                    L::store_some(out, acc, job.n_rows.saturating_sub(row));
                }
            }
        }
    }
}

/// `M` activation rows, all that there are, with every weight row.
#[inline(always)]
pub(crate) unsafe fn few_rows<F: Format, L: Lanes, const M: usize>(job: &GemmJob) {
    // SAFETY: the caller vouches for the job; the scratch holds more than one span.
    unsafe {
        let tile = Span::of::<L>(job.scratch, job.n_cols.min(256), 0);
        let stride = row_bytes::<F>(job.n_cols);
        for row in (0..job.n_rows).step_by(L::ROWS) {
            let mut acc = [[L::zero_f(); 1]; M];
            for from in (0..job.n_cols).step_by(256) {
                let n_cols = (job.n_cols - from).min(256);
                unpack_rows::<F, L>(job, row, (from, n_cols), false, tile);
                let ahead =
                    Ahead::new::<F, L>(job.w.wrapping_add(row * stride), stride, from / 256 * F::SPAN_BYTES);
                let part = (from / 32, n_cols / 32);
                multiply::<F::Class, L, M, 1>(job, &[tile], part, 0, Some(ahead), &mut acc);
            }
            store::<L, M, 1>(job, row, 0, &acc);
        }
    }
}

/// Activation rows `m0 .. m0 + M` with `T` tiles, which were unpacked from weight row `row` on.
#[inline(always)]
pub(crate) unsafe fn many_rows<X: Factor, L: Lanes, const M: usize, const T: usize>(
    job: &GemmJob,
    row: usize,
    m0: usize,
) {
    // SAFETY: see `product`.
    unsafe {
        let mut tiles = [Span::of::<L>(job.scratch, job.n_cols, 0); T];
        for (index, tile) in tiles.iter_mut().enumerate() {
            *tile = Span::of::<L>(job.scratch, job.n_cols, index);
        }
        let mut acc = [[L::zero_f(); T]; M];
        multiply::<X, L, M, T>(job, &tiles, (0, job.n_cols / 32), m0, None, &mut acc);
        store::<L, M, T>(job, row, m0, &acc);
    }
}

/// The product of a job with weights of format `F`.
pub(crate) unsafe fn product<F: Format, L: Lanes>(job: &GemmJob) {
    // SAFETY: the caller vouches for the job and for the level.
    unsafe {
        match job.n_x {
            0 => {}
            1 => {
                for row in (0..job.n_rows).step_by(L::ROWS) {
                    if row + L::ROWS <= job.n_rows {
                        L::outlined_one::<F, true>(job, row);
                    } else {
                        L::outlined_one::<F, false>(job, row);
                    }
                }
            }
            2 => L::outlined_few::<F, 2>(job),
            3 => L::outlined_few::<F, 3>(job),
            4 => L::outlined_few::<F, 4>(job),
            5 => L::outlined_few::<F, 5>(job),
            6 => L::outlined_few::<F, 6>(job),
            7 => L::outlined_few::<F, 7>(job),
            FEW_ROWS => L::outlined_few::<F, FEW_ROWS>(job),
            n_x => {
                debug_assert!(job.n_rows <= GEMM_ROWS);
                for row in (0..job.n_rows).step_by(L::TILES * L::ROWS) {
                    for tile in 0..L::TILES {
                        // A tile without rows repeats the last one; nothing of it is stored.
                        let first = (row + tile * L::ROWS).min(job.n_rows - 1);
                        let out = Span::of::<L>(job.scratch, job.n_cols, tile);
                        unpack_rows::<F, L>(job, first, (0, job.n_cols), true, out);
                    }
                    let mut m = 0;
                    while m + 4 <= n_x {
                        L::outlined_many::<F::Class, 4>(job, row, m);
                        m += 4;
                    }
                    match n_x - m {
                        1 => L::outlined_many::<F::Class, 1>(job, row, m),
                        2 => L::outlined_many::<F::Class, 2>(job, row, m),
                        3 => L::outlined_many::<F::Class, 3>(job, row, m),
                        _ => {}
                    }
                }
            }
        }
    }
}
