//! Reads a text with the model and sums what goes into its products.

use whit_engine::{EncodeOptions, Engine, EngineError, Evaluation, Observer, ProductInput};

use super::{ColumnSums, Imatrix};
use crate::ShrinkError;

/// How a text is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalibrationOptions {
    /// Tokens in a chunk.
    pub chunk_size: usize,
    /// Chunks to read, from the beginning. `None`: all.
    pub chunks: Option<usize>,
    /// What goes into the output projection counts too. Files for other programs usually leave it out.
    pub output: bool,
    /// What the text is called, for who reads the file.
    pub dataset: String,
}

impl Default for CalibrationOptions {
    fn default() -> Self {
        CalibrationOptions { chunk_size: 512, chunks: None, output: false, dataset: String::new() }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalibrationProgress {
    /// Chunks that are read.
    pub n_done: usize,
    /// Chunks in all.
    pub n_chunks: usize,
}

/// Sums what goes into the products of `engine`'s model while it reads `text`.
///
/// # Errors
/// A text shorter than a chunk, a chunk longer than the engine's context, a model that reads no text this way, what goes in being
/// no number, and failures of the engine.
pub fn calibrate(
    engine: &mut Engine,
    text: &str,
    options: &CalibrationOptions,
    report: &mut dyn FnMut(CalibrationProgress),
) -> Result<Imatrix, ShrinkError> {
    let model = engine.model().clone();
    let tokenizer = model.tokenizer()?;
    let tokens = tokenizer.encode(text, EncodeOptions::TEXT).map_err(EngineError::from)?;
    let bos = tokenizer.special_ids().bos.filter(|_| tokenizer.adds_bos());
    calibrate_on_tokens(engine, &tokens, bos, options, report)
}

/// As [`calibrate`], on a text that is tokenized already; `bos` replaces the first token of each chunk.
///
/// # Errors
/// As for [`calibrate`].
pub fn calibrate_on_tokens(
    engine: &mut Engine,
    tokens: &[u32],
    bos: Option<u32>,
    options: &CalibrationOptions,
    report: &mut dyn FnMut(CalibrationProgress),
) -> Result<Imatrix, ShrinkError> {
    let size = options.chunk_size.clamp(1, engine.n_ctx());
    if tokens.len() < size {
        return Err(ShrinkError::TextTooShort { n_tokens: tokens.len(), n_needed: size });
    }
    let n_chunks = (tokens.len() / size).min(options.chunks.unwrap_or(usize::MAX)).max(1);
    let mut sums = Sums { imatrix: Imatrix::default(), output: options.output, doubles: Vec::new() };
    for (n_done, chunk) in tokens.chunks_exact(size).take(n_chunks).enumerate() {
        report(CalibrationProgress { n_done, n_chunks });
        let mut chunk = chunk.to_vec();
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        // Logits are of no use here, but what is behind the last attention runs for the positions alone that want them.
        let input = Evaluation { tokens: &chunk, outputs: 0..size };
        engine.evaluate_observed(&[input], &mut sums, &mut |_, _, _| {})?;
    }
    report(CalibrationProgress { n_done: n_chunks, n_chunks });
    let mut imatrix = sums.imatrix;
    let broken = imatrix.tensors.iter().find(|(_, sums)| !sums.squares.iter().all(|sum| sum.is_finite()));
    if let Some((tensor, _)) = broken {
        return Err(ShrinkError::NotANumber { tensor: tensor.clone() });
    }
    imatrix.datasets = vec![options.dataset.clone()];
    (imatrix.n_chunks, imatrix.chunk_size) = (n_chunks as u32, size as u32);
    Ok(imatrix)
}

/// The observer.
struct Sums {
    imatrix: Imatrix,
    output: bool,
    /// Squares of the rows at hand, kept for its memory.
    doubles: Vec<f64>,
}

impl Observer for Sums {
    fn input(&mut self, input: ProductInput<'_>) {
        let n_cols = input.n_cols();
        // A batch's rows are summed in f64: the sums over many batches then lose nothing in f32 that shows.
        self.doubles.clear();
        self.doubles.resize(n_cols, 0.0);
        for row in input.rows() {
            for (sum, &x) in self.doubles.iter_mut().zip(row) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
        let n_rows = input.rows().len() as f32;
        let mut weights = input.weights.to_vec();
        // Parts of one tensor have one input.
        weights.dedup_by_key(|weight| weight.tensor());
        for weight in weights {
            let name = weight.tensor();
            if !name.starts_with("blk.") && !self.output {
                continue;
            }
            // Experts stand one below the other in a tensor, or each is a tensor of its own.
            let (expert, n_experts) = input.expert.filter(|_| weight.name != name).unwrap_or((0, 1));
            let sums = match self.imatrix.tensors.get_mut(name) {
                Some(sums) => sums,
                None => self.imatrix.tensors.entry(name.to_owned()).or_insert_with(|| ColumnSums {
                    squares: vec![0.0; n_experts * n_cols],
                    counts: vec![0.0; n_experts],
                }),
            };
            let columns = &mut sums.squares[expert * n_cols..(expert + 1) * n_cols];
            columns
                .iter_mut()
                .zip(&self.doubles)
                .for_each(|(sum, more)| *sum = (f64::from(*sum) + more) as f32);
            sums.counts[expert] += n_rows;
        }
    }
}
