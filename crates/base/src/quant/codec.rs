//! What a block format is to the rest of the crate: a row of function pointers, and the loops over blocks
//! that every format shares. The loops are generic over the block's sizes, so each format is compiled with
//! fixed array lengths and dispatch happens once per row, never per value.

use super::fit;
use half::f16;

/// One format's entry in the dispatch table. Lengths are checked by the callers in [`super`].
pub(super) struct Codec {
    pub(super) decode: fn(&[u8], &mut [f32]),
    pub(super) dot: fn(&[u8], &[f32]) -> f64,
    pub(super) encode: fn(&[f32], Option<&[f32]>, &mut [u8]),
    pub(super) error_bound: f32,
}

/// Largest relative error of rounding a number to the nearest `f16`, in that type's normal range.
pub(super) const F16_ROUNDING: f32 = 1.0 / 2048.0;

/// Decodes block after block.
pub(super) fn decode_blocks<const B: usize, const L: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; L]),
) {
    for (block, values) in bytes.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<L>().0) {
        decode(block, values);
    }
}

/// The dot product of the decoded blocks with `x`. Products of two `f32` are exact in `f64`.
pub(super) fn dot_blocks<const B: usize, const L: usize>(
    bytes: &[u8],
    x: &[f32],
    decode: impl Fn(&[u8; B], &mut [f32; L]),
) -> f64 {
    let mut values = [0.0; L];
    let mut sum = 0.0;
    for (block, x) in bytes.as_chunks::<B>().0.iter().zip(x.as_chunks::<L>().0) {
        decode(block, &mut values);
        for (value, x) in values.iter().zip(x) {
            sum += f64::from(*value) * f64::from(*x);
        }
    }
    sum
}

/// Encodes block after block. A block that holds a NaN or an infinity has no scale that could stand for it:
/// it is written with a NaN at `scale_at` (the byte offset of its `f16` scale) and decodes to NaN throughout,
/// so that a broken weight stays visible.
pub(super) fn encode_blocks<const B: usize, const L: usize>(
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    scale_at: usize,
    encode: impl Fn(&[f32; L], Option<&[f32; L]>, &mut [u8; B]),
) {
    let broken = |block: &mut [u8; B]| put_f16(block, scale_at, f32::NAN);
    encode_blocks_or(values, importance, out, broken, encode);
}

/// [`encode_blocks`] for a format without a plain `f16` scale: `broken` makes of a block of zeros what a block that
/// holds a NaN or an infinity is written as.
pub(super) fn encode_blocks_or<const B: usize, const L: usize>(
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    broken: impl Fn(&mut [u8; B]),
    encode: impl Fn(&[f32; L], Option<&[f32; L]>, &mut [u8; B]),
) {
    let importance = importance.map(|importance| importance.as_chunks::<L>().0);
    for (i, (x, block)) in values.as_chunks::<L>().0.iter().zip(out.as_chunks_mut::<B>().0).enumerate() {
        if x.iter().all(|x| x.is_finite()) {
            let importance = importance.map(|importance| &importance[i]);
            encode(x, importance.filter(|importance| fit::usable(*importance)), block);
        } else {
            block.fill(0);
            broken(block);
        }
    }
}

/// The `f16` at byte `at`, widened.
#[inline(always)]
pub(super) fn get_f16<const B: usize>(block: &[u8; B], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Writes `value` as the nearest `f16` (ties to even) at byte `at`.
#[inline(always)]
pub(super) fn put_f16<const B: usize>(block: &mut [u8; B], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// Splits 16 bytes into 32 nibbles: low nibbles are values 0 to 15, high nibbles 16 to 31.
#[inline(always)]
pub(super) fn nibbles(qs: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, byte) in qs.iter().enumerate() {
        out[i] = byte & 15;
        out[i + 16] = byte >> 4;
    }
    out
}

/// The inverse of [`nibbles`]; bits above the fourth are dropped.
#[inline(always)]
pub(super) fn pack_nibbles(q: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| (q[i] & 15) | (q[i + 16] << 4))
}

/// The little-endian `u16` at byte `at`.
#[inline(always)]
pub(super) fn get_u16(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(block, at))
}

/// The little-endian `u32` at byte `at`.
#[inline(always)]
pub(super) fn get_u32(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(block, at))
}

/// The `N` bytes at `at` of a block, as an array.
#[inline(always)]
pub(super) fn bytes_at<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&block[at..at + N]);
    out
}
