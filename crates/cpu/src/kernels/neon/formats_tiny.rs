//! The ternary formats and the formats of 4-bit floats as registers. Layouts: `whit_base::quant`.

use std::arch::aarch64::*;

use whit_base::quant::{mxfp4, nvfp4};

use super::formats::{Format, Scales, nibbles, zero_scales};
use super::formats_k::{one_f16, signed};

/// Scales without offsets, from as many as there may be.
#[inline(always)]
pub(super) unsafe fn scales(s: &[f32; 16]) -> Scales {
    // SAFETY: as `Format` demands.
    unsafe {
        let mut scales = zero_scales();
        for (i, register) in scales.s.iter_mut().enumerate() {
            *register = vld1q_f32(s.as_ptr().add(4 * i));
        }
        scales
    }
}

/// Levels of 4-bit floats.
#[inline(always)]
unsafe fn levels(q: uint8x16_t) -> int8x16_t {
    // SAFETY: as `Format` demands; there are 16 levels.
    unsafe { vqtbl1q_s8(vld1q_s8(mxfp4::LEVELS.as_ptr()), q) }
}

/// `MXFP4` blocks.
pub(crate) struct MXFP4;

impl Format for MXFP4 {
    const SPAN_BYTES: usize = 8 * 17;
    const BLOCK_LEN: usize = 32;
    const FINE: bool = false;
    const OFFSET: bool = false;

    #[inline(always)]
    unsafe fn scales(p: *const u8, n: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let mut s = [0.0; 16];
            for (g, s) in s.iter_mut().enumerate().take(n) {
                *s = mxfp4::scale(*p.add(17 * g));
            }
            scales(&s)
        }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, n: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_s8(0); 8];
            for i in 0..n.min(4) {
                let [low, high] = nibbles(p.add(17 * (4 * half + i) + 1));
                [out[2 * i], out[2 * i + 1]] = [levels(low), levels(high)];
            }
            out
        }
    }
}

/// `NVFP4` blocks.
pub(crate) struct NVFP4;

impl Format for NVFP4 {
    const SPAN_BYTES: usize = 4 * 36;
    const BLOCK_LEN: usize = 64;
    const FINE: bool = true;
    const OFFSET: bool = false;

    #[inline(always)]
    unsafe fn scales(p: *const u8, n: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let mut s = [0.0; 16];
            for (g, s) in s.iter_mut().enumerate().take(2 * n) {
                *s = nvfp4::scale(*p.add(36 * (g / 4) + g % 4));
            }
            scales(&s)
        }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, n: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_s8(0); 8];
            for block in 0..n.min(4) / 2 {
                for pair in 0..2 {
                    // Sixteen bytes are two groups, of which each has low nibbles first.
                    let [low, high] = nibbles(p.add(36 * (2 * half + block) + 4 + 16 * pair));
                    let (low, high) = (vreinterpretq_u64_u8(low), vreinterpretq_u64_u8(high));
                    let groups = [vzip1q_u64(low, high), vzip2q_u64(low, high)];
                    for (i, group) in groups.into_iter().enumerate() {
                        out[4 * block + 2 * pair + i] = levels(vreinterpretq_u8_u64(group));
                    }
                }
            }
            out
        }
    }
}

/// `TQ2_0` super-blocks.
pub(crate) struct TQ2_0;

impl Format for TQ2_0 {
    const SPAN_BYTES: usize = 66;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = false;
    const OFFSET: bool = false;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe { scales(&[one_f16(p.add(64)); 16]) }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_u8(0); 8];
            let low = vdupq_n_u8(3);
            for column in 0..2 {
                let x = vld1q_u8(p.add(32 * half + 16 * column));
                out[column] = vandq_u8(x, low);
                out[2 + column] = vandq_u8(vshrq_n_u8::<2>(x), low);
                out[4 + column] = vandq_u8(vshrq_n_u8::<4>(x), low);
                out[6 + column] = vshrq_n_u8::<6>(x);
            }
            signed(out.map(|x| vsubq_u8(x, vdupq_n_u8(1))))
        }
    }
}

/// `TQ1_0` super-blocks.
pub(crate) struct TQ1_0;

/// The first digit in base three of bytes that are fractions of 256, less one: the upper half of three times the byte.
#[inline(always)]
unsafe fn digit(x: uint8x16_t) -> uint8x16_t {
    // SAFETY: as `Format` demands.
    unsafe {
        let (first, second) = (vdupq_n_u8(85), vdupq_n_u8(170));
        // All ones where it is at least 1, and at least 2.
        let sum = vaddq_u8(vcgtq_u8(x, first), vcgtq_u8(x, second));
        vsubq_u8(vdupq_n_u8(255), sum)
    }
}

/// The byte times `3^n`, modulo 256.
#[inline(always)]
unsafe fn shifted(x: uint8x16_t, n: usize) -> uint8x16_t {
    // SAFETY: as `Format` demands.
    unsafe { vmulq_u8(x, vdupq_n_u8([1, 3, 9, 27, 81][n])) }
}

impl Format for TQ1_0 {
    const SPAN_BYTES: usize = 54;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = false;
    const OFFSET: bool = false;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe { scales(&[one_f16(p.add(52)); 16]) }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_u8(0); 8];
            for (i, out) in out.iter_mut().enumerate() {
                let sixteen = 8 * half + i;
                *out = digit(match sixteen {
                    0..10 => shifted(vld1q_u8(p.add(16 * (sixteen % 2))), sixteen / 2),
                    10..15 => shifted(vld1q_u8(p.add(32)), sixteen - 10),
                    _ => {
                        // Four bytes of four digits each.
                        let x = vreinterpretq_u8_u32(vdupq_n_u32(p.add(48).cast::<u32>().read_unaligned()));
                        let powers = [1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27];
                        vmulq_u8(x, vld1q_u8(powers.as_ptr()))
                    }
                });
            }
            signed(out)
        }
    }
}
