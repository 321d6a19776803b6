//! Whit: judge. How good a model is, by published protocols, so that the numbers can be compared with those of others.
//!
//! [`perplexity`] says how well a model predicts a text, [`divergence`] how far its predictions lie from those of another.
#![forbid(unsafe_code)]

mod divergence;
mod error;
mod estimate;
mod kl_base;
mod logprob;
mod perplexity;
mod windows;

pub use divergence::{Divergence, divergence, divergence_from, divergence_of_tokens};
pub use error::JudgeError;
pub use estimate::{Estimate, Spread};
pub use kl_base::KlBase;
pub use perplexity::{
    Perplexity, PerplexityOptions, Progress, Protocol, TextPerplexity, perplexity, perplexity_of_tokens,
    save_kl_base, save_kl_base_of_tokens,
};
