//! Products with float weights (F32, F16, BF16): activations stay f32, sums run in f32 lanes.

use super::FloatJob;
use crate::simd::Simd;

/// How a float weight is widened.
pub(crate) trait FloatWeight {
    const BYTES: usize;
    unsafe fn load<S: Simd>(p: *const u8) -> S::V;
    unsafe fn get(p: *const u8) -> f32;
}

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct BF16;

impl FloatWeight for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: as the trait `Simd` demands; its loads need no alignment at the vector levels, and the scalar level
        // reads through `get` only.
        unsafe { if S::N == 1 { S::splat(Self::get(p)) } else { S::load(p.cast()) } }
    }
    #[inline(always)]
    unsafe fn get(p: *const u8) -> f32 {
        // SAFETY: the caller vouches for four bytes.
        f32::from_bits(u32::from_le(unsafe { p.cast::<u32>().read_unaligned() }))
    }
}

impl FloatWeight for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: see `F32::load`.
        unsafe { if S::N == 1 { S::splat(Self::get(p)) } else { S::load_f16(p.cast()) } }
    }
    #[inline(always)]
    unsafe fn get(p: *const u8) -> f32 {
        // SAFETY: the caller vouches for two bytes.
        half::f16::from_bits(u16::from_le(unsafe { p.cast::<u16>().read_unaligned() })).to_f32()
    }
}

impl FloatWeight for BF16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: see `F32::load`.
        unsafe { if S::N == 1 { S::splat(Self::get(p)) } else { S::load_bf16(p.cast()) } }
    }
    #[inline(always)]
    unsafe fn get(p: *const u8) -> f32 {
        // SAFETY: the caller vouches for two bytes.
        f32::from_bits(u32::from(u16::from_le(unsafe { p.cast::<u16>().read_unaligned() })) << 16)
    }
}

/// `out[m * out_stride + r] = dot(w row r, x row m)`. A sum is formed in one order, whatever the number of rows.
#[inline(always)]
pub(crate) unsafe fn float_product<S: Simd, W: FloatWeight>(job: &FloatJob) {
    // SAFETY: the caller vouches for the job's matrices.
    unsafe {
        let mut m = 0;
        while m + 4 <= job.n_x {
            // As many sums as registers hold, which AVX2 has half as many of as the others.
            match S::N {
                1 => tiles::<S, W, 4, 1>(job, m),
                8 => tiles::<S, W, 4, 2>(job, m),
                _ => tiles::<S, W, 4, 4>(job, m),
            }
            m += 4;
        }
        while m < job.n_x {
            tiles::<S, W, 1, 8>(job, m);
            m += 1;
        }
    }
}

/// All weight rows, `R` at a time, with activation rows `m0 .. m0 + M`.
#[inline(always)]
unsafe fn tiles<S: Simd, W: FloatWeight, const M: usize, const R: usize>(job: &FloatJob, m0: usize) {
    // SAFETY: the caller vouches for the job's matrices.
    unsafe {
        let mut row = 0;
        while row + R <= job.n_rows {
            tile::<S, W, M, R>(job, row, m0);
            row += R;
        }
        while row < job.n_rows {
            tile::<S, W, M, 1>(job, row, m0);
            row += 1;
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, W: FloatWeight, const M: usize, const R: usize>(
    job: &FloatJob,
    row: usize,
    m0: usize,
) {
    // SAFETY: the caller vouches for the job's matrices.
    unsafe {
        let row_bytes = job.n_cols * W::BYTES;
        let w = job.w.add(row * row_bytes);
        let x = job.x.add(m0 * job.x_stride);
        let mut acc = [[S::splat(0.0); R]; M];
        let mut i = 0;
        while i + S::N <= job.n_cols {
            let mut weights = [S::splat(0.0); R];
            for (r, weight) in weights.iter_mut().enumerate() {
                *weight = W::load::<S>(w.add(r * row_bytes + i * W::BYTES));
            }
            for (m, acc) in acc.iter_mut().enumerate() {
                let x = S::load(x.add(m * job.x_stride + i));
                for (acc, &weight) in acc.iter_mut().zip(&weights) {
                    *acc = S::fma(weight, x, *acc);
                }
            }
            i += S::N;
        }
        for (m, acc) in acc.iter().enumerate() {
            for (r, &acc) in acc.iter().enumerate() {
                let mut total = S::reduce_add(acc);
                for i in i..job.n_cols {
                    total += W::get(w.add(r * row_bytes + i * W::BYTES)) * *x.add(m * job.x_stride + i);
                }
                *job.out.add((m0 + m) * job.out_stride + row + r) = total;
            }
        }
    }
}
