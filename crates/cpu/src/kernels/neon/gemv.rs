//! One activation row: `sdot` straight from the packed weights.
//!
//! Four groups' sums are added pairwise into one register, which then meets one register of scales. Two weight rows run
//! side by side, so that activations are loaded once for both and neither waits for its own sums.

use std::arch::aarch64::*;

use super::asm::sdot;
use super::formats::{Format, row_bytes};
use crate::kernels::GemvJob;
use crate::kernels::rows::QuantRow;

/// Sums of four registers, in the order of the registers.
#[inline(always)]
unsafe fn reduce4(x: [int32x4_t; 4]) -> float32x4_t {
    // SAFETY: reached only from code compiled for Advanced SIMD.
    unsafe { vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3]))) }
}

/// Adds span `span` of `R` rows, of which `n` groups of 32 values exist; `p` is the first row's.
#[inline(always)]
unsafe fn span_dot<F: Format, const R: usize>(
    p: *const u8,
    row_bytes: usize,
    x: QuantRow,
    span: usize,
    n: usize,
    acc: &mut [[float32x4_t; 2]; R],
) {
    // SAFETY: the caller vouches for the groups; activation scales and sums are padded by 16 zeros.
    unsafe {
        let zero = vdupq_n_s32(0);
        let n_scales = if F::FINE { 4 } else { 2 };
        let d = [vld1q_f32(x.d.add(8 * span)), vld1q_f32(x.d.add(8 * span + 4))];
        let d = if F::FINE {
            [vzip1q_f32(d[0], d[0]), vzip2q_f32(d[0], d[0]), vzip1q_f32(d[1], d[1]), vzip2q_f32(d[1], d[1])]
        } else {
            [d[0], d[1], d[0], d[1]]
        };
        let sums = if F::FINE { x.sum16.add(16 * span) } else { x.sum32.add(8 * span) };
        let mut s = [[vdupq_n_f32(0.0); 4]; R];
        for r in 0..R {
            let scales = F::scales(p.add(r * row_bytes), n);
            for i in 0..n_scales {
                s[r][i] = vmulq_f32(scales.s[i], d[i]);
                if F::OFFSET {
                    acc[r][i % 2] = vfmaq_f32(acc[r][i % 2], scales.m[i], vld1q_f32(sums.add(4 * i)));
                }
            }
        }
        for half in 0..2 {
            if 4 * half >= n {
                break;
            }
            let n = (n - 4 * half).min(4);
            let mut xv = [vdupq_n_s8(0); 8];
            for (i, xv) in xv.iter_mut().enumerate() {
                if i < 2 * n {
                    *xv = vld1q_s8(x.q.add(256 * span + 128 * half + 16 * i));
                }
            }
            for r in 0..R {
                let w = F::quants(p.add(r * row_bytes), half, n);
                if F::FINE {
                    for part in 0..2 {
                        let mut dots = [zero; 4];
                        for (i, dot) in dots.iter_mut().enumerate() {
                            *dot = sdot(zero, w[4 * part + i], xv[4 * part + i]);
                        }
                        acc[r][part] = vfmaq_f32(acc[r][part], reduce4(dots), s[r][2 * half + part]);
                    }
                } else {
                    let mut dots = [zero; 4];
                    for (i, dot) in dots.iter_mut().enumerate() {
                        *dot = sdot(sdot(zero, w[2 * i], xv[2 * i]), w[2 * i + 1], xv[2 * i + 1]);
                    }
                    acc[r][half] = vfmaq_f32(acc[r][half], reduce4(dots), s[r][half]);
                }
            }
        }
    }
}

/// `out[r] = dot(row r, x)` for `R` rows.
#[inline(always)]
unsafe fn rows_dot<F: Format, const R: usize>(w: *const u8, n_cols: usize, x: QuantRow, out: *mut f32) {
    // SAFETY: the caller vouches for R weight rows and one activation row.
    unsafe {
        let row_bytes = row_bytes::<F>(n_cols);
        let mut acc = [[vdupq_n_f32(0.0); 2]; R];
        let n_spans = n_cols / 256;
        for span in 0..n_spans {
            span_dot::<F, R>(w.add(span * F::SPAN_BYTES), row_bytes, x, span, 8, &mut acc);
        }
        if F::BLOCK_LEN == 32 && !n_cols.is_multiple_of(256) {
            let n = n_cols % 256 / 32;
            span_dot::<F, R>(w.add(n_spans * F::SPAN_BYTES), row_bytes, x, n_spans, n, &mut acc);
        }
        for (r, acc) in acc.iter().enumerate() {
            *out.add(r) = vaddvq_f32(vaddq_f32(acc[0], acc[1]));
        }
    }
}

/// `out[r] = dot(row r of w, x)`.
#[inline(always)]
pub(crate) unsafe fn gemv<F: Format>(job: &GemvJob) {
    // SAFETY: the caller vouches for the job's pointers.
    unsafe {
        let row_bytes = row_bytes::<F>(job.n_cols);
        let mut row = 0;
        while row + 2 <= job.n_rows {
            rows_dot::<F, 2>(job.w.add(row * row_bytes), job.n_cols, job.x, job.out.add(row));
            row += 2;
        }
        if row < job.n_rows {
            rows_dot::<F, 1>(job.w.add(row * row_bytes), job.n_cols, job.x, job.out.add(row));
        }
    }
}
