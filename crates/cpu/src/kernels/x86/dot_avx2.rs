//! Drivers for AVX2: `vpmaddubsw` of unsigned weights and signed activations, whose 16-bit sums must not saturate.
//!
//! Formats whose `u` reaches past 127 are read as signed bytes instead (`u - 128`, the offset folded into `m`), and the
//! product takes absolute weights against activations that carry the weights' signs.

use std::arch::x86_64::*;

use super::formats::{Format, Scales, prefetch};
use super::tile::{TILE_ROWS, Tile};
use crate::kernels::rows::QuantRow;
use crate::kernels::{GemmJob, QuantMatrix};

/// Whether the format needs the signed product.
const fn is_wide<F: Format>() -> bool {
    F::MAX_U > 127
}

/// Products that fit into 16 bits before they must be widened: each adds at most `2 * 127 * MAX_U`.
const fn products_per_sum<F: Format>() -> usize {
    let n = 32767 / (2 * 127 * F::MAX_U as usize);
    if n >= 8 {
        8
    } else if n >= 4 {
        4
    } else if n >= 2 {
        2
    } else {
        1
    }
}

/// Pairwise products as 16-bit sums.
#[inline(always)]
unsafe fn products<F: Format>(u: __m256i, x: __m256i) -> __m256i {
    // SAFETY: reached only from code compiled for AVX2.
    unsafe {
        if is_wide::<F>() {
            let w = _mm256_xor_si256(u, _mm256_set1_epi8(-128));
            _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
        } else {
            _mm256_maddubs_epi16(u, x)
        }
    }
}

/// The format's scales, with the offset of wide formats moved to signed bytes.
#[inline(always)]
unsafe fn signed_scales<F: Format>(p: *const u8, n: usize) -> Scales {
    // SAFETY: as `Format` demands.
    unsafe {
        let mut scales = F::scales(p, n);
        if is_wide::<F>() {
            scales.m[0] = _mm256_fmadd_ps(scales.s[0], _mm256_set1_ps(128.0), scales.m[0]);
            scales.m[1] = _mm256_fmadd_ps(scales.s[1], _mm256_set1_ps(128.0), scales.m[1]);
        }
        scales
    }
}

/// Partial sums of one row's dot product.
#[inline(always)]
unsafe fn row_dot<F: Format>(w: *const u8, n_cols: usize, x: QuantRow) -> __m256 {
    // SAFETY: the caller vouches for one row behind each pointer; activations are padded by a register.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut acc = [_mm256_setzero_ps(); 2];
        let mut offsets = _mm256_setzero_ps();
        for span in 0..n_cols.div_ceil(256) {
            let n = ((n_cols - span * 256) / 32).min(8);
            let p = w.add(span * F::SPAN_BYTES);
            prefetch::<F>(p);
            let scales = signed_scales::<F>(p, n);
            let xq = x.q.add(span * 256);
            // Activation scales past the row's end are zero.
            let d = _mm256_loadu_ps(x.d.add(span * 8));
            let s = if F::FINE {
                let (low, high) =
                    (_mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3), _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
                let sums = x.sum16.add(span * 16);
                offsets = _mm256_fmadd_ps(scales.m[0], _mm256_loadu_ps(sums), offsets);
                offsets = _mm256_fmadd_ps(scales.m[1], _mm256_loadu_ps(sums.add(8)), offsets);
                [
                    _mm256_mul_ps(scales.s[0], _mm256_permutevar8x32_ps(d, low)),
                    _mm256_mul_ps(scales.s[1], _mm256_permutevar8x32_ps(d, high)),
                ]
            } else {
                offsets = _mm256_fmadd_ps(scales.m[0], _mm256_loadu_ps(x.sum32.add(span * 8)), offsets);
                [_mm256_mul_ps(scales.s[0], d), scales.s[1]]
            };
            // Whole spans have no conditions left; only 32-value formats have others.
            let n = if F::BLOCK_LEN == 256 { 8 } else { n };
            each_group!(g < n, {
                let xv = _mm256_loadu_si256(xq.add(32 * g).cast());
                let dot = _mm256_madd_epi16(products::<F>(F::quants32(p, g), xv), ones);
                let s = if F::FINE {
                    let (a, b) = (g as i32 % 4 * 2, g as i32 % 4 * 2 + 1);
                    _mm256_permutevar8x32_ps(s[g / 4], _mm256_setr_epi32(a, a, a, a, b, b, b, b))
                } else {
                    _mm256_permutevar8x32_ps(s[0], _mm256_set1_epi32(g as i32))
                };
                acc[g % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), s, acc[g % 2]);
            });
        }
        _mm256_add_ps(_mm256_add_ps(acc[0], acc[1]), offsets)
    }
}

/// `out[r] = dot(row r of w, x)`.
#[inline(always)]
pub(crate) unsafe fn gemv<F: Format>(w: *const u8, n_rows: usize, n_cols: usize, x: QuantRow, out: *mut f32) {
    // SAFETY: the caller vouches for n_rows rows and one activation row.
    unsafe {
        let row_bytes = n_cols / F::BLOCK_LEN * (F::SPAN_BYTES * F::BLOCK_LEN / 256);
        let mut row = 0;
        while row + 4 <= n_rows {
            let p = w.add(row * row_bytes);
            let a = row_dot::<F>(p, n_cols, x);
            let b = row_dot::<F>(p.add(row_bytes), n_cols, x);
            let c = row_dot::<F>(p.add(2 * row_bytes), n_cols, x);
            let d = row_dot::<F>(p.add(3 * row_bytes), n_cols, x);
            let sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
            _mm_storeu_ps(out.add(row), sums);
            row += 4;
        }
        while row < n_rows {
            let sums = row_dot::<F>(w.add(row * row_bytes), n_cols, x);
            let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
            let sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
            *out.add(row) = _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
            row += 1;
        }
    }
}

/// Unpacks up to 32 rows into two tiles and multiplies them with every activation row.
#[inline(always)]
pub(crate) unsafe fn gemm<F: Format>(job: &GemmJob) {
    // SAFETY: the caller vouches for the job's pointers; the scratch holds two tiles.
    unsafe {
        for index in 0..job.n_rows.div_ceil(TILE_ROWS) {
            let tile = Tile::unpack::<F>(job, index);
            let mut m = 0;
            while m + 4 <= job.n_x {
                block::<F, 4>(job, tile, index, m);
                m += 4;
            }
            match job.n_x - m {
                1 => block::<F, 1>(job, tile, index, m),
                2 => block::<F, 2>(job, tile, index, m),
                3 => block::<F, 3>(job, tile, index, m),
                _ => {}
            }
        }
    }
}

/// One tile (16 weight rows) against `M` activation rows.
#[inline(always)]
unsafe fn block<F: Format, const M: usize>(job: &GemmJob, tile: Tile, index: usize, m0: usize) {
    // SAFETY: see `gemm`.
    unsafe {
        let QuantMatrix { q, d, sum32, sum16, q_stride, d_stride, sum16_stride } = job.x;
        let zero = _mm256_setzero_si256();
        let ones = _mm256_set1_epi16(1);
        let mut acc = [[_mm256_setzero_ps(); 2]; M];
        let steps = if F::FINE { 4 } else { 8 };
        let run = products_per_sum::<F>().min(steps);
        let xq = q.add(m0 * q_stride);
        for g in 0..job.n_cols / (4 * steps) {
            let mut dots = [[zero; 2]; M];
            for part in 0..steps / run {
                let mut sums = [[zero; 2]; M];
                for step in part * run..(part + 1) * run {
                    let at = (g * steps + step) * TILE_ROWS * 4;
                    let w = [
                        _mm256_loadu_si256(tile.q.add(at).cast()),
                        _mm256_loadu_si256(tile.q.add(at + 32).cast()),
                    ];
                    for (m, sums) in sums.iter_mut().enumerate() {
                        let x = xq.add(m * q_stride + (g * steps + step) * 4).cast::<i32>().read_unaligned();
                        let x = _mm256_set1_epi32(x);
                        sums[0] = _mm256_add_epi16(sums[0], products::<F>(w[0], x));
                        sums[1] = _mm256_add_epi16(sums[1], products::<F>(w[1], x));
                    }
                }
                for (dots, sums) in dots.iter_mut().zip(&sums) {
                    dots[0] = _mm256_add_epi32(dots[0], _mm256_madd_epi16(sums[0], ones));
                    dots[1] = _mm256_add_epi32(dots[1], _mm256_madd_epi16(sums[1], ones));
                }
            }
            let at = g * TILE_ROWS;
            for half in 0..2 {
                let s = _mm256_loadu_ps(tile.s.add(at + 8 * half));
                let mut offset = _mm256_loadu_ps(tile.m.add(at + 8 * half));
                if is_wide::<F>() {
                    offset = _mm256_fmadd_ps(s, _mm256_set1_ps(128.0), offset);
                }
                for m in 0..M {
                    let (dx, sum) = if F::FINE {
                        (*d.add((m0 + m) * d_stride + g / 2), *sum16.add((m0 + m) * sum16_stride + g))
                    } else {
                        (*d.add((m0 + m) * d_stride + g), *sum32.add((m0 + m) * d_stride + g))
                    };
                    let dot = _mm256_cvtepi32_ps(dots[m][half]);
                    let scaled = _mm256_mul_ps(s, _mm256_set1_ps(dx));
                    acc[m][half] = _mm256_fmadd_ps(dot, scaled, acc[m][half]);
                    acc[m][half] = _mm256_fmadd_ps(offset, _mm256_set1_ps(sum), acc[m][half]);
                }
            }
        }
        let n_rows = job.n_rows - index * TILE_ROWS;
        for (m, acc) in acc.iter().enumerate() {
            let out = job.out.add((m0 + m) * job.out_stride + index * TILE_ROWS);
            if n_rows >= TILE_ROWS {
                _mm256_storeu_ps(out, acc[0]);
                _mm256_storeu_ps(out.add(8), acc[1]);
            } else {
                let mut lanes = [0f32; TILE_ROWS];
                _mm256_storeu_ps(lanes.as_mut_ptr(), acc[0]);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8), acc[1]);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), out, n_rows);
            }
        }
    }
}
