//! Many activation rows with `smmla`: eight values of two weight rows meet eight values of two activation rows, twice the
//! products of an `sdot`.

use std::arch::aarch64::*;

use super::asm::smmla;
use super::formats::Format;
use super::tile::{Order, Reader, TILE_ROWS, Tile, groups_per_span, store_results};
use crate::kernels::{GemmJob, QuantMatrix};

struct Mmla;

impl Reader for Mmla {
    const ORDER: Order = Order::Eights;
}

/// Unpacks eight weight rows at a time and multiplies them with every activation row.
#[inline(always)]
pub(crate) unsafe fn gemm<F: Format>(job: &GemmJob) {
    // SAFETY: the caller vouches for the job's pointers.
    unsafe {
        for index in 0..job.n_rows.div_ceil(TILE_ROWS) {
            let tile = Tile::unpack::<F, Mmla>(job, index);
            let mut m = 0;
            while m + 2 < job.n_x {
                block::<F, 2>(job, tile, index, m);
                m += 4;
            }
            if m < job.n_x {
                block::<F, 1>(job, tile, index, m);
            }
        }
    }
}

/// One tile against `P` pairs of activation rows from `m0` on. A row past the last is the last one again, its results
/// dropped.
#[inline(always)]
unsafe fn block<F: Format, const P: usize>(job: &GemmJob, tile: Tile, index: usize, m0: usize) {
    // SAFETY: see `gemm`.
    unsafe {
        let QuantMatrix { q, d, sum32, sum16, q_stride, d_stride, sum16_stride, .. } = job.x;
        let row = |pair: usize, i: usize| (m0 + 2 * pair + i).min(job.n_x - 1);
        // Lane (r, m) of register i of a pair: weight row 2 i + r, activation row m.
        let mut acc = [[vdupq_n_f32(0.0); 4]; P];
        let group_len = 256 / groups_per_span::<F>();
        for g in 0..job.n_cols / group_len {
            let mut dots = [[vdupq_n_s32(0); 4]; P];
            for at in (g * group_len..(g + 1) * group_len).step_by(16) {
                let mut x = [[vdupq_n_s8(0); 2]; P];
                for (pair, x) in x.iter_mut().enumerate() {
                    let a = vreinterpretq_s64_s8(vld1q_s8(q.add(row(pair, 0) * q_stride + at)));
                    let b = vreinterpretq_s64_s8(vld1q_s8(q.add(row(pair, 1) * q_stride + at)));
                    *x = [vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))];
                }
                for step in 0..2 {
                    for i in 0..4 {
                        let w = vld1q_s8(tile.q.add((at + 8 * step) * TILE_ROWS + 16 * i));
                        for (dots, x) in dots.iter_mut().zip(&x) {
                            dots[i] = smmla(dots[i], w, x[step]);
                        }
                    }
                }
            }
            let s = doubled(tile.s.add(g * TILE_ROWS));
            for (pair, (acc, dots)) in acc.iter_mut().zip(&dots).enumerate() {
                let at = if F::FINE { g / 2 } else { g };
                let dx =
                    alternating(*d.add(row(pair, 0) * d_stride + at), *d.add(row(pair, 1) * d_stride + at));
                for i in 0..4 {
                    acc[i] = vfmaq_f32(acc[i], vmulq_f32(vcvtq_f32_s32(dots[i]), s[i]), dx);
                }
            }
            if F::OFFSET {
                let offset = doubled(tile.m.add(g * TILE_ROWS));
                let (sums, stride) = if F::FINE { (sum16, sum16_stride) } else { (sum32, d_stride) };
                for (pair, acc) in acc.iter_mut().enumerate() {
                    let sum = alternating(
                        *sums.add(row(pair, 0) * stride + g),
                        *sums.add(row(pair, 1) * stride + g),
                    );
                    for i in 0..4 {
                        acc[i] = vfmaq_f32(acc[i], offset[i], sum);
                    }
                }
            }
        }
        let n_rows = job.n_rows - index * TILE_ROWS;
        for (pair, acc) in acc.iter().enumerate() {
            let m = m0 + 2 * pair;
            let out = job.out.add(m * job.out_stride + index * TILE_ROWS);
            store_results([vuzp1q_f32(acc[0], acc[1]), vuzp1q_f32(acc[2], acc[3])], out, n_rows);
            if m + 1 < job.n_x {
                let out = out.add(job.out_stride);
                store_results([vuzp2q_f32(acc[0], acc[1]), vuzp2q_f32(acc[2], acc[3])], out, n_rows);
            }
        }
    }
}

/// Eight values, each twice: `(0, 0, 1, 1)` and so on.
#[inline(always)]
unsafe fn doubled(p: *const f32) -> [float32x4_t; 4] {
    // SAFETY: the caller vouches for eight elements.
    unsafe {
        let (a, b) = (vld1q_f32(p), vld1q_f32(p.add(4)));
        [vzip1q_f32(a, a), vzip2q_f32(a, a), vzip1q_f32(b, b), vzip2q_f32(b, b)]
    }
}

/// `(a, b, a, b)`.
#[inline(always)]
unsafe fn alternating(a: f32, b: f32) -> float32x4_t {
    // SAFETY: reached only from code compiled for Advanced SIMD.
    unsafe {
        let ab = vset_lane_f32::<1>(b, vdup_n_f32(a));
        vcombine_f32(ab, ab)
    }
}
