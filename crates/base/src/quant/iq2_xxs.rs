//! IQ2_XXS: 256 values in 66 bytes, 8 groups of 32, `d·(scale + 1/2)/4·level` with 4-bit scales; eight values at a time have
//! their magnitudes, of three levels, from one of 256 points, and their signs from seven bits.
//!
//! Bytes: `f16` `d` 0..2, then 8 bytes per group: four points and a `u32` with the seven sign bits of each eight, lowest first,
//! and the scale in bits 28 to 31. The eighth sign makes the number of negative values even. Points: [`super::grids`].

use std::sync::OnceLock;

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, get_u32, put_f16};
use super::grid_fit::Magnitudes;
use super::grids;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 66;
const _: () = assert!(BLOCK_LEN == DType::IQ2_XXS.block_len() && BLOCK_BYTES == DType::IQ2_XXS.block_bytes());

const GROUPS_AT: usize = 2;

/// What the levels of a point stand for (source: the format's definition in ggml).
pub const LEVELS: [u8; 3] = [8, 25, 43];

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
    for (g, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let at = GROUPS_AT + 8 * g;
        let rest = get_u32(block, at + 4);
        let scale = d * ((rest >> 28) as f32 + 0.5) * 0.25;
        for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let point = grids::IQ2_XXS[usize::from(block[at + i])];
            decode_eight(point, even_signs((rest >> (7 * i)) as u8), scale, out);
        }
    }
}

/// All eight signs from the lower seven: the number of negative ones is even.
pub fn even_signs(seven: u8) -> u8 {
    let seven = seven & 127;
    seven | ((seven.count_ones() % 2) as u8) << 7
}

/// Eight values from their point and signs.
#[inline(always)]
pub(super) fn decode_eight(point: u16, signs: u8, scale: f32, out: &mut [f32; 8]) {
    for (i, level) in grids::eight(point).into_iter().enumerate() {
        // No point has a fourth level.
        let value = scale * f32::from(LEVELS[usize::from(level.min(2))]);
        out[i] = if signs >> i & 1 == 1 { -value } else { value };
    }
}

/// The search of the formats with these levels.
pub(super) fn magnitudes(points: &[u16], even: bool) -> Magnitudes<8> {
    Magnitudes::new(points.iter().map(|point| grids::eight(*point)), &LEVELS.map(f32::from), 1.0 / 8.0, even)
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    static SEARCH: OnceLock<Magnitudes<8>> = OnceLock::new();
    let search = SEARCH.get_or_init(|| magnitudes(&grids::IQ2_XXS, true));
    block.fill(0);
    let Some(fitted) = search.fit::<8>(x, importance) else {
        return put_f16(block, 0, f32::INFINITY);
    };
    put_f16(block, 0, fitted.d);
    for (g, eights) in fitted.eights.as_chunks::<4>().0.iter().enumerate() {
        let at = GROUPS_AT + 8 * g;
        let mut rest = u32::from(fitted.codes[g]) << 28;
        for (i, eight) in eights.iter().enumerate() {
            block[at + i] = eight.points[0] as u8;
            rest |= u32::from(eight.signs & 127) << (7 * i);
        }
        block[at + 4..at + 8].copy_from_slice(&rest.to_le_bytes());
    }
}
