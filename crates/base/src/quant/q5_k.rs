//! Q5_K: 256 values in 176 bytes, 8 groups of 32, `d·scale·q - dmin·min` with 6-bit scales and minima and
//! 5-bit `q`.
//!
//! Bytes: `f16` `d` 0..2 and `dmin` 2..4, scales and minima 4..16 (see [`super::k_scales`]), fifth bits
//! 16..48 (byte `l`, bit `g` is value `l` of group `g`), nibbles 48..176: each 64 values have 32 bytes, the
//! low nibbles are the first 32 values and the high nibbles the next.

use super::codec::{Codec, bytes_at, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use super::fit::{self, ScaledMin};
use super::k_scales;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 176;
const _: () = assert!(BLOCK_LEN == DType::Q5_K.block_len() && BLOCK_BYTES == DType::Q5_K.block_bytes());

const D_AT: usize = 0;
const DMIN_AT: usize = 2;
const SCALES_AT: usize = 4;
const QH_AT: usize = 16;
const QS_AT: usize = 48;

/// Error bound: one and a half steps of the coarsest grid, `2·max / 31`. Even spacing would promise half a
/// step; the rest is room for the fit, which may give up an extreme for the sake of the others, and the
/// rounding of scales.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, D_AT, encode),
    error_bound: 1.5 * 2.0 / 31.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let (d, dmin) = (get_f16(block, D_AT), get_f16(block, DMIN_AT));
    let (scales, mins) = k_scales::unpack(&bytes_at(block, SCALES_AT));
    for (g, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[g]);
        let min = dmin * f32::from(mins[g]);
        let at = QS_AT + g / 2 * 32;
        let shift = g % 2 * 4;
        for (out, (low, high)) in out.iter_mut().zip(block[at..at + 32].iter().zip(&block[QH_AT..QS_AT])) {
            let q = (low >> shift & 15) | (high >> g & 1) << 4;
            *out = scale * f32::from(q) - min;
        }
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let w = fit::weights(x, importance);
    let (x, w) = (x.as_chunks::<32>().0, w.as_chunks::<32>().0);
    let fitted: ScaledMin<8> = fit::scaled_min(x, w, 31.0, 63.0);
    block.fill(0);
    put_f16(block, D_AT, fitted.d);
    put_f16(block, DMIN_AT, fitted.dmin);
    let packed = k_scales::pack(&fitted.scales.map(|s| s as u8), &fitted.mins.map(|m| m as u8));
    block[SCALES_AT..QH_AT].copy_from_slice(&packed);
    for (g, x) in x.iter().enumerate() {
        let (scale, min) = (fitted.scales[g], fitted.mins[g]);
        let q = fit::indices(x, fitted.d * scale, -fitted.dmin * min, fit::clamped(0.0, 31.0), 0.0);
        let at = QS_AT + g / 2 * 32;
        for (i, q) in q.into_iter().enumerate() {
            block[QH_AT + i] |= q >> 4 << g;
            block[at + i] |= (q & 15) << (g % 2 * 4);
        }
    }
}
