//! NVFP4: 64 values in 36 bytes, 4 groups of 16, `scale/2·LEVELS[q]` with a scale of one byte and 4-bit `q`; the levels are
//! those of [`super::mxfp4`].
//!
//! Bytes: scales 0..4, nibbles 4..36: each group has 8 bytes, low nibbles are its values 0 to 7, high ones 8 to 15. A scale is
//! an 8-bit float with four bits of exponent (bias 7) and three of mantissa (E4M3) whose sign is not looked at; 0x7f stands
//! for 0. Source: the format's definition in ggml and in the PyPI package `gguf`.
//!
//! There is no `f16` scale and no NaN: what the format holds lies between 2^-10 and 2688, and anything else, broken values too,
//! becomes the nearest of that (a NaN: the largest). Files carry a scale per tensor beside it where that is not enough.

use super::codec::{Codec, bytes_at, decode_blocks, dot_blocks, encode_blocks_or};
use super::fit;
use super::mxfp4::{LEVELS, TOP, codes, level};
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 64;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 36;
const _: () = assert!(BLOCK_LEN == DType::NVFP4.block_len() && BLOCK_BYTES == DType::NVFP4.block_bytes());

const QS_AT: usize = 4;
/// The code of the largest scale, 448.
const LARGEST: u8 = 0x7e;

/// Error bound: half of the widest step below the largest level, 4 of 12, doubled for a fit that gives up an extreme for the
/// sake of the others.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks_or(x, importance, out, broken, encode),
    error_bound: 1.0 / 3.0,
};

/// Half of what a scale's byte stands for, as the levels are doubled.
pub const fn scale(code: u8) -> f32 {
    if code == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = (code >> 3 & 15, code & 7);
    // Without an exponent the number is subnormal.
    let (exponent, mantissa) = if exponent == 0 { (1, mantissa) } else { (exponent, mantissa + 8) };
    // 2^(exponent - 7 - 3 - 1): bias, bits of the mantissa, half.
    mantissa as f32 * f32::from_bits((exponent as u32 + 127 - 11) << 23)
}

/// The scales by their codes: they ascend.
const SCALES: [f32; LARGEST as usize + 1] = {
    let mut out = [0.0; LARGEST as usize + 1];
    let mut code = 0;
    while code <= LARGEST {
        out[code as usize] = scale(code);
        code += 1;
    }
    out
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    for (g, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let d = scale(block[g]);
        let bytes: [u8; 8] = bytes_at(block, QS_AT + 8 * g);
        for (i, byte) in bytes.iter().enumerate() {
            out[i] = d * f32::from(LEVELS[usize::from(byte & 15)]);
            out[i + 8] = d * f32::from(LEVELS[usize::from(byte >> 4)]);
        }
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let w = fit::weights(x, importance);
    for (g, (x, w)) in x.as_chunks::<16>().0.iter().zip(w.as_chunks::<16>().0).enumerate() {
        let peak = fit::peak(x).abs();
        // The least scale whose top level reaches the peak, and what lies within an octave and a half below: these cut the peak.
        let top = (SCALES.partition_point(|scale| TOP * scale < peak) as u8).min(LARGEST);
        let (mut best, mut least) = (top, f32::INFINITY);
        for code in (top.saturating_sub(12)..=top).rev() {
            let error = fit::affine_error(x, w, scale(code), 0.0, level);
            if error < least {
                (best, least) = (code, error);
            }
        }
        block[g] = best;
        let q = codes(x, scale(best));
        for (i, byte) in block[QS_AT + 8 * g..][..8].iter_mut().enumerate() {
            *byte = q[i] | q[i + 8] << 4;
        }
    }
}

/// The largest number that there is in every place.
fn broken(block: &mut [u8; BLOCK_BYTES]) {
    block.fill(0x77);
    block[..QS_AT].fill(LARGEST);
}
