//! IQ3_XXS: 256 values in 98 bytes, 8 groups of 32, `d·(scale + 1/2)/2·level` with 4-bit scales; four values at a time have
//! their magnitudes, of eight levels, from one of 256 points, and eight values their signs from seven bits.
//!
//! Bytes: `f16` `d` 0..2, points 2..66, then a `u32` per group 66..98: the seven sign bits of each eight, lowest first, and the
//! scale in bits 28 to 31. The eighth sign makes the number of negative values even. Points: [`super::grids`].

use std::sync::OnceLock;

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, get_u32, put_f16};
use super::grid_fit::Magnitudes;
use super::grids;
use super::iq2_xxs::even_signs;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 98;
const _: () = assert!(BLOCK_LEN == DType::IQ3_XXS.block_len() && BLOCK_BYTES == DType::IQ3_XXS.block_bytes());

const QS_AT: usize = 2;
const REST_AT: usize = 66;

/// What the levels of a point stand for (source: the format's definition in ggml).
pub const LEVELS: [u8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];

/// Error bound: seven bits do not tell every eight signs; where values are alike in magnitude, one of eight may be stored with
/// the wrong sign.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 2.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let rest = get_u32(block, REST_AT + i / 4 * 4);
        let scale = d * ((rest >> 28) as f32 + 0.5) * 0.5;
        let points = [block[QS_AT + 2 * i], block[QS_AT + 2 * i + 1]];
        let points = points.map(|point| grids::IQ3_XXS[usize::from(point)]);
        decode_eight(&LEVELS, points, even_signs((rest >> (i % 4 * 7)) as u8), scale, out);
    }
}

/// Eight values from their points and signs.
#[inline(always)]
pub(super) fn decode_eight(levels: &[u8; 8], points: [u16; 2], signs: u8, scale: f32, out: &mut [f32; 8]) {
    let [a, b] = points.map(grids::four);
    for (i, level) in a.into_iter().chain(b).enumerate() {
        let value = scale * f32::from(levels[usize::from(level)]);
        out[i] = if signs >> i & 1 == 1 { -value } else { value };
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    static SEARCH: OnceLock<Magnitudes<4>> = OnceLock::new();
    let points = || grids::IQ3_XXS.iter().map(|point| grids::four(*point));
    let search = SEARCH.get_or_init(|| Magnitudes::new(points(), &LEVELS.map(f32::from), 1.0 / 4.0, true));
    block.fill(0);
    let Some(fitted) = search.fit::<8>(x, importance) else {
        return put_f16(block, 0, f32::INFINITY);
    };
    put_f16(block, 0, fitted.d);
    for (g, eights) in fitted.eights.as_chunks::<4>().0.iter().enumerate() {
        let mut rest = u32::from(fitted.codes[g]) << 28;
        for (i, eight) in eights.iter().enumerate() {
            let at = QS_AT + 8 * g + 2 * i;
            block[at..at + 2].copy_from_slice(&eight.points.map(|point| point as u8));
            rest |= u32::from(eight.signs & 127) << (7 * i);
        }
        block[REST_AT + 4 * g..][..4].copy_from_slice(&rest.to_le_bytes());
    }
}
