//! IQ1_M: 256 values in 56 bytes, 16 groups of 16, `d·(2·scale + 1)·(level + delta)` with 3-bit scales; eight values at a time
//! have their levels, -1, 0 or 1, from one of 2048 points, and a delta of 1/8 or -1/8 of their own.
//!
//! Bytes: low bits of the points 0..32, a nibble per eight values 32..48 (the point's three top bits, and bit 3 for a negative
//! delta), four `u16` 48..56 with the scales of four groups each, lowest first. Their top nibbles are, lowest first, the `f16`
//! `d`. Points: [`super::grids`].

use half::f16;

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks_or, get_u16};
use super::fit;
use super::grid_fit::{OddScales, odd, odd_scales, own_scale};
use super::iq1_s::{RANGE, Ternary, decode_eight, ternary};
use super::lattice::Sums;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 56;
const _: () = assert!(BLOCK_LEN == DType::IQ1_M.block_len() && BLOCK_BYTES == DType::IQ1_M.block_bytes());

const HIGH_AT: usize = 32;
const SCALES_AT: usize = 48;

/// Error bound: with three levels a value may be given up for the sake of its neighbours altogether, and then it decodes to a
/// delta of either sign.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| {
        let broken = |block: &mut [u8; BLOCK_BYTES]| put_scales(block, f32::NAN, [0; 16]);
        encode_blocks_or(x, importance, out, broken, encode);
    },
    error_bound: 1.25,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let scales: [u16; 4] = std::array::from_fn(|i| get_u16(block, SCALES_AT + 2 * i));
    let d = scales.iter().rev().fold(0, |bits, word| bits << 4 | word >> 12);
    let d = f16::from_bits(d).to_f32();
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = scales[i / 8] >> (i / 2 % 4 * 3) & 7;
        let high = block[HIGH_AT + i / 2] >> (i % 2 * 4);
        let point = usize::from(block[i]) | usize::from(high & 7) << 8;
        decode_eight(point, high & 8 != 0, d * f32::from(2 * scale + 1), out);
    }
}

/// Writes the scales, with `d` in their top nibbles.
fn put_scales(block: &mut [u8; BLOCK_BYTES], d: f32, codes: [u8; 16]) {
    let d = f16::from_f32(d).to_bits();
    for (i, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
        let scales = codes.iter().rev().fold(0, |word, code| word << 3 | u16::from(*code));
        let word = scales | d >> (4 * i) << 12;
        block[SCALES_AT + 2 * i..][..2].copy_from_slice(&word.to_le_bytes());
    }
}

/// The point of least error under a scale, with the better delta.
fn either(x: &[f32; 8], w: &[f32; 8], s: f32) -> Ternary {
    let (up, down) = (ternary(x, w, s, false), ternary(x, w, s, true));
    if down.cost < up.cost { down } else { up }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let w = fit::weights(x, importance);
    let (x, w) = (x.as_chunks::<8>().0, w.as_chunks::<8>().0);
    let find = |i: usize, s: f32| either(&x[i], &w[i], s);
    let sums = |g: usize, s: f32| -> Sums {
        let mut all = find(2 * g, s).sums;
        all += find(2 * g + 1, s).sums;
        all
    };
    let own: [f32; 16] = std::array::from_fn(|g| {
        let peak = fit::peak(x[2 * g..2 * g + 2].as_flattened()).abs();
        own_scale(peak, RANGE, |s| sums(g, s))
    });
    block.fill(0);
    let Some(OddScales { d, codes }) = odd_scales::<16>(own, 7, 1.0, sums) else {
        return put_scales(block, f32::INFINITY, [0; 16]);
    };
    put_scales(block, d, codes);
    for i in 0..32 {
        let eight = find(i, odd(d, codes[i / 2]));
        block[i] = eight.point as u8;
        let high = (eight.point >> 8) as u8 | u8::from(eight.negative) << 3;
        block[HIGH_AT + i / 2] |= high << (i % 2 * 4);
    }
}
