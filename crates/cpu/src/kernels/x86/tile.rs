//! Sixteen weight rows unpacked into the order that the multiplications read.
//!
//! `q` is `(n_cols / 4, 16, 4)` bytes: one register holds four consecutive values of each of sixteen rows, and meets a
//! broadcast of four activation values. `s` and `m` are `(n_groups, 16)`. A tile lives in per-thread scratch that stays
//! in cache; its cost is shared by all activation rows of the batch.

use std::arch::x86_64::*;

use super::formats::Format;
use crate::kernels::GemmJob;

/// Weight rows in a tile.
pub(crate) const TILE_ROWS: usize = 16;

/// Pointers into scratch.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) q: *const u8,
    pub(crate) s: *const f32,
    pub(crate) m: *const f32,
}

impl Tile {
    /// Scratch bytes of one tile, for formats with a scale per 16 values.
    pub(crate) const fn bytes(n_cols: usize) -> usize {
        TILE_ROWS * n_cols + 2 * 4 * TILE_ROWS * (n_cols / 16 + 16)
    }

    /// Unpacks rows `16 * index ..` of the job; rows that do not exist become zeros.
    #[inline(always)]
    pub(crate) unsafe fn unpack<F: Format>(job: &GemmJob, index: usize) -> Tile {
        // SAFETY: the caller vouches for the job's rows and for scratch of two tiles; reached only from code compiled
        // for AVX2.
        unsafe {
            let n_cols = job.n_cols;
            let group = if F::FINE { 16 } else { 32 };
            let q = job.scratch.add(index * Tile::bytes(n_cols));
            let s = q.add(TILE_ROWS * n_cols).cast::<f32>();
            let m = s.add(TILE_ROWS * (n_cols / 16 + 16));
            let row_bytes = n_cols / F::BLOCK_LEN * (F::SPAN_BYTES * F::BLOCK_LEN / 256);
            let present = job.n_rows.saturating_sub(index * TILE_ROWS).min(TILE_ROWS);
            let rows = job.w.add(index * TILE_ROWS * row_bytes);
            for half in 0..2 {
                let n_present = present.saturating_sub(8 * half).min(8);
                for span in 0..n_cols.div_ceil(256) {
                    let n = ((n_cols - span * 256) / 32).min(8);
                    let [mut s0, mut m0, mut s1, mut m1] = [[_mm256_setzero_ps(); 8]; 4];
                    let p = rows.add(8 * half * row_bytes + span * F::SPAN_BYTES);
                    let columns = s0.iter_mut().zip(&mut m0).zip(&mut s1).zip(&mut m1).take(n_present);
                    for (row, (((s0, m0), s1), m1)) in columns.enumerate() {
                        let x = F::scales(p.add(row * row_bytes), n);
                        (*s0, *m0, *s1, *m1) = (x.s[0], x.m[0], x.s[1], x.m[1]);
                    }
                    let scales = [s0, m0, s1, m1];
                    let per_span = 256 / group;
                    for part in 0..if F::FINE { 2 } else { 1 } {
                        let at = (span * per_span + part * 8) * TILE_ROWS + 8 * half;
                        let (columns_s, columns_m) =
                            (transpose8(scales[2 * part]), transpose8(scales[2 * part + 1]));
                        for g in 0..8 {
                            // Groups past the row's end land in the padding.
                            _mm256_storeu_ps(s.add(at + g * TILE_ROWS), columns_s[g]);
                            _mm256_storeu_ps(m.add(at + g * TILE_ROWS), columns_m[g]);
                        }
                    }
                    each_group!(g < n, {
                        let mut x = [_mm256_setzero_ps(); 8];
                        for (row, x) in x.iter_mut().enumerate().take(n_present) {
                            *x = _mm256_castsi256_ps(F::quants32(p.add(row * row_bytes), g));
                        }
                        let x = transpose8(x);
                        let at = (span * 64 + g * 8) * TILE_ROWS * 4 + 8 * half * 4;
                        for (step, &x) in x.iter().enumerate() {
                            _mm256_storeu_ps(q.add(at + step * TILE_ROWS * 4).cast(), x);
                        }
                    });
                }
            }
            Tile { q, s, m }
        }
    }
}

/// Transposes an 8 x 8 matrix of 32-bit lanes.
#[inline(always)]
unsafe fn transpose8(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: reached only from code compiled for AVX2.
    unsafe {
        let t = [
            _mm256_unpacklo_ps(r[0], r[1]),
            _mm256_unpackhi_ps(r[0], r[1]),
            _mm256_unpacklo_ps(r[2], r[3]),
            _mm256_unpackhi_ps(r[2], r[3]),
            _mm256_unpacklo_ps(r[4], r[5]),
            _mm256_unpackhi_ps(r[4], r[5]),
            _mm256_unpacklo_ps(r[6], r[7]),
            _mm256_unpackhi_ps(r[6], r[7]),
        ];
        let u = [
            _mm256_shuffle_ps::<0b01_00_01_00>(t[0], t[2]),
            _mm256_shuffle_ps::<0b11_10_11_10>(t[0], t[2]),
            _mm256_shuffle_ps::<0b01_00_01_00>(t[1], t[3]),
            _mm256_shuffle_ps::<0b11_10_11_10>(t[1], t[3]),
            _mm256_shuffle_ps::<0b01_00_01_00>(t[4], t[6]),
            _mm256_shuffle_ps::<0b11_10_11_10>(t[4], t[6]),
            _mm256_shuffle_ps::<0b01_00_01_00>(t[5], t[7]),
            _mm256_shuffle_ps::<0b11_10_11_10>(t[5], t[7]),
        ];
        [
            _mm256_permute2f128_ps::<0x20>(u[0], u[4]),
            _mm256_permute2f128_ps::<0x20>(u[1], u[5]),
            _mm256_permute2f128_ps::<0x20>(u[2], u[6]),
            _mm256_permute2f128_ps::<0x20>(u[3], u[7]),
            _mm256_permute2f128_ps::<0x31>(u[0], u[4]),
            _mm256_permute2f128_ps::<0x31>(u[1], u[5]),
            _mm256_permute2f128_ps::<0x31>(u[2], u[6]),
            _mm256_permute2f128_ps::<0x31>(u[3], u[7]),
        ]
    }
}
