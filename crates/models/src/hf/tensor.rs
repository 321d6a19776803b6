//! A tensor of a folder on its way into GGUF's layout, or of a GGUF file on its way into a folder: where its bytes are, and
//! what is to be done to them.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use whit_base::quant::{decode_row, encode_row};
use whit_base::{Bytes, DType};
use whit_files::packed::Packed;

/// Rows that are turned at a time.
const TILE: usize = 64;

/// A tensor under its new name, and its values as they are stored.
#[derive(Clone, Debug)]
pub struct HfTensor {
    name: String,
    /// Outermost dimension first, as it shall be.
    shape: Vec<usize>,
    dtype: DType,
    data: Bytes,
    /// Whole rows that follow, of a tensor that is put together of several.
    more: Vec<Bytes>,
    /// Rows of a quantized matrix, which are unpacked when they are wanted; `data` is then empty.
    packed: Option<(Arc<Packed>, Range<usize>)>,
    change: Change,
}

/// What is to be done to the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// The file has the distance from 1.
    AddOne,
    /// The folder gets the distance from 1.
    SubtractOne,
    /// One has `(n_in, n_out)`, the other `(n_out, n_in)`.
    Transpose,
    /// Rows of each of so many heads, from halves that are rotated with each other to pairs. Not where the folder is used
    /// in place; there the rotation is told instead.
    Pair {
        n_heads: usize,
    },
    /// The way back.
    Unpair {
        n_heads: usize,
    },
}

impl HfTensor {
    /// `shape` is the file's, and `data` has just these values.
    pub(super) fn new(name: String, shape: &[usize], dtype: DType, data: Bytes, change: Change) -> HfTensor {
        let shape = shape.to_vec();
        HfTensor { name, shape, dtype, data, more: vec![], packed: None, change: Change::None }
            .changed(change)
    }

    /// Rows of a quantized matrix.
    pub(super) fn of_packed(
        name: String,
        packed: Arc<Packed>,
        rows: Range<usize>,
        change: Change,
    ) -> HfTensor {
        let (shape, dtype) = ([rows.len(), packed.shape()[1]], packed.dtype());
        let tensor = HfTensor::new(name, &shape, dtype, Bytes::from_vec(vec![]), Change::None);
        HfTensor { packed: Some((packed, rows)), ..tensor }.changed(change)
    }

    /// The values of several tensors, one below the other, as they are.
    pub(super) fn of_parts(name: String, shape: &[usize], dtype: DType, parts: Vec<Bytes>) -> HfTensor {
        let mut parts = parts.into_iter();
        let data = parts.next().unwrap_or_else(|| Bytes::from_vec(vec![]));
        let (shape, more) = (shape.to_vec(), parts.collect());
        HfTensor { name, shape, dtype, data, more, packed: None, change: Change::None }
    }

    /// With something to be done to the values, which were to stay as they are.
    fn changed(mut self, change: Change) -> HfTensor {
        if change == Change::Transpose {
            self.shape.reverse();
        }
        HfTensor { change, ..self }
    }

    /// The same values under another name, with something to be done to them.
    pub(super) fn renamed(self, name: String, change: Change) -> HfTensor {
        HfTensor { name, ..self }.changed(change)
    }

    /// `(n, k)` as `(n, 1, k)`.
    pub(super) fn unsqueezed(mut self) -> HfTensor {
        self.shape.insert(self.shape.len().min(1), 1);
        self
    }

    /// With rows of zeros below, up to so many.
    pub(super) fn padded(mut self, n_rows: usize) -> HfTensor {
        let row_bytes = self.data.len() / self.shape.first().copied().unwrap_or(1).max(1);
        if let Some(n) = self.shape.first_mut().filter(|n| **n < n_rows) {
            self.more.push(Bytes::from_vec(vec![0; (n_rows - *n) * row_bytes]));
            *n = n_rows;
        }
        self
    }

    /// A tensor of these values.
    pub(super) fn of_values(name: &str, values: &[f32]) -> HfTensor {
        let data = Bytes::from_vec(values.iter().flat_map(|value| value.to_le_bytes()).collect());
        HfTensor::new(name.to_owned(), &[values.len()], DType::F32, data, Change::None)
    }

    /// Its new name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its new dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How its values are stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The values as they are stored; of several parts, the first. A quantized matrix is unpacked for it.
    pub(super) fn data(&self) -> Bytes {
        match &self.packed {
            Some((packed, rows)) => Bytes::from_vec(packed.blocks(rows.clone())),
            None => self.data.clone(),
        }
    }

    /// The same tensor with its bytes in memory: as blocks, or as the exact values where they are to be written as floats.
    fn unpacked(&self, packed: &Packed, rows: &Range<usize>, dtype: DType) -> HfTensor {
        let tensor = HfTensor { packed: None, ..self.clone() };
        if dtype == self.dtype {
            return HfTensor { data: Bytes::from_vec(packed.blocks(rows.clone())), ..tensor };
        }
        let mut values = vec![0.0; rows.len() * packed.shape()[1]];
        packed.values(rows.clone(), &mut values);
        let data = Bytes::from_vec(values.iter().flat_map(|value| value.to_le_bytes()).collect());
        HfTensor { dtype: DType::F32, data, ..tensor }
    }

    /// Rows and columns; a vector whose parts are moved counts as rows of one value.
    fn rows_and_columns(&self) -> (usize, usize) {
        match (self.shape.as_slice(), self.change) {
            ([n], Change::Pair { .. } | Change::Unpair { .. }) => (*n, 1),
            (shape, _) => match shape.split_last() {
                Some((&n_cols, outer)) => (outer.iter().product(), n_cols),
                None => (1, 1),
            },
        }
    }

    /// Bytes that [`in_place`](Self::in_place) makes.
    pub(super) fn bytes_in_memory(&self) -> u64 {
        match self.change {
            _ if self.shape.len() <= 1 => 4 * self.shape.iter().product::<usize>() as u64,
            Change::None | Change::Pair { .. } => 0,
            _ => self.data.len() as u64,
        }
    }

    /// Format and bytes for use where the folder lies: the file's own, but for vectors, which become f32, and for what
    /// stands the other way around.
    pub(super) fn in_place(&self) -> (DType, Bytes) {
        let is_vector = self.shape.len() <= 1;
        let change = if matches!(self.change, Change::Pair { .. }) { Change::None } else { self.change };
        if let Some((packed, rows)) = &self.packed {
            return HfTensor { change, ..self.unpacked(packed, rows, self.dtype) }.in_place();
        }
        if change == Change::None && (!is_vector || self.dtype == DType::F32) {
            return (self.dtype, self.data.clone());
        }
        let dtype = if is_vector { DType::F32 } else { self.dtype };
        let mut made = Vec::with_capacity(usize::try_from(self.bytes_in_memory()).unwrap_or(0));
        let tensor = HfTensor { change, ..self.clone() };
        // Writing to memory does not fail.
        let _ = tensor.write(dtype, &mut made);
        (dtype, Bytes::from_vec(made))
    }

    /// Writes the values in their new order and this format, row by row.
    ///
    /// # Errors
    /// What `out` has to say.
    ///
    /// # Panics
    /// If rows are no whole number of the format's blocks.
    pub fn write(&self, dtype: DType, out: &mut dyn Write) -> io::Result<()> {
        if let Some((packed, rows)) = &self.packed {
            return self.unpacked(packed, rows, dtype).write(dtype, out);
        }
        if self.change == Change::Transpose && self.dtype.block_len() > 1 {
            // Blocks lie along rows.
            return self.decoded().write(dtype, out);
        }
        let (_, n_cols) = self.rows_and_columns();
        let shift = match self.change {
            Change::AddOne => 1.0,
            Change::SubtractOne => -1.0,
            _ => 0.0,
        };
        let mut values = vec![0.0; n_cols];
        let mut row = vec![0; dtype.row_bytes(n_cols).unwrap_or(0)];
        self.for_each_row(&mut |bytes| {
            if dtype == self.dtype && shift == 0.0 {
                return out.write_all(bytes);
            }
            decode_row(self.dtype, bytes, &mut values);
            if shift != 0.0 {
                values.iter_mut().for_each(|value| *value += shift);
            }
            encode_row(dtype, &values, None, &mut row);
            out.write_all(&row)
        })
    }

    /// The same tensor as f32.
    fn decoded(&self) -> HfTensor {
        let mut values = vec![0.0; self.shape.iter().product()];
        decode_row(self.dtype, &self.data, &mut values);
        let data = Bytes::from_vec(values.iter().flat_map(|value| value.to_le_bytes()).collect());
        HfTensor { dtype: DType::F32, data, ..self.clone() }
    }

    /// The rows in their new order, as they are stored.
    fn for_each_row(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (n_rows, n_cols) = self.rows_and_columns();
        let value_bytes = self.dtype.block_bytes();
        let row_bytes = self.dtype.row_bytes(n_cols).unwrap_or(0);
        if row_bytes == 0 {
            return Ok(());
        }
        match self.change {
            Change::None | Change::AddOne | Change::SubtractOne => {
                let parts = std::iter::once(&self.data).chain(&self.more);
                parts.flat_map(|part| part.chunks_exact(row_bytes)).try_for_each(take)
            }
            Change::Pair { n_heads } | Change::Unpair { n_heads } => {
                let head = (n_rows / n_heads.max(1)).max(1);
                let half = (head / 2).max(1);
                (0..n_rows).try_for_each(|row| {
                    let (start, at) = (row - row % head, row % head);
                    let from = match self.change {
                        Change::Unpair { .. } => at % half * 2 + at / half,
                        _ => at % 2 * half + at / 2,
                    };
                    let from = (start + from) * row_bytes;
                    take(self.data.get(from..from + row_bytes).unwrap_or_default())
                })
            }
            Change::Transpose => {
                let mut tile = vec![0; TILE * row_bytes];
                for first in (0..n_rows).step_by(TILE) {
                    let n = TILE.min(n_rows - first);
                    for (column, line) in self.data.chunks_exact(n_rows * value_bytes).enumerate() {
                        let part =
                            line.get(first * value_bytes..(first + n) * value_bytes).unwrap_or_default();
                        for (row, value) in part.chunks_exact(value_bytes).enumerate() {
                            let at = row * row_bytes + column * value_bytes;
                            tile[at..at + value_bytes].copy_from_slice(value);
                        }
                    }
                    tile.chunks_exact(row_bytes).take(n).try_for_each(&mut *take)?;
                }
                Ok(())
            }
        }
    }
}

/// The format that most values of matrices are stored in.
pub(super) fn most_common(tensors: &[HfTensor]) -> DType {
    let count = |dtype: DType| -> usize {
        let matrices = tensors.iter().filter(|tensor| tensor.dtype == dtype && tensor.shape.len() > 1);
        matrices.map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    };
    // Of formats with as many weights as each other, the last.
    let all = FILE_TYPES.iter().rev().map(|(dtype, _)| *dtype);
    all.max_by_key(|&dtype| count(dtype)).unwrap_or(DType::F32)
}

/// The formats that folders hold or become, with the numbers of llama.cpp's `llama_ftype`.
const FILE_TYPES: [(DType, u32); 8] = [
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::BF16, 32),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q5_0, 8),
    (DType::Q5_1, 9),
    (DType::Q8_0, 7),
];

/// The number of llama.cpp's `llama_ftype` for a file of this format.
pub fn file_type(dtype: DType) -> u32 {
    FILE_TYPES.iter().find(|(known, _)| *known == dtype).map_or(0, |(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Bytes {
        Bytes::from_vec(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn written(shape: &[usize], values: &[f32], change: Change) -> (Vec<usize>, Vec<f32>) {
        let tensor = HfTensor::new("t".to_owned(), shape, DType::F32, floats(values), change);
        let mut out = Vec::new();
        tensor.write(DType::F32, &mut out).expect("memory");
        (tensor.shape, out.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    #[test]
    fn values_are_moved_as_the_converters_do() {
        // By hand: two heads of four rows; in each, rows 0 1 | 2 3 become 0 2 1 3.
        let rows: Vec<f32> = (0..8u8).map(f32::from).collect();
        let paired = vec![0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(written(&[8, 1], &rows, Change::Pair { n_heads: 2 }), (vec![8, 1], paired.clone()));
        assert_eq!(written(&[8], &rows, Change::Pair { n_heads: 2 }), (vec![8], paired));
        let mixed = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(written(&[8, 1], &mixed, Change::Unpair { n_heads: 2 }), (vec![8, 1], rows));
        assert_eq!(written(&[2], &[0.5, -1.0], Change::AddOne), (vec![2], vec![1.5, 0.0]));
        assert_eq!(written(&[2], &[1.5, 0.0], Change::SubtractOne), (vec![2], vec![0.5, -1.0]));
        let (turned, back) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(written(&[2, 3], &turned, Change::Transpose), (vec![3, 2], back.to_vec()));
    }

    #[test]
    fn rows_are_added_and_dimensions_of_one() {
        let tensor = HfTensor::new("t".to_owned(), &[1, 2], DType::F32, floats(&[1.0, 2.0]), Change::None);
        let tensor = tensor.padded(3);
        let mut out = Vec::new();
        tensor.write(DType::F32, &mut out).expect("memory");
        assert_eq!((tensor.shape(), &*out), (&[3, 2][..], &*floats(&[1.0, 2.0, 0.0, 0.0, 0.0, 0.0])));
        assert_eq!(tensor.clone().padded(2).shape(), [3, 2]);
        assert_eq!(tensor.unsqueezed().shape(), [3, 1, 2]);
    }

    #[test]
    fn large_matrices_are_turned_whole() {
        let (n_in, n_out) = (7, 150);
        let values: Vec<f32> = (0..n_in * n_out).map(|i| i as f32).collect();
        let (shape, turned) = written(&[n_in, n_out], &values, Change::Transpose);
        assert_eq!(shape, [n_out, n_in]);
        for (row, values) in turned.chunks_exact(n_in).enumerate() {
            for (column, value) in values.iter().enumerate() {
                assert_eq!(*value, (column * n_out + row) as f32);
            }
        }
    }
}
