//! The formats whose values are points of a grid, as registers: points are loaded one by one from tables of signed bytes.
//! Layouts: `whit_base::quant`.

use std::arch::aarch64::*;

use whit_base::quant::{grids, iq2_xxs, iq3_s, iq3_xxs};

use super::formats::{Format, Scales};
use super::formats_k::one_f16;
use super::formats_tiny::scales;

/// Points of eight values, a byte for each.
const fn eights<const N: usize>(points: &[u16; N], levels: &[u8]) -> [u64; N] {
    let mut out = [0; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 8 {
            out[n] |= (levels[(points[n] >> (2 * i) & 3) as usize] as u64) << (8 * i);
            i += 1;
        }
        n += 1;
    }
    out
}

/// Points of four values, a byte for each.
const fn fours<const N: usize>(points: &[u16; N], levels: &[u8; 8]) -> [u32; N] {
    let mut out = [0; N];
    let mut n = 0;
    while n < N {
        let mut i = 0;
        while i < 4 {
            out[n] |= (levels[(points[n] >> (4 * i) & 7) as usize] as u32) << (8 * i);
            i += 1;
        }
        n += 1;
    }
    out
}

static IQ2_XXS_POINTS: [u64; 256] = eights(&grids::IQ2_XXS, &iq2_xxs::LEVELS);
static IQ2_XS_POINTS: [u64; 512] = eights(&grids::IQ2_XS, &iq2_xxs::LEVELS);
static IQ2_S_POINTS: [u64; 1024] = eights(&grids::IQ2_S, &iq2_xxs::LEVELS);
static IQ3_XXS_POINTS: [u32; 256] = fours(&grids::IQ3_XXS, &iq3_xxs::LEVELS);
static IQ3_S_POINTS: [u32; 512] = fours(&grids::IQ3_S, &iq3_s::LEVELS);
/// Eight times the levels -1, 0 and 1.
static IQ1_POINTS: [u64; 2048] = eights(&grids::IQ1, &[248, 0, 8]);

/// All ones in the bytes of negative values, by the eight bits of their signs.
static NEGATIVE: [u64; 256] = {
    let mut table = [0; 256];
    let mut signs = 0;
    while signs < 256 {
        let mut i = 0;
        while i < 8 {
            table[signs] |= ((signs as u64 >> i & 1) * 0xff) << (8 * i);
            i += 1;
        }
        signs += 1;
    }
    table
};

/// Eight magnitudes with their signs.
#[inline(always)]
fn with_signs(point: u64, signs: u8) -> u64 {
    let mask = NEGATIVE[usize::from(signs)];
    // Complement plus one; as no magnitude is zero, nothing is carried to the next byte.
    (point ^ mask).wrapping_add(mask & 0x0101_0101_0101_0101)
}

#[inline(always)]
unsafe fn pair(a: u64, b: u64) -> int8x16_t {
    // SAFETY: as `Format` demands.
    unsafe { vreinterpretq_s8_u64(vcombine_u64(vcreate_u64(a), vcreate_u64(b))) }
}

#[inline(always)]
unsafe fn word(p: *const u8) -> u16 {
    // SAFETY: the caller vouches for two bytes.
    unsafe { p.cast::<u16>().read_unaligned() }
}

#[inline(always)]
unsafe fn dword(p: *const u8) -> u32 {
    // SAFETY: the caller vouches for four bytes.
    unsafe { p.cast::<u32>().read_unaligned() }
}

/// A super-block, its scales by group, and its values by eights: the number of the eight in the block is given.
macro_rules! grid {
    ($name:ident, $bytes:literal, $fine:literal, |$p:ident, $g:ident| $scale:expr, |$b:ident, $i:ident| $eight:expr) => {
        #[doc = concat!("`", stringify!($name), "` super-blocks.")]
        pub(crate) struct $name;

        impl Format for $name {
            const SPAN_BYTES: usize = $bytes;
            const BLOCK_LEN: usize = 256;
            const FINE: bool = $fine;
            const OFFSET: bool = false;

            #[inline(always)]
            unsafe fn scales($p: *const u8, _: usize) -> Scales {
                // SAFETY: as the trait demands.
                unsafe {
                    let mut s = [0.0; 16];
                    for ($g, s) in s.iter_mut().enumerate().take(if $fine { 16 } else { 8 }) {
                        *s = $scale;
                    }
                    scales(&s)
                }
            }
            #[inline(always)]
            unsafe fn quants($b: *const u8, half: usize, _: usize) -> [int8x16_t; 8] {
                // SAFETY: as the trait demands.
                unsafe {
                    let mut out = [vdupq_n_s8(0); 8];
                    for (i, out) in out.iter_mut().enumerate() {
                        let mut eights = [0u64; 2];
                        for (j, eight) in eights.iter_mut().enumerate() {
                            let $i = 16 * half + 2 * i + j;
                            *eight = $eight;
                        }
                        *out = pair(eights[0], eights[1]);
                    }
                    out
                }
            }
        }
    };
}

grid!(
    IQ2_XXS,
    66,
    false,
    |p, g| one_f16(p) * (2 * (dword(p.add(6 + 8 * g)) >> 28) + 1) as f32 / 8.0,
    |p, i| {
        let group = p.add(2 + 8 * (i / 4));
        let signs = iq2_xxs::even_signs((dword(group.add(4)) >> (7 * (i % 4))) as u8);
        with_signs(IQ2_XXS_POINTS[usize::from(*group.add(i % 4))], signs)
    }
);
grid!(
    IQ2_XS,
    74,
    true,
    |p, g| one_f16(p) * f32::from(2 * (*p.add(66 + g / 2) >> (g % 2 * 4) & 15) + 1) / 8.0,
    |p, i| {
        let q = word(p.add(2 + 2 * i));
        with_signs(IQ2_XS_POINTS[usize::from(q & 511)], iq2_xxs::even_signs((q >> 9) as u8))
    }
);
grid!(
    IQ2_S,
    82,
    true,
    |p, g| one_f16(p) * f32::from(2 * (*p.add(74 + g / 2) >> (g % 2 * 4) & 15) + 1) / 8.0,
    |p, i| {
        let high = usize::from(*p.add(66 + i / 4) >> (i % 4 * 2) & 3);
        with_signs(IQ2_S_POINTS[usize::from(*p.add(2 + i)) | high << 8], *p.add(34 + i))
    }
);
grid!(
    IQ3_XXS,
    98,
    false,
    |p, g| one_f16(p) * (2 * (dword(p.add(66 + 4 * g)) >> 28) + 1) as f32 / 4.0,
    |p, i| {
        let signs = iq2_xxs::even_signs((dword(p.add(66 + i / 4 * 4)) >> (7 * (i % 4))) as u8);
        let point = |at: usize| u64::from(IQ3_XXS_POINTS[usize::from(*p.add(2 + at))]);
        with_signs(point(2 * i) | point(2 * i + 1) << 32, signs)
    }
);
grid!(
    IQ3_S,
    110,
    false,
    |p, g| one_f16(p) * f32::from(2 * (*p.add(106 + g / 2) >> (g % 2 * 4) & 15) + 1),
    |p, i| {
        let high = |at: usize| usize::from(*p.add(66 + at / 8) >> (at % 8) & 1) << 8;
        let point = |at: usize| u64::from(IQ3_S_POINTS[usize::from(*p.add(2 + at)) | high(at)]);
        with_signs(point(2 * i) | point(2 * i + 1) << 32, *p.add(74 + i))
    }
);

/// Eight times the levels of a point plus one, or less one: the bytes are at most 9.
#[inline(always)]
fn with_delta(point: usize, negative: bool) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let (levels, delta) = (IQ1_POINTS[point], if negative { u64::MAX } else { 0x0101_0101_0101_0101 });
    // A sum of bytes without carries between them: top bits apart.
    ((levels & LOW) + (delta & LOW)) ^ ((levels ^ delta) & !LOW)
}

grid!(
    IQ1_S,
    50,
    false,
    |p, g| one_f16(p) * f32::from(2 * (word(p.add(34 + 2 * g)) >> 12 & 7) + 1) / 8.0,
    |p, i| {
        let high = word(p.add(34 + i / 4 * 2));
        with_delta(usize::from(*p.add(2 + i)) | usize::from(high >> (i % 4 * 3) & 7) << 8, high >> 15 == 1)
    }
);
grid!(
    IQ1_M,
    56,
    true,
    |p, g| {
        let words = [word(p.add(48)), word(p.add(50)), word(p.add(52)), word(p.add(54))];
        let d = words[0] >> 12 | words[1] >> 12 << 4 | words[2] >> 12 << 8 | words[3] >> 12 << 12;
        one_f16(d.to_le_bytes().as_ptr()) * f32::from(2 * (words[g / 4] >> (g % 4 * 3) & 7) + 1) / 8.0
    },
    |p, i| {
        let high = *p.add(32 + i / 2) >> (i % 2 * 4);
        with_delta(usize::from(*p.add(i)) | usize::from(high & 7) << 8, high & 8 != 0)
    }
);
