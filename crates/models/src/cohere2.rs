//! Cohere's Command R7B (`cohere2`): attention and feed-forward part side by side behind one layer norm without a bias; three
//! layers of four have a window, and only they rotate.
//!
//! Truth: `transformers`, `models/cohere2`.

use whit_base::{Activation, NormKind, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::{self, Attending, Block};
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let eps = config.layer_eps()?;
    let window = config.size("attention.sliding_window")?;
    let is_local = config.local_layers(attention.n_kv_heads.len(), 4)?;
    let logit_scale = config.opt_float("logit_scale")?.filter(|&scale| scale != 0.0).unwrap_or(1.0);

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let rope = rope::from_config(config, tensors, head_dim, RopeStyle::Interleaved)?;
    let rope = plan.rope_table(rope);

    let mut x = plan.embed("embd", embeddings, 1.0);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let normed = block.layer_norm("attn_norm", x, eps)?;
        let attending = Attending {
            window: is_local[layer].then_some(window),
            rope: is_local[layer].then_some(rope),
            ..Attending::new(n_heads, n_kv_heads, head_dim)
        };
        let h = block.attend(normed, &attending)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.gated(normed, Activation::Silu)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    block::logits(config, plan, tensors, x, embeddings, NormKind::Layer { eps }, logit_scale)
}
