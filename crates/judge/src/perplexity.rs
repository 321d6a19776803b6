//! Perplexity by the protocol of llama.cpp's `perplexity` tool, so that values can be compared digit by digit.
//!
//! The whole text is tokenized once (with BOS if the model wants it) and cut into chunks of `ctx` tokens; what is left
//! over is not used. Each chunk runs alone; its first token is replaced by BOS where the model wants it. Predictions in
//! the second half are scored: positions `ctx / 2` to `ctx - 2`, each against the token after it. Not comparable with
//! numbers from sliding windows or whole contexts, such as those of papers.

use std::time::{Duration, Instant};

use whit_engine::{Engine, EngineError, Evaluation};

use crate::JudgeError;
use crate::logprob::log_probability;

/// How much text, and in which pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerplexityOptions {
    /// Tokens in a chunk. Values for different lengths cannot be compared.
    pub ctx: usize,
    /// Chunks to score, from the beginning. `None`: all.
    pub chunks: Option<usize>,
}

impl Default for PerplexityOptions {
    /// Chunks of 512, the length of most published numbers.
    fn default() -> Self {
        PerplexityOptions { ctx: 512, chunks: None }
    }
}

/// The state after one chunk more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Chunks scored.
    pub n_done: usize,
    /// Chunks to score in all.
    pub n_chunks: usize,
    /// The perplexity so far.
    pub perplexity: f64,
    /// Time since the start.
    pub elapsed: Duration,
}

/// The result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `exp` of the mean negative log-probability.
    pub value: f64,
    /// One standard error of the value.
    pub uncertainty: f64,
    /// Chunks scored.
    pub n_chunks: usize,
    /// Predictions scored.
    pub n_scored: usize,
    /// Tokens run.
    pub n_tokens: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// Sums over predictions.
#[derive(Clone, Copy, Default)]
struct Sums {
    n: usize,
    nll: f64,
    nll_squared: f64,
}

impl Sums {
    fn add(&mut self, nll: f64) {
        self.n += 1;
        self.nll += nll;
        self.nll_squared += nll * nll;
    }

    fn merge(&mut self, other: Sums) {
        self.n += other.n;
        self.nll += other.nll;
        self.nll_squared += other.nll_squared;
    }

    fn perplexity(&self) -> f64 {
        (self.nll / self.n as f64).exp()
    }

    fn uncertainty(&self) -> f64 {
        let n = self.n as f64;
        let variance = self.nll_squared / n - (self.nll / n).powi(2);
        if variance > 0.0 && self.n > 1 { self.perplexity() * (variance / (n - 1.0)).sqrt() } else { 0.0 }
    }
}

/// The perplexity of `engine`'s model on `text`; `progress` is called after each chunk.
///
/// # Errors
/// A text shorter than a chunk, a chunk longer than the engine's context, predictions that are no numbers, and failures
/// of the engine.
pub fn perplexity(
    engine: &mut Engine,
    text: &str,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Perplexity, JudgeError> {
    let model = engine.model().clone();
    let tokenizer = model.tokenizer()?;
    let encoding = whit_engine::EncodeOptions::TEXT;
    let tokens = tokenizer.encode(text, encoding).map_err(EngineError::from)?;
    let bos = tokenizer.special_ids().bos.filter(|_| tokenizer.adds_bos());
    perplexity_of_tokens(engine, &tokens, bos, options, progress)
}

/// As [`perplexity`], of a text that is tokenized already; `bos` replaces the first token of each chunk.
///
/// # Errors
/// As for [`perplexity`].
pub fn perplexity_of_tokens(
    engine: &mut Engine,
    tokens: &[u32],
    bos: Option<u32>,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Perplexity, JudgeError> {
    let start = Instant::now();
    let ctx = options.ctx;
    if ctx < 4 || ctx > engine.n_ctx() {
        return Err(JudgeError::BadContext { ctx, n_ctx: engine.n_ctx() });
    }
    let mut chunks: Vec<Vec<u32>> = tokens.chunks_exact(ctx).map(<[u32]>::to_vec).collect();
    chunks.truncate(options.chunks.unwrap_or(usize::MAX));
    if chunks.is_empty() {
        return Err(JudgeError::TextTooShort { n_tokens: tokens.len(), n_needed: ctx });
    }
    if let Some(bos) = bos {
        chunks.iter_mut().for_each(|chunk| chunk[0] = bos);
    }

    let n_chunks = chunks.len();
    let mut total = Sums::default();
    let mut n_done = 0;
    for group in chunks.chunks(engine.max_sequences()) {
        let inputs: Vec<Evaluation<'_>> =
            group.iter().map(|chunk| Evaluation { tokens: chunk, outputs: ctx / 2..ctx - 1 }).collect();
        let mut sums = vec![Sums::default(); group.len()];
        let mut broken = None;
        engine.evaluate(&inputs, &mut |index, position, logits| {
            // `evaluate` gives only rows for tokens that it has checked to be in the vocabulary.
            let nll = -log_probability(logits, group[index][position + 1] as usize);
            if nll.is_nan() {
                broken.get_or_insert((n_done + index, position));
            }
            sums[index].add(nll);
        })?;
        if let Some((chunk, position)) = broken {
            return Err(JudgeError::NotANumber { chunk, position });
        }
        for chunk in sums {
            total.merge(chunk);
            n_done += 1;
            progress(Progress { n_done, n_chunks, perplexity: total.perplexity(), elapsed: start.elapsed() });
        }
    }
    Ok(Perplexity {
        value: total.perplexity(),
        uncertainty: total.uncertainty(),
        n_chunks,
        n_scored: total.n,
        n_tokens: n_chunks * ctx,
        elapsed: start.elapsed(),
    })
}
