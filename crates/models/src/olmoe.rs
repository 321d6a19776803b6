//! OLMoE: the block of Llama with norms over the whole width of q and k, rotary embeddings in halves, and experts in the
//! proportions of the softmax of all.
//!
//! Truth: `transformers`, `models/olmoe`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::{Decoder, QkNorms};
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let decoder =
        Decoder { qk_norms: QkNorms::Width, normalizes_experts: false, ..Decoder::new(RopeStyle::Halves) };
    decoder.build(config, tensors)
}
