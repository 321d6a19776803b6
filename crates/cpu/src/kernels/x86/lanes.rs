//! Registers that hold one 32-bit lane per weight row: what the block formats are unpacked with.
//!
//! Blocks of several rows are read a dword column at a time, so that all unpacking is shifts and masks that serve
//! every row of the register at once, and a sum of products stays in its row's lane.

use std::arch::x86_64::{__m128i, _mm_setr_epi32};
use std::cell::Cell;

use super::formats::Format;
use super::formats_iq::Grid;
use super::tile::{Factor, Span};
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
    /// Whether anything is.
    asks: bool,
}

impl<const FULL: bool> Rows<FULL> {
    /// Rows from `p` on, `stride` bytes apart, of which `last` is the last that exists.
    #[inline(always)]
    pub(crate) fn new<L: Lanes>(p: *const u8, stride: usize, last: usize) -> Rows<FULL> {
        let tile = L::ROWS * stride;
        Rows {
            fourth: [p, p.wrapping_add(4 * stride), p.wrapping_add(8 * stride), p.wrapping_add(12 * stride)],
            stride,
            last,
            ahead: Cell::new(p.wrapping_add(near(tile))),
            asks: true,
        }
    }

    /// The same rows, whose reading asks for nothing: [`Ahead`] does.
    #[inline(always)]
    pub(super) fn quiet(self) -> Rows<FULL> {
        Rows { asks: false, ..self }
    }

    /// The same rows from byte `at` on.
    #[inline(always)]
    pub(crate) fn from<L: Lanes>(&self, at: usize) -> Rows<FULL> {
        let [a, b, c, d] = self.fourth;
        Rows {
            // Not by `map`, which is not always inlined.
            fourth: [
                opaque(a.wrapping_add(at)),
                opaque(b.wrapping_add(at)),
                opaque(c.wrapping_add(at)),
                opaque(d.wrapping_add(at)),
            ],
            stride: self.stride,
            last: self.last,
            // What lies ahead is asked for in the order of its addresses.
            ahead: Cell::new(opaque(self.ahead.get().wrapping_add(L::ROWS * at))),
            asks: self.asks,
        }
    }

    /// Asks for the next lines of what lies ahead.
    #[inline(always)]
    pub(super) fn ask(&self, n_lines: usize) {
        if self.asks {
            let p = self.ahead.get();
            self.ahead.set(p.wrapping_add(64 * n_lines));
            ask(p, n_lines);
        }
    }

    /// Byte `at` of row `r`.
    #[inline(always)]
    pub(super) fn at(&self, r: usize, at: usize) -> *const u8 {
        if FULL {
            self.fourth[r / 4].wrapping_add(r % 4 * self.stride + at)
        } else {
            self.fourth[0].wrapping_add(r.min(self.last) * self.stride + at)
        }
    }
}

/// Asks for weights while others are multiplied, spread over the groups of a span: while they are unpacked there is time for
/// fewer requests.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    p: *const u8,
    /// Of 32 values of a tile's rows.
    bytes: usize,
}

impl Ahead {
    /// Of the tile at `p`, whose rows are `stride` bytes apart, from the span at byte `at` of its rows on.
    #[inline(always)]
    pub(super) fn new<F: Format, L: Lanes>(p: *const u8, stride: usize, at: usize) -> Ahead {
        let p = p.wrapping_add(near(L::ROWS * stride) + L::ROWS * at);
        Ahead { p, bytes: L::ROWS * F::SPAN_BYTES / 8 }
    }

    /// Asks for what belongs to the `g`th 32 values.
    #[inline(always)]
    pub(super) fn ask(&self, g: usize) {
        ask(self.p.wrapping_add(g * self.bytes), self.bytes.div_ceil(64));
    }
}

/// How far ahead of a tile of so many bytes requests go.
#[inline(always)]
fn near(tile: usize) -> usize {
    tile * (NEAR / tile).max(1)
}

/// Asks for cache lines. Instructions of our own, because the compiler would gather a span's prefetches in one place, where they
/// are more than the processor can have under way.
#[inline(always)]
fn ask(p: *const u8, n_lines: usize) {
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
    /// `a + b` of 32-bit lanes.
    unsafe fn add(a: Self::I, b: Self::I) -> Self::I;
    /// Sums of the two products of the lanes' signed halves.
    unsafe fn halves(a: Self::I, b: Self::I) -> Self::I;
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
    /// The entry for the low four bits of each lane.
    unsafe fn pick(table: &[u32; 16], x: Self::I) -> Self::I;
    /// Each 16-bit half of a lane, below `N`, replaced by its point.
    unsafe fn grid<const N: usize>(grid: &Grid<N>, x: Self::I) -> Self::I;
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
    /// The f32 with these bits.
    unsafe fn from_bits(x: Self::I) -> Self::F;
    /// The f16 in the low half of each lane.
    unsafe fn f16(x: Self::I) -> Self::F;

    /// Dword at byte `at` of each row.
    unsafe fn column<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> Self::I;
    /// The four dwords from byte `at` on.
    #[inline(always)]
    unsafe fn columns<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> [Self::I; 4] {
        rows.ask(Self::ROWS / 4);
        // SAFETY: as the trait demands.
        unsafe { Self::transposed(rows, at) }
    }
    /// The same without asking for what lies ahead.
    unsafe fn transposed<const FULL: bool>(rows: &Rows<FULL>, at: usize) -> [Self::I; 4];

    /// Whether weights past 127 are kept as signed bytes.
    const SIGNED: bool;
    /// Whether sums of products have less than 32 bits.
    const WIDENS: bool;
    /// Registers of products of weights up to `max_u` that can be added up before [`Lanes::widen`].
    fn run(max_u: u32) -> usize;
    /// `sum + w * x` of bytes: unsigned weights below 128 or `signed` ones, and four values of an activation row.
    unsafe fn products(sum: Self::I, w: Self::I, x: Self::I, signed: bool) -> Self::I;
    /// Adds sums of products to 32-bit lanes; takes them as they are where [`Lanes::WIDENS`] is not so.
    unsafe fn widen(dots: Self::I, sums: Self::I) -> Self::I;

    unsafe fn outlined_unpack<F: Format, const FULL: bool>(rows: &Rows<FULL>, n_cols: usize, span: Span);
    unsafe fn outlined_one<F: Format, const FULL: bool>(job: &GemmJob, row: usize);
    unsafe fn outlined_few<F: Format, const M: usize>(job: &GemmJob);
    unsafe fn outlined_many<X: Factor, const M: usize>(job: &GemmJob, row: usize, m0: usize);
}

/// Methods of one instruction or a few.
macro_rules! ops {
    ($($name:ident($($a:ident: $t:ty),*) -> $r:ty = $value:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name($($a: $t),*) -> $r {
            unsafe { $value }
        })*
    };
}

/// Transposes 4 x 4 dwords within each 128-bit part: what four rows' columns need after their loads.
macro_rules! transpose4 {
    ($r:ident, $lo32:ident, $hi32:ident, $lo64:ident, $hi64:ident) => {{
        let (ab, cd) = ($lo32($r[0], $r[1]), $lo32($r[2], $r[3]));
        let (ef, gh) = ($hi32($r[0], $r[1]), $hi32($r[2], $r[3]));
        [$lo64(ab, cd), $hi64(ab, cd), $lo64(ef, gh), $hi64(ef, gh)]
    }};
}

pub(super) use {ops, transpose4};

/// Dwords of four rows. A function and not a closure: closures do not carry the caller's target features.
#[inline(always)]
pub(super) unsafe fn four_dwords<const FULL: bool>(rows: &Rows<FULL>, r: usize, at: usize) -> __m128i {
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
