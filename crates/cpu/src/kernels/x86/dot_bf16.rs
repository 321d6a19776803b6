//! BF16 weights against activation rows, with `vdpbf16ps` where the CPU has it.
//!
//! The activations are rounded to BF16 on the way: 2^-9 of each value, finer than the 8-bit groups that quantized weights
//! meet. A sum is formed in one order, whatever the number of rows.

use std::arch::x86_64::*;

use crate::kernels::FloatJob;

/// Weight rows, and activation rows, of one block of sums.
const BLOCK: usize = 4;

/// Whether this CPU has the instruction.
pub(crate) fn is_supported() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// As the other float products.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) unsafe fn gemm(job: &FloatJob) {
    // SAFETY: the caller vouches for the job's matrices.
    unsafe {
        let mut row = 0;
        while row < job.n_rows {
            let n_rows = (job.n_rows - row).min(BLOCK);
            let mut m = 0;
            while m < job.n_x {
                let n_x = (job.n_x - m).min(BLOCK);
                if n_rows == BLOCK && n_x == BLOCK {
                    block::<BLOCK, BLOCK>(job, row, m);
                } else if n_rows == BLOCK {
                    for x in 0..n_x {
                        block::<BLOCK, 1>(job, row, m + x);
                    }
                } else {
                    for r in 0..n_rows {
                        for x in 0..n_x {
                            block::<1, 1>(job, row + r, m + x);
                        }
                    }
                }
                m += BLOCK;
            }
            row += BLOCK;
        }
    }
}

/// Sums of `R` weight rows and `M` activation rows.
#[inline(always)]
unsafe fn block<const R: usize, const M: usize>(job: &FloatJob, row: usize, m0: usize) {
    // SAFETY: see `gemm`; lanes past a row's end are masked.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); M]; R];
        let mut i = 0;
        while i < job.n_cols {
            let left = (job.n_cols - i).min(32);
            let all = ((1u64 << left) - 1) as u32;
            let (low, high) = ((all & 0xffff) as u16, (all >> 16) as u16);
            let mut x = [_mm512_setzero_si512(); M];
            for (m, x) in x.iter_mut().enumerate() {
                let p = job.x.add((m0 + m) * job.x_stride + i);
                let a = _mm512_maskz_loadu_ps(low, p);
                let b = _mm512_maskz_loadu_ps(high, p.wrapping_add(16));
                *x = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a));
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let p = job.w.add(2 * ((row + r) * job.n_cols + i));
                let w = _mm512_maskz_loadu_epi16(all, p.cast());
                let w = std::mem::transmute::<__m512i, __m512bh>(w);
                for (acc, &x) in acc.iter_mut().zip(&x) {
                    *acc = _mm512_dpbf16_ps(*acc, w, std::mem::transmute::<__m512i, __m512bh>(x));
                }
            }
            i += 32;
        }
        for (r, acc) in acc.iter().enumerate() {
            for (m, &acc) in acc.iter().enumerate() {
                *job.out.add((m0 + m) * job.out_stride + row + r) = _mm512_reduce_add_ps(acc);
            }
        }
    }
}
