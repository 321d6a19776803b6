//! MXFP4: 32 values in 17 bytes, `2^(e - 128)·LEVELS[q]` with `e` a byte and 4-bit `q`.
//!
//! Bytes: `e` 0, nibbles 1..17 (low: values 0 to 15, high: 16 to 31). The levels are twice the numbers of a
//! 4-bit float with two bits of exponent and one of mantissa (E2M1); `e` is an exponent without mantissa
//! (E8M0). Source: OCP Microscaling Formats 1.0, 5.2 to 5.4; the order of the nibbles is ggml's. There, as here, `e = 255`
//! is no NaN but one more exponent.
//!
//! The encoder takes the exponent of least weighted error. What holds numbers of this format already is kept exactly. A block
//! with a NaN or an infinity becomes a block of infinities.

use super::codec::{Codec, bytes_at, decode_blocks, dot_blocks, encode_blocks_or, nibbles, pack_nibbles};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 17;
const _: () = assert!(BLOCK_LEN == DType::MXFP4.block_len() && BLOCK_BYTES == DType::MXFP4.block_bytes());

/// Error bound: the fit may choose the exponent below the one that reaches the largest value, which is then cut to no less
/// than its half.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks_or(x, importance, out, broken, encode),
    error_bound: 1.0 / 2.0,
};

/// The levels of the sixteen codes: E2M1 doubled, so that all are integers.
pub const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The largest level.
pub(super) const TOP: f32 = 12.0;

/// `2^(e - 128)`: half of what `e` stands for, as the levels are doubled.
pub fn scale(e: u8) -> f32 {
    // Below 2 the number is subnormal.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = scale(block[0]);
    for (out, q) in out.iter_mut().zip(nibbles(&bytes_at(block, 1))) {
        *out = d * f32::from(LEVELS[usize::from(q)]);
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let w = fit::weights(x, importance);
    // The least exponent whose top level reaches the peak, or the one below it, under which the peak is cut.
    let peak = fit::peak(x).abs();
    let near = ((peak.to_bits() >> 23) as u8).saturating_sub(2);
    let top = if TOP * scale(near) >= peak { near } else { near + 1 };
    let error = |e: u8| fit::affine_error(x, &w, scale(e), 0.0, level);
    let below = top.saturating_sub(1);
    let e = if error(below) < error(top) { below } else { top };
    block[0] = e;
    block[1..].copy_from_slice(&pack_nibbles(&codes(x, scale(e))));
}

/// The largest number that there is in every place: with the largest exponent, infinities.
fn broken(block: &mut [u8; BLOCK_BYTES]) {
    block.fill(0x77);
    block[0] = 255;
}

/// Where the nearest level changes: the midpoints between neighbours.
const MIDPOINTS: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
/// The steps between neighbours.
const STEPS: [f32; 7] = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0];

/// The nearest level.
#[inline(always)]
pub(super) fn level(v: f32) -> f32 {
    let mut out = 0.0;
    for (midpoint, step) in MIDPOINTS.iter().zip(STEPS) {
        out += if v.abs() > *midpoint { step } else { 0.0 };
    }
    out.copysign(v)
}

/// The codes of `x` under the scale `s`.
pub(super) fn codes<const N: usize>(x: &[f32; N], s: f32) -> [u8; N] {
    let inverse = if s == 0.0 { 0.0 } else { 1.0 / s };
    x.map(|x| {
        let v = x * inverse;
        let code = MIDPOINTS.iter().filter(|midpoint| v.abs() > **midpoint).count() as u8;
        code | if code > 0 && v < 0.0 { 8 } else { 0 }
    })
}
