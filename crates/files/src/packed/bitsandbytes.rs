//! bitsandbytes: four bits with a codebook (NF4, FP4), and eight bits with a scale per row (LLM.int8).
//!
//! Four bits: a weight's values follow each other without regard to rows, two to a byte, the first in the upper half; each run of
//! `blocksize` has a magnitude, which may itself be quantized by eight bits (`nested_*`). Truth: `bitsandbytes.functional`.

use std::ops::Range;

use serde_json::Value;
use whit_base::quant::assemble_row;
use whit_base::{Bytes, DType};

use super::codes::{FLOATS, Floats};
use super::{Made, Matrix, Source};
use crate::{FileError, SafeTensor};

/// The tensors whose bytes are JSON that describes a weight.
pub(super) const STATES: [&str; 2] =
    ["weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4"];
/// The longest description.
const MAX_STATE: usize = 1 << 16;

#[derive(Debug)]
struct FourBits {
    data: Bytes,
    n_in: usize,
    codebook: [f32; 16],
    block: usize,
    magnitudes: Vec<f32>,
}

impl Matrix for FourBits {
    fn values(&self, rows: Range<usize>, out: &mut [f32]) {
        let first = rows.start * self.n_in;
        for (i, out) in out.iter_mut().enumerate() {
            let at = first + i;
            let byte = self.data.get(at / 2).copied().unwrap_or(0);
            let code = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            let magnitude = self.magnitudes.get(at / self.block).copied().unwrap_or(0.0);
            *out = self.codebook[usize::from(code)] * magnitude;
        }
    }
}

fn floats(tensor: &SafeTensor) -> Vec<f32> {
    let all = Floats::new(tensor, tensor.shape.iter().product());
    (0..tensor.shape.iter().product()).map(|i| all.at(0, i)).collect()
}

pub(super) fn four_bits(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let Some(state) = STATES.iter().find_map(|state| source.find(module, state)) else { return Ok(None) };
    let fields: Option<Value> =
        (state.data.len() <= MAX_STATE).then(|| serde_json::from_slice(&state.data).ok()).flatten();
    let fields = fields.ok_or_else(|| source.fail(&state.name, "it holds no JSON".to_owned()))?;
    let number = |name: &str| fields.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let side = |at: usize| fields.get("shape")?.get(at)?.as_u64().and_then(|n| usize::try_from(n).ok());
    let (Some(block), Some(n_out), Some(n_in)) = (number("blocksize").filter(|n| *n > 0), side(0), side(1))
    else {
        return Err(source.fail(&state.name, "it names no block size and shape of a matrix".to_owned()));
    };
    let n = n_out.checked_mul(n_in).filter(|n| n.div_ceil(2) == tensor.data.len());
    let n = n.ok_or_else(|| {
        let problem =
            format!("its {} bytes do not hold ({n_out}, {n_in}) values of 4 bits", tensor.data.len());
        source.fail(&tensor.name, problem)
    })?;
    let n_blocks = n.div_ceil(block);
    let codebook = source.part(module, "weight.quant_map", &["F32"])?;
    source.expect(codebook, &[16])?;
    let mut parts = vec![tensor, state, codebook];
    let magnitudes = match source.find(module, "weight.nested_absmax") {
        None => {
            let magnitudes = source.part(module, "weight.absmax", &FLOATS)?;
            source.expect(magnitudes, &[n_blocks])?;
            parts.push(magnitudes);
            floats(magnitudes)
        }
        Some(_) => {
            let codes = source.part(module, "weight.absmax", &["U8"])?;
            let nested = source.part(module, "weight.nested_absmax", &FLOATS)?;
            let map = source.part(module, "weight.nested_quant_map", &["F32"])?;
            let run = number("nested_blocksize").filter(|n| *n > 0).unwrap_or(256);
            source.expect(codes, &[n_blocks])?;
            source.expect(nested, &[n_blocks.div_ceil(run)])?;
            source.expect(map, &[256])?;
            let offset = fields.get("nested_offset").and_then(Value::as_f64).unwrap_or(0.0) as f32;
            parts.extend([codes, nested, map]);
            let (nested, map) = (floats(nested), floats(map));
            let each = codes.data.iter().enumerate();
            each.map(|(i, code)| map[usize::from(*code)] * nested[i / run] + offset).collect()
        }
    };
    let mut table = [0.0; 16];
    table.copy_from_slice(&floats(codebook));
    let matrix = FourBits { data: tensor.data.clone(), n_in, codebook: table, block, magnitudes };
    source.made(module, &parts, [n_out, n_in], (DType::Q8_0, false), matrix)
}

/// `weight (n_out, n_in)` and `SCB (n_out)`: a weight is `q * SCB / 127`.
#[derive(Debug)]
struct EightBits {
    data: Bytes,
    n_in: usize,
    scales: Floats,
}

impl EightBits {
    fn row(&self, row: usize) -> (&[u8], f32) {
        let bytes = self.data.get(row * self.n_in..(row + 1) * self.n_in).unwrap_or_default();
        (bytes, self.scales.at(0, row) / 127.0)
    }
}

impl Matrix for EightBits {
    fn values(&self, rows: Range<usize>, out: &mut [f32]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(self.n_in)) {
            let (bytes, scale) = self.row(row);
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = f32::from(byte.cast_signed()) * scale;
            }
        }
    }

    fn blocks(&self, dtype: DType, rows: Range<usize>, out: &mut [u8]) -> bool {
        let row_bytes = dtype.row_bytes(self.n_in).unwrap_or(1);
        for (row, out) in rows.zip(out.chunks_exact_mut(row_bytes)) {
            let (bytes, scale) = self.row(row);
            let q: Vec<i16> = bytes.iter().map(|byte| i16::from(byte.cast_signed())).collect();
            assemble_row(dtype, &q, &vec![scale; self.n_in / 32], &[], out);
        }
        true
    }
}

pub(super) fn eight_bits(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let [n_out, n_in] = tensor.shape[..] else { return Ok(None) };
    let scales = source.part(module, "SCB", &FLOATS)?;
    source.expect(scales, &[n_out])?;
    let mut parts = vec![tensor, scales];
    parts.extend(source.find(module, "weight_format"));
    let matrix = EightBits { data: tensor.data.clone(), n_in, scales: Floats::new(scales, n_out) };
    source.made(module, &parts, [n_out, n_in], (DType::Q8_0, false), matrix)
}
