//! Qwen2 and Qwen2.5: the block of Llama with biases on q, k and v, and rotary embeddings in halves.
//!
//! Truth: `transformers`, `models/qwen2`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    Decoder::new(RopeStyle::Halves).build(config, tensors)
}
