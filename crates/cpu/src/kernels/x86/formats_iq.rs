//! The formats whose values are points of a grid, unpacked for several rows at once. Layouts: `whit_base::quant`.
//!
//! Each lane holds two indices of points, side by side, and [`Lanes::grid`] replaces them by the points, packed in 16 bits each.
//! Their levels are spread to bytes, a sign is put beside each as bit 3, and one look-up in a register gives the unsigned byte
//! that a product takes.

use whit_base::quant::{grids, iq2_xxs, iq3_s, iq3_xxs};

use super::formats::{Format, head};
use super::formats_k::{byte, two_bits};
use super::lanes::{Lanes, Rows};
use super::tile::{Sink, Symmetric};

/// Points of a grid, 16 bits each. What follows the last may be read with it.
#[repr(C, align(64))]
pub(crate) struct Grid<const N: usize> {
    pub(super) points: [u16; N],
    behind: [u16; 2],
}

impl<const N: usize> Grid<N> {
    /// Packs points of `len` values, of `bits` bits in a point, so that values 0 and 1 are the lowest bits of the two bytes, 2 and
    /// 3 the next ones, and so on.
    const fn new(from: &[u16; N], len: usize) -> Grid<N> {
        let bits = 16 / len;
        let mut points = [0; N];
        let mut n = 0;
        while n < N {
            let mut i = 0;
            while i < len {
                let level = from[n] >> (bits * i) & ((1 << bits) - 1);
                points[n] |= level << (8 * (i % 2) + bits * (i / 2));
                i += 1;
            }
            n += 1;
        }
        Grid { points, behind: [0; 2] }
    }
}

static IQ2_XXS_GRID: Grid<256> = Grid::new(&grids::IQ2_XXS, 8);
static IQ2_XS_GRID: Grid<512> = Grid::new(&grids::IQ2_XS, 8);
static IQ2_S_GRID: Grid<1024> = Grid::new(&grids::IQ2_S, 8);
static IQ3_XXS_GRID: Grid<256> = Grid::new(&grids::IQ3_XXS, 4);
static IQ3_S_GRID: Grid<512> = Grid::new(&grids::IQ3_S, 4);
static IQ1_GRID: Grid<2048> = Grid::new(&grids::IQ1, 8);

/// What levels are shifted by to be unsigned.
const IQ2_BIAS: i16 = 64;
const IQ3_XXS_BIAS: i16 = 64;
const IQ3_S_BIAS: i16 = 16;
const IQ1_BIAS: i16 = 9;

/// Bytes by level, and by level and bit 3 where they are negative.
const fn signed<const N: usize>(levels: &[u8; N], bias: i16) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < N {
        (table[i], table[8 + i]) = (bias as u8 + levels[i], bias as u8 - levels[i]);
        i += 1;
    }
    table
}

const IQ2_BYTES: [u8; 16] = signed(&iq2_xxs::LEVELS, IQ2_BIAS);
const IQ3_XXS_BYTES: [u8; 16] = signed(&iq3_xxs::LEVELS, IQ3_XXS_BIAS);
const IQ3_S_BYTES: [u8; 16] = signed(&iq3_s::LEVELS, IQ3_S_BIAS);
/// Eight times a level and its delta, which bit 3 makes negative.
const IQ1_BYTES: [u8; 16] = [2, 10, 18, 0, 0, 0, 0, 0, 0, 8, 16, 0, 0, 0, 0, 0];

/// Four signs as bit 3 of four bytes.
const SIGNS: [u32; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = 8 * (i as u32 & 1 | (i as u32 & 2) << 7 | (i as u32 & 4) << 14 | (i as u32 & 8) << 21);
        i += 1;
    }
    table
};

/// Bytes `n` and `n + 1` of two registers by halves: the lower of both, and the upper of both.
#[inline(always)]
unsafe fn halves<L: Lanes>(a: L::I, b: L::I) -> [L::I; 2] {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let low = L::set1(0xffff);
        [L::or(L::and(a, low), L::shl(b, 16)), L::or(L::shr(a, 16), L::and(b, L::set1(!0xffff)))]
    }
}

/// The levels of the two points of eight values in each lane, as `[[first four, last four] of the lower, of the upper]`.
#[inline(always)]
unsafe fn eights<L: Lanes>(points: L::I) -> [[L::I; 2]; 2] {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let first = halves::<L>(two_bits::<L>(points, 0), two_bits::<L>(points, 2));
        let last = halves::<L>(two_bits::<L>(points, 4), two_bits::<L>(points, 6));
        [[first[0], last[0]], [first[1], last[1]]]
    }
}

/// The levels of the two points of four values in each lane.
#[inline(always)]
unsafe fn fours<L: Lanes>(points: L::I) -> [L::I; 2] {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let nibbles = L::set1(0x0f0f_0f0f);
        halves::<L>(L::and(points, nibbles), L::and(L::shr(points, 4), nibbles))
    }
}

/// Bytes 0 and 2 of each lane, and bytes 1 and 3, as two indices.
#[inline(always)]
unsafe fn indices<L: Lanes>(x: L::I) -> [L::I; 2] {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let bytes = L::set1(0x00ff_00ff);
        [L::and(x, bytes), L::and(L::shr(x, 8), bytes)]
    }
}

/// Bits of `x` as the upper bits of two indices: what `mask` leaves of it when it is shifted left by `lower` and by `upper`.
#[inline(always)]
unsafe fn above<L: Lanes>(x: L::I, lower: u32, upper: u32, mask: i32) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { L::or(L::and(L::shl(x, lower), L::set1(mask)), L::and(L::shl(x, upper), L::set1(mask << 16))) }
}

/// Four bytes of seven signs each, completed by an eighth that makes the number of ones even.
#[inline(always)]
unsafe fn even<L: Lanes>(signs: L::I) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let x = L::xor(signs, L::shr(signs, 4));
        let x = L::xor(x, L::shr(x, 2));
        let x = L::xor(x, L::shr(x, 1));
        L::or(signs, L::shl(L::and(x, L::set1(0x0101_0101)), 7))
    }
}

/// Four times seven bits, from the lowest on, as bytes.
#[inline(always)]
unsafe fn sevens<L: Lanes>(x: L::I) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let (a, b) = (L::and(x, L::set1(0x7f)), L::and(L::shl(x, 1), L::set1(0x7f00)));
        let (c, d) = (L::and(L::shl(x, 2), L::set1(0x7f_0000)), L::and(L::shl(x, 3), L::set1(0x7f00_0000)));
        L::or(L::or(a, b), L::or(c, d))
    }
}

/// Puts the four eights of group `g` of 32 values: points 0 and 2 in the lanes of the first register, 1 and 3 in the second.
/// `marks` are bit 3 of the values' bytes, by eight and half.
#[inline(always)]
unsafe fn put_eights<L: Lanes, S: Sink<L>>(
    out: &mut S,
    g: usize,
    points: [L::I; 2],
    bytes: &[u8; 16],
    marks: [[L::I; 2]; 4],
) {
    // SAFETY: as `Sink` demands.
    unsafe {
        let ([a, c], [b, d]) = (eights::<L>(points[0]), eights::<L>(points[1]));
        let levels = [a, b, c, d];
        unroll!(i in 0 1 2 3 => {
            unroll!(half in 0 1 => {
                let u = L::lookup(bytes, L::or(levels[i][half], marks[i][half]));
                out.put(8 * g + 2 * i + half, u);
            });
        });
    }
}

/// Puts half `half` of group `g` of 32 values: points 0 and 2 in the lanes of the first register, 1 and 3 in the second.
#[inline(always)]
unsafe fn put_fours<L: Lanes, S: Sink<L>>(
    out: &mut S,
    (g, half): (usize, usize),
    points: [L::I; 2],
    bytes: &[u8; 16],
    signs: L::I,
) {
    // SAFETY: as `Sink` demands.
    unsafe {
        let ([a, c], [b, d]) = (fours::<L>(points[0]), fours::<L>(points[1]));
        let levels = [a, b, c, d];
        unroll!(i in 0 1 2 3 => {
            let u = L::lookup(bytes, L::or(levels[i], signs_at::<L>(signs, 4 * half + i)));
            out.put(8 * g + 4 * half + i, u);
        });
    }
}

/// Signs `4 i .. 4 i + 4` of each lane as bit 3 of its bytes.
#[inline(always)]
unsafe fn signs_at<L: Lanes>(signs: L::I, i: usize) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { L::pick(&SIGNS, L::shr(signs, 4 * i as u32)) }
}

/// The signs of four eights, by eight and half. Not by `map`, which is not always inlined.
#[inline(always)]
unsafe fn signs_of_eights<L: Lanes>(signs: L::I) -> [[L::I; 2]; 4] {
    // SAFETY: as `Lanes` demands.
    unsafe {
        [
            [signs_at::<L>(signs, 0), signs_at::<L>(signs, 1)],
            [signs_at::<L>(signs, 2), signs_at::<L>(signs, 3)],
            [signs_at::<L>(signs, 4), signs_at::<L>(signs, 5)],
            [signs_at::<L>(signs, 6), signs_at::<L>(signs, 7)],
        ]
    }
}

/// `d * (2 * code + 1) / divisor`.
#[inline(always)]
unsafe fn scale<L: Lanes>(d: L::F, code: L::I, divisor: f32) -> L::F {
    // SAFETY: as `Lanes` demands.
    unsafe { L::mul(L::fma(L::to_f32(code), L::set1_f(2.0 / divisor), L::set1_f(1.0 / divisor)), d) }
}

/// The nibbles of two dwords as scales of 16 groups of IQ2.
#[inline(always)]
unsafe fn scales16<L: Lanes, S: Sink<L>>(out: &mut S, d: L::F, codes: [L::I; 2]) {
    // SAFETY: as `Sink` demands.
    unsafe {
        unroll!(g in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 => {
            let code = L::and(L::shr(codes[g / 8], 4 * (g % 8) as u32), L::set1(15));
            out.scale(g, scale::<L>(d, code, 8.0));
        });
    }
}

/// `IQ2_XXS` super-blocks.
pub(crate) struct IQ2_XXS;

impl Format for IQ2_XXS {
    const SPAN_BYTES: usize = 66;
    const UNIT: usize = 1;
    type Class = Symmetric<256, false, 127, IQ2_BIAS>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let d = L::f16(L::column(rows, 0));
            unroll!(pair in 0 1 2 3 => {
                let x = L::columns(rows, 2 + 16 * pair);
                unroll!(one in 0 1 => {
                    let (g, q, rest) = (2 * pair + one, x[2 * one], x[2 * one + 1]);
                    out.scale(g, scale::<L>(d, L::shr(rest, 28), 8.0));
                    let signs = even::<L>(sevens::<L>(rest));
                    let [a, b] = indices::<L>(q);
                    let points = [L::grid(&IQ2_XXS_GRID, a), L::grid(&IQ2_XXS_GRID, b)];
                    put_eights::<L, S>(out, g, points, &IQ2_BYTES, signs_of_eights::<L>(signs));
                    out.flush(g);
                });
            });
        }
    }
}

/// `IQ2_XS` super-blocks.
pub(crate) struct IQ2_XS;

impl Format for IQ2_XS {
    const SPAN_BYTES: usize = 74;
    const UNIT: usize = 2;
    type Class = Symmetric<256, true, 127, IQ2_BIAS>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let d = L::f16(L::column(rows, 0));
            let [_, _, a, b] = head::<L, FULL>(rows, 58);
            scales16::<L, S>(out, d, [a, b]);
            unroll!(pair in 0 1 2 3 => {
                let x = L::columns(rows, 2 + 16 * pair);
                unroll!(one in 0 1 => {
                    let (g, x) = (2 * pair + one, [x[2 * one], x[2 * one + 1]]);
                    // A dword has two eights; seven signs are above nine bits of each.
                    let signs = [sign_bytes::<L>(x[0]), sign_bytes::<L>(x[1])];
                    let signs = even::<L>(L::or(signs[0], L::shl(signs[1], 16)));
                    let nine = L::set1(0x01ff_01ff);
                    let points = [L::grid(&IQ2_XS_GRID, L::and(x[0], nine)), L::grid(&IQ2_XS_GRID, L::and(x[1], nine))];
                    let ([a, b], [c, d]) = (eights::<L>(points[0]), eights::<L>(points[1]));
                    let levels = [a, b, c, d];
                    unroll!(i in 0 1 2 3 => {
                        unroll!(half in 0 1 => {
                            let u = L::or(levels[i][half], signs_at::<L>(signs, 2 * i + half));
                            out.put(8 * g + 2 * i + half, L::lookup(&IQ2_BYTES, u));
                        });
                    });
                    out.flush(2 * g);
                    out.flush(2 * g + 1);
                });
            });
        }
    }
}

/// Bits 9 to 15 and 25 to 31 of each lane as its lower two bytes.
#[inline(always)]
unsafe fn sign_bytes<L: Lanes>(x: L::I) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { L::or(L::and(L::shr(x, 9), L::set1(0x7f)), L::and(L::shr(x, 17), L::set1(0x7f00))) }
}

/// `IQ2_S` super-blocks.
pub(crate) struct IQ2_S;

impl Format for IQ2_S {
    const SPAN_BYTES: usize = 82;
    const UNIT: usize = 2;
    type Class = Symmetric<256, true, 127, IQ2_BIAS>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let d = L::f16(L::column(rows, 0));
            let [above0, above1, a, b] = L::columns(rows, 66);
            scales16::<L, S>(out, d, [a, b]);
            let uppers = [above0, above1];
            unroll!(part in 0 1 => {
                let q = L::columns(rows, 2 + 16 * part);
                let signs = L::columns(rows, 34 + 16 * part);
                unroll!(one in 0 1 2 3 => {
                    let (g, signs) = (4 * part + one, signs[one]);
                    let upper = byte::<L>(uppers[part], one);
                    let [a, b] = indices::<L>(q[one]);
                    let (a, b) = (L::or(a, above::<L>(upper, 8, 20, 0x300)), L::or(b, above::<L>(upper, 6, 18, 0x300)));
                    let points = [L::grid(&IQ2_S_GRID, a), L::grid(&IQ2_S_GRID, b)];
                    put_eights::<L, S>(out, g, points, &IQ2_BYTES, signs_of_eights::<L>(signs));
                    out.flush(2 * g);
                    out.flush(2 * g + 1);
                });
            });
        }
    }
}

/// `IQ3_XXS` super-blocks.
pub(crate) struct IQ3_XXS;

impl Format for IQ3_XXS {
    const SPAN_BYTES: usize = 98;
    const UNIT: usize = 1;
    type Class = Symmetric<256, false, 127, IQ3_XXS_BIAS>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let d = L::f16(L::column(rows, 0));
            unroll!(part in 0 1 => {
                let rest = L::columns(rows, 66 + 16 * part);
                unroll!(pair in 0 1 => {
                    let q = L::columns(rows, 2 + 32 * part + 16 * pair);
                    unroll!(one in 0 1 => {
                        let (g, rest) = (4 * part + 2 * pair + one, rest[2 * pair + one]);
                        out.scale(g, scale::<L>(d, L::shr(rest, 28), 4.0));
                        let signs = even::<L>(sevens::<L>(rest));
                        unroll!(half in 0 1 => {
                            let [a, b] = indices::<L>(q[2 * one + half]);
                            let points = [L::grid(&IQ3_XXS_GRID, a), L::grid(&IQ3_XXS_GRID, b)];
                            put_fours::<L, S>(out, (g, half), points, &IQ3_XXS_BYTES, signs);
                        });
                        out.flush(g);
                    });
                });
            });
        }
    }
}

/// `IQ3_S` super-blocks.
pub(crate) struct IQ3_S;

impl Format for IQ3_S {
    const SPAN_BYTES: usize = 110;
    const UNIT: usize = 1;
    type Class = Symmetric<256, false, 31, IQ3_S_BIAS>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let d = L::f16(L::column(rows, 0));
            let ([above0, above1, a, b], [c, e, f, _]) = (L::columns(rows, 66), L::columns(rows, 82));
            // The last four, of which the first was read before.
            let [h, i, j, codes] = L::columns(rows, 94);
            let (uppers, signs) = ([above0, above1], [a, b, c, e, f, h, i, j]);
            unroll!(pair in 0 1 2 3 => {
                let q = L::columns(rows, 2 + 16 * pair);
                unroll!(one in 0 1 => {
                    let g = 2 * pair + one;
                    let code = L::and(L::shr(codes, 4 * g as u32), L::set1(15));
                    out.scale(g, scale::<L>(d, code, 1.0));
                    unroll!(half in 0 1 => {
                        let upper = L::and(L::shr(uppers[g / 4], (8 * (g % 4) + 4 * half) as u32), L::set1(15));
                        let [a, b] = indices::<L>(q[2 * one + half]);
                        let a = L::or(a, above::<L>(upper, 8, 22, 0x100));
                        let b = L::or(b, above::<L>(upper, 7, 21, 0x100));
                        let points = [L::grid(&IQ3_S_GRID, a), L::grid(&IQ3_S_GRID, b)];
                        put_fours::<L, S>(out, (g, half), points, &IQ3_S_BYTES, signs[g]);
                    });
                    out.flush(g);
                });
            });
        }
    }
}

/// Bit `n` of each lane as bit 3 of its bytes.
#[inline(always)]
unsafe fn delta<L: Lanes>(x: L::I, n: usize) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { L::and(L::sar(L::shl(x, 31 - n as u32), 31), L::set1(0x0808_0808)) }
}

/// `IQ1_S` super-blocks.
pub(crate) struct IQ1_S;

impl Format for IQ1_S {
    const SPAN_BYTES: usize = 50;
    const UNIT: usize = 1;
    type Class = Symmetric<256, false, 31, IQ1_BIAS>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let d = L::f16(L::column(rows, 0));
            let uppers = L::columns(rows, 34);
            unroll!(part in 0 1 => {
                let q = L::columns(rows, 2 + 16 * part);
                unroll!(one in 0 1 2 3 => {
                    let g = 4 * part + one;
                    let upper = L::and(L::shr(uppers[g / 2], 16 * (g % 2) as u32), L::set1(0xffff));
                    out.scale(g, scale::<L>(d, L::and(L::shr(upper, 12), L::set1(7)), 8.0));
                    let [a, b] = indices::<L>(q[one]);
                    let (a, b) = (L::or(a, above::<L>(upper, 8, 18, 0x700)), L::or(b, above::<L>(upper, 5, 15, 0x700)));
                    let points = [L::grid(&IQ1_GRID, a), L::grid(&IQ1_GRID, b)];
                    put_eights::<L, S>(out, g, points, &IQ1_BYTES, [[delta::<L>(upper, 15); 2]; 4]);
                    out.flush(g);
                });
            });
        }
    }
}

/// `IQ1_M` super-blocks.
pub(crate) struct IQ1_M;

impl Format for IQ1_M {
    const SPAN_BYTES: usize = 56;
    const UNIT: usize = 2;
    type Class = Symmetric<256, true, 31, IQ1_BIAS>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let [_, _, a, b] = head::<L, FULL>(rows, 40);
            // The top nibbles of four words.
            let (low, high) = (above::<L>(L::shr(a, 12), 0, 0, 15), above::<L>(L::shr(b, 12), 0, 0, 15));
            let (low, high) = (L::or(low, L::shr(low, 12)), L::or(high, L::shr(high, 12)));
            let d = L::f16(L::or(L::and(low, L::set1(0xff)), L::shl(L::and(high, L::set1(0xff)), 8)));
            let words = [a, b];
            unroll!(g in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 => {
                let shift = 16 * (g / 4 % 2) + 3 * (g % 4);
                let code = L::and(L::shr(words[g / 8], shift as u32), L::set1(7));
                out.scale(g, scale::<L>(d, code, 8.0));
            });
            let uppers = L::columns(rows, 32);
            unroll!(part in 0 1 => {
                let q = L::columns(rows, 16 * part);
                unroll!(one in 0 1 2 3 => {
                    let g = 4 * part + one;
                    let upper = L::and(L::shr(uppers[g / 2], 16 * (g % 2) as u32), L::set1(0xffff));
                    let [a, b] = indices::<L>(q[one]);
                    let (a, b) = (L::or(a, above::<L>(upper, 8, 16, 0x700)), L::or(b, above::<L>(upper, 4, 12, 0x700)));
                    let points = [L::grid(&IQ1_GRID, a), L::grid(&IQ1_GRID, b)];
                    let deltas = [delta::<L>(upper, 3), delta::<L>(upper, 7), delta::<L>(upper, 11), delta::<L>(upper, 15)];
                    let deltas = [[deltas[0]; 2], [deltas[1]; 2], [deltas[2]; 2], [deltas[3]; 2]];
                    put_eights::<L, S>(out, g, points, &IQ1_BYTES, deltas);
                    out.flush(2 * g);
                    out.flush(2 * g + 1);
                });
            });
        }
    }
}
