//! Settings of an engine.

use whit_base::CacheType;
use whit_cpu::Level;

use crate::EngineError;

/// The context that is taken when none is asked for, if the model was trained for as much.
const DEFAULT_CTX: usize = 4096;

/// How an engine is set up. The default suits one conversation at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Tokens of context per sequence. `None`: what the model was trained for, at most 4096.
    pub ctx: Option<usize>,
    /// Threads. `None`: as many as this process may really use.
    pub threads: Option<usize>,
    /// The instruction-set level of the CPU backend. `None`: the best of this host.
    pub level: Option<Level>,
    /// How cached keys and values are stored.
    pub cache_type: CacheType,
    /// Sequences that run at the same time; further requests wait.
    pub max_sequences: usize,
    /// Most tokens in one step. `None`: as many as keep intermediates small, see [`crate::MemoryEstimate::buffers`].
    pub max_rows: Option<usize>,
    /// Where to compute.
    pub backend: BackendChoice,
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
            threads: None,
            level: None,
            cache_type: CacheType::default(),
            max_sequences: 1,
            max_rows: None,
            backend: BackendChoice::default(),
        }
    }
}

impl EngineOptions {
    /// The context for a model trained for `n_ctx_train` tokens.
    pub(crate) fn n_ctx(&self, n_ctx_train: usize) -> usize {
        self.ctx.unwrap_or(n_ctx_train.min(DEFAULT_CTX))
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
        self.max_rows.map_or(Ok(()), |rows| check("the number of tokens in a step", rows, 1 << 14))
    }
}
