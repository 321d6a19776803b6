//! Rounding of activations to 8-bit groups with AVX-512, 128 values at a time, which are four groups or a wide one: the
//! reductions of a single group would cost as much as the rest of it. The truth is `whit_base::quant::quantize_activations`.

use std::arch::x86_64::*;

use whit_base::quant::WIDE_ACT_GROUP;

use crate::kernels::rows::QuantRow;

/// Rounds groups `n0 / 32 ..` while four remain, or two of narrow ones; returns the values done. `x` points at value `n0`.
#[inline(always)]
pub(crate) unsafe fn quantize_fours(x: *const f32, row: QuantRow, n0: usize, n: usize) -> usize {
    // SAFETY: the caller vouches for n values behind x and for the row's groups; reached only from code compiled for
    // AVX-512.
    unsafe {
        let mut at = 0;
        while at + 128 <= n {
            round::<8>(x.add(at), row.from(n0 + at));
            at += 128;
        }
        if row.group != WIDE_ACT_GROUP && at + 64 <= n {
            round::<4>(x.add(at), row.from(n0 + at));
            at += 64;
        }
        at
    }
}

/// Rounds `16 * N` values, `N` 4 or 8.
#[inline(always)]
unsafe fn round<const N: usize>(x: *const f32, row: QuantRow) {
    // SAFETY: as for `quantize_fours`.
    unsafe {
        let mut v = [_mm512_setzero_ps(); 8];
        for (i, v) in v.iter_mut().take(N).enumerate() {
            *v = _mm512_loadu_ps(x.add(16 * i));
        }
        let absolute = _mm512_set1_epi32(0x7fff_ffff);
        let mut peak = [_mm512_setzero_si512(); 4];
        for (g, peak) in peak.iter_mut().enumerate() {
            let a = _mm512_and_si512(_mm512_castps_si512(v[2 * g]), absolute);
            let b = _mm512_and_si512(_mm512_castps_si512(v[2 * g + 1]), absolute);
            // As integers, magnitudes order like floats, with infinities and then NaN on top.
            *peak = _mm512_max_epi32(a, b);
        }
        let ab = _mm512_max_epi32(
            _mm512_unpacklo_epi32(peak[0], peak[1]),
            _mm512_unpackhi_epi32(peak[0], peak[1]),
        );
        let cd = _mm512_max_epi32(
            _mm512_unpacklo_epi32(peak[2], peak[3]),
            _mm512_unpackhi_epi32(peak[2], peak[3]),
        );
        let all = _mm512_max_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let all = _mm256_max_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
        let mut all = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        if N == 8 && row.group == WIDE_ACT_GROUP {
            all = _mm_max_epi32(all, _mm_shuffle_epi32::<0b01_00_11_10>(all));
            all = _mm_max_epi32(all, _mm_shuffle_epi32::<0b10_11_00_01>(all));
        }
        let peaks = _mm_castsi128_ps(all);
        // Infinity times zero is NaN: neither may pass for a number.
        let d = _mm_add_ps(_mm_div_ps(peaks, _mm_set1_ps(127.0)), _mm_mul_ps(peaks, _mm_setzero_ps()));
        let nonzero = _mm_cmp_ps_mask::<_CMP_GT_OQ>(peaks, _mm_setzero_ps());
        let inverse = _mm_maskz_div_ps(nonzero, _mm_set1_ps(127.0), peaks);
        let inverse = _mm512_castps128_ps512(inverse);

        let mut sums = [_mm512_setzero_si512(); 8];
        for i in 0..N {
            let scale = _mm512_permutexvar_ps(_mm512_set1_epi32(i as i32 / 2), inverse);
            let q = _mm512_cvtps_epi32(_mm512_mul_ps(v[i], scale));
            sums[i] = q;
            _mm_storeu_si128(row.q.add(16 * i).cast(), _mm512_cvtsepi32_epi8(q));
        }
        let totals = sums_of_eight(sums);
        // The lower half of each pair's dword: both fit 16 bits, and so does their sum.
        let both = _mm256_add_epi32(totals, _mm256_srli_epi64::<32>(totals));
        let (total16, total32) = (_mm256_cvtepi32_epi16(totals), _mm256_cvtepi64_epi16(both));
        let sum32 = _mm_mul_ps(_mm_cvtepi32_ps(_mm_cvtepi16_epi32(total32)), d);
        if N == 8 {
            _mm_storeu_si128(row.total16.cast(), total16);
            _mm_storeu_si64(row.total32.cast(), total32);
            _mm_storeu_ps(row.d, d);
            _mm_storeu_ps(row.sum32, sum32);
        } else {
            _mm_storeu_si64(row.total16.cast(), total16);
            _mm_storeu_si32(row.total32.cast(), total32);
            _mm_storeu_si64(row.d.cast(), _mm_castps_si128(d));
            _mm_storeu_si64(row.sum32.cast(), _mm_castps_si128(sum32));
        }
    }
}

/// The sum of the lanes of each register, in order.
#[inline(always)]
unsafe fn sums_of_eight(x: [__m512i; 8]) -> __m256i {
    // SAFETY: reached only from code compiled for AVX-512.
    unsafe {
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
        let ef = _mm512_add_epi32(_mm512_unpacklo_epi32(x[4], x[5]), _mm512_unpackhi_epi32(x[4], x[5]));
        let gh = _mm512_add_epi32(_mm512_unpacklo_epi32(x[6], x[7]), _mm512_unpackhi_epi32(x[6], x[7]));
        // Lanes of each 128-bit part: a b c d and e f g h.
        let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let efgh = _mm512_add_epi32(_mm512_unpacklo_epi64(ef, gh), _mm512_unpackhi_epi64(ef, gh));
        let low = _mm512_shuffle_i64x2::<0b01_00_01_00>(abcd, efgh);
        let high = _mm512_shuffle_i64x2::<0b11_10_11_10>(abcd, efgh);
        // (abcd, abcd, efgh, efgh) with two parts left to add in each half.
        let both = _mm512_add_epi32(low, high);
        let low = _mm512_castsi512_si256(both);
        let high = _mm512_extracti64x4_epi64::<1>(both);
        let abcd = _mm_add_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
        let efgh = _mm_add_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256::<1>(high));
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(abcd), efgh)
    }
}
