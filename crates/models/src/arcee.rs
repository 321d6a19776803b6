//! Arcee (AFM-4.5B): the block of Llama with a squared ReLU in place of the gate.
//!
//! Truth: `transformers`, `models/arcee`.

use whit_base::{Activation, Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let decoder =
        Decoder { act: Activation::ReluSquared, is_gated: false, ..Decoder::new(RopeStyle::Interleaved) };
    decoder.build(config, tensors)
}
