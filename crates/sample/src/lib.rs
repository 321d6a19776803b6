//! Samplers, grammars and stop rules: from a row of logits to one token, and from streamed text to the place where it ends.
//!
//! ```
//! use whit_sample::{Sampler, SamplerConfig};
//!
//! let mut sampler = Sampler::new(SamplerConfig { seed: Some(7), ..Default::default() }, 4)?;
//! let chosen = sampler.sample(&[0.1, 2.5, -1.0, 2.4])?;
//! sampler.accept(chosen.id);
//! # Ok::<(), whit_sample::SampleError>(())
//! ```
//!
//! The chain is that of llama.cpp, in its order: logit bias, penalties, top-k, typical-p, top-p, min-p, temperature.
//! No stage sorts the vocabulary, and no stage allocates once the scratch has grown to its size.
//! A [`Grammar`] narrows the choice before all else to what JSON Schema, a regular expression, Lark or GBNF allows.
//! Everything but the grammars is plain IEEE arithmetic in a fixed order, so the same logits and seed give the same token on
//! every platform.
#![forbid(unsafe_code)]

mod chain;
mod config;
mod error;
mod grammar;
mod history;
mod math;
mod rng;
mod sampler;
mod scan;
mod stop;

pub use config::SamplerConfig;
pub use error::SampleError;
pub use grammar::{Grammar, GrammarState, GrammarVocabulary, Mark, Pattern};
pub use rng::Rng;
pub use sampler::{Choice, Sampled, Sampler};
pub use stop::{StopMatcher, StopStatus};
