//! TQ1_0: 256 values in 54 bytes, `d·(q - 1)` with `d` an `f16` scale and `q` of 0, 1 or 2, five of them to a byte.
//!
//! Bytes: 0..32 hold values 0 to 159, 32..48 values 160 to 239, 48..52 (four to a byte) values 240 to 255; `d` 52..54. Of `n`
//! such bytes, byte `l` holds values `l`, `n + l`, `2n + l`, .. A byte is a fraction of 256 in base three, rounded up: its first
//! digit is the whole part of `byte·3/256`, the next that of what remains. The fit is that of [`super::tq2_0`].

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 54;
const _: () = assert!(BLOCK_LEN == DType::TQ1_0.block_len() && BLOCK_BYTES == DType::TQ1_0.block_bytes());

const D_AT: usize = 52;

/// First byte, number of bytes, digits in a byte and first value of each part of a block.
const PARTS: [(usize, usize, usize, usize); 3] = [(0, 32, 5, 0), (32, 16, 5, 160), (48, 4, 4, 240)];

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
    for (at, n, digits, first) in PARTS {
        for (l, byte) in block[at..at + n].iter().enumerate() {
            let mut rest = *byte;
            for digit in 0..digits {
                let trit = ((u16::from(rest) * 3) >> 8) as i8;
                out[first + digit * n + l] = d * f32::from(trit - 1);
                rest = rest.wrapping_mul(3);
            }
        }
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let (d, trits) = fit::ternary(x, importance);
    put_f16(block, D_AT, d);
    for (at, n, digits, first) in PARTS {
        for l in 0..n {
            // Four digits are followed by a zero.
            let value = (0..5).fold(0, |value, digit| {
                3 * value + if digit < digits { u16::from(trits[first + digit * n + l]) } else { 0 }
            });
            block[at + l] = ((value * 256).div_ceil(243)) as u8;
        }
    }
}
