//! Qwen3, dense and with experts: the block of Llama with a norm over each head of q and k, and rotary embeddings in halves.
//!
//! Truth: `transformers`, `models/qwen3` and `models/qwen3_moe`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::{Decoder, QkNorms};
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    Decoder { qk_norms: QkNorms::Heads, ..Decoder::new(RopeStyle::Halves) }.build(config, tensors)
}
