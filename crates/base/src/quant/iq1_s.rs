//! IQ1_S: 256 values in 50 bytes, 8 groups of 32, `d·(2·scale + 1)·(level + delta)` with 3-bit scales; eight values at a time
//! have their levels, -1, 0 or 1, from one of 2048 points, and a group's delta is 1/8 or -1/8.
//!
//! Bytes: `f16` `d` 0..2, low bits of the points 2..34, a `u16` per group 34..50: three top bits of each point, lowest first,
//! the scale in bits 12 to 14, and bit 15 for a negative delta. Points: [`super::grids`].

use std::sync::OnceLock;

use super::codec::{Codec, decode_blocks, dot_blocks, encode_blocks, get_f16, get_u16, put_f16};
use super::fit;
use super::grid_fit::{OddScales, odd, odd_scales, own_scale};
use super::grids;
use super::lattice::{Lattice, Sums};
use crate::DType;

/// Values in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 50;
const _: () = assert!(BLOCK_LEN == DType::IQ1_S.block_len() && BLOCK_BYTES == DType::IQ1_S.block_bytes());

const QS_AT: usize = 2;
const HIGH_AT: usize = 34;

/// How far the levels of a group are shifted, up or down (source: the format's definition in ggml).
pub const DELTA: f32 = 0.125;

/// Error bound: with three levels a value may be given up for the sake of its neighbours altogether, and then it decodes to a
/// delta of either sign.
pub(super) const CODEC: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode),
    dot: |bytes, x| dot_blocks(bytes, x, decode),
    encode: |x, importance, out| encode_blocks(x, importance, out, 0, encode),
    error_bound: 1.25,
};

/// Decodes one block.
pub fn decode(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = get_f16(block, 0);
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = get_u16(block, HIGH_AT + i / 4 * 2);
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
        let point = usize::from(block[QS_AT + i]) | usize::from(high >> (i % 4 * 3) & 7) << 8;
        decode_eight(point, high >> 15 == 1, scale, out);
    }
}

/// Eight values from the number of their point.
#[inline(always)]
pub(super) fn decode_eight(point: usize, negative: bool, scale: f32, out: &mut [f32; 8]) {
    let delta = if negative { -DELTA } else { DELTA };
    for (out, level) in out.iter_mut().zip(grids::eight(grids::IQ1[point])) {
        *out = scale * (f32::from(level.cast_signed() - 1) + delta);
    }
}

/// What eight values may be stored as: a point, and whether delta is negative.
#[derive(Clone, Copy, Default)]
pub(super) struct Ternary {
    pub(super) point: u16,
    pub(super) negative: bool,
    pub(super) sums: Sums,
    pub(super) cost: f32,
}

/// The point of least error under a scale and a delta.
pub(super) fn ternary(x: &[f32; 8], w: &[f32; 8], s: f32, negative: bool) -> Ternary {
    static LATTICE: OnceLock<Lattice<8>> = OnceLock::new();
    let points = || grids::IQ1.iter().map(|point| grids::eight(*point));
    let lattice = LATTICE.get_or_init(|| Lattice::new(points(), &[-1.0, 0.0, 1.0]));
    let delta = if negative { -DELTA } else { DELTA };
    let point = lattice.nearest(&x.map(|x| x - s * delta), w, s, false).point;
    let mut sums = Sums::default();
    for (i, level) in lattice.point(point).iter().enumerate() {
        let q = level + delta;
        sums.xq += w[i] * x[i] * q;
        sums.qq += w[i] * q * q;
    }
    Ternary { point, negative, sums, cost: sums.cost(s) }
}

/// Least and largest magnitude of a level with its delta.
pub(super) const RANGE: (f32, f32) = (DELTA, 1.0 + DELTA);

/// The points of least error for a group, under the better delta.
fn group(x: &[[f32; 8]], w: &[[f32; 8]], s: f32) -> ([Ternary; 4], Sums) {
    let with = |negative| -> [Ternary; 4] { std::array::from_fn(|i| ternary(&x[i], &w[i], s, negative)) };
    let cost = |eights: &[Ternary; 4]| eights.iter().map(|eight| eight.cost).sum::<f32>();
    let (up, down) = (with(false), with(true));
    let eights = if cost(&down) < cost(&up) { down } else { up };
    let mut sums = Sums::default();
    eights.iter().for_each(|eight| sums += eight.sums);
    (eights, sums)
}

fn encode(x: &[f32; BLOCK_LEN], importance: Option<&[f32; BLOCK_LEN]>, block: &mut [u8; BLOCK_BYTES]) {
    let w = fit::weights(x, importance);
    let (x, w) = (x.as_chunks::<8>().0, w.as_chunks::<8>().0);
    let find = |g: usize, s: f32| group(&x[4 * g..4 * g + 4], &w[4 * g..4 * g + 4], s);
    let own: [f32; 8] = std::array::from_fn(|g| {
        let peak = fit::peak(x[4 * g..4 * g + 4].as_flattened()).abs();
        own_scale(peak, RANGE, |s| find(g, s).1)
    });
    block.fill(0);
    let Some(OddScales { d, codes }) = odd_scales::<8>(own, 7, 1.0, |g, s| find(g, s).1) else {
        return put_f16(block, 0, f32::INFINITY);
    };
    put_f16(block, 0, d);
    for (g, code) in codes.into_iter().enumerate() {
        let (eights, _) = find(g, odd(d, code));
        let mut high = u16::from(code) << 12 | u16::from(eights[0].negative) << 15;
        for (i, eight) in eights.iter().enumerate() {
            block[QS_AT + 4 * g + i] = eight.point as u8;
            high |= eight.point >> 8 << (3 * i);
        }
        block[HIGH_AT + 2 * g..][..2].copy_from_slice(&high.to_le_bytes());
    }
}
