//! Phi-3, Phi-3.5 mini, Phi-4 and Phi-4-mini: the block of Llama with q, k and v in one tensor, gate and up in another,
//! rotary embeddings in halves of all or some of a head, and LongRoPE.
//!
//! Truth: `transformers`, `models/phi3`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    Decoder::new(RopeStyle::Halves).build(config, tensors)
}
