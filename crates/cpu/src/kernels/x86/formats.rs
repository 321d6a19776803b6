//! The 32-value formats, unpacked for several rows at once. Layouts: `whit_base::quant`.
//!
//! A *span* is 256 values: eight blocks here, one super-block in `formats_k`.

use super::lanes::{Lanes, Rows};
use super::tile::{Affine, Factor, Sink, Symmetric};

/// A quantized format, read as `w = s * u` with `u` an unsigned byte, `s` per group of 32 or 16 values, and an
/// [`Offset`](super::tile::Offset).
///
/// # Safety
/// Methods may only be reached from code compiled for the level of `L`; the rows must have the span's bytes, or those
/// of `n` blocks of 32.
pub(crate) trait Format {
    /// Bytes of 256 values.
    const SPAN_BYTES: usize;
    /// Groups that are unpacked side by side before [`Sink::flush`] ends them.
    const UNIT: usize;
    type Class: Factor;

    /// Unpacks the first span of the rows, of which `n` groups of 32 values exist.
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, n: usize, out: &mut S);
}

/// The low nibble of each byte.
#[inline(always)]
pub(crate) unsafe fn low<L: Lanes>(x: L::I) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { L::and(x, L::set1(0x0f0f_0f0f)) }
}

/// The high nibble of each byte.
#[inline(always)]
pub(crate) unsafe fn high<L: Lanes>(x: L::I) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe { low::<L>(L::shr(x, 4)) }
}

/// Bits `4 i .. 4 i + 4` of each lane as 0x10 in its four bytes.
#[inline(always)]
unsafe fn fifth<L: Lanes>(bits: L::I, i: usize) -> L::I {
    // SAFETY: as `Lanes` demands.
    unsafe {
        let x = L::and(L::shr(bits, 4 * i as u32), L::set1(15));
        // Copies of the four bits at 4, 11, 18 and 25 do not overlap; bit k of copy k lies at 8 k + 4.
        L::and(L::mul32(x, L::set1(0x0204_0810)), L::set1(0x1010_1010))
    }
}

/// Formats whose blocks end in 16 bytes of nibbles, low ones first, at `$at`. `$head` gives away scale and offset of group
/// `g` and has what else is needed for `$unpacked`, a function of `(u, dword)`.
macro_rules! nibbles {
    ($name:ident, $bytes:literal, $at:literal, $class:ty, |$l:ident, $rows:ident, $p:ident, $out:ident, $g:ident| $head:expr,
        |$extra:ident, $u:ident, $i:ident| $unpacked:expr) => {
        #[doc = concat!("`", stringify!($name), "` blocks.")]
        pub(crate) struct $name;

        impl Format for $name {
            const SPAN_BYTES: usize = 8 * $bytes;
            const UNIT: usize = 1;
            type Class = $class;

            #[inline(always)]
            unsafe fn unpack<$l: Lanes, S: Sink<$l>, const FULL: bool>(
                $rows: &Rows<FULL>,
                n: usize,
                $out: &mut S,
            ) {
                // SAFETY: as the trait demands.
                unsafe {
                    for $g in 0..n {
                        let $p = $g * $bytes;
                        let $extra = $head;
                        let columns = $l::columns($rows, $p + $at);
                        unroll!(k in 0 1 2 3 => {
                            let ($u, $i) = (low::<$l>(columns[k]), k);
                            $out.put(8 * $g + k, $unpacked);
                        });
                        unroll!(k in 0 1 2 3 => {
                            let ($u, $i) = (high::<$l>(columns[k]), 4 + k);
                            $out.put(8 * $g + 4 + k, $unpacked);
                        });
                        $out.flush($g);
                    }
                }
            }
        }
    };
}

/// The first four dwords of the rows' blocks, of which three are used at most.
#[inline(always)]
pub(super) unsafe fn head<L: Lanes, const FULL: bool>(rows: &Rows<FULL>, p: usize) -> [L::I; 4] {
    rows.ask(L::ROWS / 8);
    // SAFETY: as `Lanes` demands.
    unsafe { L::transposed(rows, p) }
}

nibbles!(
    Q4_0,
    18,
    2,
    Symmetric<32, false, 15, 8>,
    |L, rows, p, out, g| out.scale(g, L::f16(L::column(rows, p))),
    |_none, u, _i| u
);
nibbles!(
    Q4_1,
    20,
    4,
    Affine<15>,
    |L, rows, p, out, g| {
        let x = L::column(rows, p);
        out.scale(g, L::f16(x));
        out.offset(g, L::f16(L::shr(x, 16)));
    },
    |_none, u, _i| u
);
nibbles!(
    Q5_0,
    22,
    6,
    Symmetric<32, false, 31, 16>,
    |L, rows, p, out, g| {
        let [a, b, ..] = head::<L, FULL>(rows, p);
        out.scale(g, L::f16(a));
        L::or(L::shr(a, 16), L::shl(b, 16))
    },
    |bits, u, i| L::or(u, fifth::<L>(bits, i))
);
nibbles!(
    Q5_1,
    24,
    8,
    Affine<31>,
    |L, rows, p, out, g| {
        let [x, bits, ..] = head::<L, FULL>(rows, p);
        out.scale(g, L::f16(x));
        out.offset(g, L::f16(L::shr(x, 16)));
        bits
    },
    |bits, u, i| L::or(u, fifth::<L>(bits, i))
);
nibbles!(
    IQ4_NL,
    18,
    2,
    Symmetric<32, false, 255, 128>,
    |L, rows, p, out, g| out.scale(g, L::f16(L::column(rows, p))),
    |_none, u, _i| L::lookup(&IQ4_PLUS_128, u)
);

/// `Q8_0` blocks.
pub(crate) struct Q8_0;

impl Format for Q8_0 {
    const SPAN_BYTES: usize = 8 * 34;
    const UNIT: usize = 1;
    type Class = Symmetric<32, false, 255, 128>;

    #[inline(always)]
    unsafe fn unpack<L: Lanes, S: Sink<L>, const FULL: bool>(rows: &Rows<FULL>, n: usize, out: &mut S) {
        // SAFETY: as the trait demands.
        unsafe {
            let flip = L::set1(0x8080_8080_u32 as i32);
            for g in 0..n {
                let p = 34 * g;
                out.scale(g, L::f16(L::column(rows, p)));
                let (first, second) = (L::columns(rows, p + 2), L::columns(rows, p + 18));
                unroll!(k in 0 1 2 3 => { out.put(8 * g + k, L::xor(first[k], flip)) });
                unroll!(k in 0 1 2 3 => { out.put(8 * g + 4 + k, L::xor(second[k], flip)) });
                out.flush(g);
            }
        }
    }
}

/// The IQ4 codebook plus 128, so that entries are unsigned.
pub(crate) const IQ4_PLUS_128: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (whit_base::quant::iq4_nl::LEVELS[i] as i16 + 128) as u8;
        i += 1;
    }
    table
};
