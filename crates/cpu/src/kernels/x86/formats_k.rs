//! The 256-value formats as registers. A span is one super-block. Layouts: `whit_base::quant`.

use std::arch::x86_64::*;

use super::formats::{Format, Scales, iq4_lookup, iq4_lookup64, nibbles32, nibbles64_dense};

/// The two f16 values at `p`.
#[inline(always)]
unsafe fn two_f16(p: *const u8) -> (f32, f32) {
    // SAFETY: the caller vouches for four bytes.
    unsafe {
        let x = _mm_cvtph_ps(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned()));
        (_mm_cvtss_f32(x), _mm_cvtss_f32(_mm_movehdup_ps(x)))
    }
}

/// The f16 value at `p`, which must be followed by two more bytes or end a block that starts earlier.
#[inline(always)]
unsafe fn one_f16(p: *const u8) -> f32 {
    // SAFETY: the caller vouches for two bytes.
    unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(p.cast::<u16>().read_unaligned())))) }
}

/// Eight bytes as f32.
#[inline(always)]
unsafe fn bytes_to_f32(x: u64) -> __m256 {
    // SAFETY: as `Format` demands.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(x as i64))) }
}

/// The 6-bit scales and minimums of Q4_K and Q5_K: 12 bytes to two times eight.
#[inline(always)]
unsafe fn six_bit_pairs(p: *const u8) -> (u64, u64) {
    // SAFETY: the caller vouches for twelve bytes.
    let (a, b, c) = unsafe {
        let p = p.cast::<u32>();
        (p.read_unaligned(), p.add(1).read_unaligned(), p.add(2).read_unaligned())
    };
    let s = u64::from(a & 0x3f3f_3f3f) | u64::from((c & 0x0f0f_0f0f) | (a >> 2 & 0x3030_3030)) << 32;
    let m = u64::from(b & 0x3f3f_3f3f) | u64::from((c >> 4 & 0x0f0f_0f0f) | (b >> 2 & 0x3030_3030)) << 32;
    (s, m)
}

#[inline(always)]
unsafe fn scales_and_mins(p: *const u8) -> Scales {
    // SAFETY: p is a Q4_K or Q5_K block, which both begin with d, dmin and the 12 packed bytes.
    unsafe {
        let (d, dmin) = two_f16(p);
        let (s, m) = six_bit_pairs(p.add(4));
        let zero = _mm256_setzero_ps();
        Scales {
            s: [_mm256_mul_ps(bytes_to_f32(s), _mm256_set1_ps(d)), zero],
            m: [_mm256_mul_ps(bytes_to_f32(m), _mm256_set1_ps(-dmin)), zero],
        }
    }
}

/// Shifts of the two 256-bit halves of a register.
#[inline(always)]
unsafe fn halves(low: i64, high: i64) -> __m512i {
    // SAFETY: as `Format` demands.
    unsafe { _mm512_setr_epi64(low, low, low, low, high, high, high, high) }
}

/// The same 32 bytes in both halves.
#[inline(always)]
unsafe fn twice(p: *const u8) -> __m512i {
    // SAFETY: the caller vouches for 32 bytes.
    unsafe { _mm512_broadcast_i64x4(_mm256_loadu_si256(p.cast())) }
}

/// 32 bytes shifted right by `shift` bits within each byte's word; the caller masks.
#[inline(always)]
unsafe fn shifted32(p: *const u8, shift: usize) -> __m256i {
    // SAFETY: the caller vouches for 32 bytes.
    unsafe { _mm256_srl_epi16(_mm256_loadu_si256(p.cast()), _mm_cvtsi64_si128(shift as i64)) }
}

/// `Q4_K` super-blocks.
pub(crate) struct Q4_K;

impl Format for Q4_K {
    const SPAN_BYTES: usize = 144;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = false;
    const MAX_U: u32 = 15;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe { scales_and_mins(p) }
    }
    #[inline(always)]
    unsafe fn quants32(p: *const u8, g: usize) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_and_si256(shifted32(p.add(16 + 32 * (g / 2)), 4 * (g % 2)), _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn quants64(p: *const u8, j: usize) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe {
            let x = _mm512_srlv_epi64(twice(p.add(16 + 32 * j)), halves(0, 4));
            _mm512_and_si512(x, _mm512_set1_epi8(15))
        }
    }
}

/// `Q5_K` super-blocks.
pub(crate) struct Q5_K;

impl Format for Q5_K {
    const SPAN_BYTES: usize = 176;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = false;
    const MAX_U: u32 = 31;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe { scales_and_mins(p) }
    }
    #[inline(always)]
    unsafe fn quants32(p: *const u8, g: usize) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe {
            let low =
                _mm256_and_si256(shifted32(p.add(48 + 32 * (g / 2)), 4 * (g % 2)), _mm256_set1_epi8(15));
            let bit = _mm256_and_si256(shifted32(p.add(16), g), _mm256_set1_epi8(1));
            _mm256_or_si256(low, _mm256_slli_epi16::<4>(bit))
        }
    }
    #[inline(always)]
    unsafe fn quants64(p: *const u8, j: usize) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe {
            let x = _mm512_srlv_epi64(twice(p.add(48 + 32 * j)), halves(0, 4));
            let x = _mm512_and_si512(x, _mm512_set1_epi8(15));
            let bytes = 0x0101_0101_0101_0101_i64;
            let bits = halves(bytes << (2 * j), bytes << (2 * j + 1));
            let set = _mm512_test_epi8_mask(twice(p.add(16)), bits);
            _mm512_mask_add_epi8(x, set, x, _mm512_set1_epi8(16))
        }
    }
}

/// `Q6_K` super-blocks.
pub(crate) struct Q6_K;

impl Format for Q6_K {
    const SPAN_BYTES: usize = 210;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = true;
    const MAX_U: u32 = 63;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let d = _mm256_set1_ps(one_f16(p.add(208)));
            let x = _mm_loadu_si128(p.add(192).cast());
            let s = [
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), d),
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))), d),
            ];
            let offset = _mm256_set1_ps(-32.0);
            Scales { s, m: [_mm256_mul_ps(s[0], offset), _mm256_mul_ps(s[1], offset)] }
        }
    }
    #[inline(always)]
    unsafe fn quants32(p: *const u8, g: usize) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe {
            let (half, part) = (g / 4, g % 4);
            let low = shifted32(p.add(64 * half + 32 * (part % 2)), 4 * (part / 2));
            let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
            let high = shifted32(p.add(128 + 32 * half), 2 * part);
            let high = _mm256_and_si256(high, _mm256_set1_epi8(3));
            _mm256_or_si256(low, _mm256_slli_epi16::<4>(high))
        }
    }
    #[inline(always)]
    unsafe fn quants64(p: *const u8, j: usize) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe {
            let (half, upper) = (j / 2, j % 2 == 1);
            let ql = _mm512_loadu_si512(p.add(64 * half).cast());
            let qh = twice(p.add(128 + 32 * half));
            let (low, high) = if upper {
                (_mm512_srli_epi16::<4>(ql), _mm512_srlv_epi64(qh, halves(0, 2)))
            } else {
                (ql, _mm512_sllv_epi64(qh, halves(4, 2)))
            };
            let low = _mm512_and_si512(low, _mm512_set1_epi8(15));
            _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi8(0x30)))
        }
    }
}

/// `Q3_K` super-blocks.
pub(crate) struct Q3_K;

impl Format for Q3_K {
    const SPAN_BYTES: usize = 110;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = true;
    const MAX_U: u32 = 7;

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
            let d = _mm256_set1_ps(one_f16(p.add(108)));
            let bias = _mm256_set1_ps(-32.0);
            let s = [
                _mm256_mul_ps(_mm256_add_ps(bytes_to_f32(first), bias), d),
                _mm256_mul_ps(_mm256_add_ps(bytes_to_f32(second), bias), d),
            ];
            let offset = _mm256_set1_ps(-4.0);
            Scales { s, m: [_mm256_mul_ps(s[0], offset), _mm256_mul_ps(s[1], offset)] }
        }
    }
    #[inline(always)]
    unsafe fn quants32(p: *const u8, g: usize) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe {
            let low = shifted32(p.add(32 + 32 * (g / 4)), 2 * (g % 4));
            let low = _mm256_and_si256(low, _mm256_set1_epi8(3));
            let bit = _mm256_and_si256(shifted32(p, g), _mm256_set1_epi8(1));
            _mm256_or_si256(low, _mm256_slli_epi16::<2>(bit))
        }
    }
    #[inline(always)]
    unsafe fn quants64(p: *const u8, j: usize) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe {
            let shift = 4 * (j as i64 % 2);
            let x = _mm512_srlv_epi64(twice(p.add(32 + 32 * (j / 2))), halves(shift, shift + 2));
            let x = _mm512_and_si512(x, _mm512_set1_epi8(3));
            let bytes = 0x0101_0101_0101_0101_i64;
            let bits = halves(bytes << (2 * j), bytes << (2 * j + 1));
            let set = _mm512_test_epi8_mask(twice(p), bits);
            _mm512_mask_add_epi8(x, set, x, _mm512_set1_epi8(4))
        }
    }
}

/// `Q2_K` super-blocks.
pub(crate) struct Q2_K;

impl Format for Q2_K {
    const SPAN_BYTES: usize = 84;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = true;
    const MAX_U: u32 = 3;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let (d, dmin) = two_f16(p.add(80));
            let (d, dmin) = (_mm256_set1_ps(d), _mm256_set1_ps(-dmin));
            let q = p.cast::<u64>();
            let (a, b) = (q.read_unaligned(), q.add(1).read_unaligned());
            let nibble = 0x0f0f_0f0f_0f0f_0f0f_u64;
            Scales {
                s: [_mm256_mul_ps(bytes_to_f32(a & nibble), d), _mm256_mul_ps(bytes_to_f32(b & nibble), d)],
                m: [
                    _mm256_mul_ps(bytes_to_f32(a >> 4 & nibble), dmin),
                    _mm256_mul_ps(bytes_to_f32(b >> 4 & nibble), dmin),
                ],
            }
        }
    }
    #[inline(always)]
    unsafe fn quants32(p: *const u8, g: usize) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { _mm256_and_si256(shifted32(p.add(16 + 32 * (g / 4)), 2 * (g % 4)), _mm256_set1_epi8(3)) }
    }
    #[inline(always)]
    unsafe fn quants64(p: *const u8, j: usize) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe {
            let shift = 4 * (j as i64 % 2);
            let x = _mm512_srlv_epi64(twice(p.add(16 + 32 * (j / 2))), halves(shift, shift + 2));
            _mm512_and_si512(x, _mm512_set1_epi8(3))
        }
    }
}

/// `IQ4_XS` super-blocks.
pub(crate) struct IQ4_XS;

impl Format for IQ4_XS {
    const SPAN_BYTES: usize = 136;
    const BLOCK_LEN: usize = 256;
    const FINE: bool = false;
    const MAX_U: u32 = 255;

    #[inline(always)]
    unsafe fn scales(p: *const u8, _: usize) -> Scales {
        // SAFETY: as the trait demands.
        unsafe {
            let d = _mm256_set1_ps(one_f16(p));
            let high = _mm256_set1_epi32(i32::from(p.add(2).cast::<u16>().read_unaligned()));
            let low = _mm256_set1_epi32(p.add(4).cast::<i32>().read_unaligned());
            let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
            let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
            let high = _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3)));
            let x = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)), high);
            let s = _mm256_cvtepi32_ps(_mm256_sub_epi32(x, _mm256_set1_epi32(32)));
            let s = _mm256_mul_ps(s, d);
            let zero = _mm256_setzero_ps();
            Scales { s: [s, zero], m: [_mm256_mul_ps(s, _mm256_set1_ps(-128.0)), zero] }
        }
    }
    #[inline(always)]
    unsafe fn quants32(p: *const u8, g: usize) -> __m256i {
        // SAFETY: as the trait demands.
        unsafe { iq4_lookup(nibbles32(p.add(8 + 16 * g))) }
    }
    #[inline(always)]
    unsafe fn quants64(p: *const u8, j: usize) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe { iq4_lookup64(nibbles64_dense(p.add(8 + 32 * j))) }
    }
}
