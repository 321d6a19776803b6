//! From an opened model to what runs it: its plan, the executor, and a cache of the right size.

use whit_base::Backend;

use crate::cache::KvCache;
use crate::memory::Sizing;
use crate::runner::{Runner, RunnerSizes};
use crate::{EngineError, EngineOptions, Model};

/// A model, loaded.
pub(crate) struct Loaded {
    pub(crate) runner: Runner,
    pub(crate) cache: KvCache,
    pub(crate) sizing: Sizing,
    pub(crate) sizes: RunnerSizes,
    /// Whether it wants to know which text of a pair a token belongs to.
    pub(crate) knows_pairs: bool,
}

impl Loaded {
    pub(crate) fn new(
        model: &Model,
        backend: &dyn Backend,
        options: &EngineOptions,
    ) -> Result<Loaded, EngineError> {
        let longest_ctx = options.longest_ctx(model.info());
        let max_sequences = options.n_sequences(model.info());
        let load = || {
            let plan = whit_models::build(model.gguf(), longest_ctx)?.plan;
            let sizing = Sizing::new(&plan, longest_ctx, max_sequences, options);
            let sizes = RunnerSizes {
                n_vocab: plan.n_vocab,
                n_embd: plan.pool().map_or(0, |pool| pool.width),
                max_rows: sizing.limits.max_rows,
                max_logits: sizing.max_logits,
                reads_whole: plan.reads_whole(),
            };
            let knows_pairs = plan.n_types() > 1;
            let windows: Vec<_> = plan.cache_groups().iter().map(|group| group.window).collect();
            let executor = backend.load(plan, sizing.limits.clone())?;
            let cache = KvCache::new(windows.into_iter().zip(sizing.limits.n_pages.iter().copied()));
            Ok(Loaded { runner: Runner::new(executor, sizes), cache, sizing, sizes, knows_pairs })
        };
        // A large vocabulary takes as long as all the rest.
        let (loaded, tokenizer) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| model.tokenizer().map(|_| ()));
            (load(), tokenizer.join())
        });
        match tokenizer {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        loaded
    }
}
