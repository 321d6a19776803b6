//! The 256-value formats, unpacked for several rows at once. A span is one super-block. Layouts: `whit_base::quant`.

use super::formats::{Format, IQ4_PLUS_128, high, low};
use super::lanes::{Lanes, Rows};
use super::tile::{Sink, Symmetric, WithMinimums};

/// Byte `i` of each lane, unsigned.
#[inline(always)]
pub(super) unsafe fn byte<L: Lanes>(x: L::I, i: usize) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { L::and(L::shr(x, 8 * i as u32), L::set1(255)) }
}

/// Bytes `2 i` and `2 i + 1` of each lane as its two halves.
#[inline(always)]
unsafe fn two_bytes<L: Lanes>(x: L::I, i: usize) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let (first, second) = if i == 0 { (x, L::shl(x, 8)) } else { (L::shr(x, 16), L::shr(x, 8)) };
        L::or(L::and(first, L::set1(0xff)), L::and(second, L::set1(0x00ff_0000)))
    }
}

#[inline(always)]
unsafe fn negative<L: Lanes>(x: L::F) -> L::F {
    // SAFETY: as `Lanes` demands.
    unsafe { L::mul(x, L::set1_f(-1.0)) }
}

/// The two low bits of each byte, shifted down by `n` before.
#[inline(always)]
pub(super) unsafe fn two_bits<L: Lanes>(x: L::I, n: u32) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { L::and(L::shr(x, n), L::set1(0x0303_0303)) }
}

/// Bit `n` of each byte, moved to bit `to`.
#[inline(always)]
unsafe fn bit<L: Lanes>(x: L::I, n: u32, to: u32) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { L::and(if n > to { L::shr(x, n - to) } else { L::shl(x, to - n) }, L::set1(0x0101_0101 << to)) }
}

/// Eight dwords of each row.
#[inline(always)]
pub(super) unsafe fn columns8<L: Lanes, const FULL: bool>(rows: &Rows<FULL>, at: usize) -> [L::I; 8] {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let ([a, b, c, d], [e, f, g, h]) = (L::columns(rows, at), L::columns(rows, at + 16));
        [a, b, c, d, e, f, g, h]
    }
}

/// The scales and minimums of Q4_K and Q5_K: d, dmin and twelve bytes of 6-bit numbers.
#[inline(always)]
unsafe fn scales_and_mins<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, out: &mut S) {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let [head, a, b, c] = L::columns(rows, 0);
        let d = L::f16(head);
        out.minimum_scale(negative::<L>(L::f16(L::shr(head, 16))));
        let (six, two) = (L::set1(0x3f3f_3f3f), L::set1(0x3030_3030));
        let s = [L::and(a, six), L::or(low::<L>(c), L::and(L::shr(a, 2), two))];
        let m = [L::and(b, six), L::or(high::<L>(c), L::and(L::shr(b, 2), two))];
        unroll!(g in 0 1 2 3 4 5 6 7 => {
            out.scale(g, L::mul(L::to_f32(byte::<L>(s[g / 4], g % 4)), d));
        });
        unroll!(pair in 0 1 2 3 => { out.minimums(pair, two_bytes::<L>(m[pair / 2], pair % 2)) });
    }
}

/// `Q4_K` super-blocks.
pub(crate) struct Q4_K;

impl Format for Q4_K {
    const SPAN_BYTES: usize = 144;
    const UNIT: usize = 2;
    type Class = WithMinimums<false, 15>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            scales_and_mins::<L, S, FULL>(rows, out);
            unroll!(j in 0 1 2 3 => {
                let x = columns8::<L, FULL>(rows, 16 + 32 * j);
                unroll!(k in 0 1 2 3 4 5 6 7 => {
                    out.put(16 * j + k, low::<L>(x[k]));
                    out.put(16 * j + 8 + k, high::<L>(x[k]));
                });
                out.flush(2 * j);
                out.flush(2 * j + 1);
            });
        }
    }
}

/// `Q5_K` super-blocks.
pub(crate) struct Q5_K;

impl Format for Q5_K {
    const SPAN_BYTES: usize = 176;
    const UNIT: usize = 2;
    type Class = WithMinimums<false, 31>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            scales_and_mins::<L, S, FULL>(rows, out);
            let bits = columns8::<L, FULL>(rows, 16);
            unroll!(j in 0 1 2 3 => {
                let x = columns8::<L, FULL>(rows, 48 + 32 * j);
                unroll!(k in 0 1 2 3 4 5 6 7 => {
                    let (first, second) =
                        (bit::<L>(bits[k], 2 * j as u32, 4), bit::<L>(bits[k], 2 * j as u32 + 1, 4));
                    out.put(16 * j + k, L::or(low::<L>(x[k]), first));
                    out.put(16 * j + 8 + k, L::or(high::<L>(x[k]), second));
                });
                out.flush(2 * j);
                out.flush(2 * j + 1);
            });
        }
    }
}

/// `Q6_K` super-blocks.
pub(crate) struct Q6_K;

impl Format for Q6_K {
    const SPAN_BYTES: usize = 210;
    const UNIT: usize = 8;
    type Class = Symmetric<256, true, 63, 32>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            // The last two bytes, read with the two before them.
            let d = L::f16(L::shr(L::column(rows, 206), 16));
            let scales = L::columns(rows, 192);
            unroll!(k in 0 1 2 3 => {
                unroll!(i in 0 1 2 3 => {
                    let s = L::to_f32(L::sar(L::shl(scales[k], 24 - 8 * i as u32), 24));
                    out.scale(4 * k + i, L::mul(s, d));
                });
            });
            unroll!(half in 0 1 => {
                let upper = columns8::<L, FULL>(rows, 128 + 32 * half);
                unroll!(part in 0 1 => {
                    let lower = columns8::<L, FULL>(rows, 64 * half + 32 * part);
                    unroll!(k in 0 1 2 3 4 5 6 7 => {
                        let n = 2 * part as u32;
                        let first = L::shl(two_bits::<L>(upper[k], n), 4);
                        let second = L::shl(two_bits::<L>(upper[k], n + 4), 4);
                        let step = 32 * half + 8 * part + k;
                        out.put(step, L::or(low::<L>(lower[k]), first));
                        out.put(step + 16, L::or(high::<L>(lower[k]), second));
                    });
                });
                unroll!(g in 0 1 2 3 4 5 6 7 => { out.flush(8 * half + g) });
            });
        }
    }
}

/// `Q3_K` super-blocks.
pub(crate) struct Q3_K;

impl Format for Q3_K {
    const SPAN_BYTES: usize = 110;
    const UNIT: usize = 8;
    type Class = Symmetric<256, true, 15, 4>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            // The last sixteen bytes: two of quants, twelve of scales, d.
            let [a, b, c, e] = L::columns(rows, 94);
            let d = L::f16(L::shr(e, 16));
            let a = L::or(L::shr(a, 16), L::shl(b, 16));
            let b = L::or(L::shr(b, 16), L::shl(c, 16));
            let c = L::or(L::shr(c, 16), L::shl(e, 16));
            let s = [
                L::or(low::<L>(a), L::shl(two_bits::<L>(c, 0), 4)),
                L::or(low::<L>(b), L::shl(two_bits::<L>(c, 2), 4)),
                L::or(high::<L>(a), L::shl(two_bits::<L>(c, 4), 4)),
                L::or(high::<L>(b), L::shl(two_bits::<L>(c, 6), 4)),
            ];
            let bias = L::set1(32);
            unroll!(g in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 => {
                out.scale(g, L::mul(L::to_f32(L::sub(byte::<L>(s[g / 4], g % 4), bias)), d));
            });
            let bits = columns8::<L, FULL>(rows, 0);
            unroll!(half in 0 1 => {
                let x = columns8::<L, FULL>(rows, 32 + 32 * half);
                unroll!(k in 0 1 2 3 4 5 6 7 => {
                    unroll!(part in 0 1 2 3 => {
                        let g = 4 * half + part;
                        let u = L::or(two_bits::<L>(x[k], 2 * part as u32), bit::<L>(bits[k], g as u32, 2));
                        out.put(8 * g + k, u);
                    });
                });
                unroll!(g in 0 1 2 3 4 5 6 7 => { out.flush(8 * half + g) });
            });
        }
    }
}

/// `Q2_K` super-blocks.
pub(crate) struct Q2_K;

impl Format for Q2_K {
    const SPAN_BYTES: usize = 84;
    const UNIT: usize = 8;
    type Class = WithMinimums<true, 15>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let head = L::column(rows, 80);
            let d = L::f16(head);
            out.minimum_scale(negative::<L>(L::f16(L::shr(head, 16))));
            let scales = L::columns(rows, 0);
            unroll!(k in 0 1 2 3 => {
                let (s, m) = (low::<L>(scales[k]), high::<L>(scales[k]));
                unroll!(i in 0 1 2 3 => { out.scale(4 * k + i, L::mul(L::to_f32(byte::<L>(s, i)), d)) });
                unroll!(i in 0 1 => { out.minimums(2 * k + i, two_bytes::<L>(m, i)) });
            });
            unroll!(half in 0 1 => {
                let x = columns8::<L, FULL>(rows, 16 + 32 * half);
                unroll!(k in 0 1 2 3 4 5 6 7 => {
                    unroll!(part in 0 1 2 3 => {
                        out.put(32 * half + 8 * part + k, two_bits::<L>(x[k], 2 * part as u32));
                    });
                });
                unroll!(g in 0 1 2 3 4 5 6 7 => { out.flush(8 * half + g) });
            });
        }
    }
}

/// `IQ4_XS` super-blocks.
pub(crate) struct IQ4_XS;

impl Format for IQ4_XS {
    const SPAN_BYTES: usize = 136;
    const UNIT: usize = 1;
    type Class = Symmetric<256, false, 255, 128>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, _: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let [head, lower, ..] = L::columns(rows, 0);
            let d = L::f16(head);
            let upper = L::shr(head, 16);
            unroll!(g in 0 1 2 3 4 5 6 7 => {
                let s = L::and(L::shr(lower, 4 * g as u32), L::set1(15));
                let s = L::or(s, L::shl(L::and(L::shr(upper, 2 * g as u32), L::set1(3)), 4));
                out.scale(g, L::mul(L::to_f32(L::sub(s, L::set1(32))), d));
            });
            unroll!(g in 0 1 2 3 4 5 6 7 => {
                let x = L::columns(rows, 8 + 16 * g);
                unroll!(k in 0 1 2 3 => {
                    out.put(8 * g + k, L::lookup(&IQ4_PLUS_128, low::<L>(x[k])));
                    out.put(8 * g + 4 + k, L::lookup(&IQ4_PLUS_128, high::<L>(x[k])));
                });
                out.flush(g);
            });
        }
    }
}
