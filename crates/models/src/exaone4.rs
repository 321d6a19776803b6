//! EXAONE 4: the block of Llama with norms behind each half rather than before it, and a norm over each head of q and k. In
//! the sizes with windows only the layers that have one rotate.
//!
//! Truth: `transformers`, `models/exaone4`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::{Decoder, Norms, QkNorms, Rotation};
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let decoder = Decoder {
        norms: Norms::Behind,
        qk_norms: QkNorms::Heads,
        period: 4,
        rotation: Rotation::Windowed,
        ..Decoder::new(RopeStyle::Halves)
    };
    decoder.build(config, tensors)
}
