//! IQ4_NL: 32 values in 18 bytes, `d·LEVELS[q]` with `d` an `f16` scale and 4-bit `q`.
//!
//! Bytes: `d` 0..2, nibbles 2..18 (low: values 0 to 15, high: 16 to 31). The sixteen levels lie closer near
//! zero, as the values of a weight matrix do.

use super::codec::{
    Codec, bytes_at, decode_blocks, dot_blocks, encode_blocks, get_f16, nibbles, pack_nibbles, put_f16,
};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 18;
const _: () = assert!(BLOCK_LEN == DType::IQ4_NL.block_len() && BLOCK_BYTES == DType::IQ4_NL.block_bytes());

/// Error bound: the widest gap between levels, 24 of 127. Half of it lies between a value and its level; the
/// rest is room for the fit, which may give up an extreme for the sake of the others.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 24.0 / 127.0,
};

/// The sixteen levels (source: the format's definition in ggml).
pub const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    for (out, q) in out.iter_mut().zip(nibbles(&bytes_at(block, 2))) {
        *out = d * f32::from(LEVELS[usize::from(q)]);
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let w = fit::weights(x, importance);
    let d = fit::storable(group_scale(x, &w));
    put_f16(block, 0, d);
    block[2..].copy_from_slice(&pack_nibbles(&fit::indices(x, d, 0.0, index, 0.0)));
}

/// The best scale of one group of 32 (see [`fit::scale`]).
pub(super) fn group_scale(x: &[f32; 32], w: &[f32; 32]) -> f32 {
    fit::scale(x, w, &[-127.0, 113.0], 2.0, level)
}

/// Where the nearest level changes: the midpoints between neighbours.
const MIDPOINTS: [f32; 15] = {
    let mut out = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        out[i] = (LEVELS[i] as f32 + LEVELS[i + 1] as f32) / 2.0;
        i += 1;
    }
    out
};

/// The nearest level.
#[inline(always)]
pub(super) fn level(v: f32) -> f32 {
    let mut out = f32::from(LEVELS[0]);
    for (i, midpoint) in MIDPOINTS.iter().enumerate() {
        out += if v > *midpoint { f32::from(LEVELS[i + 1]) - f32::from(LEVELS[i]) } else { 0.0 };
    }
    out
}

/// The nearest level's index.
#[inline(always)]
pub(super) fn index(v: f32) -> f32 {
    MIDPOINTS.iter().map(|midpoint| if v > *midpoint { 1.0 } else { 0.0 }).sum()
}
