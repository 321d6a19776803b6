//! Qwen3, dense: the block of Llama with a norm over each head of q and k, and rotary embeddings in halves.
//!
//! Truth: `transformers`, `models/qwen3`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    Decoder { head_norms: true, ..Decoder::new(RopeStyle::Halves) }.build(config, tensors)
}
