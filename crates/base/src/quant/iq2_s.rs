//! IQ2_S: 256 values in 82 bytes, 16 groups of 16, `d·(scale + 1/2)/4·level` with 4-bit scales; eight values at a time have
//! their magnitudes, of three levels, from one of 1024 points, and eight bits of signs.
//!
//! Bytes: `f16` `d` 0..2, low bits of the points 2..34, signs 34..66, the points' top two bits 66..74 (four to a byte), scales
//! 74..82 (even groups low). Points: [`super::grids`]; levels: [`super::iq2_xxs`].

use std::sync::OnceLock;

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use super::grid_fit::Magnitudes;
use super::grids;
use super::iq2_xxs::{decode_eight, magnitudes};
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 82;
const _: () = assert!(BLOCK_LEN == DType::IQ2_S.block_len() && BLOCK_BYTES == DType::IQ2_S.block_bytes());

const QS_AT: usize = 2;
const SIGNS_AT: usize = 34;
const HIGH_AT: usize = 66;
const SCALES_AT: usize = 74;

/// Error bound: the points are a sixth of all combinations of levels, so a value may be given up for the sake of its
/// neighbours; its sign is kept.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 1.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = block[SCALES_AT + i / 4] >> (i / 2 % 2 * 4) & 15;
        let scale = d * (f32::from(scale) + 0.5) * 0.25;
        let high = block[HIGH_AT + i / 4] >> (i % 4 * 2) & 3;
        let point = usize::from(block[QS_AT + i]) | usize::from(high) << 8;
        decode_eight(grids::IQ2_S[point], block[SIGNS_AT + i], scale, out);
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    static SEARCH: OnceLock<Magnitudes<8>> = OnceLock::new();
    let search = SEARCH.get_or_init(|| magnitudes(&grids::IQ2_S, false));
    block.fill(0);
    let Some(fitted) = search.fit::<16>(x, importance) else {
        return put_f16(block, 0, f32::INFINITY);
    };
    put_f16(block, 0, fitted.d);
    for (i, eight) in fitted.eights.iter().enumerate() {
        let [point, _] = eight.points;
        block[QS_AT + i] = point as u8;
        block[SIGNS_AT + i] = eight.signs;
        block[HIGH_AT + i / 4] |= ((point >> 8) as u8) << (i % 4 * 2);
    }
    for (byte, codes) in block[SCALES_AT..].iter_mut().zip(fitted.codes.as_chunks::<2>().0) {
        *byte = codes[0] | codes[1] << 4;
    }
}
