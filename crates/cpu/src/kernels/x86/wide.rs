//! [`Lanes`] of AVX-512: `vpdpbusd` adds four products to each 32-bit lane.

use std::arch::x86_64::*;

use super::formats::Format;
use super::formats_iq::Grid;
use super::lanes::{Lanes, Rows, four_dwords, ops, transpose4};
use super::product::{few_rows, many_rows, one_row};
use super::tile::{Factor, Span, unpack};
use crate::kernels::GemmJob;

/// Halves of lanes in which bit `N` is set.
#[inline(always)]
unsafe fn bit<const N: u32>(x: __m512i) -> __mmask32 {
    // SAFETY: as `Lanes` demands.
    unsafe { _mm512_test_epi16_mask(x, _mm512_set1_epi16(1 << N)) }
}

/// Points for the low eight bits of each half of a lane: two registers of points to a permutation, the upper bits choose
/// between four.
#[inline(always)]
unsafe fn points256(p: *const u16, x: __m512i) -> __m512i {
    // SAFETY: as `Lanes` demands; a `Grid` is aligned to registers.
    unsafe {
        let p = p.cast::<__m512i>();
        let a = _mm512_permutex2var_epi16(*p, x, *p.add(1));
        let b = _mm512_permutex2var_epi16(*p.add(2), x, *p.add(3));
        let c = _mm512_permutex2var_epi16(*p.add(4), x, *p.add(5));
        let d = _mm512_permutex2var_epi16(*p.add(6), x, *p.add(7));
        let (ab, cd) =
            (_mm512_mask_blend_epi16(bit::<6>(x), a, b), _mm512_mask_blend_epi16(bit::<6>(x), c, d));
        _mm512_mask_blend_epi16(bit::<7>(x), ab, cd)
    }
}

/// Points for the low nine bits.
#[inline(always)]
unsafe fn points512(p: *const u16, x: __m512i) -> __m512i {
    // SAFETY: as in `points256`.
    unsafe { _mm512_mask_blend_epi16(bit::<8>(x), points256(p, x), points256(p.add(256), x)) }
}

/// Points for all bits by two gathers of dwords, of which the points are the lower halves. For 1024 points they take as long as
/// permutations, for 2048 half as long (Zen 5: a core multiplies 27 against 14 billion weights of IQ1_S in a second).
#[inline(always)]
unsafe fn gathered(p: *const u16, x: __m512i) -> __m512i {
    // SAFETY: as `Lanes` demands; something may be read behind the last point of a `Grid`.
    unsafe {
        let low = _mm512_set1_epi32(0xffff);
        let first = _mm512_i32gather_epi32::<2>(_mm512_and_si512(x, low), p.cast());
        let second = _mm512_i32gather_epi32::<2>(_mm512_srli_epi32::<16>(x), p.cast());
        _mm512_or_si512(_mm512_and_si512(first, low), _mm512_slli_epi32::<16>(second))
    }
}

/// Sixteen rows with AVX-512 and VNNI.
pub(crate) struct Wide;

#[expect(clippy::undocumented_unsafe_blocks, reason = "one contract for all methods, stated at `Lanes`")]
impl Lanes for Wide {
    const ROWS: usize = 16;
    const TILES: usize = 2;
    type I = __m512i;
    type F = __m512;

    ops! {
        zero() -> __m512i = _mm512_setzero_si512();
        set1(x: i32) -> __m512i = _mm512_set1_epi32(x);
        and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        xor(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        add(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        halves(a: __m512i, b: __m512i) -> __m512i = _mm512_madd_epi16(a, b);
        sub(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        mul32(a: __m512i, b: __m512i) -> __m512i = _mm512_mullo_epi32(a, b);
        shr(x: __m512i, n: u32) -> __m512i = _mm512_srl_epi32(x, _mm_cvtsi32_si128(n as i32));
        shl(x: __m512i, n: u32) -> __m512i = _mm512_sll_epi32(x, _mm_cvtsi32_si128(n as i32));
        sar(x: __m512i, n: u32) -> __m512i = _mm512_sra_epi32(x, _mm_cvtsi32_si128(n as i32));
        lookup(table: &[u8; 16], x: __m512i) -> __m512i = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), x);
        pick(table: &[u32; 16], x: __m512i) -> __m512i = _mm512_permutexvar_epi32(x, _mm512_loadu_si512(table.as_ptr().cast()));
        load(p: *const u8) -> __m512i = _mm512_loadu_si512(p.cast());
    }
    #[inline(always)]
    unsafe fn grid<const N: usize>(grid: &Grid<N>, x: __m512i) -> __m512i {
        unsafe {
            let p = grid.points.as_ptr();
            match N {
                256 => points256(p, x),
                512 => points512(p, x),
                _ => gathered(p, x),
            }
        }
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, x: __m512i) {
        unsafe { _mm512_storeu_si512(p.cast(), x) }
    }
    ops! {
        zero_f() -> __m512 = _mm512_setzero_ps();
        set1_f(x: f32) -> __m512 = _mm512_set1_ps(x);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        load_f(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
    }
    #[inline(always)]
    unsafe fn store_f(p: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, x: __m512, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, x) }
    }
    ops! {
        to_f32(x: __m512i) -> __m512 = _mm512_cvtepi32_ps(x);
        from_bits(x: __m512i) -> __m512 = _mm512_castsi512_ps(x);
        f16(x: __m512i) -> __m512 = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x));
    }

    #[inline(always)]
    unsafe fn column<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> __m512i {
        unsafe {
            rows.ask(1);
            let x = _mm512_castsi128_si512(four_dwords(rows, 0, at));
            let x = _mm512_inserti32x4::<1>(x, four_dwords(rows, 4, at));
            let x = _mm512_inserti32x4::<2>(x, four_dwords(rows, 8, at));
            _mm512_inserti32x4::<3>(x, four_dwords(rows, 12, at))
        }
    }
    #[expect(clippy::needless_range_loop, reason = "as in `product::multiply`")]
    #[inline(always)]
    unsafe fn transposed<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> [__m512i; 4] {
        unsafe {
            let mut r = [_mm512_setzero_si512(); 4];
            for i in 0..4 {
                let x = _mm512_castsi128_si512(_mm_loadu_si128(rows.at(i, at).cast()));
                let x = _mm512_inserti32x4::<1>(x, _mm_loadu_si128(rows.at(i + 4, at).cast()));
                let x = _mm512_inserti32x4::<2>(x, _mm_loadu_si128(rows.at(i + 8, at).cast()));
                r[i] = _mm512_inserti32x4::<3>(x, _mm_loadu_si128(rows.at(i + 12, at).cast()));
            }
            transpose4!(
                r,
                _mm512_unpacklo_epi32,
                _mm512_unpackhi_epi32,
                _mm512_unpacklo_epi64,
                _mm512_unpackhi_epi64
            )
        }
    }

    const SIGNED: bool = false;
    const WIDENS: bool = false;
    #[inline(always)]
    fn run(_: u32) -> usize {
        8
    }
    #[inline(always)]
    unsafe fn products(sum: __m512i, w: __m512i, x: __m512i, _: bool) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn widen(_: __m512i, sums: __m512i) -> __m512i {
        sums
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn outlined_unpack<F: Format, const FULL: bool>(rows: &Rows<FULL>, n_cols: usize, span: Span) {
        unsafe { unpack::<F, Self, FULL>(rows, n_cols, span) }
    }
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn outlined_one<F: Format, const FULL: bool>(job: &GemmJob, row: usize) {
        unsafe { one_row::<F, Self, FULL>(job, row) }
    }
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn outlined_few<F: Format, const M: usize>(job: &GemmJob) {
        unsafe { few_rows::<F, Self, M>(job) }
    }
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn outlined_many<X: Factor, const M: usize>(job: &GemmJob, row: usize, m0: usize) {
        unsafe { many_rows::<X, Self, M, 2>(job, row, m0) }
    }
}
