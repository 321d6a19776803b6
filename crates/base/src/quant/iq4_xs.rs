//! IQ4_XS: 256 values in 136 bytes, 8 groups of 32, `d·(scale - 32)·LEVELS[q]` with 6-bit scales and 4-bit
//! `q`; the levels are those of [`super::iq4_nl`].
//!
//! Bytes: `f16` `d` 0..2, the scales' top two bits 2..4 (a `u16`, group `g` at bit `2g`), their low nibbles
//! 4..8 (even groups low), nibbles 8..136: each group has 16 bytes, low nibbles first.

use super::codec::{
    Codec, bytes_at, decode_blocks, dot_blocks, encode_blocks, get_f16, nibbles, pack_nibbles, put_f16,
};
use super::fit;
use super::iq4_nl::{LEVELS, group_scale, index, level};
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 136;
const _: () = assert!(BLOCK_LEN == DType::IQ4_XS.block_len() && BLOCK_BYTES == DType::IQ4_XS.block_bytes());

const SCALES_AT: usize = 2;
const QS_AT: usize = 8;

/// Error bound: the widest gap between levels, 24 of 127. Half of it lies between a value and its level; the
/// rest is room for the fit, which may give up an extreme for the sake of the others, and for the rounding of
/// scales.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 24.0 / 127.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    let scales = unpack_scales(&bytes_at(block, SCALES_AT));
    for (g, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[g]);
        for (out, q) in out.iter_mut().zip(nibbles(&bytes_at(block, QS_AT + 16 * g))) {
            *out = scale * f32::from(LEVELS[usize::from(q)]);
        }
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let w = fit::weights(x, importance);
    let (x, w) = (x.as_chunks::<32>().0, w.as_chunks::<32>().0);
    let own: [f32; 8] = std::array::from_fn(|g| group_scale(&x[g], &w[g]));
    let fitted = fit::scaled(x, w, &own, (-32.0, 31.0), level);
    block.fill(0);
    put_f16(block, 0, fitted.d);
    for (g, x) in x.iter().enumerate() {
        let scale = (fitted.groups[g] + 32.0) as u8;
        block[SCALES_AT + g / 4] |= scale >> 4 << (g % 4 * 2);
        block[SCALES_AT + 2 + g / 2] |= (scale & 15) << (g % 2 * 4);
        let q = fit::indices(x, fitted.d * fitted.groups[g], 0.0, index, 0.0);
        let at = QS_AT + 16 * g;
        block[at..at + 16].copy_from_slice(&pack_nibbles(&q));
    }
}

/// The scales of the 8 groups, -32 to 31, from bytes 2..8 of a block.
pub fn unpack_scales(packed: &[u8; 6]) -> [i8; 8] {
    std::array::from_fn(|g| {
        let high = packed[g / 4] >> (g % 4 * 2) & 3;
        let low = packed[2 + g / 2] >> (g % 2 * 4) & 15;
        (low | high << 4).cast_signed() - 32
    })
}
