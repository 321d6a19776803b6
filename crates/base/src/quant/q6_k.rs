//! Q6_K: 256 values in 210 bytes, 16 groups of 16, `d·scale·(q - 32)` with `i8` scales and 6-bit `q`.
//!
//! Bytes: low nibbles 0..128, high two bits 128..192, scales 192..208, `f16` `d` 208..210. Each half of 128
//! values has 64 bytes of low nibbles (bytes 0..32: values 0 to 31 low and 64 to 95 high; bytes 32..64:
//! values 32 to 63 low and 96 to 127 high) and 32 bytes of four 2-bit planes (byte `l`, plane `p` is value
//! `32p + l`).

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, put_f16};
use super::fit;
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 210;
const _: () = assert!(BLOCK_LEN == DType::Q6_K.block_len() && BLOCK_BYTES == DType::Q6_K.block_bytes());

const QH_AT: usize = 128;
const SCALES_AT: usize = 192;
const D_AT: usize = 208;

/// Error bound: a step and a quarter of `max / 32`. Even spacing would promise one (the grid ends a step
/// short on one side); the rest is room for the fit and for the rounding of scales.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, D_AT, encode),
    error_bound: 1.25 / 32.0,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, D_AT);
    for (g, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[SCALES_AT + g].cast_signed());
        let Plane { low_at, low_shift, high_at, high_shift } = plane(g);
        let low = block[low_at..low_at + 16].iter().map(|byte| byte >> low_shift & 15);
        let high = block[high_at..high_at + 16].iter().map(|byte| byte >> high_shift & 3);
        for (out, (low, high)) in out.iter_mut().zip(low.zip(high)) {
            *out = scale * f32::from((low | high << 4).cast_signed() - 32);
        }
    }
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let level = fit::clamped(-32.0, 31.0);
    let w = fit::weights(x, importance);
    let (x, w) = (x.as_chunks::<16>().0, w.as_chunks::<16>().0);
    let own: [f32; 16] = std::array::from_fn(|g| fit::scale(&x[g], &w[g], &[-32.0], 0.1, level));
    let fitted = fit::scaled(x, w, &own, (-128.0, 127.0), level);
    block.fill(0);
    put_f16(block, D_AT, fitted.d);
    for (g, x) in x.iter().enumerate() {
        block[SCALES_AT + g] = (fitted.groups[g] as i8).cast_unsigned();
        let q = fit::indices(x, fitted.d * fitted.groups[g], 0.0, level, 32.0);
        let Plane { low_at, low_shift, high_at, high_shift } = plane(g);
        for (i, q) in q.into_iter().enumerate() {
            block[low_at + i] |= (q & 15) << low_shift;
            block[high_at + i] |= q >> 4 << high_shift;
        }
    }
}

/// Where a group's 16 values stand: first byte and shift of their low nibbles, and of their high two bits.
struct Plane {
    low_at: usize,
    low_shift: usize,
    high_at: usize,
    high_shift: usize,
}

fn plane(g: usize) -> Plane {
    let (half, in_half, column) = (g / 8, g % 8, g % 2 * 16);
    Plane {
        low_at: half * 64 + in_half % 4 / 2 * 32 + column,
        low_shift: in_half / 4 * 4,
        high_at: QH_AT + half * 32 + column,
        high_shift: in_half / 2 * 2,
    }
}
