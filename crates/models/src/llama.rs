//! Llama 1 to 3.x, SmolLM and SmolLM2, TinyLlama, Mistral 7B, Mixtral, and all else that converters file under `llama`.
//!
//! Rotary embeddings in interleaved pairs (the converter permutes the rows of q and k so), SwiGLU. Truth:
//! `transformers`, `models/llama`, `models/mistral` and `models/mixtral`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    Decoder::new(RopeStyle::Interleaved).build(config, tensors)
}
