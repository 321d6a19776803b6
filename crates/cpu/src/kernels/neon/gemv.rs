//! One activation row: `sdot` straight from the packed weights.
//!
//! Four groups' sums are added pairwise into one register, which then meets one register of scales.

use std::arch::aarch64::*;

use super::asm::sdot;
use super::formats::{Format, Scales, row_bytes};
use crate::kernels::GemmJob;
use crate::kernels::rows::QuantRow;

/// Sums of four registers, in the order of the registers.
#[inline(always)]
unsafe fn reduce4(x: [int32x4_t; 4]) -> float32x4_t {
    // SAFETY: reached only from code compiled for Advanced SIMD.
    unsafe { vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3]))) }
}

/// Adds half a span, of which `n` groups of 32 values exist; `s` holds weight scales times activation scales.
#[inline(always)]
unsafe fn half_dot<F: Format, const HALF: usize>(
    p: *const u8,
    n: usize,
    q: *const i8,
    s: &[float32x4_t; 4],
    acc: &mut [float32x4_t; 2],
) {
    // SAFETY: the caller vouches for the groups.
    unsafe {
        let zero = vdupq_n_s32(0);
        let w = F::quants(p, HALF, n);
        let mut x = [vdupq_n_s8(0); 8];
        for (i, x) in x.iter_mut().enumerate() {
            if i < 2 * n {
                *x = vld1q_s8(q.add(128 * HALF + 16 * i));
            }
        }
        if F::FINE {
            for part in 0..2 {
                let mut dots = [zero; 4];
                for (i, dot) in dots.iter_mut().enumerate() {
                    *dot = sdot(zero, w[4 * part + i], x[4 * part + i]);
                }
                acc[part] = vfmaq_f32(acc[part], reduce4(dots), s[2 * HALF + part]);
            }
        } else {
            let mut dots = [zero; 4];
            for (i, dot) in dots.iter_mut().enumerate() {
                *dot = sdot(sdot(zero, w[2 * i], x[2 * i]), w[2 * i + 1], x[2 * i + 1]);
            }
            acc[HALF] = vfmaq_f32(acc[HALF], reduce4(dots), s[HALF]);
        }
    }
}

/// Adds span `span`, of which `n` groups of 32 values exist.
#[inline(always)]
unsafe fn span_dot<F: Format>(w: *const u8, x: QuantRow, span: usize, n: usize, acc: &mut [float32x4_t; 2]) {
    // SAFETY: the caller vouches for the groups; activation scales and sums are padded by 16 zeros.
    unsafe {
        let p = w.add(span * F::SPAN_BYTES);
        let Scales { mut s, m } = F::scales(p, n);
        let d = [vld1q_f32(x.d.add(8 * span)), vld1q_f32(x.d.add(8 * span + 4))];
        let (d, sums) = if F::FINE {
            let first = [vzip1q_f32(d[0], d[0]), vzip2q_f32(d[0], d[0])];
            ([first[0], first[1], vzip1q_f32(d[1], d[1]), vzip2q_f32(d[1], d[1])], x.sum16.add(16 * span))
        } else {
            ([d[0], d[1], d[0], d[1]], x.sum32.add(8 * span))
        };
        for i in 0..if F::FINE { 4 } else { 2 } {
            s[i] = vmulq_f32(s[i], d[i]);
            if F::OFFSET {
                acc[i % 2] = vfmaq_f32(acc[i % 2], m[i], vld1q_f32(sums.add(4 * i)));
            }
        }
        let q = x.q.add(256 * span);
        half_dot::<F, 0>(p, n.min(4), q, &s, acc);
        if n > 4 {
            half_dot::<F, 1>(p, n - 4, q, &s, acc);
        }
    }
}

/// `dot(w, x)` of one row.
#[inline(always)]
unsafe fn row_dot<F: Format>(w: *const u8, n_cols: usize, x: QuantRow) -> f32 {
    // SAFETY: the caller vouches for one weight row and one activation row.
    unsafe {
        let mut acc = [vdupq_n_f32(0.0); 2];
        let n_spans = n_cols / 256;
        for span in 0..n_spans {
            span_dot::<F>(w, x, span, 8, &mut acc);
        }
        if F::BLOCK_LEN < 256 && !n_cols.is_multiple_of(256) {
            span_dot::<F>(w, x, n_spans, n_cols % 256 / 32, &mut acc);
        }
        vaddvq_f32(vaddq_f32(acc[0], acc[1]))
    }
}

/// Each activation row by itself: two at a time share what is loaded, but need more registers than there are.
#[inline(always)]
pub(crate) unsafe fn gemv<F: Format>(job: &GemmJob) {
    // SAFETY: the caller vouches for the job's pointers.
    unsafe {
        let row_bytes = row_bytes::<F>(job.n_cols);
        for row in 0..job.n_rows {
            for m in 0..job.n_x {
                let dot = row_dot::<F>(job.w.add(row * row_bytes), job.n_cols, job.x.row(m));
                *job.out.add(m * job.out_stride + row) = dot;
            }
        }
    }
}
