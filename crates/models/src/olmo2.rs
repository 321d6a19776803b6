//! OLMo 2: norms behind each half rather than before it, and over the whole width of q and k.
//!
//! Truth: `transformers`, `models/olmo2`.

use whit_base::{Activation, NormKind, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::{self, Attending, Block, QkNorm};
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    if config.opt_usize("attention.sliding_window")?.unwrap_or(0) > 0 {
        return Err(config.unsupported("sliding-window layers (OLMo 3)"));
    }
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let eps = config.rms_eps()?;
    let norm = NormKind::Rms { eps };

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let rope = plan.rope_table(rope);

    let mut x = plan.embed("embd", embeddings, 1.0);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let attending = Attending {
            norm: QkNorm::Width(norm),
            rope: Some(rope),
            ..Attending::new(n_heads, n_kv_heads, head_dim)
        };
        let h = block.attend(x, &attending)?;
        let h = block.rms_norm("post_attention_norm", h, eps)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.gated(x, Activation::Silu)?;
        let h = block.rms_norm("post_ffw_norm", h, eps)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    block::logits(config, plan, tensors, x, embeddings, norm, 1.0)
}
