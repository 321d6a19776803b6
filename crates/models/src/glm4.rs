//! GLM-4 of 2025 (9B and 32B): the block of Llama with a norm behind each half as well as before it, biases on q, k and v, gate
//! and up in one tensor, and rotary embeddings in interleaved pairs on half of each head.
//!
//! Truth: `transformers`, `models/glm4`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::{Decoder, Norms};
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let decoder = Decoder::new(RopeStyle::Interleaved);
    Decoder { norms: Norms::BeforeAndBehind, ..decoder }.build(config, tensors)
}
