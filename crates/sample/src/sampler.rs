//! The sampler of one sequence: settings, history, random numbers and scratch.

use crate::history::History;
use crate::scan::{BLOCK, Candidate, View};
use crate::{Rng, SampleError, SamplerConfig, chain, math, rng};

/// A token chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// Its log-probability (natural) under the model alone, before bias, penalties, mask and temperature.
    /// `None` unless [`SamplerConfig::logprobs`] asks.
    pub logprob: Option<f32>,
    /// The likeliest tokens under the model alone with their log-probabilities, best first.
    pub top: Vec<(u32, f32)>,
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// The probability with which it is drawn.
    pub probability: f32,
}

/// Chooses the tokens of one sequence. See the crate's page for the order of its stages.
///
/// Scratch grows to what the settings need on the first token and is reused after.
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplerConfig,
    vocab_size: usize,
    seed: u64,
    rng: Rng,
    /// Ascending by token, one entry per token.
    biases: Vec<(u32, f32)>,
    history: History,
    patches: Vec<(u32, f32)>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler for rows of `vocab_size` logits.
    ///
    /// # Errors
    /// A setting out of range, or a bias on a token outside the vocabulary.
    pub fn new(config: SamplerConfig, vocab_size: usize) -> Result<Self, SampleError> {
        config.validate()?;
        // Ids are u32, and one block past the last must be countable too.
        if vocab_size == 0 || vocab_size > u32::MAX as usize - BLOCK {
            return Err(SampleError::Vocabulary { vocab_size });
        }
        let mut biases = config.logit_bias.clone();
        biases.sort_by_key(|entry| entry.0);
        biases.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 += later.1;
            }
            same
        });
        if let Some(&(token, _)) = biases.last()
            && token as usize >= vocab_size
        {
            return Err(SampleError::BiasToken { token, vocab_size });
        }
        let seed = config.seed.unwrap_or_else(rng::fresh_seed);
        Ok(Self {
            config,
            vocab_size,
            seed,
            rng: Rng::new(seed),
            biases,
            history: History::default(),
            patches: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// The seed in use: the one given, or the one that was found for `None`. With it the answer can be had again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds a token to what the penalties look at. Call it for the tokens of the prompt too, in order: the peers do,
    /// and users expect a penalty to see them.
    pub fn accept(&mut self, token: u32) {
        if self.config.penalizes() {
            self.history.push(token, self.config.repeat_last_n);
        }
    }

    /// Back to the state after [`new`](Self::new): no history, the random numbers from their start.
    pub fn reset(&mut self) {
        self.history.clear();
        self.rng = Rng::new(self.seed);
    }

    /// Chooses a token. Does not [`accept`](Self::accept) it. One random number is drawn per call, none at
    /// temperature 0.
    ///
    /// # Errors
    /// A row of the wrong length, a logit that is NaN or positive infinity, or no token allowed.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Sampled, SampleError> {
        self.choose(logits, None)
    }

    /// As [`sample`](Self::sample), of the tokens that `mask` allows: token `i` if bit `i % 32` of word `i / 32` is set.
    ///
    /// # Errors
    /// As for [`sample`](Self::sample), and a mask of fewer than `vocab_size / 32` words, rounded up.
    pub fn sample_masked(&mut self, logits: &[f32], mask: &[u32]) -> Result<Sampled, SampleError> {
        self.choose(logits, Some(mask))
    }

    /// The probabilities from which [`sample`](Self::sample) would draw now, written over `out`. A token that is not
    /// in it cannot be drawn. The order is that of the draw.
    ///
    /// # Errors
    /// As for [`sample_masked`](Self::sample_masked).
    pub fn distribution(
        &mut self,
        logits: &[f32],
        mask: Option<&[u32]>,
        out: &mut Vec<Choice>,
    ) -> Result<(), SampleError> {
        self.check(logits, mask)?;
        self.history.patch(&self.config, &self.biases, logits, &mut self.patches);
        let view = View { logits, patches: &self.patches, mask };
        out.clear();
        if self.config.temperature == 0.0 {
            out.push(Choice { id: view.best()?.0, probability: 1.0 });
            return Ok(());
        }
        let total = chain::narrow(&self.config, view, &mut self.candidates)?;
        out.extend(self.candidates.iter().map(|candidate| Choice {
            id: candidate.id,
            probability: (f64::from(candidate.weight) / total) as f32,
        }));
        Ok(())
    }

    fn choose(&mut self, logits: &[f32], mask: Option<&[u32]>) -> Result<Sampled, SampleError> {
        self.check(logits, mask)?;
        self.history.patch(&self.config, &self.biases, logits, &mut self.patches);
        let view = View { logits, patches: &self.patches, mask };
        let id = if self.config.temperature == 0.0 {
            view.best()?.0
        } else {
            let total = chain::narrow(&self.config, view, &mut self.candidates)?;
            draw(&self.candidates, total * self.rng.next_f64()).ok_or(SampleError::NothingAllowed)?
        };
        match self.config.logprobs {
            Some(n) => self.judge(logits, id, n),
            None => Ok(Sampled { id, logprob: None, top: Vec::new() }),
        }
    }

    /// What [`sample`](Self::sample) would say of `id`, had it chosen it: its log-probability and the `n` likeliest tokens,
    /// under the model alone.
    ///
    /// # Errors
    /// A row of the wrong length, or a logit that is NaN or positive infinity.
    pub fn score(&mut self, logits: &[f32], id: u32, n: usize) -> Result<Sampled, SampleError> {
        self.check(logits, None)?;
        self.judge(logits, id, n)
    }

    fn judge(&mut self, logits: &[f32], id: u32, n: usize) -> Result<Sampled, SampleError> {
        let raw = View::raw(logits);
        raw.top(n.clamp(1, self.vocab_size), &mut self.candidates)?;
        let max = self.candidates.first().map_or(0.0, |best| best.logit);
        let log_sum = f64::from(max) + math::ln(raw.mass(max));
        let logprob = |logit: f32| (f64::from(logit) - log_sum) as f32;
        Ok(Sampled {
            id,
            logprob: logits.get(id as usize).map(|&logit| logprob(logit)),
            top: self.candidates.iter().take(n).map(|c| (c.id, logprob(c.logit))).collect(),
        })
    }

    fn check(&self, logits: &[f32], mask: Option<&[u32]>) -> Result<(), SampleError> {
        if logits.len() != self.vocab_size {
            return Err(SampleError::LogitCount { expected: self.vocab_size, got: logits.len() });
        }
        let expected = self.vocab_size.div_ceil(BLOCK);
        match mask {
            Some(mask) if mask.len() < expected => Err(SampleError::MaskLength { expected, got: mask.len() }),
            _ => Ok(()),
        }
    }
}

/// The candidate in whose share of the weights `goal` falls. Rounding may leave `goal` at the very end, where the last
/// candidate of any weight is meant.
fn draw(candidates: &[Candidate], goal: f64) -> Option<u32> {
    let mut sum = 0.0;
    let mut last = None;
    for candidate in candidates.iter().filter(|candidate| candidate.weight > 0.0) {
        sum += f64::from(candidate.weight);
        last = Some(candidate.id);
        if sum > goal {
            break;
        }
    }
    last
}
