//! Ministral 3: the block of Llama, whose scores grow with the position of the query beyond the original context.
//!
//! Left out: experts and the vision tower (a file of its own). Truth: `transformers`, `models/ministral3`; keys as the converter
//! of llama.cpp writes them, in which the original context of YaRN is also the step of that growth.

use whit_base::{Plan, RopeStyle, Sharpening};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let by = config.opt_float("attention.temperature_scale")?.filter(|&by| by != 0.0);
    let every = match config.opt_size("rope.scaling.original_context_length")? {
        Some(every) => every,
        None => config.n_ctx_train()?,
    };
    let sharpening = by.map(|by| Sharpening { by, every });
    Decoder { sharpening, ..Decoder::new(RopeStyle::Interleaved) }.build(config, tensors)
}
