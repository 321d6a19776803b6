//! Formats within a budget: of all ways to give each tensor a format that come to a size, the one that is expected to move the model's
//! predictions least.
//!
//! What a format costs a tensor is the squared error that it brings into the tensor's output on a calibration text (by the mean squares
//! of the columns of the input: the diagonal of what GPTQ uses). How much such an error counts for the model is measured for groups of
//! tensors, of one kind in neighbouring layers: the group alone is rounded, and the Kullback-Leibler divergence of the model's
//! predictions from those of the source is divided by the group's error. Divergence grows with the square of small perturbations and
//! independent ones add up, so the sum over tensors is what to keep small, and the choice is a knapsack: from the smallest formats on, the
//! step that wins most per byte is taken until nothing fits.
//!
//! Left out: interactions between tensors, and formats larger than 8 bits.

mod choose;
mod probe;

use std::collections::BTreeMap;

use whit_base::DType;
use whit_base::quant::{decode_row, encode_row};
use whit_engine::EngineOptions;
use whit_files::Gguf;

use super::plan::is_quantizable;
use super::source::{Source, Tensor};
use crate::{Imatrix, ShrinkError};
use choose::Step;
use probe::Probe;

/// How large a model may become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Bits for each value, of all tensors.
    BitsPerWeight(f64),
    /// Bytes of the file.
    FileBytes(u64),
}

/// What [`fit_budget`] found out.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// A format for each matrix, by its name.
    pub formats: BTreeMap<String, DType>,
    /// The Kullback-Leibler divergence that is expected of them.
    pub divergence: f64,
    /// Groups of tensors, and the divergence per unit of squared error in the outputs of each.
    pub sensitivities: Vec<(String, f64)>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetProgress {
    /// Groups of tensors that are measured.
    pub n_done: usize,
    /// Groups in all.
    pub n_groups: usize,
}

/// Layers of a group: a model is cut into this many parts.
const N_BANDS: usize = 4;

/// Rows of a tensor that errors are estimated from.
const SAMPLED_ROWS: usize = 96;

/// Bytes that the head of a file may grow by: keys of the importance matrix.
const MORE_OVERHEAD: u64 = 1024;

/// Formats of fewer bits than this part of what the budget allows on average never win, and some take long to try.
const LEAST_PART: f64 = 0.6;

/// What groups are rounded to when they are measured: 4 bits, in blocks that fit nearly every row.
const PROBE: DType = DType::IQ4_NL;

/// A matrix that a format is to be found for.
struct Matrix<'a> {
    tensor: &'a Tensor,
    n_rows: usize,
    n_cols: usize,
    /// What each column counts, and of each expert.
    importance: Vec<f32>,
    /// Which group it belongs to.
    group: usize,
}

/// Chooses formats for the matrices of the model in `gguf`. `imatrix` is of this model, with its output projection; `tokens` are those of a
/// text, some hundred of them.
///
/// # Errors
/// A budget that no choice of formats meets, and failures of the engine.
pub fn fit_budget(
    gguf: &Gguf,
    imatrix: &Imatrix,
    tokens: &[u32],
    budget: Budget,
    options: &EngineOptions,
    report: &mut dyn FnMut(BudgetProgress),
) -> Result<Fitted, ShrinkError> {
    let source = Source::of(gguf);
    let (matrices, groups) = matrices(&source, imatrix);
    if tokens.len() < 4 {
        return Err(ShrinkError::TextTooShort { n_tokens: tokens.len(), n_needed: 4 });
    }
    let n_threads = super::n_threads(options.threads);

    let probed: Vec<f64> = matrices.iter().map(|matrix| matrix.error(PROBE, n_threads)).collect();
    let probe = Probe::new(gguf, tokens, options)?;
    let mut sensitivity = Vec::with_capacity(groups.len());
    for (group, _) in groups.iter().enumerate() {
        report(BudgetProgress { n_done: group, n_groups: groups.len() });
        let members = matrices.iter().filter(|matrix| matrix.group == group);
        let members = members.map(|matrix| (matrix.tensor, &matrix.importance[..]));
        let divergence = probe.divergence(members, PROBE, n_threads)?;
        let error: f64 = probed.iter().zip(&matrices).filter(|(_, m)| m.group == group).map(|(e, _)| e).sum();
        sensitivity.push(if error > 0.0 { divergence / error } else { 0.0 });
    }
    report(BudgetProgress { n_done: groups.len(), n_groups: groups.len() });

    let room = room(&source, &matrices, budget);
    let n_values: usize = matrices.iter().map(|matrix| matrix.n_rows * matrix.n_cols).sum();
    let least_bits = (LEAST_PART * room as f64 * 8.0 / n_values.max(1) as f64).min(4.0);
    let steps: Vec<Vec<Step>> = matrices
        .iter()
        .map(|matrix| {
            let formats = DType::ALL.into_iter().filter(|format| {
                is_candidate(*format, matrix.n_cols) && format.bits_per_weight() >= least_bits
            });
            let step = |format: DType| Step {
                format,
                n_bytes: matrix.n_rows as u64 * format.row_bytes(matrix.n_cols).unwrap_or(0) as u64,
                cost: matrix.error(format, n_threads) * sensitivity[matrix.group],
            };
            choose::hull(formats.map(step).collect())
        })
        .collect();
    let chosen = choose::within(&steps, room).ok_or_else(|| {
        let least: u64 = steps.iter().filter_map(|steps| steps.first()).map(|step| step.n_bytes).sum();
        let excess = least.saturating_sub(room);
        ShrinkError::Budget { excess }
    })?;
    let divergence = chosen.iter().map(|step| step.cost).sum();
    let formats =
        matrices.iter().zip(&chosen).map(|(m, step)| (m.tensor.name().to_owned(), step.format)).collect();
    let sensitivities = groups.into_iter().zip(sensitivity).collect();
    Ok(Fitted { formats, divergence, sensitivities })
}

/// Whether a format comes into question for rows of this length: one of blocks that fit.
fn is_candidate(format: DType, n_cols: usize) -> bool {
    format.is_quantized() && format.bits_per_weight() < 9.0 && n_cols.is_multiple_of(format.block_len())
}

/// The matrices that can be stored in blocks, and the names of their groups.
fn matrices<'a>(source: &'a Source, imatrix: &Imatrix) -> (Vec<Matrix<'a>>, Vec<String>) {
    let layer = |name: &str| super::plan::layer(name);
    let n_layers =
        source.tensors.iter().filter_map(|tensor| layer(tensor.name())).max().map_or(1, |last| last + 1);
    let mut groups: Vec<String> = Vec::new();
    let mut matrices = Vec::new();
    for tensor in &source.tensors {
        let shape = tensor.shape();
        let n_cols = shape.last().copied().unwrap_or(1);
        if !is_quantizable(tensor.name(), shape) || !DType::ALL.into_iter().any(|f| is_candidate(f, n_cols)) {
            continue;
        }
        let name = match layer(tensor.name()) {
            Some(layer) => {
                let kind = tensor.name().splitn(3, '.').nth(2).unwrap_or_default();
                format!(
                    "{}, part {} of {N_BANDS}",
                    kind.trim_end_matches(".weight"),
                    layer * N_BANDS / n_layers + 1
                )
            }
            None => tensor.name().trim_end_matches(".weight").to_owned(),
        };
        let group = groups.iter().position(|known| *known == name).unwrap_or_else(|| {
            groups.push(name);
            groups.len() - 1
        });
        let known = imatrix.importance(tensor.name(), shape);
        let importance = known.unwrap_or_else(|| vec![1.0; n_cols]);
        let n_rows = shape.iter().rev().skip(1).product();
        matrices.push(Matrix { tensor, n_rows, n_cols, importance, group });
    }
    (matrices, groups)
}

/// Bytes that the matrices may take: what the budget leaves beside the rest of the file.
fn room(source: &Source, matrices: &[Matrix<'_>], budget: Budget) -> u64 {
    let bytes = |tensor: &Tensor| tensor.bytes().len() as u64;
    let all: u64 = source.tensors.iter().map(bytes).sum();
    let rest = all - matrices.iter().map(|matrix| bytes(matrix.tensor)).sum::<u64>();
    let total = match budget {
        Budget::BitsPerWeight(bits) => {
            let n: u64 =
                source.tensors.iter().map(|t| t.shape().iter().map(|n| *n as u64).product::<u64>()).sum();
            (bits.max(0.0) * n as f64 / 8.0) as u64
        }
        Budget::FileBytes(n) => n.saturating_sub(source.overhead + MORE_OVERHEAD),
    };
    total.saturating_sub(rest)
}

impl Matrix<'_> {
    /// The squared error that a format brings into the output, per row of input, estimated from some rows.
    fn error(&self, format: DType, n_threads: usize) -> f64 {
        let n_sampled = self.n_rows.min(SAMPLED_ROWS);
        let row = |i: usize| i * self.n_rows / n_sampled;
        let part = |from: usize| {
            let sampled = (from..n_sampled).step_by(n_threads);
            sampled.map(|i| self.row_error(format, row(i))).sum::<f64>()
        };
        let sum: f64 = std::thread::scope(|scope| {
            let others: Vec<_> = (1..n_threads).map(|from| scope.spawn(move || part(from))).collect();
            let own = part(0);
            own + others.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).sum::<f64>()
        });
        sum * self.n_rows as f64 / n_sampled.max(1) as f64
    }

    fn row_error(&self, format: DType, row: usize) -> f64 {
        let (n_cols, from) = (self.n_cols, self.tensor.dtype());
        let bytes = self.tensor.bytes();
        let row_bytes = from.row_bytes(n_cols).unwrap_or(0);
        let (mut values, mut rounded) = (vec![0.0; n_cols], vec![0.0; n_cols]);
        decode_row(from, &bytes[row * row_bytes..(row + 1) * row_bytes], &mut values);
        let n_matrices = self.importance.len() / n_cols;
        let matrix = row / (self.n_rows / n_matrices).max(1);
        let importance = &self.importance[matrix * n_cols..(matrix + 1) * n_cols];
        let mut encoded = vec![0; format.row_bytes(n_cols).unwrap_or(0)];
        encode_row(format, &values, Some(importance), &mut encoded);
        decode_row(format, &encoded, &mut rounded);
        let terms = values.iter().zip(&rounded).zip(importance);
        terms.map(|((a, b), weight)| f64::from(*weight) * f64::from(a - b).powi(2)).sum()
    }
}
