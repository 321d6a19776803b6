//! Products with float weights (F32, F16, BF16): activations stay f32, sums run in f32 lanes.

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

/// `out[m * out_stride + r] = dot(w row r, x row m)` for `n_rows` weight rows and `M` activation rows.
#[inline(always)]
pub(crate) unsafe fn float_rows<S: Simd, W: FloatWeight, const M: usize>(
    w: *const u8,
    n_rows: usize,
    n_cols: usize,
    x: *const f32,
    x_stride: usize,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: the caller vouches for the matrices.
    unsafe {
        for row in 0..n_rows {
            let w = w.add(row * n_cols * W::BYTES);
            let mut acc = [[S::splat(0.0); 2]; M];
            let mut i = 0;
            while i + 2 * S::N <= n_cols {
                let w0 = W::load::<S>(w.add(i * W::BYTES));
                let w1 = W::load::<S>(w.add((i + S::N) * W::BYTES));
                for (m, acc) in acc.iter_mut().enumerate() {
                    let x = x.add(m * x_stride + i);
                    acc[0] = S::fma(w0, S::load(x), acc[0]);
                    acc[1] = S::fma(w1, S::load(x.add(S::N)), acc[1]);
                }
                i += 2 * S::N;
            }
            for (m, acc) in acc.iter().enumerate() {
                let mut total = S::reduce_add(S::add(acc[0], acc[1]));
                for i in i..n_cols {
                    total += W::get(w.add(i * W::BYTES)) * *x.add(m * x_stride + i);
                }
                *out.add(m * out_stride + row) = total;
            }
        }
    }
}

/// As [`float_rows`], with `R` weight rows at a time, so that what is loaded is used more often.
#[inline(always)]
pub(crate) unsafe fn float_tiles<S: Simd, W: FloatWeight, const M: usize, const R: usize>(
    w: *const u8,
    n_rows: usize,
    n_cols: usize,
    x: *const f32,
    x_stride: usize,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: the caller vouches for the matrices.
    unsafe {
        let row_bytes = n_cols * W::BYTES;
        let mut row = 0;
        while row + R <= n_rows {
            let w = w.add(row * row_bytes);
            let mut acc = [[S::splat(0.0); R]; M];
            let mut i = 0;
            while i + S::N <= n_cols {
                let mut weights = [S::splat(0.0); R];
                for (r, weight) in weights.iter_mut().enumerate() {
                    *weight = W::load::<S>(w.add(r * row_bytes + i * W::BYTES));
                }
                for (m, acc) in acc.iter_mut().enumerate() {
                    let x = S::load(x.add(m * x_stride + i));
                    for (acc, &weight) in acc.iter_mut().zip(&weights) {
                        *acc = S::fma(weight, x, *acc);
                    }
                }
                i += S::N;
            }
            for (m, acc) in acc.iter().enumerate() {
                for (r, &acc) in acc.iter().enumerate() {
                    let mut total = S::reduce_add(acc);
                    for i in i..n_cols {
                        total += W::get(w.add(r * row_bytes + i * W::BYTES)) * *x.add(m * x_stride + i);
                    }
                    *out.add(m * out_stride + row + r) = total;
                }
            }
            row += R;
        }
        let left = w.add(row * row_bytes);
        float_rows::<S, W, M>(left, n_rows - row, n_cols, x, x_stride, out.add(row), out_stride);
    }
}
