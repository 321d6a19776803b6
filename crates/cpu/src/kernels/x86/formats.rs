//! The 32-value formats as registers.
//!
//! A *span* is 256 values: eight blocks here, one super-block in `formats_k`. Layouts: `whit_base::quant`.

use std::arch::x86_64::*;

/// Scales and offsets of one span. `fine` formats use all 16 lanes (one per 16 values), others the first 8.
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    pub(crate) s: [__m256; 2],
    pub(crate) m: [__m256; 2],
}

/// A quantized format, read as `w = s * u + m`.
///
/// # Safety
/// Methods may only be reached from code compiled for AVX2, FMA and F16C (`quants64`: AVX-512 F, BW, VL, DQ); pointers
/// must be valid for the span's bytes, or for `n` blocks where `n` is given.
pub(crate) trait Format {
    /// Bytes of 256 values.
    const SPAN_BYTES: usize;
    /// Values in one block: 32 or 256. Rows of 32-value blocks may end inside a span.
    const BLOCK_LEN: usize;
    /// One scale per 16 values instead of 32.
    const FINE: bool;
    /// Largest value of `u`.
    const MAX_U: u32;

    /// Scales of the span at `p`, of which `n` groups of 32 exist (zeros for the rest).
    unsafe fn scales(p: *const u8, n: usize) -> Scales;
    /// `u` of values `32 g .. 32 g + 32`.
    unsafe fn quants32(p: *const u8, g: usize) -> __m256i;
    /// `u` of values `64 j .. 64 j + 64`.
    #[inline(always)]
    unsafe fn quants64(p: *const u8, j: usize) -> __m512i {
        // SAFETY: as the trait demands.
        unsafe {
            let low = _mm512_castsi256_si512(Self::quants32(p, 2 * j));
            _mm512_inserti64x4::<1>(low, Self::quants32(p, 2 * j + 1))
        }
    }
}

/// The low 16 bits of eight dwords, as f32.
#[inline(always)]
unsafe fn f16_low(x: __m256i) -> __m256 {
    // SAFETY: as `Format` demands.
    unsafe {
        let x = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
        let x = _mm256_permute4x64_epi64::<0b00_00_10_00>(_mm256_packus_epi32(x, x));
        _mm256_cvtph_ps(_mm256_castsi256_si128(x))
    }
}

/// The high 16 bits of eight dwords, as f32.
#[inline(always)]
unsafe fn f16_high(x: __m256i) -> __m256 {
    // SAFETY: as `Format` demands.
    unsafe { f16_low(_mm256_srli_epi32::<16>(x)) }
}

/// The first four bytes of each of `n` blocks of `STRIDE` bytes.
#[inline(always)]
unsafe fn heads<const STRIDE: i32>(p: *const u8, n: usize) -> __m256i {
    // SAFETY: lanes at or past n are not read.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let index = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(STRIDE));
        if n >= 8 {
            return _mm256_i32gather_epi32::<1>(p.cast(), index);
        }
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes);
        _mm256_mask_i32gather_epi32::<1>(_mm256_setzero_si256(), p.cast(), index, mask)
    }
}

/// 16 bytes of nibbles: low nibbles are values 0..16, high ones 16..32.
#[inline(always)]
unsafe fn nibbles(p: *const u8) -> __m256i {
    // SAFETY: as `Format` demands.
    unsafe {
        let x = _mm_loadu_si128(p.cast());
        let x = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(x), _mm_srli_epi16::<4>(x));
        _mm256_and_si256(x, _mm256_set1_epi8(15))
    }
}

/// The nibbles of two blocks, `STRIDE` bytes apart.
#[inline(always)]
unsafe fn nibbles64<const STRIDE: usize>(p: *const u8) -> __m512i {
    // SAFETY: as `Format` demands.
    unsafe {
        let a = _mm_loadu_si128(p.cast());
        let x =
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(a), _mm_loadu_si128(p.add(STRIDE).cast()));
        // (a, a, b, b): the second and fourth take the high nibbles.
        let x =
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3), _mm512_castsi256_si512(x));
        let x = _mm512_srlv_epi64(x, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
        _mm512_and_si512(x, _mm512_set1_epi8(15))
    }
}

/// 0x10 in each byte whose bit is set in the 32 bits at `p`.
#[inline(always)]
unsafe fn fifth_bits(p: *const u8) -> __m256i {
    // SAFETY: as `Format` demands.
    unsafe {
        let bits = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
        let spread =
            _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
        let bytes = _mm256_shuffle_epi8(bits, spread);
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
        _mm256_and_si256(set, _mm256_set1_epi8(0x10))
    }
}

/// Joins the fifth bits of two blocks to their nibbles.
#[inline(always)]
unsafe fn with_fifth_bits(x: __m512i, a: *const u8, b: *const u8) -> __m512i {
    // SAFETY: as `Format` demands.
    unsafe {
        let low = u64::from(a.cast::<u32>().read_unaligned());
        let mask = low | u64::from(b.cast::<u32>().read_unaligned()) << 32;
        _mm512_mask_add_epi8(x, mask, x, _mm512_set1_epi8(16))
    }
}

#[inline(always)]
unsafe fn symmetric(s: __m256, offset: f32) -> Scales {
    // SAFETY: as `Format` demands.
    unsafe {
        let zero = _mm256_setzero_ps();
        Scales { s: [s, zero], m: [_mm256_mul_ps(s, _mm256_set1_ps(-offset)), zero] }
    }
}

macro_rules! format32 {
    ($name:ident, $bytes:literal, $max:literal, |$p:ident, $n:ident| $scales:expr, |$b:ident| $q32:expr $(, |$p64:ident| $q64:expr)?) => {
        #[doc = concat!("`", stringify!($name), "` blocks.")]
        pub(crate) struct $name;

        impl Format for $name {
            const SPAN_BYTES: usize = 8 * $bytes;
            const BLOCK_LEN: usize = 32;
            const FINE: bool = false;
            const MAX_U: u32 = $max;

            #[inline(always)]
            unsafe fn scales($p: *const u8, $n: usize) -> Scales {
                // SAFETY: as the trait demands.
                unsafe { $scales }
            }
            #[inline(always)]
            unsafe fn quants32(p: *const u8, g: usize) -> __m256i {
                // SAFETY: as the trait demands.
                unsafe {
                    let $b = p.add(g * $bytes);
                    $q32
                }
            }
            $(#[inline(always)]
            unsafe fn quants64(p: *const u8, j: usize) -> __m512i {
                // SAFETY: as the trait demands.
                unsafe {
                    let $p64 = p.add(2 * j * $bytes);
                    $q64
                }
            })?
        }
    };
}

format32!(Q4_0, 18, 15, |p, n| symmetric(f16_low(heads::<18>(p, n)), 8.0), |b| nibbles(b.add(2)), |b| {
    nibbles64::<18>(b.add(2))
});
format32!(
    Q4_1,
    20,
    15,
    |p, n| {
        let x = heads::<20>(p, n);
        let zero = _mm256_setzero_ps();
        Scales { s: [f16_low(x), zero], m: [f16_high(x), zero] }
    },
    |b| nibbles(b.add(4)),
    |b| nibbles64::<20>(b.add(4))
);
format32!(
    Q5_0,
    22,
    31,
    |p, n| symmetric(f16_low(heads::<22>(p, n)), 16.0),
    |b| _mm256_or_si256(nibbles(b.add(6)), fifth_bits(b.add(2))),
    |b| with_fifth_bits(nibbles64::<22>(b.add(6)), b.add(2), b.add(24))
);
format32!(
    Q5_1,
    24,
    31,
    |p, n| {
        let x = heads::<24>(p, n);
        let zero = _mm256_setzero_ps();
        Scales { s: [f16_low(x), zero], m: [f16_high(x), zero] }
    },
    |b| _mm256_or_si256(nibbles(b.add(8)), fifth_bits(b.add(4))),
    |b| with_fifth_bits(nibbles64::<24>(b.add(8)), b.add(4), b.add(28))
);
format32!(Q8_0, 34, 255, |p, n| symmetric(f16_low(heads::<34>(p, n)), 128.0), |b| _mm256_xor_si256(
    _mm256_loadu_si256(b.add(2).cast()),
    _mm256_set1_epi8(-128)
));
format32!(
    IQ4_NL,
    18,
    255,
    |p, n| symmetric(f16_low(heads::<18>(p, n)), 128.0),
    |b| iq4_lookup(nibbles(b.add(2))),
    |b| iq4_lookup64(nibbles64::<18>(b.add(2)))
);

/// The IQ4 codebook plus 128, so that entries are unsigned.
const IQ4_PLUS_128: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (whit_base::quant::iq4_nl::LEVELS[i] as i16 + 128) as u8;
        i += 1;
    }
    table
};

/// Codebook entries of 32 indices.
#[inline(always)]
pub(crate) unsafe fn iq4_lookup(x: __m256i) -> __m256i {
    // SAFETY: as `Format` demands.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(IQ4_PLUS_128.as_ptr().cast()));
        _mm256_shuffle_epi8(table, x)
    }
}

/// Codebook entries of 64 indices.
#[inline(always)]
pub(crate) unsafe fn iq4_lookup64(x: __m512i) -> __m512i {
    // SAFETY: as `Format` demands.
    unsafe {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(IQ4_PLUS_128.as_ptr().cast()));
        _mm512_shuffle_epi8(table, x)
    }
}
/// The nibbles of two neighbouring 16-byte groups, as in `IQ4_XS`.
#[inline(always)]
pub(crate) unsafe fn nibbles64_dense(p: *const u8) -> __m512i {
    // SAFETY: as `Format` demands.
    unsafe { nibbles64::<16>(p) }
}

/// 16 bytes of nibbles as 32 values.
#[inline(always)]
pub(crate) unsafe fn nibbles32(p: *const u8) -> __m256i {
    // SAFETY: as `Format` demands.
    unsafe { nibbles(p) }
}
