//! [`Lanes`] of AVX2: `vpmaddubsw` adds two products in 16 bits, which must not saturate.

use std::arch::x86_64::*;

use super::formats::Format;
use super::formats_iq::Grid;
use super::lanes::{Lanes, Rows, four_dwords, ops, transpose4};
use super::product::{few_rows, many_rows, one_row};
use super::tile::{Factor, Span, unpack};
use crate::kernels::GemmJob;

/// Eight rows with AVX2.
pub(crate) struct Narrow;

#[expect(clippy::undocumented_unsafe_blocks, reason = "one contract for all methods, stated at `Lanes`")]
impl Lanes for Narrow {
    const ROWS: usize = 8;
    const TILES: usize = 1;
    type I = __m256i;
    type F = __m256;

    ops! {
        zero() -> __m256i = _mm256_setzero_si256();
        set1(x: i32) -> __m256i = _mm256_set1_epi32(x);
        and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        xor(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
        add(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        halves(a: __m256i, b: __m256i) -> __m256i = _mm256_madd_epi16(a, b);
        sub(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
        mul32(a: __m256i, b: __m256i) -> __m256i = _mm256_mullo_epi32(a, b);
        shr(x: __m256i, n: u32) -> __m256i = _mm256_srl_epi32(x, _mm_cvtsi32_si128(n as i32));
        shl(x: __m256i, n: u32) -> __m256i = _mm256_sll_epi32(x, _mm_cvtsi32_si128(n as i32));
        sar(x: __m256i, n: u32) -> __m256i = _mm256_sra_epi32(x, _mm_cvtsi32_si128(n as i32));
        lookup(table: &[u8; 16], x: __m256i) -> __m256i = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), x);
        load(p: *const u8) -> __m256i = _mm256_loadu_si256(p.cast());
    }
    #[inline(always)]
    unsafe fn pick(table: &[u32; 16], x: __m256i) -> __m256i {
        unsafe {
            let (low, high) =
                (_mm256_loadu_si256(table.as_ptr().cast()), _mm256_loadu_si256(table[8..].as_ptr().cast()));
            let (low, high) = (_mm256_permutevar8x32_epi32(low, x), _mm256_permutevar8x32_epi32(high, x));
            let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(x));
            _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), upper))
        }
    }
    /// Two gathers of dwords, of which the points are the lower halves.
    #[inline(always)]
    unsafe fn grid<const N: usize>(grid: &Grid<N>, x: __m256i) -> __m256i {
        unsafe {
            let (p, low) = (grid.points.as_ptr().cast::<i32>(), _mm256_set1_epi32(0xffff));
            let first = _mm256_i32gather_epi32::<2>(p, _mm256_and_si256(x, low));
            let second = _mm256_i32gather_epi32::<2>(p, _mm256_srli_epi32::<16>(x));
            _mm256_or_si256(_mm256_and_si256(first, low), _mm256_slli_epi32::<16>(second))
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, x: __m256i) {
        unsafe { _mm256_storeu_si256(p.cast(), x) }
    }
    ops! {
        zero_f() -> __m256 = _mm256_setzero_ps();
        set1_f(x: f32) -> __m256 = _mm256_set1_ps(x);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        load_f(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
    }
    #[inline(always)]
    unsafe fn store_f(p: *mut f32, x: __m256) {
        unsafe { _mm256_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, x: __m256, n: usize) {
        let mut lanes = [0f32; 8];
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }
    ops! {
        from_bits(x: __m256i) -> __m256 = _mm256_castsi256_ps(x);
    }
    #[inline(always)]
    unsafe fn to_f32(x: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn f16(x: __m256i) -> __m256 {
        unsafe {
            let x = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
            let x = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm256_cvtph_ps(x)
        }
    }

    #[inline(always)]
    unsafe fn column<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> __m256i {
        unsafe { _mm256_set_m128i(four_dwords(rows, 4, at), four_dwords(rows, 0, at)) }
    }
    #[expect(clippy::needless_range_loop, reason = "as in `product::multiply`")]
    #[inline(always)]
    unsafe fn transposed<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> [__m256i; 4] {
        unsafe {
            let mut r = [_mm256_setzero_si256(); 4];
            for i in 0..4 {
                let x = _mm256_castsi128_si256(_mm_loadu_si128(rows.at(i, at).cast()));
                r[i] = _mm256_inserti128_si256::<1>(x, _mm_loadu_si128(rows.at(i + 4, at).cast()));
            }
            transpose4!(
                r,
                _mm256_unpacklo_epi32,
                _mm256_unpackhi_epi32,
                _mm256_unpacklo_epi64,
                _mm256_unpackhi_epi64
            )
        }
    }

    const SIGNED: bool = true;
    const WIDENS: bool = true;
    /// 16-bit sums, to which each register of products adds at most `2 * 127 * max_u`.
    #[inline(always)]
    fn run(max_u: u32) -> usize {
        match max_u {
            0..=15 => 8,
            16..=31 => 4,
            32..=63 => 2,
            _ => 1,
        }
    }
    #[inline(always)]
    unsafe fn products(sum: __m256i, w: __m256i, x: __m256i, signed: bool) -> __m256i {
        unsafe {
            let products = if signed {
                // Absolute weights against activations that carry the weights' signs.
                _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
            } else {
                _mm256_maddubs_epi16(w, x)
            };
            _mm256_add_epi16(sum, products)
        }
    }
    #[inline(always)]
    unsafe fn widen(dots: __m256i, sums: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(dots, _mm256_madd_epi16(sums, _mm256_set1_epi16(1))) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn outlined_unpack<F: Format, const FULL: bool>(rows: &Rows<FULL>, n_cols: usize, span: Span) {
        unsafe { unpack::<F, Self, FULL>(rows, n_cols, span) }
    }
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn outlined_one<F: Format, const FULL: bool>(job: &GemmJob, row: usize) {
        unsafe { one_row::<F, Self, FULL>(job, row) }
    }
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn outlined_few<F: Format, const M: usize>(job: &GemmJob) {
        unsafe { few_rows::<F, Self, M>(job) }
    }
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn outlined_many<X: Factor, const M: usize>(job: &GemmJob, row: usize, m0: usize) {
        unsafe { many_rows::<X, Self, M, 1>(job, row, m0) }
    }
}
