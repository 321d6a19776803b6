//! IQ2_XS: 256 values in 74 bytes, 16 groups of 16, `d·(scale + 1/2)/4·level` with 4-bit scales; eight values at a time have
//! their magnitudes, of three levels, from one of 512 points, and their signs from seven bits.
//!
//! Bytes: `f16` `d` 0..2, a `u16` per eight values 2..66 (point in the low nine bits, signs in the others), scales 66..74 (even
//! groups low). The eighth sign makes the number of negative values even. Points: [`super::grids`]; levels:
//! [`super::iq2_xxs`].

use std::sync::OnceLock;

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, get_u16, put_f16};
use super::grid_fit::Magnitudes;
use super::grids;
use super::iq2_xxs::{decode_eight, even_signs, magnitudes};
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 74;
const _: () = assert!(BLOCK_LEN == DType::IQ2_XS.block_len() && BLOCK_BYTES == DType::IQ2_XS.block_bytes());

const QS_AT: usize = 2;
const SCALES_AT: usize = 66;

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
        let scale = block[SCALES_AT + i / 4] >> (i / 2 % 2 * 4) & 15;
        let scale = d * (f32::from(scale) + 0.5) * 0.25;
        let q = get_u16(block, QS_AT + 2 * i);
        decode_eight(grids::IQ2_XS[usize::from(q & 511)], even_signs((q >> 9) as u8), scale, out);
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    static SEARCH: OnceLock<Magnitudes<8>> = OnceLock::new();
    let search = SEARCH.get_or_init(|| magnitudes(&grids::IQ2_XS, true));
    block.fill(0);
    let Some(fitted) = search.fit::<16>(x, importance) else {
        return put_f16(block, 0, f32::INFINITY);
    };
    put_f16(block, 0, fitted.d);
    for (i, eight) in fitted.eights.iter().enumerate() {
        let q = eight.points[0] | u16::from(eight.signs & 127) << 9;
        block[QS_AT + 2 * i..][..2].copy_from_slice(&q.to_le_bytes());
    }
    for (byte, codes) in block[SCALES_AT..].iter_mut().zip(fitted.codes.as_chunks::<2>().0) {
        *byte = codes[0] | codes[1] << 4;
    }
}
