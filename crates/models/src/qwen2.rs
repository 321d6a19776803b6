//! Qwen2 and Qwen2.5: the block of Llama with biases on q, k and v, and rotary embeddings in halves.
//!
//! Left out: the sliding window of the long-context configurations, which no published Qwen2 file turns on.
//! Truth: `transformers`, `models/qwen2`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::llama;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    llama::decoder(config, tensors, RopeStyle::Halves)
}
