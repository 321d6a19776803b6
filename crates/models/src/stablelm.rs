//! StableLM 2: the block of Llama with layer norms, and rotary embeddings on a part of each head. The 12B has norms on
//! q and k, one for each head, and both halves of its blocks read the same norm.
//!
//! Truth: `transformers`, `models/stablelm`.

use whit_base::{Activation, NormKind, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::{self, Attending, Block, QkNorm};
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let eps = config.layer_eps()?;
    let norm = NormKind::Layer { eps };

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let rope = plan.rope_table(rope);

    let mut x = plan.embed("embd", embeddings, 1.0);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let normed = block.layer_norm("attn_norm", x, eps)?;
        let has_norms = ["attn_q_norm.weight", "attn_q_norm.0.weight"].iter().any(|name| block.has(name));
        let attending = Attending {
            norm: if has_norms { QkNorm::Heads(norm) } else { QkNorm::None },
            rope: Some(rope),
            ..Attending::new(n_heads, n_kv_heads, head_dim)
        };
        let h = block.attend(normed, &attending)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        // Without a norm of its own the feed-forward part stands beside the attention.
        let h = if block.has("ffn_norm.weight") { block.layer_norm("ffn_norm", x, eps)? } else { normed };
        let h = block.gated(h, Activation::Silu)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    block::logits(config, plan, tensors, x, embeddings, norm, 1.0)
}
