//! HQQ: `(q - zero) * scale` with float zero points, in groups along rows (`axis` 1) or along columns (0).
//!
//! The matrix is read as `(n, group)` or `(group, n)` and packed in planes: with so many bits, the rows of the first plane are the
//! highest bits of each byte (3 bits: of 32-bit words), those of the next the bits below. Its settings are tensors too. Truth:
//! `hqq.core.bitpack` and `HQQLinear.state_dict`.

use std::ops::Range;

use whit_base::quant::assemble_row;
use whit_base::{Bytes, DType};

use super::codes::{FLOATS, Floats};
use super::{Made, Matrix, Source};
use crate::{FileError, SafeTensor};

#[derive(Debug)]
struct Hqq {
    data: Bytes,
    bits: usize,
    /// Bytes of a packed element, and rows of a plane.
    element: usize,
    step: usize,
    /// Columns of what is packed.
    width: usize,
    n_in: usize,
    by_column: bool,
    scales: Floats,
    zeros: Floats,
}

impl Hqq {
    fn code(&self, row: usize, column: usize) -> i16 {
        let (plane, row) = (row / self.step, row % self.step);
        let at = (row * self.width + column) * self.element;
        let bytes = self.data.get(at..at + self.element).unwrap_or_default();
        let word = bytes.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let planes = if self.bits == 3 { 10 } else { 8 / self.bits.next_power_of_two() };
        let width = if self.bits == 3 { 3 } else { 8 / planes };
        (word >> (width * (planes - 1 - plane)) & ((1 << width) - 1)) as i16
    }

    /// The integer of a weight, and the number of its group.
    fn at(&self, row: usize, column: usize) -> (i16, usize) {
        let flat = row * self.n_in + column;
        let (r, c) = (flat / self.width, flat % self.width);
        (self.code(r, c), if self.by_column { c } else { r })
    }
}

impl Matrix for Hqq {
    fn values(&self, rows: Range<usize>, out: &mut [f32]) {
        for (row, out) in rows.zip(out.chunks_exact_mut(self.n_in)) {
            for (column, out) in out.iter_mut().enumerate() {
                let (q, group) = self.at(row, column);
                *out = (f32::from(q) - self.zeros.at(0, group)) * self.scales.at(0, group);
            }
        }
    }

    fn blocks(&self, dtype: DType, rows: Range<usize>, out: &mut [u8]) -> bool {
        if dtype == DType::Q8_0 {
            return false;
        }
        let mut q = vec![0; self.n_in];
        let (mut d, mut m) = (vec![0.0; self.n_in / 32], vec![0.0; self.n_in / 32]);
        for (row, out) in rows.zip(out.chunks_exact_mut(dtype.row_bytes(self.n_in).unwrap_or(1))) {
            for (column, q) in q.iter_mut().enumerate() {
                let (code, group) = self.at(row, column);
                *q = code;
                if column.is_multiple_of(32) {
                    d[column / 32] = self.scales.at(0, group);
                    m[column / 32] = -self.zeros.at(0, group) * d[column / 32];
                }
            }
            assemble_row(dtype, &q, &d, &m, out);
        }
        true
    }
}

pub(super) fn matrix(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let mut parts = vec![tensor];
    let mut number = |part: &str| -> Result<usize, FileError> {
        let it = source.part(module, part, &["I32", "I64", "U8"])?;
        parts.push(it);
        let bytes = it.data.iter().rev().skip(it.data.len().saturating_sub(4));
        let value = bytes.fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        usize::try_from(value).map_err(|_| source.fail(&it.name, "it is too large".to_owned()))
    };
    let (bits, group, axis) = (number("nbits")?, number("group_size")?, number("axis")?);
    let as_float = number("view_as_float").unwrap_or(0);
    let shape = source.part(module, "shape", &["I64", "I32"])?;
    let size = shape.kind.name()[1..].parse::<usize>().unwrap_or(64) / 8;
    let side = |at: usize| {
        let bytes = shape.data.get(at * size..at * size + 4)?;
        bytes.try_into().ok().map(|bytes| u32::from_le_bytes(bytes) as usize)
    };
    let (Some(n_out), Some(n_in)) = (side(0), side(1)) else {
        return Err(source.fail(&shape.name, "it names no rows and columns".to_owned()));
    };
    let total = n_out.checked_mul(n_in).filter(|n| group > 0 && n.is_multiple_of(group));
    let Some(total) = total.filter(|_| [1, 2, 3, 4, 5, 6, 8].contains(&bits) && axis <= 1 && as_float == 0)
    else {
        let problem = format!("{bits} bits in groups of {group} along axis {axis} are not read");
        return Err(source.fail(&tensor.name, problem));
    };
    let (n_rows, width) = if axis == 1 { (total / group, group) } else { (group, total / group) };
    let n_planes = if bits == 3 { 10 } else { 8 / bits.next_power_of_two() };
    let (step, element) = (n_rows.div_ceil(n_planes), if bits == 3 { 4 } else { 1 });
    if tensor.data.len() != step * width * element || bits != 3 && !n_rows.is_multiple_of(n_planes) {
        let problem =
            format!("its {} bytes do not hold ({n_out}, {n_in}) values of {bits} bits", tensor.data.len());
        return Err(source.fail(&tensor.name, problem));
    }
    let (scales, zeros) = (source.part(module, "scale", &FLOATS)?, source.part(module, "zero", &FLOATS)?);
    let n_groups = total / group;
    for part in [scales, zeros] {
        if part.shape.iter().product::<usize>() != n_groups {
            return Err(source.fail(&part.name, format!("it has not {n_groups} values, one per group")));
        }
    }
    parts.extend([shape, scales, zeros]);
    let rest = ["packing", "unpack_view_dtype", "quant_scale", "quant_zero", "compute_dtype", "offload_meta"]
        .into_iter()
        .chain(["encoded_state_dict", "stores_quant_config", "channel_wise", "optimize", "round_zero"]);
    parts.extend(rest.filter_map(|part| source.find(module, part)));
    let in_runs = axis == 1 && group.is_multiple_of(32) && n_in.is_multiple_of(group);
    let dtype = match bits {
        1..=4 if in_runs => DType::Q4_1,
        5 if in_runs => DType::Q5_1,
        _ => DType::Q8_0,
    };
    let matrix = Hqq {
        data: tensor.data.clone(),
        bits,
        element,
        step: step.max(1),
        width,
        n_in,
        by_column: axis == 0,
        scales: Floats::new(scales, n_groups),
        zeros: Floats::new(zeros, n_groups),
    };
    source.made(module, &parts, [n_out, n_in], (dtype, false), matrix)
}
