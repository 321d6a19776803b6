//! Q5_0: 32 values in 22 bytes, `d·(q - 16)` with `d` an `f16` scale and `q` of five bits.
//!
//! Bytes: `d` 0..2, fifth bits 2..6 (bit `j` of a `u32` is value `j`), nibbles 6..22 (low first). Without
//! importance weights the encoder writes the reference's bytes: the value of largest magnitude becomes `q =
//! 0`. With them it searches the scale of least weighted error.

use super::codec::{
    Codec, F16_ROUNDING, bytes_at, decode_blocks, dot_blocks, encode_blocks, get_f16, nibbles, pack_nibbles,
    put_f16,
};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 22;
const _: () = assert!(BLOCK_LEN == DType::Q5_0.block_len() && BLOCK_BYTES == DType::Q5_0.block_bytes());

/// Error bound: the grid ends one step of `max / 16` short on the side opposite to the largest value; and the
/// rounding of `d`.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 1.0 / 16.0 + F16_ROUNDING,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    let high = u32::from_le_bytes(bytes_at(block, 2));
    let mut q = nibbles(&bytes_at(block, 6));
    for (i, q) in q.iter_mut().enumerate() {
        *q |= ((high >> i & 1) as u8) << 4;
    }
    for (out, q) in out.iter_mut().zip(q) {
        *out = f32::from(q.cast_signed() - 16) * d;
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let d = match importance {
        None => fit::peak(x) / -16.0,
        Some(_) => fit::storable(fit::scale(
            x,
            &fit::weights(x, importance),
            &[-16.0],
            0.1,
            fit::clamped(-16.0, 15.0),
        )),
    };
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let q = x.map(|x| ((x * inverse + 16.5) as u8).min(31));
    put_f16(block, 0, d);
    let high = q.iter().enumerate().fold(0, |high, (i, q)| high | u32::from(q >> 4) << i);
    block[2..6].copy_from_slice(&high.to_le_bytes());
    block[6..].copy_from_slice(&pack_nibbles(&q));
}
