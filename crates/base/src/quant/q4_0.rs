//! Q4_0: 32 values in 18 bytes, `d·(q - 8)` with `d` an `f16` scale and `q` of four bits.
//!
//! Bytes: `d` 0..2, nibbles 2..18 (low: values 0 to 15, high: 16 to 31). Without importance weights the
//! encoder writes the reference's bytes: the value of largest magnitude becomes `q = 0`. With them it
//! searches the scale of least weighted error.

use super::codec::{
    Codec, F16_ROUNDING, bytes_at, decode_blocks, dot_blocks, encode_blocks, get_f16, nibbles, pack_nibbles,
    put_f16,
};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 18;
const _: () = assert!(BLOCK_LEN == DType::Q4_0.block_len() && BLOCK_BYTES == DType::Q4_0.block_bytes());

/// Error bound: the grid ends one step of `max / 8` short on the side opposite to the largest value; and the
/// rounding of `d`.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 1.0 / 8.0 + F16_ROUNDING,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    let q = nibbles(&bytes_at(block, 2));
    for (out, q) in out.iter_mut().zip(q) {
        *out = f32::from(q.cast_signed() - 8) * d;
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let d = match importance {
        None => fit::peak(x) / -8.0,
        Some(_) => {
            fit::storable(fit::scale(x, &fit::weights(x, importance), &[-8.0], 0.1, fit::clamped(-8.0, 7.0)))
        }
    };
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let q = x.map(|x| ((x * inverse + 8.5) as u8).min(15));
    put_f16(block, 0, d);
    block[2..].copy_from_slice(&pack_nibbles(&q));
}
