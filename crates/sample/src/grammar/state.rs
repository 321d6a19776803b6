//! Where one sequence stands in its grammar.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::compile::tidy;
use crate::SampleError;

/// One text on its way through a [`Grammar`](crate::Grammar).
#[derive(Clone)]
pub struct GrammarState {
    matcher: Matcher,
    mask: SimpleVob,
    /// The tokens that end an answer.
    eos: Arc<[u32]>,
    n_vocab: usize,
    n_tokens: usize,
}

impl GrammarState {
    pub(super) fn new(matcher: Matcher, eos: Arc<[u32]>, n_vocab: usize) -> Self {
        Self { matcher, mask: SimpleVob::new(), eos, n_vocab, n_tokens: 0 }
    }

    /// The tokens that may come next: token `i` if bit `i % 32` of word `i / 32` is set, as
    /// [`Sampler::sample_masked`](crate::Sampler::sample_masked) takes it. Those that end the answer are among them when
    /// it is complete; once nothing else may come, they alone.
    ///
    /// # Errors
    /// A grammar that became too costly, or in which no token of the vocabulary leads on.
    pub fn mask(&mut self) -> Result<&[u32], SampleError> {
        self.mask = self.matcher.compute_mask_or_eos().map_err(|error| self.stuck(&error.to_string()))?;
        let words = self.mask.as_slice();
        match self.n_vocab.div_ceil(32) {
            n if words.len() < n => Err(SampleError::MaskLength { expected: n, got: words.len() }),
            n => Ok(&words[..n]),
        }
    }

    /// Goes on by the token chosen.
    ///
    /// # Errors
    /// A token that the mask does not allow.
    pub fn accept(&mut self, token: u32) -> Result<(), SampleError> {
        if token as usize >= self.n_vocab {
            return Err(SampleError::GrammarVocabulary { token, vocab_size: self.n_vocab });
        }
        if self.is_complete() && self.eos.contains(&token) {
            return Ok(());
        }
        let accepted = self.matcher.try_consume_tokens(&[token]);
        match accepted.map_err(|error| self.stuck(&error.to_string()))? {
            0 => Err(self.stuck(&format!("token {token} is not allowed here"))),
            _ => {
                self.n_tokens += 1;
                Ok(())
            }
        }
    }

    /// Whether the text is complete and nothing more may come: time to stop.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }

    /// Whether the text may end here, though more may come.
    ///
    /// # Errors
    /// A grammar that broke down before.
    pub fn may_end(&mut self) -> Result<bool, SampleError> {
        if self.is_complete() {
            return Ok(true);
        }
        self.matcher.is_accepting().map_err(|error| self.stuck(&error.to_string()))
    }

    fn stuck(&self, reason: &str) -> SampleError {
        SampleError::GrammarStuck { n_tokens: self.n_tokens, reason: tidy(reason) }
    }
}

impl std::fmt::Debug for GrammarState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let complete = self.is_complete();
        f.debug_struct("GrammarState")
            .field("n_tokens", &self.n_tokens)
            .field("complete", &complete)
            .finish_non_exhaustive()
    }
}
