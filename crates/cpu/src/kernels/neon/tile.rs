//! Eight weight rows unpacked into the order that the multiplications read.
//!
//! `q` is `(n_cols / 4, 8, 4)` bytes for `sdot`: one register holds four consecutive values of each of four rows, and
//! meets a broadcast of four activation values. For `smmla` it is `(n_cols / 8, 8, 8)`: eight values of two rows. `s` and
//! `m` are `(n_groups, 8)`. One tile after another lives in the job's scratch, small enough to stay in the first-level
//! cache while all activation rows pass it.

use std::arch::aarch64::*;

use super::formats::{Format, row_bytes, zero_scales};
use crate::kernels::GemmJob;

/// Weight rows in a tile.
pub(super) const TILE_ROWS: usize = 8;

/// Which instruction will read the tile.
pub(super) enum Order {
    /// Four values of a row side by side.
    Fours,
    /// Eight values of a row side by side.
    Eights,
}

/// What tells the compiler the order.
pub(super) trait Reader {
    const ORDER: Order;
}

/// Pointers into scratch.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) q: *const i8,
    pub(super) s: *const f32,
    /// Written only for formats with offsets.
    pub(super) m: *const f32,
}

/// Groups with a scale of their own in 256 values.
pub(super) const fn groups_per_span<F: Format>() -> usize {
    if F::FINE { 16 } else { 8 }
}

/// Scratch bytes of a tile. Scales come in whole spans, so there is room for 16 groups past the row's end.
const fn bytes(n_cols: usize) -> usize {
    TILE_ROWS * n_cols + 2 * size_of::<f32>() * TILE_ROWS * (n_cols / 16 + 16)
}

const _: () = assert!(bytes(32) <= crate::kernels::gemm_scratch_bytes(32));
const _: () = assert!(bytes(4096) <= crate::kernels::gemm_scratch_bytes(4096));

impl Tile {
    /// Unpacks rows `8 * index ..` of the job; rows that do not exist become zeros.
    #[inline(always)]
    pub(super) unsafe fn unpack<F: Format, R: Reader>(job: &GemmJob, index: usize) -> Tile {
        // SAFETY: the caller vouches for the job's rows and its scratch; reached only from code compiled for Advanced
        // SIMD.
        unsafe {
            let n_cols = job.n_cols;
            let q = job.scratch;
            let s = q.add(TILE_ROWS * n_cols).cast::<f32>();
            let m = s.add(TILE_ROWS * (n_cols / 16 + 16));
            let row_bytes = row_bytes::<F>(n_cols);
            let present = (job.n_rows - index * TILE_ROWS).min(TILE_ROWS);
            let rows = job.w.add(index * TILE_ROWS * row_bytes);
            for span in 0..n_cols.div_ceil(256) {
                let n = ((n_cols - span * 256) / 32).min(8);
                for quad in 0..2 {
                    let present = present.saturating_sub(4 * quad).min(4);
                    let p = rows.wrapping_add(4 * quad * row_bytes + span * F::SPAN_BYTES);
                    let at = span * groups_per_span::<F>() * TILE_ROWS + 4 * quad;
                    unpack_scales::<F>(p, row_bytes, present, n, s.add(at), m.add(at));
                    for half in 0..n.div_ceil(4) {
                        let n = (n - 4 * half).min(4);
                        let mut x = [[vdupq_n_s8(0); 8]; 4];
                        for (row, x) in x.iter_mut().enumerate().take(present) {
                            *x = F::quants(p.add(row * row_bytes), half, n);
                        }
                        let at = (span * 256 + half * 128) * TILE_ROWS;
                        for i in 0..2 * n {
                            let x = [x[0][i], x[1][i], x[2][i], x[3][i]];
                            let q = q.add(at + i * 16 * TILE_ROWS).cast();
                            match R::ORDER {
                                Order::Fours => store_fours(x, q, quad),
                                Order::Eights => store_eights(x, q, quad),
                            }
                        }
                    }
                }
            }
            Tile { q: q.cast(), s, m }
        }
    }
}

/// Sixteen values of each of four rows as four steps of `(8, 4)`; `quad` says which half of the eight rows.
#[inline(always)]
unsafe fn store_fours(x: [int8x16_t; 4], q: *mut i8, quad: usize) {
    // SAFETY: the caller vouches for 128 bytes.
    unsafe {
        let x = transpose4(x.map(|x| vreinterpretq_f32_s8(x)));
        for (step, x) in x.into_iter().enumerate() {
            vst1q_s8(q.add(step * 4 * TILE_ROWS + 16 * quad), vreinterpretq_s8_f32(x));
        }
    }
}

/// Sixteen values of each of four rows as two steps of `(8, 8)`.
#[inline(always)]
unsafe fn store_eights(x: [int8x16_t; 4], q: *mut i8, quad: usize) {
    // SAFETY: the caller vouches for 128 bytes.
    unsafe {
        let x = x.map(|x| vreinterpretq_s64_s8(x));
        for pair in 0..2 {
            let (a, b) = (x[2 * pair], x[2 * pair + 1]);
            let q = q.add(32 * quad + 16 * pair);
            vst1q_s8(q, vreinterpretq_s8_s64(vzip1q_s64(a, b)));
            vst1q_s8(q.add(8 * TILE_ROWS), vreinterpretq_s8_s64(vzip2q_s64(a, b)));
        }
    }
}

/// Scales and offsets of one span of four rows, transposed.
#[inline(always)]
unsafe fn unpack_scales<F: Format>(
    p: *const u8,
    row_bytes: usize,
    present: usize,
    n: usize,
    s: *mut f32,
    m: *mut f32,
) {
    // SAFETY: the caller vouches for `present` rows of `n` groups and for a span of room.
    unsafe {
        let mut rows = [zero_scales(); 4];
        for (row, scales) in rows.iter_mut().enumerate().take(present) {
            *scales = F::scales(p.add(row * row_bytes), n);
        }
        for i in 0..groups_per_span::<F>() / 4 {
            let columns = transpose4(rows.map(|row| row.s[i]));
            for (g, &column) in columns.iter().enumerate() {
                vst1q_f32(s.add((4 * i + g) * TILE_ROWS), column);
            }
            if F::OFFSET {
                let columns = transpose4(rows.map(|row| row.m[i]));
                for (g, &column) in columns.iter().enumerate() {
                    vst1q_f32(m.add((4 * i + g) * TILE_ROWS), column);
                }
            }
        }
    }
}

/// Transposes a 4 x 4 matrix.
#[inline(always)]
unsafe fn transpose4(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: reached only from code compiled for Advanced SIMD.
    unsafe {
        let t =
            [vtrn1q_f32(r[0], r[1]), vtrn2q_f32(r[0], r[1]), vtrn1q_f32(r[2], r[3]), vtrn2q_f32(r[2], r[3])];
        let t = t.map(|x| vreinterpretq_f64_f32(x));
        let u =
            [vtrn1q_f64(t[0], t[2]), vtrn1q_f64(t[1], t[3]), vtrn2q_f64(t[0], t[2]), vtrn2q_f64(t[1], t[3])];
        u.map(|x| vreinterpretq_f32_f64(x))
    }
}

/// Writes the results of one activation row, of which `n` rows exist.
#[inline(always)]
pub(super) unsafe fn store_results(acc: [float32x4_t; 2], out: *mut f32, n: usize) {
    // SAFETY: the caller vouches for n elements.
    unsafe {
        if n >= TILE_ROWS {
            vst1q_f32(out, acc[0]);
            vst1q_f32(out.add(4), acc[1]);
        } else {
            let mut lanes = [0f32; TILE_ROWS];
            vst1q_f32(lanes.as_mut_ptr(), acc[0]);
            vst1q_f32(lanes.as_mut_ptr().add(4), acc[1]);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), out, n);
        }
    }
}
