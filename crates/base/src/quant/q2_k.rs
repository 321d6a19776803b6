//! Q2_K: 256 values in 84 bytes, 16 groups of 16, `d·scale·q - dmin·min` with 4-bit scales and minima and
//! 2-bit `q`.
//!
//! Bytes: one per group 0..16 (scale in the low nibble, minimum in the high), `q` 16..80, `f16` `d` 80..82
//! and `dmin` 82..84. Each half of 128 values has 32 bytes of four 2-bit planes: byte `l`, plane `p` is value
//! `32p + l`.

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use super::fit::{self, ScaledMin};
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 84;
const _: () = assert!(BLOCK_LEN == DType::Q2_K.block_len() && BLOCK_BYTES == DType::Q2_K.block_bytes());

const QS_AT: usize = 16;
const D_AT: usize = 80;
const DMIN_AT: usize = 82;

/// Error bound: one step of the coarsest grid, `2·max / 3`. Even spacing would promise half a step; the other
/// half is room for the fit, which may give up an extreme for the sake of the rest, and for the rounding of
/// scales.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, D_AT, encode),
    error_bound: 2.0 / 3.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let (d, dmin) = (get_f16(block, D_AT), get_f16(block, DMIN_AT));
    for (g, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[g] & 15);
        let min = dmin * f32::from(block[g] >> 4);
        let (at, shift) = plane(g);
        for (out, byte) in out.iter_mut().zip(&block[at..at + 16]) {
            *out = scale * f32::from(byte >> shift & 3) - min;
        }
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let w = fit::weights(x, importance);
    let (x, w) = (x.as_chunks::<16>().0, w.as_chunks::<16>().0);
    let fitted: ScaledMin<16> = fit::scaled_min(x, w, 3.0, 15.0);
    block.fill(0);
    put_f16(block, D_AT, fitted.d);
    put_f16(block, DMIN_AT, fitted.dmin);
    for (g, x) in x.iter().enumerate() {
        let (scale, min) = (fitted.scales[g], fitted.mins[g]);
        block[g] = scale as u8 | (min as u8) << 4;
        let q = fit::indices(x, fitted.d * scale, -fitted.dmin * min, fit::clamped(0.0, 3.0), 0.0);
        let (at, shift) = plane(g);
        for (byte, q) in block[at..at + 16].iter_mut().zip(q) {
            *byte |= q << shift;
        }
    }
}

/// Where group `g`'s 16 values stand: their first byte, and the shift of their plane.
fn plane(g: usize) -> (usize, usize) {
    (QS_AT + g / 8 * 32 + g % 2 * 16, g % 8 / 2 * 2)
}
