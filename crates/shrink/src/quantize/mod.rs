//! A model into fewer bits.
//!
//! The output is a GGUF file whatever the source is. Tensors are gone through one by one: of each, no more is in memory than what
//! it becomes, and a row of it per thread. The file appears under its name when it is whole.

mod budget;
mod encode;
mod mix;
mod names;
mod plan;
mod source;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::Path;

use whit_base::DType;

pub use budget::{Budget, BudgetProgress, Fitted, fit_budget};
pub use mix::Mix;
pub use names::format_named;
pub use plan::{Choice, Formats, TensorRule};

use crate::{Imatrix, ShrinkError};
use encode::Job;
use source::Source;

/// The version of the block formats, under `general.quantization_version`.
const QUANTIZATION_VERSION: u32 = 2;

/// How a model is quantized.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// Which format each tensor gets.
    pub formats: Formats,
    /// What the columns of its matrices count, and what that is called in the file's metadata.
    pub importance: Option<(Imatrix, String)>,
    /// Threads; `None`: as many as this process may use.
    pub threads: Option<usize>,
    /// Whether a file that is there already may be replaced.
    pub replace: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizeProgress {
    /// Values that are written.
    pub n_done: u64,
    /// Values in all.
    pub n_values: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantized {
    /// What became of each tensor, in their order.
    pub choices: Vec<Choice>,
    /// Values of all tensors.
    pub n_values: u64,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors after.
    pub bytes_after: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Matrices in formats that are of little use where it is not known which columns count, of which nothing was known.
    pub n_blind: usize,
}

impl Quantized {
    /// What a value costs, scales and tensors of other formats included.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes_after as f64 * 8.0 / self.n_values.max(1) as f64
    }

    /// The format of most values among those that were stored in blocks already and were stored anew: their errors add up.
    pub fn requantized(&self) -> Option<DType> {
        let again = |choice: &&Choice| choice.from.is_quantized() && choice.from != choice.to;
        self.choices.iter().filter(again).max_by_key(|choice| choice.n_values()).map(|choice| choice.from)
    }
}

/// What [`quantize`] would make of each tensor of the model at `from`.
///
/// # Errors
/// A model that cannot be read.
pub fn plan_quantize(from: &Path, options: &QuantizeOptions) -> Result<Vec<Choice>, ShrinkError> {
    let Source { metadata, tensors, .. } = Source::open(from)?;
    plan::plan(&metadata, &tensors, &options.formats, options.importance.is_some())
}

/// Writes the GGUF file or model folder at `from` as the GGUF file `to`. `report` is called before each tensor, and can stop it.
///
/// # Errors
/// A model that cannot be read, values that the formats cannot hold, something of the name `to` that may not be replaced,
/// [`ShrinkError::Stopped`], and what the system refuses. No file is left.
pub fn quantize(
    from: &Path,
    to: &Path,
    options: &QuantizeOptions,
    report: &mut dyn FnMut(QuantizeProgress) -> ControlFlow<()>,
) -> Result<Quantized, ShrinkError> {
    if to.exists() {
        if is_same(from, to) {
            return Err(ShrinkError::OntoItself { path: to.to_owned() });
        }
        if !options.replace {
            return Err(ShrinkError::Exists { path: to.to_owned() });
        }
    }
    let Source { metadata, mut head, tensors, .. } = Source::open(from)?;
    let importance = options.importance.as_ref();
    let choices = plan::plan(&metadata, &tensors, &options.formats, importance.is_some())?;
    head.set("general.quantization_version", QUANTIZATION_VERSION);
    if let Some((imatrix, name)) = importance {
        head.set("quantize.imatrix.file", name.as_str());
        if let Some(dataset) = imatrix.datasets.first() {
            head.set("quantize.imatrix.dataset", dataset.as_str());
        }
        head.set("quantize.imatrix.entries_count", imatrix.tensors.len() as u32);
        head.set("quantize.imatrix.chunks_count", imatrix.n_chunks);
    }
    head.set("general.file_type", options.formats.mix.file_type());
    for choice in &choices {
        head.declare(&choice.tensor, choice.to, &choice.shape);
    }
    let n_threads = n_threads(options.threads);
    let n_values = choices.iter().map(Choice::n_values).sum();
    let (mut n_done, mut bytes_before, mut bytes_after, mut n_blind) = (0, 0, 0, 0);
    let mut out = head.create(to)?;
    for (tensor, choice) in tensors.iter().zip(&choices) {
        if report(QuantizeProgress { n_done, n_values }).is_break() {
            return Err(ShrinkError::Stopped);
        }
        let bytes = tensor.bytes();
        bytes_before += bytes.len() as u64;
        bytes_after += choice.n_bytes();
        if choice.from == choice.to {
            out.write(&choice.tensor, &bytes)?;
        } else {
            let known = importance.and_then(|(imatrix, _)| imatrix.importance(&choice.tensor, &choice.shape));
            let needs_it =
                options.formats.mix.needs_importance(choice.to) && choice.tensor.starts_with("blk.");
            n_blind += usize::from(needs_it && known.is_none());
            let job = Job {
                name: &choice.tensor,
                bytes: &bytes,
                from: choice.from,
                to: choice.to,
                n_cols: choice.n_cols(),
                importance: known.as_deref(),
            };
            out.write(&choice.tensor, &encode::encode(&job, n_threads)?)?;
        }
        n_done += choice.n_values();
    }
    let file_bytes = out.finish()?;
    Ok(Quantized { choices, n_values, bytes_before, bytes_after, file_bytes, n_blind })
}

/// As many as are asked for, or as this process may use.
fn n_threads(asked: Option<usize>) -> usize {
    asked.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1)
}

/// Whether both names are of one file.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
