//! Importance matrices: how much each input column of each weight matrix counts, by the mean square of what goes into it when the
//! model reads a text.
//!
//! The protocol is that of llama.cpp's `imatrix` tool, so that sums can be compared and files exchanged: the text is tokenized as a
//! whole and cut into chunks, each chunk runs alone and begins with BOS where the model wants one, and every position counts once.

mod collect;
mod file;

use std::collections::BTreeMap;

pub use collect::{CalibrationOptions, CalibrationProgress, calibrate, calibrate_on_tokens};

/// Sums over the rows that went into one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnSums {
    /// Squares, summed, of each column; of a mixture's experts, one set of columns after the other.
    pub squares: Vec<f32>,
    /// How many rows went into each expert; one number for a single matrix.
    pub counts: Vec<f32>,
}

impl ColumnSums {
    /// The mean square of each column. Experts that no row went through count all columns alike.
    fn means(&self) -> Vec<f32> {
        let n_cols = self.squares.len() / self.counts.len().max(1);
        let expert = |(squares, &count): (&[f32], &f32)| -> Vec<f32> {
            if count > 0.0 {
                squares.iter().map(|sum| sum / count).collect()
            } else {
                vec![1.0; squares.len()]
            }
        };
        self.squares.chunks(n_cols.max(1)).zip(&self.counts).flat_map(expert).collect()
    }
}

/// What a text says of the columns of a model's matrices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// By the name of the tensor.
    pub tensors: BTreeMap<String, ColumnSums>,
    /// What it was computed on.
    pub datasets: Vec<String>,
    /// Chunks that were read.
    pub n_chunks: u32,
    /// Tokens in a chunk; 0 where a file does not say.
    pub chunk_size: u32,
}

impl Imatrix {
    /// What each column of a tensor of this shape (outermost dimension first) counts: of a matrix, or of each of the matrices that
    /// are its experts. `None` where nothing is known of such a tensor.
    pub fn importance(&self, tensor: &str, shape: &[usize]) -> Option<Vec<f32>> {
        let sums = self.tensors.get(tensor)?;
        let (n_cols, n_matrices) = match shape {
            [experts @ .., _, n_cols] => (*n_cols, experts.iter().product::<usize>()),
            _ => return None,
        };
        (sums.squares.len() == n_cols * n_matrices).then(|| sums.means())
    }
}
