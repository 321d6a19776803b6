//! SmolLM3: the block of Llama, whose every fourth layer does not rotate.
//!
//! The file has no key for that period; it is the one of `transformers`, `models/smollm3`, which is the truth.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::{Decoder, Rotation};
use crate::tensors::Tensors;

const NO_ROPE_EVERY: usize = 4;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let decoder = Decoder::new(RopeStyle::Interleaved);
    Decoder { rotation: Rotation::AllButEvery(NO_ROPE_EVERY), ..decoder }.build(config, tensors)
}
