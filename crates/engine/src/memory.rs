//! How much memory a model needs, and the sizes that follow from it: rows and outputs per step, pages per cache group.

use whit_base::{CacheType, ExecutorLimits, PAGE_TOKENS, Plan, Rows, assign_slots, fuse};

use crate::EngineOptions;

/// Intermediates of a step may take this much. More rows than fit make a prompt no faster: weights are then read often
/// enough from the caches.
const ACTIVATION_BYTES: usize = 24 << 20;
const MIN_ROWS: usize = 32;
const MAX_ROWS: usize = 512;
/// Logits of a step may take this much.
const LOGIT_BYTES: usize = 16 << 20;
const MAX_OUTPUTS: usize = 128;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights: the tensors of the file, mapped, not copied.
    pub weights: usize,
    /// Cached keys and values, with every context full.
    pub kv_cache: usize,
    /// Intermediates and logits.
    pub buffers: usize,
}

impl MemoryEstimate {
    /// All of it.
    pub fn total(&self) -> usize {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.buffers)
    }
}

/// The sizes with which an engine is set up.
pub(crate) struct Sizing {
    pub(crate) limits: ExecutorLimits,
    pub(crate) memory: MemoryEstimate,
}

impl Sizing {
    /// `plan` in its unfused form.
    pub(crate) fn new(plan: &Plan, n_ctx: usize, options: &EngineOptions) -> Sizing {
        let (mut row_bytes, mut output_bytes) = (0, 4 * plan.n_vocab);
        for (width, rows) in assign_slots(&fuse(plan.clone())).slots {
            match rows {
                Rows::All => row_bytes += 4 * width,
                Rows::Outputs => output_bytes += 4 * width,
            }
        }
        let n = options.max_sequences;
        let max_rows = options
            .max_rows
            .unwrap_or_else(|| (ACTIVATION_BYTES / row_bytes.max(1)).clamp(MIN_ROWS, MAX_ROWS))
            .max(n);
        let max_outputs =
            (LOGIT_BYTES / (4 * plan.n_vocab).max(1)).clamp(1, MAX_OUTPUTS).max(n).min(max_rows);

        let value_bytes = match options.cache_type {
            CacheType::F32 => 4,
            CacheType::F16 => 2,
        };
        let whole = n_ctx.div_ceil(PAGE_TOKENS);
        let all =
            options.cache_tokens.map_or(n * whole, |tokens| tokens.div_ceil(PAGE_TOKENS).min(n * whole));
        let (mut n_pages, mut kv_cache) = (Vec::new(), 0usize);
        for group in plan.cache_groups() {
            let pages = match group.window {
                None => all,
                // As many as all positions have would do for any window.
                Some(window) => window_pages(window, max_rows, n, whole).min(all.max(whole)),
            };
            let token_bytes =
                |layer: &whit_base::CacheLayer| 2 * layer.n_kv_heads * layer.head_dim * value_bytes;
            let per_token: usize = group.layers.iter().map(|&id| token_bytes(plan.cache(id))).sum();
            kv_cache = kv_cache.saturating_add(per_token.saturating_mul(PAGE_TOKENS * pages));
            n_pages.push(pages);
        }
        let limits = ExecutorLimits { cache_type: options.cache_type, max_rows, max_outputs, n_pages };
        // Sampling asks for one row of logits per sequence.
        let buffers = max_rows * row_bytes + n * output_bytes;
        let weights = plan.weights.iter().map(|weight| weight.data.len()).sum();
        Sizing { limits, memory: MemoryEstimate { weights, kv_cache, buffers } }
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
