//! Q4_1: 32 values in 20 bytes, `d·q + m` with `f16` scale `d` and minimum `m`, and `q` of four bits.
//!
//! Bytes: `d` 0..2, `m` 2..4, nibbles 4..20 (low: values 0 to 15, high: 16 to 31). Without importance weights
//! the encoder writes the reference's bytes: `m` is the smallest value and the largest is `q = 15`. With them
//! it searches the scale and minimum of least weighted error.

use super::codec::{
    Codec, F16_ROUNDING, bytes_at, decode_blocks, dot_blocks, encode_blocks, get_f16, nibbles, pack_nibbles,
    put_f16,
};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 20;
const _: () = assert!(BLOCK_LEN == DType::Q4_1.block_len() && BLOCK_BYTES == DType::Q4_1.block_bytes());

/// Error bound: half a step of at most `2·max / 15`, and the rounding of `15·d <= 2·max` and of `m`.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 1.0 / 15.0 + 3.0 * F16_ROUNDING,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let (d, m) = (get_f16(block, 0), get_f16(block, 2));
    let q = nibbles(&bytes_at(block, 4));
    for (out, q) in out.iter_mut().zip(q) {
        *out = f32::from(q) * d + m;
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let (d, m) = match importance {
        None => {
            let (min, max) = fit::range(x);
            ((max - min) / 15.0, min)
        }
        Some(_) => {
            let (d, m) = fit::affine(x, &fit::weights(x, importance), 15.0, f32::INFINITY);
            (fit::storable(d), fit::storable(m))
        }
    };
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let q = x.map(|x| (((x - m) * inverse + 0.5) as u8).min(15));
    put_f16(block, 0, d);
    put_f16(block, 2, m);
    block[4..].copy_from_slice(&pack_nibbles(&q));
}
