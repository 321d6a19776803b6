//! Gemma 1: the block of Llama with scaled embeddings, a GELU gate, and rotary embeddings in halves.
//!
//! Norm weights in the file already hold the 1 that the reference adds. Truth: `transformers`, `models/gemma`.

use whit_base::{Activation, Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let decoder = Decoder {
        act: Activation::GeluTanh,
        embedding_scale: (config.n_embd()? as f32).sqrt(),
        ..Decoder::new(RopeStyle::Halves)
    };
    decoder.build(config, tensors)
}
