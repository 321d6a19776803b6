//! Products of quantized weights with activations, a lane per weight row.
//!
//! Up to [`FEW_ROWS`] activation rows meet each span of a tile as soon as it is unpacked; for more of them whole tiles are
//! unpacked once.
//!
//! Whatever the number of activation rows, a sum is formed in one order: exact integers within a group, groups from
//! first to last. So a row's result does not depend on the batch that it is in.

use std::marker::PhantomData;

use super::formats::Format;
use super::lanes::{Lanes, Rows};
use super::tile::{Factor, Sink, Span, as_factor, is_signed, offset, row_bytes, unpack_rows};
use crate::kernels::rows::QuantRow;
use crate::kernels::{FEW_ROWS, GEMM_ROWS, GemmJob};

/// Multiplies a span with one activation row, register by register.
struct Multiply<F, L: Lanes> {
    x: QuantRow,
    s: [L::F; 16],
    m: [L::F; 16],
    /// Of the unit's groups.
    dots: [L::I; 8],
    sums: [L::I; 8],
    acc: L::F,
    format: PhantomData<F>,
}

impl<F: Format, L: Lanes> Multiply<F, L> {
    /// Where the scales of group `g` are: those of 32-value blocks come with the block.
    #[inline(always)]
    fn slot(g: usize) -> usize {
        if F::BLOCK_LEN == 32 { 0 } else { g }
    }
}

impl<F: Format, L: Lanes> Sink<L> for Multiply<F, L> {
    #[inline(always)]
    unsafe fn scales(&mut self, g: usize, s: L::F, m: L::F) {
        self.s[Self::slot(g)] = s;
        // SAFETY: as the trait demands.
        self.m[Self::slot(g)] = unsafe { offset::<F::Class, L>(s, m) };
    }
    #[inline(always)]
    unsafe fn put(&mut self, step: usize, u: L::I) {
        // SAFETY: as the trait demands; the row has the span's values.
        unsafe {
            let (slot, run) = (step / F::Class::STEPS % F::UNIT, L::run(F::Class::MAX_U));
            let x = L::set1(self.x.q.add(step * 4).cast::<i32>().read_unaligned());
            let w = as_factor::<F::Class, L>(u);
            self.sums[slot] = L::products(self.sums[slot], w, x, is_signed::<F::Class, L>());
            let done = step + 1;
            if done.is_multiple_of(run) || done.is_multiple_of(F::Class::STEPS) {
                self.dots[slot] = L::widen(self.dots[slot], self.sums[slot]);
                self.sums[slot] = L::zero();
            }
        }
    }
    #[inline(always)]
    unsafe fn flush(&mut self, g: usize) {
        // SAFETY: as the trait demands.
        unsafe {
            if F::Class::FINE && g.is_multiple_of(2) {
                return;
            }
            let first = if F::Class::FINE { g - 1 } else { g };
            let (dots, scales) = ([first % F::UNIT, g % F::UNIT], [Self::slot(first), Self::slot(g)]);
            self.acc = accumulate::<F::Class, L>(
                self.acc,
                [self.dots[dots[0]], self.dots[dots[1]]],
                [self.s[scales[0]], self.s[scales[1]]],
                [self.m[scales[0]], self.m[scales[1]]],
                sums::<F::Class>(&self.x, if F::Class::FINE { g / 2 } else { g }),
            );
            self.dots[dots[0]] = L::zero();
            self.dots[dots[1]] = L::zero();
        }
    }
}

/// What 32 values add to a sum: their group, or two groups of 16. There is one place for it, as every path must round alike.
#[inline(always)]
unsafe fn accumulate<X: Factor, L: Lanes>(
    acc: L::F,
    dots: [L::I; 2],
    s: [L::F; 2],
    m: [L::F; 2],
    (dx, sums): (f32, [f32; 2]),
) -> L::F {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let dx = L::set1_f(dx);
        if X::FINE {
            let dot = L::mul(L::to_f32(dots[0]), s[0]);
            let dot = L::fma(L::to_f32(dots[1]), s[1], dot);
            let acc = L::fma(dot, dx, acc);
            let acc = L::fma(m[0], L::set1_f(sums[0]), acc);
            L::fma(m[1], L::set1_f(sums[1]), acc)
        } else {
            let acc = L::fma(L::to_f32(dots[0]), L::mul(s[0], dx), acc);
            L::fma(m[0], L::set1_f(sums[0]), acc)
        }
    }
}

/// Scale and sums of values `32 g ..` of an activation row.
#[inline(always)]
unsafe fn sums<X: Factor>(x: &QuantRow, g: usize) -> (f32, [f32; 2]) {
    // SAFETY: the caller knows the row to have them.
    unsafe {
        let sums =
            if X::FINE { [*x.sum16.add(2 * g), *x.sum16.add(2 * g + 1)] } else { [*x.sum32.add(g), 0.0] };
        (*x.d.add(g), sums)
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
            dots: [L::zero(); 8],
            sums: [L::zero(); 8],
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

/// Adds the products of values `32 g0 .. 32 (g0 + n)` of the rows of `T` tiles, which begin there, with `M` activation rows
/// from `m0` on.
#[expect(clippy::needless_range_loop, reason = "see below")]
#[inline(always)]
unsafe fn multiply<X: Factor, L: Lanes, const M: usize, const T: usize>(
    job: &GemmJob,
    tiles: &[Span; T],
    (g0, n): (usize, usize),
    m0: usize,
    acc: &mut [[L::F; T]; M],
) {
    // SAFETY: the caller vouches for the tiles and the rows; reached only from code compiled for the level.
    unsafe {
        let x = &job.x;
        let run = L::run(X::MAX_U);
        let run = if run < X::STEPS { run } else { X::STEPS };
        let signed = is_signed::<X, L>();
        let xq = x.q.add(m0 * x.q_stride + g0 * 32);
        // Indices and not iterators: a call that is not inlined would cost more than all the rest.
        for g in 0..n {
            let mut dots = [[[L::zero(); 2]; T]; M];
            for fine in 0..8 / X::STEPS {
                for part in 0..X::STEPS / run {
                    let mut sums = [[L::zero(); T]; M];
                    for step in part * run..(part + 1) * run {
                        let step = g * 8 + fine * X::STEPS + step;
                        let mut w = [L::zero(); T];
                        for t in 0..T {
                            w[t] = L::load(tiles[t].q.add(step * 4 * L::ROWS));
                        }
                        for m in 0..M {
                            let x = xq.add(m * x.q_stride + step * 4).cast::<i32>().read_unaligned();
                            for t in 0..T {
                                sums[m][t] = L::products(sums[m][t], w[t], L::set1(x), signed);
                            }
                        }
                    }
                    for m in 0..M {
                        for t in 0..T {
                            dots[m][t][fine] = L::widen(dots[m][t][fine], sums[m][t]);
                        }
                    }
                }
            }
            for t in 0..T {
                let at = g * 8 / X::STEPS * L::ROWS;
                let next = if X::FINE { at + L::ROWS } else { at };
                let s = [L::load_f(tiles[t].s.add(at)), L::load_f(tiles[t].s.add(next))];
                let offsets = [L::load_f(tiles[t].m.add(at)), L::load_f(tiles[t].m.add(next))];
                for m in 0..M {
                    let sums = sums::<X>(&x.row(m0 + m), g0 + g);
                    acc[m][t] = accumulate::<X, L>(acc[m][t], dots[m][t], s, offsets, sums);
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
        for row in (0..job.n_rows).step_by(L::ROWS) {
            let mut acc = [[L::zero_f(); 1]; M];
            for from in (0..job.n_cols).step_by(256) {
                let n_cols = (job.n_cols - from).min(256);
                unpack_rows::<F, L>(job, row, from, n_cols, tile);
                multiply::<F::Class, L, M, 1>(job, &[tile], (from / 32, n_cols / 32), 0, &mut acc);
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
        multiply::<X, L, M, T>(job, &tiles, (0, job.n_cols / 32), m0, &mut acc);
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
                        unpack_rows::<F, L>(job, first, 0, job.n_cols, out);
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
