//! The 32-value formats as registers of signed bytes.
//!
//! A *span* is 256 values: eight blocks here, one super-block in `formats_k`. Layouts: `whit_base::quant`.

use std::arch::aarch64::*;

/// Scales and offsets of one span, four to a register: one per 16 values in `FINE` formats, else one per 32 in the first
/// two registers.
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    pub(crate) s: [float32x4_t; 4],
    pub(crate) m: [float32x4_t; 4],
}

/// A quantized format, read as `w = s * v + m`.
///
/// # Safety
/// Methods may only be reached from code compiled for Advanced SIMD; pointers must be valid for the span's bytes, or for
/// those of its `n` groups of 32 values that exist (super-blocks are always whole).
pub(crate) trait Format {
    /// Bytes of 256 values.
    const SPAN_BYTES: usize;
    /// Values in one block: 32, 64 or 256. Rows of shorter blocks may end inside a span.
    const BLOCK_LEN: usize;
    /// One scale per 16 values instead of 32.
    const FINE: bool;
    /// Whether `m` is anything but zero.
    const OFFSET: bool;

    /// Scales of the span at `p`, of which `n` groups of 32 exist (zeros for the rest).
    unsafe fn scales(p: *const u8, n: usize) -> Scales;
    /// `v` of values `128 half .. 128 half + 128`, of which `n` groups of 32 exist (anything for the rest).
    unsafe fn quants(p: *const u8, half: usize, n: usize) -> [int8x16_t; 8];
}

/// Bytes between rows of `n_cols` values.
pub(super) const fn row_bytes<F: Format>(n_cols: usize) -> usize {
    n_cols / F::BLOCK_LEN * (F::SPAN_BYTES * F::BLOCK_LEN / 256)
}

/// No scales yet.
#[inline(always)]
pub(super) unsafe fn zero_scales() -> Scales {
    // SAFETY: as `Format` demands.
    unsafe {
        let zero = vdupq_n_f32(0.0);
        Scales { s: [zero; 4], m: [zero; 4] }
    }
}

/// Eight f16 as f32.
#[inline(always)]
unsafe fn widen(x: uint16x8_t) -> [float32x4_t; 2] {
    // SAFETY: as `Format` demands.
    unsafe {
        let x = vreinterpretq_f16_u16(x);
        [vcvt_f32_f16(vget_low_f16(x)), vcvt_f32_f16(vget_high_f16(x))]
    }
}

/// The first 16-bit word of each of `n` blocks of `STRIDE` bytes.
#[inline(always)]
unsafe fn heads<const STRIDE: usize>(p: *const u8, n: usize) -> [float32x4_t; 2] {
    // SAFETY: blocks at or past n are not read.
    unsafe {
        let word = |i: usize| if i < n { p.add(i * STRIDE).cast::<u16>().read_unaligned() } else { 0 };
        let words = [word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7)];
        widen(vld1q_u16(words.as_ptr()))
    }
}

/// The first two 16-bit words of each of `n` blocks of `STRIDE` bytes.
#[inline(always)]
unsafe fn double_heads<const STRIDE: usize>(p: *const u8, n: usize) -> ([float32x4_t; 2], [float32x4_t; 2]) {
    // SAFETY: blocks at or past n are not read.
    unsafe {
        let pair = |i: usize| if i < n { p.add(i * STRIDE).cast::<u32>().read_unaligned() } else { 0 };
        let pairs = [pair(0), pair(1), pair(2), pair(3), pair(4), pair(5), pair(6), pair(7)];
        let (a, b) = (vld1q_u32(pairs.as_ptr()), vld1q_u32(pairs.as_ptr().add(4)));
        let (a, b) = (vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
        (widen(vuzp1q_u16(a, b)), widen(vuzp2q_u16(a, b)))
    }
}

/// `s = d * factor`, no offset.
#[inline(always)]
unsafe fn symmetric<const STRIDE: usize>(p: *const u8, n: usize, factor: f32) -> Scales {
    // SAFETY: as `Format` demands.
    unsafe {
        let d = heads::<STRIDE>(p, n);
        let mut scales = zero_scales();
        for (s, d) in scales.s.iter_mut().zip(d) {
            *s = vmulq_n_f32(d, factor);
        }
        scales
    }
}

/// `s = d`, `m = m + d * bias`.
#[inline(always)]
unsafe fn affine<const STRIDE: usize>(p: *const u8, n: usize, bias: f32) -> Scales {
    // SAFETY: as `Format` demands.
    unsafe {
        let (d, m) = double_heads::<STRIDE>(p, n);
        let mut scales = zero_scales();
        for i in 0..2 {
            scales.s[i] = d[i];
            scales.m[i] = vfmaq_n_f32(m[i], d[i], bias);
        }
        scales
    }
}

/// `16 * (q - 8)` of 16 bytes of nibbles (low ones first): with its top bit flipped, a nibble in the upper half of a byte
/// is that already.
#[inline(always)]
unsafe fn centred_nibbles(p: *const u8) -> [int8x16_t; 2] {
    // SAFETY: as `Format` demands.
    unsafe {
        let x = veorq_u8(vld1q_u8(p), vdupq_n_u8(0x88));
        let (low, high) = (vshlq_n_u8::<4>(x), vandq_u8(x, vdupq_n_u8(0xf0)));
        [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high)]
    }
}

/// 16 bytes of nibbles, low ones first.
#[inline(always)]
pub(super) unsafe fn nibbles(p: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: as `Format` demands.
    unsafe {
        let x = vld1q_u8(p);
        [vandq_u8(x, vdupq_n_u8(15)), vshrq_n_u8::<4>(x)]
    }
}

/// `q - 16` from the fifth bits at `bits` and the nibbles at `p`.
#[inline(always)]
unsafe fn centred_five_bits(bits: *const u8, p: *const u8) -> [int8x16_t; 2] {
    // SAFETY: as `Format` demands.
    unsafe {
        let clear = vdupq_n_u32(!bits.cast::<u32>().read_unaligned());
        let clear = vreinterpretq_u8_u32(clear);
        let one_per_byte = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
        let spread = |low: u64, high: u64| {
            vreinterpretq_u8_u64(vcombine_u64(
                vcreate_u64(low * 0x0101_0101_0101_0101),
                vcreate_u64(high * 0x0101_0101_0101_0101),
            ))
        };
        let x = vld1q_u8(p);
        // All ones in bytes whose fifth bit is clear; inserted above the nibble they make it `q - 16`.
        let low = vtstq_u8(vqtbl1q_u8(clear, spread(0, 1)), one_per_byte);
        let high = vtstq_u8(vqtbl1q_u8(clear, spread(2, 3)), one_per_byte);
        let (low, high) = (vsliq_n_u8::<4>(x, low), vsliq_n_u8::<4>(vshrq_n_u8::<4>(x), high));
        [vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high)]
    }
}

/// Codebook entries of the nibbles at `p`.
#[inline(always)]
pub(super) unsafe fn iq4(p: *const u8) -> [int8x16_t; 2] {
    // SAFETY: as `Format` demands; the codebook has 16 entries.
    unsafe {
        let table = vld1q_s8(whit_base::quant::iq4_nl::LEVELS.as_ptr());
        let [low, high] = nibbles(p);
        [vqtbl1q_s8(table, low), vqtbl1q_s8(table, high)]
    }
}

#[inline(always)]
unsafe fn signed(x: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: as `Format` demands.
    unsafe { [vreinterpretq_s8_u8(x[0]), vreinterpretq_s8_u8(x[1])] }
}

macro_rules! format32 {
    ($name:ident, $bytes:literal, $offset:literal, |$p:ident, $n:ident| $scales:expr, |$b:ident| $quants:expr) => {
        #[doc = concat!("`", stringify!($name), "` blocks.")]
        pub(crate) struct $name;

        impl Format for $name {
            const SPAN_BYTES: usize = 8 * $bytes;
            const BLOCK_LEN: usize = 32;
            const FINE: bool = false;
            const OFFSET: bool = $offset;

            #[inline(always)]
            unsafe fn scales($p: *const u8, $n: usize) -> Scales {
                // SAFETY: as the trait demands.
                unsafe { $scales }
            }
            #[inline(always)]
            unsafe fn quants(p: *const u8, half: usize, n: usize) -> [int8x16_t; 8] {
                // SAFETY: as the trait demands.
                unsafe {
                    let mut out = [vdupq_n_s8(0); 8];
                    for i in 0..4 {
                        if i < n {
                            let $b = p.add((4 * half + i) * $bytes);
                            [out[2 * i], out[2 * i + 1]] = $quants;
                        }
                    }
                    out
                }
            }
        }
    };
}

format32!(Q4_0, 18, false, |p, n| symmetric::<18>(p, n, 1.0 / 16.0), |b| centred_nibbles(b.add(2)));
format32!(Q4_1, 20, true, |p, n| affine::<20>(p, n, 0.0), |b| signed(nibbles(b.add(4))));
format32!(Q5_0, 22, false, |p, n| symmetric::<22>(p, n, 1.0), |b| centred_five_bits(b.add(2), b.add(6)));
format32!(Q5_1, 24, true, |p, n| affine::<24>(p, n, 16.0), |b| centred_five_bits(b.add(4), b.add(8)));
format32!(Q8_0, 34, false, |p, n| symmetric::<34>(p, n, 1.0), |b| {
    let b = b.add(2).cast();
    [vld1q_s8(b), vld1q_s8(b.add(16))]
});
format32!(IQ4_NL, 18, false, |p, n| symmetric::<18>(p, n, 1.0), |b| iq4(b.add(2)));
