//! Settings of an engine.

use std::path::PathBuf;
use std::time::Duration;

use whit_base::CacheType;
use whit_cpu::Level;
use whit_models::ModelInfo;

use crate::{EngineError, Speculation};

/// The context that is taken when none is asked for, if the model was trained for as much.
const DEFAULT_CTX: usize = 4096;
/// Short texts that make a step of an encoder worth its while.
const ENCODER_SEQUENCES: usize = 64;

/// How an engine is set up. The default suits one conversation at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Tokens of context of a sequence that asks for no other number. `None`: what the model was trained for, at most
    /// 4096 where every sequence has a [cache](CacheSize::Each) of its own.
    pub ctx: Option<usize>,
    /// How much all sequences together may hold in the cache.
    pub cache: CacheSize,
    /// Threads. `None`: as many as this process may really use.
    pub threads: Option<usize>,
    /// The instruction-set level of the CPU backend. `None`: the best of this host.
    pub level: Option<Level>,
    /// How cached keys and values are stored.
    pub cache_type: CacheType,
    /// Sequences that run at the same time; further requests wait. Encoders run more at once where texts are short.
    pub max_sequences: usize,
    /// Most tokens in one step. `None`: as many as keep intermediates small, see [`crate::MemoryEstimate::buffers`].
    pub max_rows: Option<usize>,
    /// How much of the waiting prompts is read in a step that also generates.
    pub prompt_rows: PromptRows,
    /// How tokens are drafted for a request that says nothing of it.
    pub speculation: Speculation,
    /// A small model that drafts for this one: one with the same vocabulary.
    pub draft: Option<PathBuf>,
    /// Where to compute.
    pub backend: BackendChoice,
}

/// How many tokens all sequences together may hold in the cache.
///
/// With fewer than the contexts of all of them, requests wait until there is room, and when answers outgrow it the youngest
/// request waits again and later goes on exactly where it was. What is not in use keeps prefixes for later requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSize {
    /// Every sequence its whole context. No request gets more than [`EngineOptions::ctx`].
    #[default]
    Each,
    /// One pool of this many tokens. A request may ask for any context that the model was trained for and the pool can
    /// hold.
    Tokens(usize),
    /// One pool, as large as usual conversations want and a model of that size justifies: see
    /// [`MemoryEstimate::kv_cache`](crate::MemoryEstimate::kv_cache).
    Usual {
        /// Bytes that the model may take as a whole, if there is a bound.
        memory: Option<u64>,
    },
}

/// How many tokens of prompts may run beside answers that are being generated, in one step: how long answers may falter
/// when others ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptRows {
    /// As many as keep the time between two tokens below `gap` and even, by what steps have taken so far. Where a step
    /// without prompts takes as long as `gap`, one with prompts takes up to one and a half times as long.
    Adaptive {
        /// Time between two tokens.
        gap: Duration,
    },
    /// This many.
    AtMost(usize),
}

impl Default for PromptRows {
    /// Adaptive, 100 ms.
    fn default() -> Self {
        PromptRows::Adaptive { gap: Duration::from_millis(100) }
    }
}

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// On the CPU.
    #[default]
    Cpu,
    /// In plain scalar code that defines what is right. For comparing only: it is slower by orders of magnitude.
    Reference,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            ctx: None,
            cache: CacheSize::default(),
            threads: None,
            level: None,
            cache_type: CacheType::default(),
            max_sequences: 1,
            max_rows: None,
            prompt_rows: PromptRows::default(),
            speculation: Speculation::default(),
            draft: None,
            backend: BackendChoice::default(),
        }
    }
}

impl EngineOptions {
    /// The longest context that a request may ask for, as far as the model and these options go; a pool may hold less.
    pub(crate) fn longest_ctx(&self, info: &ModelInfo) -> usize {
        let n_ctx_train = info.n_ctx_train;
        if info.is_encoder {
            // It keeps nothing, so a long context costs nothing; and it knows no positions beyond its training.
            return match self.cache {
                CacheSize::Each => self.ctx.map_or(n_ctx_train, |ctx| ctx.min(n_ctx_train)),
                CacheSize::Tokens(_) | CacheSize::Usual { .. } => n_ctx_train,
            };
        }
        match self.cache {
            CacheSize::Each => self.ctx.unwrap_or(n_ctx_train.min(DEFAULT_CTX)),
            CacheSize::Tokens(_) | CacheSize::Usual { .. } => self.ctx.unwrap_or(0).max(n_ctx_train),
        }
    }

    /// Sequences that run at the same time: an encoder, whose sequences leave after a step, takes as many as fill one.
    pub(crate) fn n_sequences(&self, info: &ModelInfo) -> usize {
        if info.is_encoder { self.max_sequences.max(ENCODER_SEQUENCES) } else { self.max_sequences }
    }

    pub(crate) fn validate(&self) -> Result<(), EngineError> {
        let check = |setting, got: usize, most: usize| {
            if (1..=most).contains(&got) {
                Ok(())
            } else {
                Err(EngineError::Setting { setting, got, expected: format!("from 1 to {most}") })
            }
        };
        check("the number of sequences", self.max_sequences, 1 << 12)?;
        self.ctx.map_or(Ok(()), |ctx| check("the context (--ctx)", ctx, 1 << 24))?;
        if let CacheSize::Tokens(tokens) = self.cache {
            check("the number of cached tokens (--cache-tokens)", tokens, 1 << 30)?;
        }
        self.max_rows.map_or(Ok(()), |rows| check("the number of tokens in a step", rows, 1 << 14))
    }
}
