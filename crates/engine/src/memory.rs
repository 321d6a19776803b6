//! How much memory a model needs, and the sizes that follow from it: rows and outputs per step, pages per cache group.

use whit_base::{ExecutorLimits, PAGE_TOKENS, Plan, PoolKind, Rows, assign_slots, fuse};

use crate::{CacheSize, EngineOptions, speculate};

/// Intermediates of a step may take this much. More rows than fit make a prompt no faster: weights are then read often
/// enough from the caches.
const ACTIVATION_BYTES: usize = 24 << 20;
const MIN_ROWS: usize = 32;
const MAX_ROWS: usize = 512;
/// Logits of a step may take this much.
const LOGIT_BYTES: usize = 16 << 20;
const MAX_OUTPUTS: usize = 128;

/// A usual conversation, in tokens: a pool has room for one in every place.
const USUAL_TOKENS: usize = 1024;
/// A pool smaller than this many tokens would be of little use, whatever it costs.
const LEAST_TOKENS: usize = 4096;
/// A pool of nobody's choice may take this much, or as much as the weights do; whatever is more...
const POOL_BYTES: usize = 512 << 20;
/// ...but not more than this part of the memory that the model may take.
const POOL_PART: usize = 4;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights: the tensors of the file, mapped, not copied.
    pub weights: usize,
    /// Cached keys and values, with every page in use. A page costs nothing before its first use.
    ///
    /// A pool of the [usual](CacheSize::Usual) size holds 1024 tokens for every sequence, or one whole context if that is
    /// more, within 512 MiB or the size of the weights, whichever is more, and within a quarter of the model's memory;
    /// but at least 4096 tokens, or the context that the options ask for.
    pub kv_cache: usize,
    /// Intermediates and logits.
    pub buffers: usize,
}

impl MemoryEstimate {
    /// All of it.
    pub fn total(&self) -> usize {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.buffers)
    }

    /// What two models take together.
    pub(crate) fn plus(self, other: MemoryEstimate) -> MemoryEstimate {
        MemoryEstimate {
            weights: self.weights.saturating_add(other.weights),
            kv_cache: self.kv_cache.saturating_add(other.kv_cache),
            buffers: self.buffers.saturating_add(other.buffers),
        }
    }
}

/// The sizes with which an engine is set up.
pub(crate) struct Sizing {
    pub(crate) limits: ExecutorLimits,
    /// Most rows of logits in one step.
    pub(crate) max_logits: usize,
    pub(crate) memory: MemoryEstimate,
    /// Tokens of context of a request that asks for no other number.
    pub(crate) n_ctx: usize,
    /// The most that a request may ask for.
    pub(crate) longest_ctx: usize,
}

impl Sizing {
    /// `plan` in its unfused form, built for [`EngineOptions::longest_ctx`]; `n` sequences at the same time.
    pub(crate) fn new(plan: &Plan, longest_ctx: usize, n: usize, options: &EngineOptions) -> Sizing {
        let (mut row_bytes, mut output_bytes) = (0, 0);
        for (width, rows) in assign_slots(&fuse(plan.clone())).slots {
            match rows {
                Rows::All => row_bytes += 4 * width,
                Rows::Outputs => output_bytes += 4 * width,
            }
        }
        row_bytes += 4 * plan.expert_floats();
        let reads_whole = plan.reads_whole();
        let max_rows = options
            .max_rows
            .unwrap_or_else(|| (ACTIVATION_BYTES / row_bytes.max(1)).clamp(MIN_ROWS, MAX_ROWS))
            .max(n)
            .max(if reads_whole { longest_ctx } else { 0 });
        let max_logits = (LOGIT_BYTES / (4 * plan.n_vocab).max(1)).clamp(1, MAX_OUTPUTS).max(n).min(max_rows);
        // Into a mean goes every row.
        let pools_all = plan.pool().is_some_and(|pool| pool.kind == PoolKind::Mean);
        let max_outputs = if pools_all { max_rows } else { max_logits };
        // Sampling asks for one row of logits per sequence, verifying drafts for some more.
        let n_drafted =
            if options.speculation.max_tokens > 0 { speculate::MAX_ROWS.min(max_logits) } else { 0 };
        let n_logits = n.max(n_drafted);
        let n_outputs = if pools_all { max_rows } else { n_logits };
        let logit_bytes = if plan.has_logits() { n_logits * 4 * plan.n_vocab } else { 0 };
        let buffers = max_rows * row_bytes + n_outputs * output_bytes + logit_bytes;
        let weights: usize = plan.weights.iter().map(|weight| weight.data.len()).sum();

        // Window and bytes of a token, by group.
        let groups: Vec<(Option<usize>, usize)> = plan
            .cache_groups()
            .iter()
            .map(|group| {
                let layers = group.layers.iter().map(|&id| plan.cache(id));
                let per_token: usize = layers.map(|layer| layer.token_bytes(options.cache_type)).sum();
                let kept = group.histories.iter().map(|&id| plan.history(id).bytes_per_token());
                (group.window, per_token + kept.sum::<usize>())
            })
            .collect();
        let whole = n * longest_ctx.next_multiple_of(PAGE_TOKENS);
        let tokens = match options.cache {
            // What a step can hold, each sequence on pages of its own: nothing is kept from one step to the next.
            _ if reads_whole => max_rows + n * PAGE_TOKENS,
            CacheSize::Each => whole,
            CacheSize::Tokens(tokens) => tokens.min(whole),
            CacheSize::Usual { memory } => {
                let growing = groups.iter().filter(|(window, _)| window.is_none());
                let per_token: usize = growing.map(|(_, per_token)| per_token).sum();
                let part = memory
                    .map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX) / POOL_PART);
                let affordable = weights.max(POOL_BYTES).min(part) / per_token.max(1);
                let least = options.ctx.unwrap_or(LEAST_TOKENS).min(longest_ctx);
                (n * USUAL_TOKENS).max(longest_ctx).min(affordable).max(least).min(whole)
            }
        };
        let longest_ctx = longest_ctx.min(tokens);
        let n_whole = longest_ctx.div_ceil(PAGE_TOKENS);
        let pool = tokens.div_ceil(PAGE_TOKENS);
        let (mut n_pages, mut kv_cache) = (Vec::new(), 0usize);
        for (window, per_token) in groups {
            let pages = match window {
                None => pool,
                // As many as all positions have would do for any window.
                Some(window) => window_pages(window, max_rows, n, n_whole).min(pool.max(n_whole)),
            };
            kv_cache = kv_cache.saturating_add(per_token.saturating_mul(PAGE_TOKENS * pages));
            n_pages.push(pages);
        }
        Sizing {
            limits: ExecutorLimits { cache_type: options.cache_type, max_rows, max_outputs, n_pages },
            max_logits,
            memory: MemoryEstimate { weights, kv_cache, buffers },
            n_ctx: options.ctx.map_or(longest_ctx, |ctx| ctx.min(longest_ctx)),
            longest_ctx,
        }
    }
}

/// Pages of a sliding-window group: for each of `n` sequences what its window spans while a step of `max_rows` tokens
/// runs, and one window more for cached prefixes; never more than the `whole` context.
fn window_pages(window: usize, max_rows: usize, n: usize, whole: usize) -> usize {
    let span = |tokens: usize| (tokens.div_ceil(PAGE_TOKENS) + 1).min(whole);
    n * span(window.saturating_add(max_rows)) + span(window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KvCache;

    /// With that many pages no sequence ever lacks one, wherever in a page its steps begin.
    #[test]
    fn windows_have_enough_pages() {
        let n_tokens = 400usize;
        for window in [1, 2, 8, 31, 32, 33, 34, 64, 65, 100, 1000] {
            for max_rows in [1, 2, 7, 31, 32, 33, 34, 63, 100, 512] {
                let n_pages = window_pages(window, max_rows, 2, n_tokens.div_ceil(PAGE_TOKENS));
                for first in 1..=max_rows.min(PAGE_TOKENS) {
                    let mut cache = KvCache::new([(Some(window), n_pages)]);
                    let mut both = [cache.start_alone(), cache.start_alone()];
                    let mut n = first;
                    while both[0].len() < n_tokens {
                        for sequence in &mut both {
                            let case = format!("window {window}, {max_rows} rows, first {first}");
                            assert!(cache.reserve(sequence, n).is_ok(), "{case}, at {}", sequence.len());
                        }
                        for sequence in &mut both {
                            cache.commit(sequence, &[7; 400], n);
                        }
                        n = max_rows.min(n_tokens - both[0].len());
                    }
                }
            }
        }
    }
}
