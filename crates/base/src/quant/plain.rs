//! F32, F16 and BF16: one value per block, no scale. NaN and infinity pass through; encoding rounds to
//! nearest, ties to even (source: IEEE 754; BF16 as in the `gguf` package).

use super::codec::{Codec, decode_blocks, dot_blocks};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Values converted at a time, so that the conversion runs on vectors whatever the bytes' alignment.
const CHUNK: usize = 64;

pub(super) const F32: Codec = Codec {
    decode: |bytes, out| {
        decode_blocks(bytes, out, |b: &[u8; 4], v: &mut [f32; 1]| v[0] = f32::from_le_bytes(*b))
    },
    dot: |bytes, x| dot_blocks(bytes, x, |b: &[u8; 4], v: &mut [f32; 1]| v[0] = f32::from_le_bytes(*b)),
    encode: |x, _, out| {
        for (x, out) in x.iter().zip(out.as_chunks_mut::<4>().0) {
            *out = x.to_le_bytes();
        }
    },
    error_bound: 0.0,
};

/// Error bound: half a unit in the last of 11 significant bits.
pub(super) const F16: Codec = Codec {
    decode: decode_f16,
    dot: |bytes, x| {
        let mut values = [0.0; CHUNK];
        let mut sum = 0.0;
        for (bytes, x) in bytes.chunks(2 * CHUNK).zip(x.chunks(CHUNK)) {
            decode_f16(bytes, &mut values[..x.len()]);
            sum += values.iter().zip(x).map(|(v, x)| f64::from(*v) * f64::from(*x)).sum::<f64>();
        }
        sum
    },
    encode: |x, _, out| {
        let mut halves = [f16::ZERO; CHUNK];
        for (x, out) in x.chunks(CHUNK).zip(out.chunks_mut(2 * CHUNK)) {
            let halves = &mut halves[..x.len()];
            halves.convert_from_f32_slice(x);
            for (out, half) in out.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                *out = half.to_le_bytes();
            }
        }
    },
    error_bound: 1.0 / 2048.0,
};

/// Error bound: half a unit in the last of 8 significant bits.
pub(super) const BF16: Codec = Codec {
    decode: |bytes, out| decode_blocks(bytes, out, decode_bf16),
    dot: |bytes, x| dot_blocks(bytes, x, decode_bf16),
    encode: |x, _, out| {
        for (x, out) in x.iter().zip(out.as_chunks_mut::<2>().0) {
            *out = bf16::from_f32(*x).to_le_bytes();
        }
    },
    error_bound: 1.0 / 256.0,
};

fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    let mut halves = [f16::ZERO; CHUNK];
    for (bytes, out) in bytes.chunks(2 * CHUNK).zip(out.chunks_mut(CHUNK)) {
        let halves = &mut halves[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves.convert_to_f32_slice(out);
    }
}

fn decode_bf16(bytes: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
}
