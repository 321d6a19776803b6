//! How far a model's predictions lie from those of another, by the measures that llama.cpp's `perplexity` tool prints with
//! `--kl-divergence`, and by its protocol ([`Protocol::SecondHalf`]). Read against memory ([`divergence`]) or against a file
//! ([`divergence_from`]).
//!
//! Kullback-Leibler divergence, natural, of the model from the reference, leaves out tokens that the reference gives less than
//! `e^-16`, as llama.cpp does, so that both ways give the same value.

use std::time::{Duration, Instant};

use whit_engine::{Engine, Evaluation};

use crate::estimate::{Estimate, Moments, Spread};
use crate::kl_base::KlBase;
use crate::logprob::{self, Softmax, first_greatest};
use crate::perplexity::encode;
use crate::windows::{Window, Windows};
use crate::{JudgeError, PerplexityOptions, Progress, Protocol};

/// How far a model lies from its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Perplexity of the model.
    pub perplexity: Estimate,
    /// Perplexity of the reference.
    pub base_perplexity: Estimate,
    /// Correlation of the logarithms of the two, over predictions: from -1 to 1.
    pub correlation: f64,
    /// `ln(perplexity / base_perplexity)`. Its error is that of pairs, so a small difference shows.
    pub ln_ratio: Estimate,
    /// `perplexity / base_perplexity`.
    pub ratio: Estimate,
    /// `perplexity - base_perplexity`.
    pub difference: Estimate,
    /// Kullback-Leibler divergence, in nats.
    pub kl: Spread,
    /// By how much the probability of the right token is greater than the reference's: from -1 to 1.
    pub change: Spread,
    /// Root of the mean square of that change.
    pub change_rms: Estimate,
    /// Part of predictions whose likeliest token is that of the reference.
    pub same_top: Estimate,
    /// Chunks scored.
    pub n_chunks: usize,
    /// Predictions scored.
    pub n_scored: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// The divergence of `engine`'s model from `base`'s, on `text`. Both run in turns, chunk by chunk; of the reference half a
/// chunk of log-probabilities is kept in memory: with chunks of 512 and a vocabulary of 262,144 that is 267 MB.
///
/// # Errors
/// As for [`perplexity`](crate::perplexity), models with different vocabularies, and any protocol but the usual.
pub fn divergence(
    base: &mut Engine,
    engine: &mut Engine,
    text: &str,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Divergence, JudgeError> {
    let (tokens, bos) = encode(engine, text, options.protocol)?;
    divergence_of_tokens(base, engine, &tokens, bos, options, progress)
}

/// As [`divergence`], of a text that is tokenized already; `bos` replaces the first token of each chunk.
///
/// # Errors
/// As for [`divergence`].
pub fn divergence_of_tokens(
    base: &mut Engine,
    engine: &mut Engine,
    tokens: &[u32],
    bos: Option<u32>,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Divergence, JudgeError> {
    if options.protocol != Protocol::SecondHalf {
        return Err(JudgeError::BaseProtocol);
    }
    let windows = Windows::new(tokens, bos, options, engine)?;
    Windows::new(tokens, bos, options, base)?;
    let n_vocab = base.n_vocab();
    measure(&mut Running { engine: base, rows: Vec::new(), next: 0 }, n_vocab, engine, &windows, progress)
}

/// As [`divergence`], from saved predictions; the file says on which text. `chunks` are scored, or as many as there are.
///
/// # Errors
/// As for [`divergence`], and a file that breaks off.
pub fn divergence_from(
    mut base: KlBase,
    engine: &mut Engine,
    chunks: Option<usize>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Divergence, JudgeError> {
    let tokenizer = engine.model().tokenizer()?;
    let bos = tokenizer.special_ids().bos.filter(|_| tokenizer.adds_bos());
    let options = PerplexityOptions { ctx: base.ctx(), chunks, ..PerplexityOptions::default() };
    let tokens = base.tokens().to_vec();
    let windows = Windows::new(&tokens, bos, &options, engine)?;
    let n_vocab = base.n_vocab();
    measure(&mut base, n_vocab, engine, &windows, progress)
}

/// Where the reference's predictions come from, in the order of the text.
trait Base {
    /// Comes to a window.
    fn begin(&mut self, window: &Window) -> Result<(), JudgeError>;

    /// Puts the log-probabilities of the next prediction into `row`.
    fn next(&mut self, row: &mut [f32]) -> Result<(), JudgeError>;
}

impl Base for KlBase {
    fn begin(&mut self, _: &Window) -> Result<(), JudgeError> {
        Ok(())
    }

    fn next(&mut self, row: &mut [f32]) -> Result<(), JudgeError> {
        self.next_row(row)
    }
}

/// A reference that runs.
struct Running<'e> {
    engine: &'e mut Engine,
    /// Log-probabilities of the current window.
    rows: Vec<f32>,
    next: usize,
}

impl Base for Running<'_> {
    fn begin(&mut self, window: &Window) -> Result<(), JudgeError> {
        self.rows.clear();
        self.next = 0;
        let rows = &mut self.rows;
        let input = Evaluation { tokens: window.input(), outputs: window.scored.clone() };
        self.engine.evaluate(&[input], &mut |_, _, logits| {
            let softmax = Softmax::of(logits);
            rows.extend(logits.iter().map(|&logit| softmax.log_probability(logit) as f32));
        })?;
        Ok(())
    }

    fn next(&mut self, row: &mut [f32]) -> Result<(), JudgeError> {
        row.copy_from_slice(&self.rows[self.next..self.next + row.len()]);
        self.next += row.len();
        Ok(())
    }
}

fn measure(
    base: &mut dyn Base,
    base_vocab: usize,
    engine: &mut Engine,
    windows: &Windows<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Divergence, JudgeError> {
    let (start, n_vocab, n_chunks) = (Instant::now(), engine.n_vocab(), windows.len());
    if base_vocab != n_vocab {
        return Err(JudgeError::OtherVocabulary { base: base_vocab, own: n_vocab });
    }
    let mut tally = Tally::default();
    let mut row = vec![0.0f32; n_vocab];
    for chunk in 0..n_chunks {
        let window = windows.get(chunk);
        base.begin(&window)?;
        let mut failed = None;
        let input = Evaluation { tokens: window.input(), outputs: window.scored.clone() };
        engine.evaluate(&[input], &mut |_, position, logits| {
            if failed.is_some() {
                return;
            }
            let target = window.tokens[position + 1] as usize;
            failed = base.next(&mut row).err();
            if failed.is_none() && !tally.add(&row, logits, target) {
                failed = Some(JudgeError::NotANumber { chunk, position });
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        progress(Progress {
            n_done: chunk + 1,
            n_chunks,
            perplexity: tally.nll.exp_of_mean().value,
            divergence: Some(tally.kl.mean().value),
            elapsed: start.elapsed(),
        });
    }
    Ok(tally.finish(n_chunks, start.elapsed()))
}

/// What is counted, over predictions.
#[derive(Default)]
struct Tally {
    nll: Moments,
    base_nll: Moments,
    /// Sum of products of the two.
    products: f64,
    kl: Moments,
    change: Moments,
    change_squared: Moments,
    n_same_top: usize,
    kl_values: Vec<f32>,
    change_values: Vec<f32>,
}

impl Tally {
    /// Takes in a prediction of the token `target`. False: something of it is no number.
    fn add(&mut self, base: &[f32], logits: &[f32], target: usize) -> bool {
        let softmax = Softmax::of(logits);
        let (Some(&base_logp), Some(&logit)) = (base.get(target), logits.get(target)) else { return false };
        let (nll, base_nll) = (-softmax.log_probability(logit), -f64::from(base_logp));
        let shift = f64::from(softmax.max) + softmax.ln_sum;
        let kl = logprob::divergence(base, logits, shift as f32);
        let change = (-nll).exp() - (-base_nll).exp();
        if nll.is_nan() || base_nll.is_nan() || kl.is_nan() {
            return false;
        }
        self.nll.add(nll);
        self.base_nll.add(base_nll);
        self.products += nll * base_nll;
        self.kl.add(kl);
        self.change.add(change);
        self.change_squared.add(change * change);
        self.n_same_top += usize::from(first_greatest(base) == first_greatest(logits));
        self.kl_values.push(kl as f32);
        self.change_values.push(change as f32);
        true
    }

    fn finish(self, n_chunks: usize, elapsed: Duration) -> Divergence {
        let n = self.nll.n as f64;
        let (ln, base_ln) = (self.nll.mean(), self.base_nll.mean());
        let covariance = self.nll.covariance_of_means(&self.base_nll, self.products);
        let error_of_difference =
            |a: f64, b: f64, covariance: f64| (a * a + b * b - 2.0 * covariance).max(0.0).sqrt();
        let ln_ratio = Estimate {
            value: ln.value - base_ln.value,
            error: error_of_difference(ln.error, base_ln.error, covariance),
        };
        let (perplexity, base_perplexity) = (self.nll.exp_of_mean(), self.base_nll.exp_of_mean());
        let ratio = ln_ratio.value.exp();
        let change_squared = self.change_squared.mean();
        let rms = change_squared.value.sqrt();
        let same_top = self.n_same_top as f64 / n;
        Divergence {
            perplexity,
            base_perplexity,
            correlation: covariance / (ln.error * base_ln.error),
            ln_ratio,
            ratio: Estimate { value: ratio, error: ratio * ln_ratio.error },
            difference: Estimate {
                value: perplexity.value - base_perplexity.value,
                error: error_of_difference(
                    perplexity.error,
                    base_perplexity.error,
                    perplexity.value * base_perplexity.value * covariance,
                ),
            },
            kl: Spread::new(self.kl.mean(), self.kl_values),
            change: Spread::new(self.change.mean(), self.change_values),
            change_rms: Estimate {
                value: rms,
                error: if rms > 0.0 { 0.5 / rms * change_squared.error } else { 0.0 },
            },
            same_top: Estimate {
                value: same_top,
                error: (same_top * (1.0 - same_top) / (n - 1.0).max(1.0)).sqrt(),
            },
            n_chunks,
            n_scored: self.nll.n,
            elapsed,
        }
    }
}
