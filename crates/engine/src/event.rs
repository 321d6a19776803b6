//! What a request answers with, piece by piece.

use std::time::Duration;

/// One thing that happened to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A token was chosen. All texts together are the answer. A control token has no text of its own: with it comes what
    /// was held back before it. The one that ends an answer comes too.
    Token {
        /// The token.
        id: u32,
        /// The text that became certain with it. Empty while a character is incomplete or a stop text may be beginning.
        text: String,
        /// Its log-probability, if [`SamplerConfig::logprobs`](whit_sample::SamplerConfig::logprobs) asks.
        logprob: Option<f32>,
        /// The likeliest tokens and their log-probabilities, as many as were asked for.
        top: Vec<(u32, f32)>,
    },
    /// Tokens of the prompt, in order, with their log-probabilities: see
    /// [`Request::prompt_logprobs`](crate::Request::prompt_logprobs). They come before the first token, in pieces.
    Prompt(Vec<PromptToken>),
    /// The vector of an [`EmbedRequest`](crate::EmbedRequest).
    Embedding(Vec<f32>),
    /// The context was full: old tokens were dropped ([`Overflow::Shift`](crate::Overflow::Shift)).
    Shifted {
        /// Tokens kept at the beginning.
        n_kept: usize,
        /// Tokens dropped after them.
        n_dropped: usize,
    },
    /// The end: nothing follows.
    Done(Done),
}

/// A token of the prompt, and what the model thought of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptToken {
    /// The token.
    pub id: u32,
    /// Its log-probability after the tokens before it; `None` for the first, which nothing stands before.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place and their log-probabilities, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// Why.
    pub reason: FinishReason,
    /// Tokens.
    pub usage: Usage,
    /// Times.
    pub timings: Timings,
}

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its answer.
    Eos,
    /// The stop text of this index came.
    Stop(usize),
    /// [`Request::max_tokens`](crate::Request::max_tokens) was reached, or nothing was to be generated.
    Length,
    /// The context is full, and [`Overflow::Error`](crate::Overflow::Error) was chosen.
    ContextFull,
    /// It was cancelled.
    Cancelled,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the prompt.
    pub prompt_tokens: usize,
    /// Of these, found in the cache.
    pub cached_tokens: usize,
    /// Generated, the one that ends the answer included.
    pub generated_tokens: usize,
    /// Drafted ahead and verified: see [`Speculation`](crate::Speculation)...
    pub drafted_tokens: usize,
    /// ...and of these, accepted: generated without a step of their own.
    pub accepted_tokens: usize,
}

/// Times of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From submission to the start: waiting for a free place.
    pub waiting: Duration,
    /// From the start until the prompt had been read and the first token was there.
    pub prompt: Duration,
    /// From then to the end.
    pub generation: Duration,
}

impl Timings {
    /// Speed of reading the prompt, cached tokens not counted.
    pub fn prompt_tokens_per_second(&self, usage: &Usage) -> f64 {
        per_second(usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens), self.prompt)
    }

    /// Speed of generating. The first token comes with the prompt and is not counted.
    pub fn generated_tokens_per_second(&self, usage: &Usage) -> f64 {
        per_second(usage.generated_tokens.saturating_sub(1), self.generation)
    }
}

fn per_second(n: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() }
}
