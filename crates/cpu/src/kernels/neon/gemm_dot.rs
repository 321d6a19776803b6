//! Many activation rows with `sdot`: four values of four weight rows meet four values of one activation row.

use std::arch::aarch64::*;

use super::asm::sdot_lane;
use super::formats::Format;
use super::tile::{Order, Reader, TILE_ROWS, Tile, groups_per_span, store_results};
use crate::kernels::{GemmJob, QuantMatrix};

struct Dot;

impl Reader for Dot {
    const ORDER: Order = Order::Fours;
}

/// Unpacks eight weight rows at a time and multiplies them with every activation row.
#[inline(always)]
pub(crate) unsafe fn gemm<F: Format>(job: &GemmJob) {
    // SAFETY: the caller vouches for the job's pointers.
    unsafe {
        for index in 0..job.n_rows.div_ceil(TILE_ROWS) {
            let tile = Tile::unpack::<F, Dot>(job, index);
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

/// One tile against `M` activation rows.
#[inline(always)]
unsafe fn block<F: Format, const M: usize>(job: &GemmJob, tile: Tile, index: usize, m0: usize) {
    // SAFETY: see `gemm`.
    unsafe {
        let QuantMatrix { q, d, sum32, sum16, q_stride, d_stride, sum16_stride, .. } = job.x;
        let mut acc = [[vdupq_n_f32(0.0); 2]; M];
        let group_len = 256 / groups_per_span::<F>();
        let xq = q.add(m0 * q_stride);
        for g in 0..job.n_cols / group_len {
            let mut dots = [[vdupq_n_s32(0); 2]; M];
            for at in (g * group_len..(g + 1) * group_len).step_by(16) {
                let mut x = [vdupq_n_s8(0); M];
                for (m, x) in x.iter_mut().enumerate() {
                    *x = vld1q_s8(xq.add(m * q_stride + at));
                }
                let w = tile.q.add(at * TILE_ROWS);
                step::<0, M>(&mut dots, w, &x);
                step::<1, M>(&mut dots, w, &x);
                step::<2, M>(&mut dots, w, &x);
                step::<3, M>(&mut dots, w, &x);
            }
            let s = tile.s.add(g * TILE_ROWS);
            let s = [vld1q_f32(s), vld1q_f32(s.add(4))];
            for m in 0..M {
                let dx = *d.add((m0 + m) * d_stride + if F::FINE { g / 2 } else { g });
                for i in 0..2 {
                    let scaled = vmulq_f32(vcvtq_f32_s32(dots[m][i]), s[i]);
                    acc[m][i] = vfmaq_n_f32(acc[m][i], scaled, dx);
                }
            }
            if F::OFFSET {
                let offset = tile.m.add(g * TILE_ROWS);
                let offset = [vld1q_f32(offset), vld1q_f32(offset.add(4))];
                for (m, acc) in acc.iter_mut().enumerate() {
                    let sum = if F::FINE {
                        *sum16.add((m0 + m) * sum16_stride + g)
                    } else {
                        *sum32.add((m0 + m) * d_stride + g)
                    };
                    for i in 0..2 {
                        acc[i] = vfmaq_n_f32(acc[i], offset[i], sum);
                    }
                }
            }
        }
        for (m, &acc) in acc.iter().enumerate() {
            let out = job.out.add((m0 + m) * job.out_stride + index * TILE_ROWS);
            store_results(acc, out, job.n_rows - index * TILE_ROWS);
        }
    }
}

/// Four values: lane `LANE` of each activation register against eight weight rows.
#[inline(always)]
unsafe fn step<const LANE: usize, const M: usize>(
    dots: &mut [[int32x4_t; 2]; M],
    w: *const i8,
    x: &[int8x16_t; M],
) {
    // SAFETY: see `gemm`.
    unsafe {
        let w = w.add(LANE * 4 * TILE_ROWS);
        let w = [vld1q_s8(w), vld1q_s8(w.add(16))];
        for (dots, &x) in dots.iter_mut().zip(x) {
            dots[0] = sdot_lane::<LANE>(dots[0], w[0], x);
            dots[1] = sdot_lane::<LANE>(dots[1], w[1], x);
        }
    }
}
