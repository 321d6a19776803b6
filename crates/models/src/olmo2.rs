//! OLMo 2 and 3: the block of Llama with norms behind each half rather than before it, and over the whole width of q and k.
//! OLMo 3 has windows in three layers of four, whose rotation is not scaled.
//!
//! Truth: `transformers`, `models/olmo2` and `models/olmo3`.

use whit_base::{Plan, RopeStyle};

use crate::ModelError;
use crate::config::Config;
use crate::decoder::{Decoder, Norms, QkNorms, Rotation};
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let decoder = Decoder {
        norms: Norms::Behind,
        qk_norms: QkNorms::Width,
        period: 4,
        rotation: Rotation::WindowedUnscaled,
        ..Decoder::new(RopeStyle::Halves)
    };
    decoder.build(config, tensors)
}
