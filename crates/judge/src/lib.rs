//! Whit: judge. How good a model is, by published protocols, so that the numbers can be compared with those of others.
//!
//! Today: perplexity ([`perplexity`]).
#![forbid(unsafe_code)]

mod error;
mod logprob;
mod perplexity;

pub use error::JudgeError;
pub use perplexity::{Perplexity, PerplexityOptions, Progress, perplexity, perplexity_of_tokens};
