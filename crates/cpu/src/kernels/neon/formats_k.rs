//! The 256-value formats as registers. A span is one super-block. Layouts: `whit_base::quant`.
//!
//! Formats with symmetric values (`Q3_K`, `Q6_K`) are left in the upper bits of their bytes, times 32 or 4: there a
//! flipped top bit is the subtraction of the middle value, and the factor goes into the scale.

use std::arch::aarch64::*;

use super::formats::{Format, Scales, iq4, nibbles, zero_scales};

/// The f16 at `p`.
#[inline(always)]
pub(super) unsafe fn one_f16(p: *const u8) -> f32 {
    // SAFETY: the caller vouches for two bytes.
    unsafe {
        let x = vdup_n_u16(p.cast::<u16>().read_unaligned());
        vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(x)))
    }
}

/// Eight words as f32, times `factor`.
#[inline(always)]
unsafe fn scaled_words(x: int16x8_t, factor: f32) -> [float32x4_t; 2] {
    // SAFETY: as `Format` demands.
    unsafe {
        let low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(x)));
        let high = vcvtq_f32_s32(vmovl_s16(vget_high_s16(x)));
        [vmulq_n_f32(low, factor), vmulq_n_f32(high, factor)]
    }
}

/// Eight unsigned bytes as f32, times `factor`.
#[inline(always)]
unsafe fn scaled_u8(x: u64, factor: f32) -> [float32x4_t; 2] {
    // SAFETY: as `Format` demands.
    unsafe { scaled_words(vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(x))), factor) }
}

/// Sixteen signed bytes as f32, times `factor`.
#[inline(always)]
unsafe fn scaled_i8(x: int8x16_t, factor: f32) -> [float32x4_t; 4] {
    // SAFETY: as `Format` demands.
    unsafe {
        let [a, b] = scaled_words(vmovl_s8(vget_low_s8(x)), factor);
        let [c, d] = scaled_words(vmovl_s8(vget_high_s8(x)), factor);
        [a, b, c, d]
    }
}

/// The scales of `Q4_K` and `Q5_K`, which both begin with `d`, `dmin` and twelve bytes of six-bit scales and minimums.
#[inline(always)]
unsafe fn scales_and_mins(p: *const u8) -> Scales {
    // SAFETY: as `Format` demands.
    unsafe {
        let (d, dmin) = (one_f16(p), one_f16(p.add(2)));
        let q = p.add(4).cast::<u32>();
        let (a, b, c) = (q.read_unaligned(), q.add(1).read_unaligned(), q.add(2).read_unaligned());
        let low = |x: u32| u64::from(x & 0x3f3f_3f3f);
        let high = |nibble: u32, x: u32| u64::from((nibble & 0x0f0f_0f0f) | (x >> 2 & 0x3030_3030)) << 32;
        let mut scales = zero_scales();
        [scales.s[0], scales.s[1]] = scaled_u8(low(a) | high(c, a), d);
        [scales.m[0], scales.m[1]] = scaled_u8(low(b) | high(c >> 4, b), -dmin);
        scales
    }
}

#[inline(always)]
pub(super) unsafe fn signed(x: [uint8x16_t; 8]) -> [int8x16_t; 8] {
    // SAFETY: as `Format` demands.
    unsafe { x.map(|x| vreinterpretq_s8_u8(x)) }
}

/// `Q4_K` super-blocks.
pub(crate) struct Q4_K;

impl Format for Q4_K {
    const SPAN_BYTES: usize = 144;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = false;
    const OFFSET: bool = true;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe { scales_and_mins(p) }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_u8(0); 8];
            for pair in 0..2 {
                for column in 0..2 {
                    let x = nibbles(p.add(16 + 64 * half + 32 * pair + 16 * column));
                    [out[4 * pair + column], out[4 * pair + 2 + column]] = x;
                }
            }
            signed(out)
        }
    }
}

/// `Q5_K` super-blocks.
pub(crate) struct Q5_K;

impl Format for Q5_K {
    const SPAN_BYTES: usize = 176;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = false;
    const OFFSET: bool = true;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe { scales_and_mins(p) }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_u8(0); 8];
            for column in 0..2 {
                // Bit `g` of each byte belongs to group `g`: this half's four in the low bits.
                let bits = vld1q_u8(p.add(16 + 16 * column));
                let bits = if half == 0 { bits } else { vshrq_n_u8::<4>(bits) };
                let fifth = vdupq_n_u8(16);
                let fifth = [
                    vandq_u8(vshlq_n_u8::<4>(bits), fifth),
                    vandq_u8(vshlq_n_u8::<3>(bits), fifth),
                    vandq_u8(vshlq_n_u8::<2>(bits), fifth),
                    vandq_u8(vshlq_n_u8::<1>(bits), fifth),
                ];
                for pair in 0..2 {
                    let [low, high] = nibbles(p.add(48 + 64 * half + 32 * pair + 16 * column));
                    out[4 * pair + column] = vorrq_u8(low, fifth[2 * pair]);
                    out[4 * pair + 2 + column] = vorrq_u8(high, fifth[2 * pair + 1]);
                }
            }
            signed(out)
        }
    }
}

/// `Q6_K` super-blocks.
pub(crate) struct Q6_K;

impl Format for Q6_K {
    const SPAN_BYTES: usize = 210;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = true;
    const OFFSET: bool = false;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let mut scales = zero_scales();
            scales.s = scaled_i8(vld1q_s8(p.add(192).cast()), one_f16(p.add(208)) / 4.0);
            scales
        }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_u8(0); 8];
            let (top, middle) = (vdupq_n_u8(0xc0), vdupq_n_u8(0x3c));
            for column in 0..2 {
                // The upper bit of each pair flipped.
                let high = veorq_u8(vld1q_u8(p.add(128 + 32 * half + 16 * column)), vdupq_n_u8(0xaa));
                let a = vld1q_u8(p.add(64 * half + 16 * column));
                let b = vld1q_u8(p.add(64 * half + 32 + 16 * column));
                out[column] = vbslq_u8(top, vshlq_n_u8::<6>(high), vshlq_n_u8::<2>(a));
                out[2 + column] = vbslq_u8(top, vshlq_n_u8::<4>(high), vshlq_n_u8::<2>(b));
                let (a, b) = (vandq_u8(vshrq_n_u8::<2>(a), middle), vandq_u8(vshrq_n_u8::<2>(b), middle));
                out[4 + column] = vbslq_u8(top, vshlq_n_u8::<2>(high), a);
                out[6 + column] = vbslq_u8(top, high, b);
            }
            signed(out)
        }
    }
}

/// `Q3_K` super-blocks.
pub(crate) struct Q3_K;

impl Format for Q3_K {
    const SPAN_BYTES: usize = 110;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = true;
    const OFFSET: bool = false;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let q = p.add(96).cast::<u32>();
            let (a, b, c) = (q.read_unaligned(), q.add(1).read_unaligned(), q.add(2).read_unaligned());
            // Low nibbles of 8 bytes, then high ones; two upper bits from the last four bytes at shifts 0, 2, 4, 6.
            let upper = |shift: u32| u64::from(c >> shift & 0x0303_0303) << 4;
            let nib = |x: u32, shift: u32| u64::from(x >> shift & 0x0f0f_0f0f);
            let first = (nib(a, 0) | upper(0)) | (nib(b, 0) | upper(2)) << 32;
            let second = (nib(a, 4) | upper(4)) | (nib(b, 4) | upper(6)) << 32;
            let x = vcombine_s8(vcreate_s8(first), vcreate_s8(second));
            let mut scales = zero_scales();
            scales.s = scaled_i8(vsubq_s8(x, vdupq_n_s8(32)), one_f16(p.add(108)) / 32.0);
            scales
        }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_u8(0); 8];
            for column in 0..2 {
                // Third bits, flipped: bit `b` belongs to values `32 b ..`, this half's four in the low bits.
                let third = vmvnq_u8(vld1q_u8(p.add(16 * column)));
                let third = if half == 0 { third } else { vshrq_n_u8::<4>(third) };
                let x = vld1q_u8(p.add(32 + 32 * half + 16 * column));
                // The third bit above the two others, and rubbish below.
                let planes = [
                    vsriq_n_u8::<1>(vshlq_n_u8::<7>(third), vshlq_n_u8::<6>(x)),
                    vsriq_n_u8::<1>(vshlq_n_u8::<6>(third), vshlq_n_u8::<4>(x)),
                    vsriq_n_u8::<1>(vshlq_n_u8::<5>(third), vshlq_n_u8::<2>(x)),
                    vsriq_n_u8::<1>(vshlq_n_u8::<4>(third), x),
                ];
                for (plane, x) in planes.into_iter().enumerate() {
                    out[2 * plane + column] = vandq_u8(x, vdupq_n_u8(0xe0));
                }
            }
            signed(out)
        }
    }
}

/// `Q2_K` super-blocks.
pub(crate) struct Q2_K;

impl Format for Q2_K {
    const SPAN_BYTES: usize = 84;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = true;
    const OFFSET: bool = true;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let (d, dmin) = (one_f16(p.add(80)), one_f16(p.add(82)));
            let [low, high] = nibbles(p);
            Scales {
                s: scaled_i8(vreinterpretq_s8_u8(low), d),
                m: scaled_i8(vreinterpretq_s8_u8(high), -dmin),
            }
        }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_u8(0); 8];
            let low = vdupq_n_u8(3);
            for column in 0..2 {
                let x = vld1q_u8(p.add(16 + 32 * half + 16 * column));
                out[column] = vandq_u8(x, low);
                out[2 + column] = vandq_u8(vshrq_n_u8::<2>(x), low);
                out[4 + column] = vandq_u8(vshrq_n_u8::<4>(x), low);
                out[6 + column] = vshrq_n_u8::<6>(x);
            }
            signed(out)
        }
    }
}

/// `IQ4_XS` super-blocks.
pub(crate) struct IQ4_XS;

impl Format for IQ4_XS {
    const SPAN_BYTES: usize = 136;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = false;
    const OFFSET: bool = false;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let high = vdupq_n_u32(u32::from(p.add(2).cast::<u16>().read_unaligned()));
            let low = vdupq_n_u32(p.add(4).cast::<u32>().read_unaligned());
            let d = one_f16(p);
            let mut scales = zero_scales();
            // Shifts of groups 0 to 3: the right ones are negative.
            let (by_nibble, by_pair) = ([0, -4, -8, -12], [0, -2, -4, -6]);
            let (by_nibble, by_pair) = (vld1q_s32(by_nibble.as_ptr()), vld1q_s32(by_pair.as_ptr()));
            for (i, s) in scales.s.iter_mut().take(2).enumerate() {
                let (low, high) =
                    if i == 0 { (low, high) } else { (vshrq_n_u32::<16>(low), vshrq_n_u32::<8>(high)) };
                let low = vandq_u32(vshlq_u32(low, by_nibble), vdupq_n_u32(15));
                let high = vandq_u32(vshlq_u32(high, by_pair), vdupq_n_u32(3));
                let x = vreinterpretq_s32_u32(vsliq_n_u32::<4>(low, high));
                *s = vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(x, vdupq_n_s32(32))), d);
            }
            scales
        }
    }
    #[inline(always)]
    unsafe fn quants(p: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
        // SAFETY: as the trait demands.
        unsafe {
            let mut out = [vdupq_n_s8(0); 8];
            for i in 0..4 {
                [out[2 * i], out[2 * i + 1]] = iq4(p.add(8 + 64 * half + 16 * i));
            }
            out
        }
    }
}
