//! EXL3: weights as walks through a trellis (QTIP), between two Hadamard transforms.
//!
//! `trellis (n_in / 16, n_out / 16, 16 * bits)` words of 16 bits, `suh (n_in)` and `svh (n_out)` scales (older files: their signs, `su`
//! and `sv`, a bit each), `mcg` or `mul1`, whose presence names the codebook. `W = diag(suh) H W' H diag(svh)` with blocks of 128 of
//! the normalized Hadamard matrix. Truth: ExLlamaV3's decoder, as laid down in the research notes of the issue.

use std::ops::Range;

use half::f16;
use whit_base::{Bytes, DType};

use super::codes::{FLOATS, Floats};
use super::{Made, Matrix, Source};
use crate::{FileError, SafeTensor};

/// Values that a Hadamard transform mixes.
const MIXED: usize = 128;
/// Rows and columns of a tile.
const TILE: usize = 16;

/// How a state of 16 bits becomes a value.
#[derive(Clone, Copy, Debug)]
enum Codebook {
    Default,
    Mcg,
    Mul1,
}

impl Codebook {
    fn value(self, state: u16) -> f32 {
        let x = u32::from(state);
        let product = match self {
            Codebook::Default => x.wrapping_mul(89_226_354).wrapping_add(64_248_484),
            Codebook::Mcg => x.wrapping_mul(0xcbac_1fed),
            Codebook::Mul1 => {
                let sum: u32 = x.wrapping_mul(0x83dc_d12d).to_le_bytes().iter().map(|b| u32::from(*b)).sum();
                // A fused product and sum in f16, of 1024 more than the sum: all but the result is exact here.
                let (factor, offset) = (f16::from_bits(0x1eee), f16::from_bits(0xc931));
                return f16::from_f32((sum + 1024) as f32 * factor.to_f32() + offset.to_f32()).to_f32();
            }
        };
        let halves = product & 0x8fff_8fff ^ 0x3b60_3b60;
        (f16::from_bits(halves as u16) + f16::from_bits((halves >> 16) as u16)).to_f32()
    }
}

/// A side's factors.
#[derive(Debug)]
enum Factors {
    Floats(Floats),
    /// A set bit is a negative sign.
    Signs(Bytes),
}

impl Factors {
    fn at(&self, i: usize) -> f32 {
        match self {
            Factors::Floats(floats) => floats.at(0, i),
            Factors::Signs(bytes) => {
                let bit = bytes.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
                if bit { -1.0 } else { 1.0 }
            }
        }
    }
}

#[derive(Debug)]
struct Exl3 {
    data: Bytes,
    bits: usize,
    n_in: usize,
    n_out: usize,
    codebook: Codebook,
    inputs: Factors,
    outputs: Factors,
}

impl Exl3 {
    /// The values of a tile: `out[16 * k + n]` of input `k` and output `n`.
    fn tile(&self, at: (usize, usize), out: &mut [f32; TILE * TILE]) {
        let n_bytes = 32 * self.bits;
        let first = (at.0 * (self.n_out / TILE) + at.1) * n_bytes;
        let bytes = self.data.get(first..first + n_bytes).unwrap_or_default();
        // The stream is of 32-bit words, of which the highest bits come first.
        let bit = |i: usize| {
            let word = bytes
                .get(i / 32 * 4..i / 32 * 4 + 4)
                .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            word >> (31 - i % 32) & 1
        };
        let n_bits = TILE * TILE * self.bits;
        for t in 0..TILE * TILE {
            // The sixteen bits that end with the value's own; the first values' begin at the end.
            let end = (t + 1) * self.bits;
            let state = (0..16).fold(0u32, |state, i| state << 1 | bit((end + n_bits - 16 + i) % n_bits));
            let (lane, e) = (t / 8, t % 8);
            let k = 2 * (lane % 4) + [0, 1, 8, 9][e % 4];
            let n = lane / 4 + 8 * (e / 4);
            out[TILE * k + n] = self.codebook.value(state as u16);
        }
    }
}

/// The normalized Hadamard transform of 128 values, in place.
fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let norm = 1.0 / (x.len() as f32).sqrt();
    x.iter_mut().for_each(|x| *x *= norm);
}

impl Matrix for Exl3 {
    fn values(&self, rows: Range<usize>, out: &mut [f32]) {
        let n_in = self.n_in;
        // Outputs are mixed by 128, so that whole blocks of them are made, whatever part is wanted.
        let mut block = vec![0.0; MIXED * n_in];
        let mut tile = [0.0; TILE * TILE];
        let mut column = [0.0; MIXED];
        for first in (rows.start / MIXED * MIXED..rows.end).step_by(MIXED) {
            for k in 0..n_in / TILE {
                for n in 0..MIXED / TILE {
                    self.tile((k, first / TILE + n), &mut tile);
                    for (i, value) in tile.iter().enumerate() {
                        block[(TILE * n + i % TILE) * n_in + TILE * k + i / TILE] = *value;
                    }
                }
            }
            for k in 0..n_in {
                for (n, value) in column.iter_mut().enumerate() {
                    *value = block[n * n_in + k];
                }
                hadamard(&mut column);
                for (n, value) in column.iter().enumerate() {
                    block[n * n_in + k] = *value;
                }
            }
            for row in first.max(rows.start)..(first + MIXED).min(rows.end) {
                let values = &mut block[(row - first) * n_in..][..n_in];
                values.chunks_exact_mut(MIXED).for_each(hadamard);
                let factor = self.outputs.at(row);
                let out = &mut out[(row - rows.start) * n_in..][..n_in];
                for (k, (out, value)) in out.iter_mut().zip(values).enumerate() {
                    *out = *value * self.inputs.at(k) * factor;
                }
            }
        }
    }
}

pub(super) fn matrix(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let wrong = |problem: &str| source.fail(&tensor.name, problem.to_owned());
    let [tiles_in, tiles_out, words] = tensor.shape[..] else {
        return Err(wrong("it has not three dimensions"));
    };
    let (n_in, n_out) = (tiles_in.saturating_mul(TILE), tiles_out.saturating_mul(TILE));
    let bits = words / TILE;
    if !words.is_multiple_of(TILE) || !(1..=8).contains(&bits) {
        return Err(wrong("its tiles have no width from 1 to 8 bits"));
    }
    if n_in == 0 || n_out == 0 || !n_in.is_multiple_of(MIXED) || !n_out.is_multiple_of(MIXED) {
        return Err(wrong("its sides are no multiples of 128"));
    }
    let mut parts = vec![tensor];
    let mut factors = |floats: &str, signs: &str, n: usize| -> Result<Factors, FileError> {
        if source.find(module, signs).is_some() && source.find(module, floats).is_none() {
            let it = source.part(module, signs, &["I16"])?;
            source.expect(it, &[n / 16])?;
            parts.push(it);
            return Ok(Factors::Signs(it.data.clone()));
        }
        let it = source.part(module, floats, &FLOATS)?;
        source.expect(it, &[n])?;
        parts.push(it);
        Ok(Factors::Floats(Floats::new(it, n)))
    };
    let (inputs, outputs) = (factors("suh", "su", n_in)?, factors("svh", "sv", n_out)?);
    let named = |part: &str| source.find(module, part);
    let codebook = match (named("mcg"), named("mul1")) {
        (Some(_), _) => Codebook::Mcg,
        (None, Some(_)) => Codebook::Mul1,
        (None, None) => Codebook::Default,
    };
    parts.extend(named("mcg").into_iter().chain(named("mul1")));
    let matrix = Exl3 { data: tensor.data.clone(), bits, n_in, n_out, codebook, inputs, outputs };
    source.made(module, &parts, [n_out, n_in], (DType::Q8_0, false), matrix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spreads that the codebooks were made with (research notes of the issue: checked there against the decoder).
    #[test]
    fn codebooks_have_their_spread() {
        for (codebook, expected) in
            [(Codebook::Default, 1.2437), (Codebook::Mcg, 1.2441), (Codebook::Mul1, 1.0003)]
        {
            let values: Vec<f64> = (0..=u16::MAX).map(|state| f64::from(codebook.value(state))).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let square = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
            assert!((square.sqrt() - expected).abs() < 2e-4, "{codebook:?}: {}", square.sqrt());
        }
    }

    #[test]
    fn the_transform_is_its_own_inverse() {
        let x: Vec<f32> = (0..128).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut twice = x.clone();
        hadamard(&mut twice);
        assert!((twice[0] - x.iter().sum::<f32>() / 128f32.sqrt()).abs() < 1e-5);
        hadamard(&mut twice);
        assert!(x.iter().zip(&twice).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
