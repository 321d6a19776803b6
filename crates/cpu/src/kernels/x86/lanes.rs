//! Registers that hold one 32-bit lane per weight row: what the block formats are unpacked with.
//!
//! Blocks of several rows are read a dword column at a time, so that all unpacking is shifts and masks that serve
//! every row of the register at once, and a sum of products stays in its row's lane.

use std::arch::x86_64::*;
use std::cell::Cell;

use super::formats::Format;
use super::product::{Factor, Span, few_rows, many_rows, one_row, unpack};
use crate::kernels::GemmJob;

/// How far ahead weights are asked for into the first-level cache: the next tile, or the last of so many bytes of tiles.
const NEAR: usize = 12288;

/// How much farther they are asked for into the second-level cache. With one request for each line the first-level cache
/// has too few under way to keep memory busy (Zen 5: 18 to 28 GB/s for a core, with both 35 to 43).
const FAR: usize = 8192;

/// The weight rows of a register, from some column on. The last may be missing: these repeat the last that exists.
pub(crate) struct Rows<const FULL: bool> {
    /// Rows 0, 4, 8 and 12.
    fourth: [*const u8; 4],
    stride: usize,
    last: usize,
    /// What is asked for next while these rows are read.
    ahead: Cell<*const u8>,
}

impl<const FULL: bool> Rows<FULL> {
    /// Rows from `p` on, `stride` bytes apart, of which `last` is the last that exists.
    #[inline(always)]
    pub(crate) fn new<L: Lanes>(p: *const u8, stride: usize, last: usize) -> Rows<FULL> {
        let tile = L::ROWS * stride;
        Rows {
            fourth: [0, 4, 8, 12].map(|r| p.wrapping_add(r * stride)),
            stride,
            last,
            ahead: Cell::new(p.wrapping_add(tile * (NEAR / tile).max(1))),
        }
    }

    /// The same rows from byte `at` on.
    #[inline(always)]
    pub(crate) fn from<L: Lanes>(&self, at: usize) -> Rows<FULL> {
        Rows {
            fourth: self.fourth.map(|p| opaque(p.wrapping_add(at))),
            stride: self.stride,
            last: self.last,
            // What lies ahead is asked for in the order of its addresses.
            ahead: Cell::new(opaque(self.ahead.get().wrapping_add(L::ROWS * at))),
        }
    }

    /// Asks for the next lines of what lies ahead. Instructions of our own, because the compiler would gather a span's
    /// prefetches in one place, where they are more than the processor can have under way.
    #[inline(always)]
    fn ask(&self, n_lines: usize) {
        let p = self.ahead.get();
        self.ahead.set(p.wrapping_add(64 * n_lines));
        for line in 0..n_lines {
            // SAFETY: a prefetch of any address is harmless.
            unsafe {
                std::arch::asm!(
                    "prefetcht0 [{0}]",
                    "prefetcht1 [{0} + {1}]",
                    in(reg) p.wrapping_add(64 * line),
                    const FAR,
                    options(readonly, nostack, preserves_flags)
                );
            }
        }
    }

    /// Byte `at` of row `r`.
    #[inline(always)]
    fn at(&self, r: usize, at: usize) -> *const u8 {
        if FULL {
            self.fourth[r / 4].wrapping_add(r % 4 * self.stride + at)
        } else {
            self.fourth[0].wrapping_add(r.min(self.last) * self.stride + at)
        }
    }
}

/// The same pointer, about which the compiler knows nothing: left to itself it keeps the offsets of all rows from one
/// base, more than there are registers, and most instructions then load addresses.
#[inline(always)]
#[expect(clippy::pointers_in_nomem_asm_block, reason = "the address alone is meant")]
fn opaque(mut p: *const u8) -> *const u8 {
    // SAFETY: no instruction at all.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) p, options(pure, nomem, nostack, preserves_flags)) };
    p
}

/// A register of lanes, 32-bit integers (`I`) or f32 (`F`).
///
/// # Safety
/// Methods may only be reached from code compiled for the features of `outlined` functions; pointers must be valid for
/// what is read or written through them.
pub(crate) trait Lanes: Sized {
    /// Weight rows in a register.
    const ROWS: usize;
    /// Registers of weight rows that one pass over many activation rows holds sums of, and those activation rows.
    const TILES: usize;
    type I: Copy;
    type F: Copy;

    unsafe fn zero() -> Self::I;
    unsafe fn set1(x: i32) -> Self::I;
    unsafe fn and(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn xor(a: Self::I, b: Self::I) -> Self::I;
    /// `a - b` of 32-bit lanes.
    unsafe fn sub(a: Self::I, b: Self::I) -> Self::I;
    /// Low halves of the products of 32-bit lanes.
    unsafe fn mul32(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn shr(x: Self::I, n: u32) -> Self::I;
    unsafe fn shl(x: Self::I, n: u32) -> Self::I;
    /// Shifts in copies of the sign.
    unsafe fn sar(x: Self::I, n: u32) -> Self::I;
    /// Each byte of `x`, below 16, replaced by its entry.
    unsafe fn lookup(table: &[u8; 16], x: Self::I) -> Self::I;
    unsafe fn load(p: *const u8) -> Self::I;
    unsafe fn store(p: *mut u8, x: Self::I);

    unsafe fn zero_f() -> Self::F;
    unsafe fn set1_f(x: f32) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn load_f(p: *const f32) -> Self::F;
    unsafe fn store_f(p: *mut f32, x: Self::F);
    /// The first `n` lanes.
    unsafe fn store_some(p: *mut f32, x: Self::F, n: usize);
    unsafe fn to_f32(x: Self::I) -> Self::F;
    /// The f16 in the low half of each lane.
    unsafe fn f16(x: Self::I) -> Self::F;

    /// Dword at byte `at` of each row.
    unsafe fn column<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> Self::I;
    /// The four dwords from byte `at` on.
    unsafe fn columns<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> [Self::I; 4];

    /// Whether weights past 127 are kept as signed bytes.
    const SIGNED: bool;
    /// Registers of products of weights up to `max_u` that can be added up before [`Lanes::widen`].
    fn run(max_u: u32) -> usize;
    /// `sum + w * x` of bytes: unsigned weights below 128 or `signed` ones, and four values of an activation row.
    unsafe fn products(sum: Self::I, w: Self::I, x: Self::I, signed: bool) -> Self::I;
    /// Adds sums of products to 32-bit lanes.
    unsafe fn widen(dots: Self::I, sums: Self::I) -> Self::I;

    unsafe fn outlined_unpack<F: Format, const FULL: bool>(rows: &Rows<FULL>, n_cols: usize, span: Span);
    unsafe fn outlined_one<F: Format, const FULL: bool>(job: &GemmJob, row: usize);
    unsafe fn outlined_few<F: Format, const M: usize>(job: &GemmJob);
    unsafe fn outlined_many<X: Factor, const M: usize>(job: &GemmJob, row: usize, m0: usize);
}

/// Transposes 4 x 4 dwords within each 128-bit part: what four rows' columns need after their loads.
macro_rules! transpose4 {
    ($r:ident, $lo32:ident, $hi32:ident, $lo64:ident, $hi64:ident) => {{
        let (ab, cd) = ($lo32($r[0], $r[1]), $lo32($r[2], $r[3]));
        let (ef, gh) = ($hi32($r[0], $r[1]), $hi32($r[2], $r[3]));
        [$lo64(ab, cd), $hi64(ab, cd), $lo64(ef, gh), $hi64(ef, gh)]
    }};
}

/// Sixteen rows with AVX-512 and VNNI.
pub(crate) struct Wide;

#[expect(clippy::undocumented_unsafe_blocks, reason = "one contract for all methods, stated above")]
impl Lanes for Wide {
    const ROWS: usize = 16;
    const TILES: usize = 2;
    type I = __m512i;
    type F = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn set1(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn xor(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul32(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn shr(x: __m512i, n: u32) -> __m512i {
        unsafe { _mm512_srl_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    unsafe fn shl(x: __m512i, n: u32) -> __m512i {
        unsafe { _mm512_sll_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    unsafe fn sar(x: __m512i, n: u32) -> __m512i {
        unsafe { _mm512_sra_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], x: __m512i) -> __m512i {
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, x: __m512i) {
        unsafe { _mm512_storeu_si512(p.cast(), x) }
    }
    #[inline(always)]
    unsafe fn zero_f() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn set1_f(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn load_f(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store_f(p: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn store_some(p: *mut f32, x: __m512, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, x) }
    }
    #[inline(always)]
    unsafe fn to_f32(x: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn f16(x: __m512i) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)) }
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
    unsafe fn columns<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> [__m512i; 4] {
        unsafe {
            rows.ask(4);
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

/// Dwords of four rows. A function and not a closure: closures do not carry the caller's target features.
#[inline(always)]
unsafe fn four_dwords<const FULL: bool>(rows: &Rows<FULL>, r: usize, at: usize) -> __m128i {
    // SAFETY: as `Lanes` demands.
    unsafe {
        _mm_setr_epi32(
            rows.at(r, at).cast::<i32>().read_unaligned(),
            rows.at(r + 1, at).cast::<i32>().read_unaligned(),
            rows.at(r + 2, at).cast::<i32>().read_unaligned(),
            rows.at(r + 3, at).cast::<i32>().read_unaligned(),
        )
    }
}

/// Eight rows with AVX2.
pub(crate) struct Narrow;

#[expect(clippy::undocumented_unsafe_blocks, reason = "one contract for all methods, stated above")]
impl Lanes for Narrow {
    const ROWS: usize = 8;
    const TILES: usize = 1;
    type I = __m256i;
    type F = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn set1(x: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn and(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn xor(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_xor_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul32(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn shr(x: __m256i, n: u32) -> __m256i {
        unsafe { _mm256_srl_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    unsafe fn shl(x: __m256i, n: u32) -> __m256i {
        unsafe { _mm256_sll_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    unsafe fn sar(x: __m256i, n: u32) -> __m256i {
        unsafe { _mm256_sra_epi32(x, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], x: __m256i) -> __m256i {
        unsafe { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut u8, x: __m256i) {
        unsafe { _mm256_storeu_si256(p.cast(), x) }
    }
    #[inline(always)]
    unsafe fn zero_f() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn set1_f(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn load_f(p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
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
    unsafe fn columns<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> [__m256i; 4] {
        unsafe {
            rows.ask(2);
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
