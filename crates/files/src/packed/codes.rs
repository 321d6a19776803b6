//! Packed integers and the floats beside them, as tensors of two dimensions.

use std::ops::Range;

use whit_base::quant::decode_row;
use whit_base::{Bytes, DType};

use crate::SafeTensor;

/// Where the integers of a matrix `(n_out, n_in)` are, least significant bits first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// `(n_in * bits / 32, n_out)` words: a column of words is a row's stream of bits.
    Down,
    /// `(n_out, n_in * bits / 32)` words: a row of words is a row's stream of bits.
    Across,
    /// `(n_in, n_out * bits / 32)` words: those of all rows for one column, in the order that AWQ interleaves them in.
    Interleaved,
}

/// Column `j` of eight that share a word in AWQ's files lies at nibble `AWQ_ORDER[j]`.
const AWQ_ORDER: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Integers of `bits` bits each.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    pub(super) words: Bytes,
    pub(super) layout: Layout,
    pub(super) bits: usize,
    pub(super) n_out: usize,
    pub(super) n_in: usize,
}

impl Codes {
    /// Words of 32 bits that hold them; `None` where they end inside a word.
    pub(super) fn n_words(&self) -> Option<usize> {
        let bits = match self.layout {
            Layout::Down | Layout::Across => self.n_in,
            Layout::Interleaved => self.n_out,
        };
        let bits = bits.checked_mul(self.bits)?;
        bits.is_multiple_of(32).then_some(bits / 32)
    }

    fn word(&self, index: usize) -> u32 {
        self.words
            .get(4 * index..4 * index + 4)
            .map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Integers of whole rows: `out` is `(rows.len(), n_in)`.
    pub(super) fn read(&self, rows: Range<usize>, out: &mut [i16]) {
        let (bits, mask) = (self.bits, (1u64 << self.bits) - 1);
        let n_words = self.n_words().unwrap_or(0);
        // Two words hold any integer, wherever it begins.
        let cut = |low: u32, high: u32, shift: usize| {
            (((u64::from(high) << 32 | u64::from(low)) >> shift) & mask) as i16
        };
        match self.layout {
            Layout::Across => {
                for (row, out) in rows.zip(out.chunks_exact_mut(self.n_in)) {
                    for (k, out) in out.iter_mut().enumerate() {
                        let (at, shift) = (k * bits / 32, k * bits % 32);
                        let high = if at + 1 < n_words { self.word(row * n_words + at + 1) } else { 0 };
                        *out = cut(self.word(row * n_words + at), high, shift);
                    }
                }
            }
            Layout::Down => {
                // Words of neighbouring rows lie side by side, so rows are the inner loop.
                for k in 0..self.n_in {
                    let (at, shift) = (k * bits / 32, k * bits % 32);
                    for (i, row) in rows.clone().enumerate() {
                        let low = self.word(at * self.n_out + row);
                        let high = if shift + bits > 32 { self.word((at + 1) * self.n_out + row) } else { 0 };
                        out[i * self.n_in + k] = cut(low, high, shift);
                    }
                }
            }
            Layout::Interleaved => {
                for k in 0..self.n_in {
                    for (i, row) in rows.clone().enumerate() {
                        let word = self.word(k * n_words + row / 8);
                        out[i * self.n_in + k] = cut(word, 0, bits * AWQ_ORDER[row % 8]);
                    }
                }
            }
        }
    }
}

/// Floats `(n_rows, n_cols)`, read one at a time.
#[derive(Clone, Debug)]
pub(super) struct Floats {
    data: Bytes,
    dtype: DType,
    n_cols: usize,
}

/// The types that scales come in.
pub(super) const FLOATS: [&str; 3] = ["F16", "BF16", "F32"];

impl Floats {
    /// The values of a tensor of one of [`FLOATS`].
    pub(super) fn new(tensor: &SafeTensor, n_cols: usize) -> Floats {
        Floats { data: tensor.data.clone(), dtype: tensor.dtype().unwrap_or(DType::F32), n_cols }
    }

    pub(super) fn at(&self, row: usize, column: usize) -> f32 {
        let n = self.dtype.block_bytes();
        let at = n * (row * self.n_cols + column);
        let mut value = [0.0];
        if let Some(bytes) = self.data.get(at..at + n) {
            decode_row(self.dtype, bytes, &mut value);
        }
        value[0]
    }
}

/// The integers of a small tensor of 32 bits.
pub(super) fn integers(tensor: &SafeTensor) -> Vec<i32> {
    tensor.data.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()
}
