//! IQ3_S: 256 values in 110 bytes, 8 groups of 32, `d·(2·scale + 1)·level` with 4-bit scales; four values at a time have
//! their magnitudes, of eight levels, from one of 512 points, and every value has a bit of sign.
//!
//! Bytes: `f16` `d` 0..2, low bits of the points 2..66, their ninth bits 66..74, signs 74..106, scales 106..110 (even groups
//! low). Points: [`super::grids`].

use std::sync::OnceLock;

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use super::grid_fit::Magnitudes;
use super::grids;
use super::iq3_xxs::decode_eight;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 110;
const _: () = assert!(BLOCK_LEN == DType::IQ3_S.block_len() && BLOCK_BYTES == DType::IQ3_S.block_bytes());

const QS_AT: usize = 2;
const HIGH_AT: usize = 66;
const SIGNS_AT: usize = 74;
const SCALES_AT: usize = 106;

/// What the levels of a point stand for (source: the format's definition in ggml).
pub const LEVELS: [u8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];

/// Error bound: the points are an eighth of all combinations of levels; none of these is farther from its nearest point than
/// half of the levels in one value.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 1.0 / 2.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = block[SCALES_AT + i / 8] >> (i / 4 % 2 * 4) & 15;
        let scale = d * f32::from(2 * scale + 1);
        let point = |j: usize| {
            let high = usize::from(block[HIGH_AT + j / 8] >> (j % 8) & 1);
            grids::IQ3_S[usize::from(block[QS_AT + j]) | high << 8]
        };
        decode_eight(&LEVELS, [point(2 * i), point(2 * i + 1)], block[SIGNS_AT + i], scale, out);
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    static SEARCH: OnceLock<Magnitudes<4>> = OnceLock::new();
    let points = || grids::IQ3_S.iter().map(|point| grids::four(*point));
    let search = SEARCH.get_or_init(|| Magnitudes::new(points(), &LEVELS.map(f32::from), 1.0, false));
    block.fill(0);
    let Some(fitted) = search.fit::<8>(x, importance) else {
        return put_f16(block, 0, f32::INFINITY);
    };
    put_f16(block, 0, fitted.d);
    for (i, eight) in fitted.eights.iter().enumerate() {
        block[SIGNS_AT + i] = eight.signs;
        for (j, point) in (2 * i..).zip(eight.points) {
            block[QS_AT + j] = point as u8;
            block[HIGH_AT + j / 8] |= ((point >> 8) as u8) << (j % 8);
        }
    }
    for (byte, codes) in block[SCALES_AT..].iter_mut().zip(fitted.codes.as_chunks::<2>().0) {
        *byte = codes[0] | codes[1] << 4;
    }
}
