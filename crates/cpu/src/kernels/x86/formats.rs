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
    /// [`Format::scales`] of a whole span, with AVX-512 at hand.
    #[inline(always)]
    unsafe fn scales512(p: *const u8) -> Scales {
        // SAFETY: as the trait demands.
        unsafe { Self::scales(p, 8) }
    }
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

/// The first two 16-bit words of each of `n` blocks of `STRIDE` bytes, as two times eight f16. Dword inserts, not a
/// gather: gathers are slow on AMD before Zen 4 and on Intel since the Downfall mitigation.
#[inline(always)]
unsafe fn heads<const STRIDE: usize>(p: *const u8, n: usize) -> (__m128i, __m128i) {
    // SAFETY: blocks at or past n are not read.
    unsafe {
        let word = |i: usize| if i < n { p.add(i * STRIDE).cast::<i32>().read_unaligned() } else { 0 };
        let a = _mm_setr_epi32(word(0), word(1), word(2), word(3));
        let b = _mm_setr_epi32(word(4), word(5), word(6), word(7));
        let split = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        let (a, b) = (_mm_shuffle_epi8(a, split), _mm_shuffle_epi8(b, split));
        (_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b))
    }
}

/// How far ahead of their use weights are asked for. Rows follow one another in memory, so a page ahead is the next few
/// rows; the hardware's own prefetch alone does not keep up with memory (seen on Zen 5, most with Q6_K).
const PREFETCH_BYTES: usize = 4096;

/// Asks for the span that lies [`PREFETCH_BYTES`] ahead.
#[inline(always)]
pub(crate) unsafe fn prefetch<F: Format>(p: *const u8) {
    let mut at = 0;
    while at < F::SPAN_BYTES {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(PREFETCH_BYTES + at).cast()) };
        at += 64;
    }
}

/// Blocks whose first two words lie within one 64-byte load.
const fn blocks_per_load(stride: usize) -> usize {
    64 / stride + if 64 % stride >= 4 { 1 } else { 0 }
}

/// Word `word` of blocks 0 to 7, as indices into a pair of such loads.
const fn word_indices(stride: usize, word: usize) -> [i16; 32] {
    let per_load = blocks_per_load(stride);
    let mut index = [0; 32];
    let mut i = 0;
    while i < 8 {
        index[i] = (i / per_load % 2 * 32 + i % per_load * (stride / 2) + word) as i16;
        i += 1;
    }
    index
}

/// Load `I` of eight blocks; never past their end.
#[inline(always)]
unsafe fn load_blocks<const STRIDE: usize, const I: usize>(p: *const u8) -> __m512i {
    // SAFETY: the caller vouches for eight blocks.
    unsafe {
        let at = I * blocks_per_load(STRIDE) * STRIDE;
        if at + 64 <= 8 * STRIDE {
            _mm512_loadu_si512(p.add(at).cast())
        } else if at + 32 <= 8 * STRIDE {
            _mm512_zextsi256_si512(_mm256_loadu_si256(p.add(at).cast()))
        } else {
            _mm512_setzero_si512()
        }
    }
}

/// As [`heads`] for eight blocks: two-source word permutes of whole registers.
//
// No closures here or in any kernel: a closure does not carry the caller's target features, and what it calls is then
// not inlined.
#[inline(always)]
unsafe fn heads512<const STRIDE: usize>(p: *const u8) -> (__m128i, __m128i) {
    // SAFETY: the caller vouches for eight blocks.
    unsafe {
        let (a, b) = (load_blocks::<STRIDE, 0>(p), load_blocks::<STRIDE, 1>(p));
        let first = const { word_indices(STRIDE, 0) };
        let second = const { word_indices(STRIDE, 1) };
        let first = _mm512_loadu_si512(first.as_ptr().cast());
        let second = _mm512_loadu_si512(second.as_ptr().cast());
        let x = _mm512_castsi512_si128(_mm512_permutex2var_epi16(a, first, b));
        let y = _mm512_castsi512_si128(_mm512_permutex2var_epi16(a, second, b));
        if 2 * blocks_per_load(STRIDE) >= 8 {
            return (x, y);
        }
        let (c, d) = (load_blocks::<STRIDE, 2>(p), load_blocks::<STRIDE, 3>(p));
        // Blocks past the first two loads come from these.
        let mask = (0xffu32 << (2 * blocks_per_load(STRIDE))) as u8;
        let x2 = _mm512_castsi512_si128(_mm512_permutex2var_epi16(c, first, d));
        let y2 = _mm512_castsi512_si128(_mm512_permutex2var_epi16(c, second, d));
        (_mm_mask_mov_epi16(x, mask, x2), _mm_mask_mov_epi16(y, mask, y2))
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
unsafe fn symmetric(heads: (__m128i, __m128i), offset: f32) -> Scales {
    // SAFETY: as `Format` demands.
    unsafe {
        let s = _mm256_cvtph_ps(heads.0);
        let zero = _mm256_setzero_ps();
        Scales { s: [s, zero], m: [_mm256_mul_ps(s, _mm256_set1_ps(-offset)), zero] }
    }
}

macro_rules! format32 {
    ($name:ident, $bytes:literal, $max:literal, |$heads:ident| $scales:expr, |$b:ident| $q32:expr $(, |$p64:ident| $q64:expr)?) => {
        #[doc = concat!("`", stringify!($name), "` blocks.")]
        pub(crate) struct $name;

        impl Format for $name {
            const SPAN_BYTES: usize = 8 * $bytes;
            const BLOCK_LEN: usize = 32;
            const FINE: bool = false;
            const MAX_U: u32 = $max;

            #[inline(always)]
            unsafe fn scales(p: *const u8, n: usize) -> Scales {
                // SAFETY: as the trait demands.
                unsafe {
                    let $heads = heads::<$bytes>(p, n);
                    $scales
                }
            }
            #[inline(always)]
            unsafe fn scales512(p: *const u8) -> Scales {
                // SAFETY: as the trait demands.
                unsafe {
                    let $heads = heads512::<$bytes>(p);
                    $scales
                }
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

format32!(Q4_0, 18, 15, |heads| symmetric(heads, 8.0), |b| nibbles(b.add(2)), |b| {
    nibbles64::<18>(b.add(2))
});
format32!(
    Q4_1,
    20,
    15,
    |heads| {
        let zero = _mm256_setzero_ps();
        Scales { s: [_mm256_cvtph_ps(heads.0), zero], m: [_mm256_cvtph_ps(heads.1), zero] }
    },
    |b| nibbles(b.add(4)),
    |b| nibbles64::<20>(b.add(4))
);
format32!(
    Q5_0,
    22,
    31,
    |heads| symmetric(heads, 16.0),
    |b| _mm256_or_si256(nibbles(b.add(6)), fifth_bits(b.add(2))),
    |b| with_fifth_bits(nibbles64::<22>(b.add(6)), b.add(2), b.add(24))
);
format32!(
    Q5_1,
    24,
    31,
    |heads| {
        let zero = _mm256_setzero_ps();
        Scales { s: [_mm256_cvtph_ps(heads.0), zero], m: [_mm256_cvtph_ps(heads.1), zero] }
    },
    |b| _mm256_or_si256(nibbles(b.add(8)), fifth_bits(b.add(4))),
    |b| with_fifth_bits(nibbles64::<24>(b.add(8)), b.add(4), b.add(28))
);
format32!(Q8_0, 34, 255, |heads| symmetric(heads, 128.0), |b| _mm256_xor_si256(
    _mm256_loadu_si256(b.add(2).cast()),
    _mm256_set1_epi8(-128)
));
format32!(IQ4_NL, 18, 255, |heads| symmetric(heads, 128.0), |b| iq4_lookup(nibbles(b.add(2))), |b| {
    iq4_lookup64(nibbles64::<18>(b.add(2)))
});

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
