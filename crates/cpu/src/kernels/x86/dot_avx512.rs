//! Drivers for AVX-512 with VNNI: `vpdpbusd` of unsigned weights and signed activations.

use std::arch::x86_64::*;

use super::formats::{Format, prefetch};
use super::tile::{TILE_ROWS, Tile};
use crate::kernels::rows::QuantRow;
use crate::kernels::{GemmJob, QuantMatrix};

/// Lanes `[a; 8], [a + 1; 8]` for coarse scales of 64-value step `j`.
#[inline(always)]
unsafe fn coarse_lanes(j: i32) -> __m512i {
    // SAFETY: reached only from code compiled for AVX-512.
    unsafe {
        let (a, b) = (2 * j, 2 * j + 1);
        _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b)
    }
}

/// Four lanes for each of the four fine scales of 64-value step `j`.
#[inline(always)]
unsafe fn fine_lanes(j: i32) -> __m512i {
    // SAFETY: reached only from code compiled for AVX-512.
    unsafe {
        let a = 4 * j;
        _mm512_setr_epi32(
            a,
            a,
            a,
            a,
            a + 1,
            a + 1,
            a + 1,
            a + 1,
            a + 2,
            a + 2,
            a + 2,
            a + 2,
            a + 3,
            a + 3,
            a + 3,
            a + 3,
        )
    }
}

#[inline(always)]
unsafe fn join(x: [__m256; 2]) -> __m512 {
    // SAFETY: reached only from code compiled for AVX-512.
    unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(x[0]), x[1]) }
}

/// Partial sums of one row's dot product.
#[inline(always)]
unsafe fn row_dot<F: Format>(w: *const u8, n_cols: usize, x: QuantRow) -> __m512 {
    // SAFETY: the caller vouches for one row behind each pointer; activations are padded by a register.
    unsafe {
        let zero = _mm512_setzero_si512();
        let mut acc = [_mm512_setzero_ps(); 2];
        let mut offsets = _mm512_setzero_ps();
        let n_spans = n_cols / 256;
        for span in 0..n_spans {
            let p = w.add(span * F::SPAN_BYTES);
            prefetch::<F>(p);
            let scales = F::scales512(p);
            let xq = x.q.add(span * 256);
            let d = _mm256_loadu_ps(x.d.add(span * 8));
            let s = if F::FINE {
                let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
                let d = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(d));
                offsets = _mm512_fmadd_ps(join(scales.m), _mm512_loadu_ps(x.sum16.add(span * 16)), offsets);
                _mm512_mul_ps(join(scales.s), d)
            } else {
                let sums = _mm256_loadu_ps(x.sum32.add(span * 8));
                offsets = _mm512_fmadd_ps(
                    _mm512_zextps256_ps512(scales.m[0]),
                    _mm512_zextps256_ps512(sums),
                    offsets,
                );
                _mm512_castps256_ps512(_mm256_mul_ps(scales.s[0], d))
            };
            for j in 0..4 {
                let lanes = if F::FINE { fine_lanes(j) } else { coarse_lanes(j) };
                let u = F::quants64(p, j as usize);
                let xv = _mm512_loadu_si512(xq.add(64 * j as usize).cast());
                let dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(zero, u, xv));
                acc[j as usize % 2] =
                    _mm512_fmadd_ps(dot, _mm512_permutexvar_ps(lanes, s), acc[j as usize % 2]);
            }
        }
        if F::BLOCK_LEN == 32 && !n_cols.is_multiple_of(256) {
            let n = n_cols % 256 / 32;
            let p = w.add(n_spans * F::SPAN_BYTES);
            let scales = F::scales(p, n);
            let xq = x.q.add(n_spans * 256);
            // Activation scales past the row's end are zero.
            let d = _mm256_loadu_ps(x.d.add(n_spans * 8));
            let sums = _mm256_loadu_ps(x.sum32.add(n_spans * 8));
            offsets =
                _mm512_fmadd_ps(_mm512_zextps256_ps512(scales.m[0]), _mm512_zextps256_ps512(sums), offsets);
            let s = _mm512_castps256_ps512(_mm256_mul_ps(scales.s[0], d));
            for j in 0..n / 2 {
                let u = F::quants64(p, j);
                let dot = _mm512_dpbusd_epi32(zero, u, _mm512_loadu_si512(xq.add(64 * j).cast()));
                let lanes = coarse_lanes(j as i32);
                acc[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(lanes, s), acc[0]);
            }
            if n % 2 == 1 {
                let u = _mm512_zextsi256_si512(F::quants32(p, n - 1));
                let xv = _mm512_zextsi256_si512(_mm256_loadu_si256(xq.add(32 * (n - 1)).cast()));
                let dot = _mm512_dpbusd_epi32(zero, u, xv);
                let lanes = coarse_lanes(n as i32 / 2);
                acc[1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(lanes, s), acc[1]);
            }
        }
        _mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), offsets)
    }
}

#[inline(always)]
unsafe fn half_sum(x: __m512) -> __m256 {
    // SAFETY: reached only from code compiled for AVX-512.
    unsafe { _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)) }
}

/// Sums of four registers, in the order of the registers.
#[inline(always)]
unsafe fn reduce4(a: __m512, b: __m512, c: __m512, d: __m512) -> __m128 {
    // SAFETY: reached only from code compiled for AVX-512.
    unsafe {
        let ab = _mm256_hadd_ps(half_sum(a), half_sum(b));
        let cd = _mm256_hadd_ps(half_sum(c), half_sum(d));
        let x = _mm256_hadd_ps(ab, cd);
        _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x))
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
            _mm_storeu_ps(out.add(row), reduce4(a, b, c, d));
            row += 4;
        }
        while row < n_rows {
            *out.add(row) = _mm512_reduce_add_ps(row_dot::<F>(w.add(row * row_bytes), n_cols, x));
            row += 1;
        }
    }
}

/// Unpacks up to 32 rows into two tiles and multiplies them with every activation row.
#[inline(always)]
pub(crate) unsafe fn gemm<F: Format>(job: &GemmJob) {
    // SAFETY: the caller vouches for the job's pointers; the scratch holds two tiles.
    unsafe {
        let tiles = [Tile::unpack::<F>(job, 0), Tile::unpack::<F>(job, 1)];
        let mut m = 0;
        // Four rows make eight independent sums, enough to hide the latency; six make the compiler spill registers.
        while m + 4 <= job.n_x {
            block::<F, 4>(job, &tiles, m);
            m += 4;
        }
        match job.n_x - m {
            1 => block::<F, 1>(job, &tiles, m),
            2 => block::<F, 2>(job, &tiles, m),
            3 => block::<F, 3>(job, &tiles, m),
            _ => {}
        }
    }
}

/// Two tiles (32 weight rows) against `M` activation rows.
#[inline(always)]
unsafe fn block<F: Format, const M: usize>(job: &GemmJob, tiles: &[Tile; 2], m0: usize) {
    // SAFETY: see `gemm`.
    unsafe {
        let QuantMatrix { q, d, sum32, sum16, q_stride, d_stride, sum16_stride } = job.x;
        let zero = _mm512_setzero_si512();
        let mut acc = [[_mm512_setzero_ps(); 2]; M];
        let steps = if F::FINE { 4 } else { 8 };
        let n_groups = job.n_cols / (4 * steps);
        let xq = q.add(m0 * q_stride);
        for g in 0..n_groups {
            let mut dots = [[zero; 2]; M];
            for step in 0..steps {
                let at = (g * steps + step) * TILE_ROWS * 4;
                let w = [
                    _mm512_loadu_si512(tiles[0].q.add(at).cast()),
                    _mm512_loadu_si512(tiles[1].q.add(at).cast()),
                ];
                for (m, dots) in dots.iter_mut().enumerate() {
                    let x = xq.add(m * q_stride + (g * steps + step) * 4).cast::<i32>().read_unaligned();
                    let x = _mm512_set1_epi32(x);
                    dots[0] = _mm512_dpbusd_epi32(dots[0], w[0], x);
                    dots[1] = _mm512_dpbusd_epi32(dots[1], w[1], x);
                }
            }
            let at = g * TILE_ROWS;
            let s = [_mm512_loadu_ps(tiles[0].s.add(at)), _mm512_loadu_ps(tiles[1].s.add(at))];
            let offset = [_mm512_loadu_ps(tiles[0].m.add(at)), _mm512_loadu_ps(tiles[1].m.add(at))];
            for m in 0..M {
                let (dx, sum) = if F::FINE {
                    (*d.add((m0 + m) * d_stride + g / 2), *sum16.add((m0 + m) * sum16_stride + g))
                } else {
                    (*d.add((m0 + m) * d_stride + g), *sum32.add((m0 + m) * d_stride + g))
                };
                let (dx, sum) = (_mm512_set1_ps(dx), _mm512_set1_ps(sum));
                for t in 0..2 {
                    let dot = _mm512_cvtepi32_ps(dots[m][t]);
                    acc[m][t] = _mm512_fmadd_ps(dot, _mm512_mul_ps(s[t], dx), acc[m][t]);
                    acc[m][t] = _mm512_fmadd_ps(offset[t], sum, acc[m][t]);
                }
            }
        }
        for (m, acc) in acc.iter().enumerate() {
            let out = job.out.add((m0 + m) * job.out_stride);
            if job.n_rows == 2 * TILE_ROWS {
                _mm512_storeu_ps(out, acc[0]);
                _mm512_storeu_ps(out.add(TILE_ROWS), acc[1]);
            } else {
                let first = job.n_rows.min(TILE_ROWS) as u32;
                let second = job.n_rows.saturating_sub(TILE_ROWS) as u32;
                _mm512_mask_storeu_ps(out, ((1u32 << first) - 1) as u16, acc[0]);
                _mm512_mask_storeu_ps(out.add(TILE_ROWS), ((1u32 << second) - 1) as u16, acc[1]);
            }
        }
    }
}
