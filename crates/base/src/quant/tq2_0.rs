//! TQ2_0: 256 values in 66 bytes, `d·(q - 1)` with `d` an `f16` scale and 2-bit `q`, for weights that are -d, 0 or d.
//!
//! Bytes: `q` 0..64, `d` 64..66. Each half of 128 values has 32 bytes of four 2-bit planes: byte `l`, plane `p` is value
//! `32p + l`. A `q` of 3 decodes to `2d`; no encoder writes it. Weights that are ternary already are kept exactly (but for the
//! rounding of `d`); others are given the scale of least weighted error, which is found among all of them.

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 66;
const _: () = assert!(BLOCK_LEN == DType::TQ2_0.block_len() && BLOCK_BYTES == DType::TQ2_0.block_bytes());

const D_AT: usize = 64;

/// Error bound: a value that the fit gives up for the sake of the others is short of its magnitude, as `d` may be next to
/// nothing beside it.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, D_AT, encode),
    error_bound: 1.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, D_AT);
    for (half, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        for (i, out) in out.iter_mut().enumerate() {
            let q = block[32 * half + i % 32] >> (i / 32 * 2) & 3;
            *out = d * f32::from(q.cast_signed() - 1);
        }
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let (d, trits) = fit::ternary(x, importance);
    block.fill(0);
    put_f16(block, D_AT, d);
    for (i, trit) in trits.into_iter().enumerate() {
        block[i / 128 * 32 + i % 32] |= trit << (i % 128 / 32 * 2);
    }
}
