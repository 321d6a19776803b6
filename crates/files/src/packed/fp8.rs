//! FP8: a byte per weight, with a scale for the matrix, for each row, or for each square of some rows and columns.
//!
//! `weight_scale_inv` and `weight_scale` are both multiplied with, whatever their names say. Truth: `transformers`' FP8
//! integration for squares, compressed-tensors for rows; OCP's 8-bit floating point specification for the bytes.

use std::ops::Range;

use whit_base::{Bytes, DType};

use super::codes::{FLOATS, Floats};
use super::{Made, Matrix, Source};
use crate::{FileError, SafeTensor};

#[derive(Debug)]
struct Fp8 {
    data: Bytes,
    n_in: usize,
    /// Rows and columns that share a scale.
    square: [usize; 2],
    scales: Option<Floats>,
    table: Box<[f32; 256]>,
}

impl Matrix for Fp8 {
    fn values(&self, rows: Range<usize>, out: &mut [f32]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(self.n_in)) {
            let bytes = self.data.get(row * self.n_in..(row + 1) * self.n_in).unwrap_or_default();
            let mut scale = 1.0;
            for (column, (byte, out)) in bytes.iter().zip(out).enumerate() {
                if column % self.square[1] == 0 {
                    let at = (row / self.square[0], column / self.square[1]);
                    scale = self.scales.as_ref().map_or(1.0, |scales| scales.at(at.0, at.1));
                }
                *out = self.table[usize::from(*byte)] * scale;
            }
        }
    }
}

/// The value of a byte with so many bits of mantissa. `finite`: E4M3, whose largest exponent holds numbers and one NaN.
fn value(byte: u8, mantissa_bits: u32, bias: i32, finite: bool) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((byte & 0x7f) >> mantissa_bits);
    let mantissa = f32::from(byte & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits) as f32;
    let all_ones = byte & 0x7f == 0x7f;
    let last = (1 << (7 - mantissa_bits)) - 1;
    if finite && all_ones || !finite && exponent == last && mantissa != 0.0 {
        f32::NAN
    } else if !finite && exponent == last {
        sign * f32::INFINITY
    } else if exponent == 0 {
        sign * mantissa * 2f32.powi(1 - bias)
    } else {
        sign * (1.0 + mantissa) * 2f32.powi(exponent - bias)
    }
}

pub(super) fn matrix(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let [n_out, n_in] = tensor.shape[..] else { return Ok(None) };
    let table = Box::new(std::array::from_fn(|byte| match tensor.kind.name() {
        "F8_E4M3" => value(byte as u8, 3, 7, true),
        _ => value(byte as u8, 2, 15, false),
    }));
    let scale =
        ["weight_scale_inv", "weight_scale"].into_iter().find(|part| source.find(module, part).is_some());
    let scale = scale.map(|part| source.part(module, part, &FLOATS)).transpose()?;
    let (square, n_cols) = match scale.map(|scale| &scale.shape[..]) {
        None | Some([] | [1] | [1, 1]) => ([n_out, n_in], 1),
        Some(&[n] | &[n, 1]) if n == n_out => ([1, n_in], 1),
        Some(&[n_down, n_across]) => {
            let size = |at: usize| {
                let list = source.config.get("weight_block_size")?.as_array()?;
                list.get(at)?.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)
            };
            let square = [size(0).unwrap_or(128), size(1).unwrap_or(128)];
            if [n_out.div_ceil(square[0]), n_in.div_ceil(square[1])] != [n_down, n_across] {
                let problem =
                    format!("({n_down}, {n_across}) scales do not cover it in blocks of {square:?}");
                return Err(source.fail(&tensor.name, problem));
            }
            (square, n_across)
        }
        Some(shape) => {
            return Err(source.fail(&tensor.name, format!("scales of the shape {shape:?} do not cover it")));
        }
    };
    let scales = scale.map(|scale| Floats::new(scale, n_cols));
    let mut parts = vec![tensor];
    parts.extend(scale);
    let activations = source.find(module, "input_scale").or_else(|| source.find(module, "activation_scale"));
    parts.extend(activations);
    let square = square.map(|n| n.max(1));
    let matrix = Fp8 { data: tensor.data.clone(), n_in, square, scales, table };
    source.made(module, &parts, [n_out, n_in], (DType::BF16, false), matrix)
}

#[cfg(test)]
mod tests {
    use super::value;

    /// The extremes of OCP's tables.
    #[test]
    fn bytes_are_those_of_the_specification() {
        for (byte, expected) in
            [(0x7e, 448.0), (0x08, 0.015_625), (0x01, 0.001_953_125), (0xb8, -1.0), (0x00, 0.0)]
        {
            assert_eq!(value(byte, 3, 7, true), expected, "E4M3 {byte:02x}");
        }
        assert!(value(0x7f, 3, 7, true).is_nan() && value(0xff, 3, 7, true).is_nan());
        for (byte, expected) in
            [(0x7b, 57344.0), (0x04, 2f32.powi(-14)), (0x01, 2f32.powi(-16)), (0xbc, -1.0)]
        {
            assert_eq!(value(byte, 2, 15, false), expected, "E5M2 {byte:02x}");
        }
        assert!(value(0x7d, 2, 15, false).is_nan() && value(0xfc, 2, 15, false) == f32::NEG_INFINITY);
    }
}
