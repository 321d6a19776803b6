//! Whit: the engine. Loads a model file and generates text with it, for one caller or for many at once.
//!
//! ```no_run
//! use whit_engine::{Engine, EngineOptions, Event, Prompt, Request};
//!
//! let mut engine = Engine::load("smollm2.gguf", &EngineOptions::default())?;
//! for event in engine.generate(Request::new(Prompt::Text("Once upon a time".into())))? {
//!     if let Event::Token { text, .. } = event? {
//!         print!("{text}");
//!     }
//! }
//! # Ok::<(), whit_engine::EngineError>(())
//! ```
//!
//! Many requests share a batch: [`Engine::submit`] puts one in line, [`Engine::step`] moves all of them on by one token.
//! What a request has computed stays in the paged cache; a later one that begins with the same tokens continues from
//! there, exactly. [`Engine::evaluate`] gives the logits of given tokens, [`Engine::embed`] the vectors of texts.
//!
//! A [`Service`] does the stepping on a thread of its own, for requests from any thread.
//!
//! Plain threads, no HTTP, no async runtime.
#![forbid(unsafe_code)]

mod answer;
mod cache;
mod embed;
mod engine;
mod error;
mod evaluate;
mod event;
mod generation;
mod intake;
mod load;
mod memory;
mod model;
mod options;
mod pace;
mod parameters;
mod request;
mod runner;
mod schedule;
mod sequence;
mod service;
mod shape;
mod speculate;
mod stats;
mod work;

pub use embed::Embedding;
pub use engine::{Engine, Item};
pub use error::EngineError;
pub use evaluate::Evaluation;
pub use event::{Done, Event, FinishReason, PromptToken, Timings, Usage};
pub use generation::{Generation, PromptReport};
pub use memory::MemoryEstimate;
pub use model::{Model, Prepared};
pub use options::{BackendChoice, CacheSize, EngineOptions, PromptRows};
pub use parameters::Parameters;
pub use request::{CancelToken, EmbedRequest, Overflow, Prompt, Request, RequestId};
pub use service::{Service, ServiceLimits, ServiceStats, Shutdown, Sink, Submitted};
pub use shape::{AnswerShape, CallChoice, Calls, Thoughts};
pub use speculate::Speculation;
pub use stats::EngineStats;
pub use whit_base::{BackendError, CacheType, Observer, ProductInput};
pub use whit_cpu::Level;
pub use whit_models::ModelInfo;
pub use whit_sample::{Grammar, SamplerConfig};
pub use whit_text::{EncodeOptions, Message};
pub use work::Work;
