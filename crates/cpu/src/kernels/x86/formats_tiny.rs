//! The ternary formats and the formats of 4-bit floats, unpacked for several rows at once. Layouts: `whit_base::quant`.

use whit_base::quant::mxfp4;

use super::formats::{Format, high, low};
use super::formats_k::{columns8, two_bits};
use super::lanes::{Lanes, Rows};
use super::tile::{Sink, Symmetric};

/// The largest level of a 4-bit float.
const TOP: i16 = 12;

/// The levels of 4-bit floats plus [`TOP`], so that entries are unsigned.
const FP4_PLUS_TOP: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (mxfp4::LEVELS[i] as i16 + TOP) as u8;
        i += 1;
    }
    table
};

/// `MXFP4` blocks.
pub(crate) struct MXFP4;

impl Format for MXFP4 {
    const SPAN_BYTES: usize = 8 * 17;
    const UNIT: usize = 1;
    type Class = Symmetric<32, false, 31, TOP>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, n: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            for g in 0..n {
                let p = 17 * g;
                // Here the least exponent gives 0 instead of 2^-128, the largest infinity instead of 2^127.
                let s = L::from_bits(L::shl(L::and(L::column(rows, p), L::set1(255)), 23));
                out.scale(g, L::mul(s, L::set1_f(0.5)));
                let x = L::columns(rows, p + 1);
                unroll!(k in 0 1 2 3 => { out.put(8 * g + k, L::lookup(&FP4_PLUS_TOP, low::<L>(x[k]))) });
                unroll!(k in 0 1 2 3 => { out.put(8 * g + 4 + k, L::lookup(&FP4_PLUS_TOP, high::<L>(x[k]))) });
                out.flush(g);
            }
        }
    }
}

/// `NVFP4` blocks.
pub(crate) struct NVFP4;

/// Half of the 8-bit float (E4M3 without a sign, 0x7f being zero) in the lowest byte of each lane.
#[inline(always)]
unsafe fn half_of_e4m3<L: Lanes>(x: L::I) -> L::F {
    // SAFETY: as `Lanes` demands.
    unsafe {
        // As an f16 the same bits have a bias of 15 instead of 7, for subnormal numbers too.
        let bits = L::shl(L::and(x, L::set1(0x7f)), 7);
        let differs = L::xor(L::and(x, L::set1(0xff)), L::set1(0x7f));
        let bits = L::and(bits, L::sar(L::sub(L::zero(), differs), 31));
        L::mul(L::f16(bits), L::set1_f(128.0))
    }
}

impl Format for NVFP4 {
    const SPAN_BYTES: usize = 4 * 36;
    const UNIT: usize = 1;
    type Class = Symmetric<64, true, 31, TOP>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, n: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            for block in 0..n / 2 {
                let p = 36 * block;
                let ([scales, a, b, c], [d, e, f, g]) = (L::columns(rows, p), L::columns(rows, p + 16));
                let x = [a, b, c, d, e, f, g, L::column(rows, p + 32)];
                unroll!(i in 0 1 2 3 => {
                    out.scale(4 * block + i, half_of_e4m3::<L>(L::shr(scales, 8 * i as u32)));
                    unroll!(k in 0 1 => {
                        let (x, step) = (x[2 * i + k], 16 * block + 4 * i + k);
                        out.put(step, L::lookup(&FP4_PLUS_TOP, low::<L>(x)));
                    });
                    unroll!(k in 0 1 => {
                        let (x, step) = (x[2 * i + k], 16 * block + 4 * i + 2 + k);
                        out.put(step, L::lookup(&FP4_PLUS_TOP, high::<L>(x)));
                    });
                    out.flush(4 * block + i);
                });
            }
        }
    }
}

/// The scale of a ternary block, whose f16 is the upper half of the dword at `at`, for its eight groups.
#[inline(always)]
unsafe fn ternary_scales<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, at: usize, out: &mut S) {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let s = L::f16(L::shr(L::column(rows, at), 16));
        unroll!(g in 0 1 2 3 4 5 6 7 => { out.scale(g, s) });
    }
}

/// `TQ2_0` super-blocks.
pub(crate) struct TQ2_0;

impl Format for TQ2_0 {
    const SPAN_BYTES: usize = 66;
    const UNIT: usize = 4;
    type Class = Symmetric<256, false, 15, 1>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            ternary_scales::<L, S, FULL>(rows, 62, out);
            unroll!(half in 0 1 => {
                let x = columns8::<L, FULL>(rows, 32 * half);
                unroll!(k in 0 1 2 3 4 5 6 7 => {
                    unroll!(part in 0 1 2 3 => {
                        out.put(32 * half + 8 * part + k, two_bits::<L>(x[k], 2 * part as u32));
                    });
                });
                unroll!(part in 0 1 2 3 => { out.flush(4 * half + part) });
            });
        }
    }
}

/// `TQ1_0` super-blocks.
pub(crate) struct TQ1_0;

/// Bytes that are fractions of 256 in base three, with those at odd places apart: each in 16 bits.
struct Digits<L: Lanes> {
    even: L::I,
    odd: L::I,
}

impl<L: Lanes> Digits<L> {
    #[inline(always)]
    unsafe fn new(x: L::I) -> Digits<L> {
        // SAFETY: as `Lanes` demands.
        unsafe {
            let bytes = L::set1(0x00ff_00ff);
            Digits { even: L::and(x, bytes), odd: L::and(L::shr(x, 8), bytes) }
        }
    }

    /// The next digit of each byte.
    #[inline(always)]
    unsafe fn next(&mut self) -> L::I {
        // SAFETY: as `Lanes` demands.
        unsafe {
            let (even, odd) =
                (L::add(self.even, L::shl(self.even, 1)), L::add(self.odd, L::shl(self.odd, 1)));
            let bytes = L::set1(0x00ff_00ff);
            (self.even, self.odd) = (L::and(even, bytes), L::and(odd, bytes));
            L::or(L::and(L::shr(even, 8), L::set1(0x0003_0003)), L::and(odd, L::set1(0x0300_0300)))
        }
    }
}

impl Format for TQ1_0 {
    const SPAN_BYTES: usize = 54;
    const UNIT: usize = 8;
    type Class = Symmetric<256, false, 15, 1>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            ternary_scales::<L, S, FULL>(rows, 50, out);
            let x = columns8::<L, FULL>(rows, 0);
            unroll!(k in 0 1 2 3 4 5 6 7 => {
                let mut digits = Digits::<L>::new(x[k]);
                unroll!(digit in 0 1 2 3 4 => { out.put(8 * digit + k, digits.next()) });
            });
            let x = L::columns(rows, 32);
            unroll!(k in 0 1 2 3 => {
                let mut digits = Digits::<L>::new(x[k]);
                unroll!(digit in 0 1 2 3 4 => { out.put(40 + 4 * digit + k, digits.next()) });
            });
            let mut digits = Digits::<L>::new(L::column(rows, 48));
            unroll!(digit in 0 1 2 3 => { out.put(60 + digit, digits.next()) });
            unroll!(g in 0 1 2 3 4 5 6 7 => { out.flush(g) });
        }
    }
}
