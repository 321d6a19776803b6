//! Q3_K: 256 values in 110 bytes, 16 groups of 16, `d·(scale - 32)·(q - 4)` with 6-bit scales and 3-bit `q`.
//!
//! Bytes: third bits of `q` 0..32 (byte `l`, bit `b` is value `32b + l`), low two bits 32..96 (each half of
//! 128 values has 32 bytes of four planes: byte `l`, plane `p` is value `32p + l`), scales 96..108, `f16` `d`
//! 108..110. Scales: the low nibbles of groups 0 to 7 and 8 to 15 are the low and high nibbles of the first 8
//! bytes; the top two bits of group `g` are in byte `8 + g % 4` at bit `g / 4 * 2`.

use super::codec::{Codec, bytes_at, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 110;
const _: () = assert!(BLOCK_LEN == DType::Q3_K.block_len() && BLOCK_BYTES == DType::Q3_K.block_bytes());

const QS_AT: usize = 32;
const SCALES_AT: usize = 96;
const D_AT: usize = 108;

/// Error bound: a step and a quarter of `max / 4`. Even spacing would promise one (the grid ends a step short
/// on one side); the rest is room for the fit and for the rounding of scales.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, D_AT, encode),
    error_bound: 1.25 / 4.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, D_AT);
    let scales = unpack_scales(&bytes_at(block, SCALES_AT));
    for (g, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[g]);
        let Plane { high_at, bit, low_at, shift } = plane(g);
        let high = block[high_at..high_at + 16].iter().map(|byte| byte >> bit & 1);
        let low = block[low_at..low_at + 16].iter().map(|byte| byte >> shift & 3);
        for (out, (low, high)) in out.iter_mut().zip(low.zip(high)) {
            *out = scale * f32::from((low | high << 2).cast_signed() - 4);
        }
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let level = fit::clamped(-4.0, 3.0);
    let w = fit::weights(x, importance);
    let (x, w) = (x.as_chunks::<16>().0, w.as_chunks::<16>().0);
    let own: [f32; 16] = std::array::from_fn(|g| fit::scale(&x[g], &w[g], &[-4.0, 3.0], 0.1, level));
    let fitted = fit::scaled(x, w, &own, (-32.0, 31.0), level);
    block.fill(0);
    put_f16(block, D_AT, fitted.d);
    for (g, x) in x.iter().enumerate() {
        let scale = (fitted.groups[g] + 32.0) as u8;
        block[SCALES_AT + g % 8] |= (scale & 15) << (g / 8 * 4);
        block[SCALES_AT + 8 + g % 4] |= scale >> 4 << (g / 4 * 2);
        let q = fit::indices(x, fitted.d * fitted.groups[g], 0.0, level, 4.0);
        let Plane { high_at, bit, low_at, shift } = plane(g);
        for (i, q) in q.into_iter().enumerate() {
            block[high_at + i] |= q >> 2 << bit;
            block[low_at + i] |= (q & 3) << shift;
        }
    }
}

/// The scales of the 16 groups, -32 to 31.
pub fn unpack_scales(packed: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|g| {
        let low = packed[g % 8] >> (g / 8 * 4) & 15;
        let high = packed[8 + g % 4] >> (g / 4 * 2) & 3;
        (low | high << 4).cast_signed() - 32
    })
}

/// Where a group's 16 values stand: first byte and bit of their third bits, first byte and shift of the
/// others.
struct Plane {
    high_at: usize,
    bit: usize,
    low_at: usize,
    shift: usize,
}

fn plane(g: usize) -> Plane {
    let column = g % 2 * 16;
    Plane { high_at: column, bit: g / 2, low_at: QS_AT + g / 8 * 32 + column, shift: g % 8 / 2 * 2 }
}
