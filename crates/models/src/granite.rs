//! Granite 3, dense and with experts, and the dense Granite 4: the block of Llama with four factors of its own, on the embeddings, the attention
//! scores, what each half adds, and the logits (which are divided).
//!
//! Truth: `transformers`, `models/granite` and `models/granitemoe`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    // 0 is what some converters write for none.
    let factor = |name| Ok::<_, ModelError>(config.opt_float(name)?.filter(|&f| f != 0.0).unwrap_or(1.0));
    let decoder = Decoder {
        embedding_scale: factor("embedding_scale")?,
        residual_scale: factor("residual_scale")?,
        logit_scale: 1.0 / factor("logit_scale")?,
        ..Decoder::new(RopeStyle::Interleaved)
    };
    decoder.build(config, tensors)
}
