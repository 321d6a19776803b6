//! What a model's tokens cost at least, whoever computes them: bytes to read and numbers to multiply. Measured speeds are held
//! against it.
//!
//! Left out: activations, norms and attention's own arithmetic, which are small beside the weights in models of usual
//! contexts.

use whit_base::{CacheType, Op, Plan, WeightId};

use crate::{EngineError, EngineOptions, Model};

/// What tokens cost at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of weights that a step of generation reads, however many sequences share it. Of a mixture those experts that one
    /// token uses.
    pub weight_bytes: usize,
    /// Weights that a token of a prompt is multiplied with. The vocabulary's are not among them: only the last token of a
    /// prompt meets these.
    pub prompt_weights: usize,
    /// Bytes that a cached token takes in the layers of one window, and that window.
    pub cached: Vec<(usize, Option<usize>)>,
}

impl Work {
    fn new(plan: &Plan, cache_type: CacheType) -> Work {
        let mut work = Work::default();
        let mut add = |id: WeightId, in_prompts: bool| {
            let weight = plan.weight(id);
            work.weight_bytes += weight.data.len();
            work.prompt_weights += if in_prompts { weight.n_rows * weight.n_cols } else { 0 };
        };
        for op in &plan.ops {
            match op {
                Op::Linear { parts, .. } => parts.iter().for_each(|part| add(part.weight, true)),
                Op::GatedLinear { gate, up, .. } => [gate, up].into_iter().for_each(|&id| add(id, true)),
                Op::Experts { n_used, experts, .. } => {
                    for expert in experts.iter().take(*n_used) {
                        [expert.gate, expert.up, expert.down].into_iter().for_each(|id| add(id, true));
                    }
                }
                Op::Logits { weight, .. } => add(*weight, false),
                _ => {}
            }
        }
        for group in plan.cache_groups() {
            let layers = group.layers.iter().map(|&id| plan.cache(id));
            let bytes: usize = layers.map(|layer| layer.token_bytes(cache_type)).sum();
            let kept = group.histories.iter().map(|&id| plan.history(id).bytes_per_token());
            work.cached.push((bytes + kept.sum::<usize>(), group.window));
        }
        work
    }

    /// Bytes that a token generated at `depth` reads, where `n_sequences` generate at once and share the weights.
    pub fn generated_bytes(&self, depth: usize, n_sequences: usize) -> f64 {
        let seen = |window: Option<usize>| window.map_or(depth, |window| window.min(depth));
        let cached: usize = self.cached.iter().map(|&(bytes, window)| bytes * seen(window)).sum();
        self.weight_bytes as f64 / n_sequences.max(1) as f64 + cached as f64
    }

    /// Multiplications and additions of a token of a prompt.
    pub fn prompt_operations(&self) -> f64 {
        2.0 * self.prompt_weights as f64
    }
}

impl Model {
    /// What its tokens cost at least, with these options.
    ///
    /// # Errors
    /// As for loading it.
    pub fn work(&self, options: &EngineOptions) -> Result<Work, EngineError> {
        options.validate()?;
        let built = whit_models::build(self.gguf(), options.longest_ctx(self.info()))?;
        Ok(Work::new(&built.plan, options.cache_type))
    }
}
