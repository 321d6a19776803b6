//! ERNIE 4.5, dense: the block of Llama.
//!
//! Rotary embeddings in interleaved pairs, in the reference too. Truth: `transformers`, `models/ernie4_5`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    Decoder::new(RopeStyle::Interleaved).build(config, tensors)
}
