//! Hunyuan, dense: the block of Llama with a norm over each head of q and k behind their rotation.
//!
//! Its stretch of the rotation's base stands in the file's base. Truth: `transformers`, `models/hunyuan_v1_dense`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::{Decoder, QkNorms};
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    Decoder { qk_norms: QkNorms::RotatedHeads, ..Decoder::new(RopeStyle::Halves) }.build(config, tensors)
}
