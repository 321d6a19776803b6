//! Q8_0: 32 values in 34 bytes, `d·q` with `d` an `f16` scale and `q` an `i8`.
//!
//! Bytes: `d` 0..2, `q` 2..34. The encoder writes the reference's bytes; at eight bits a search has nothing
//! to win, so importance weights are not used.

use super::codec::{Codec, F16_ROUNDING, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 34;
const _: () = assert!(BLOCK_LEN == DType::Q8_0.block_len() && BLOCK_BYTES == DType::Q8_0.block_bytes());

/// Error bound: half a step of `max / 127`, and the rounding of `d`.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 0.5 / 127.0 + F16_ROUNDING,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q.cast_signed()) * d;
    }
}

fn encode(x: &[f32; BLOCK_LEN], _: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let d = x.iter().fold(0.0_f32, |m, x| m.max(x.abs())) / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    put_f16(block, 0, d);
    for (q, x) in block[2..].iter_mut().zip(x) {
        *q = ((x * inverse).round() as i8).cast_unsigned();
    }
}
