//! Phi-1, 1.5 and 2: attention and feed-forward part side by side behind one layer norm, biases everywhere, rotary
//! embeddings on a part of each head, and no gate.
//!
//! Truth: `transformers`, `models/phi`.

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

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let rope = plan.rope_table(rope);

    let mut x = plan.embed("embd", embeddings, 1.0);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let normed = block.layer_norm("attn_norm", x, eps)?;
        let attending = Attending { rope: Some(rope), ..Attending::new(n_heads, n_kv_heads, head_dim) };
        let h = block.attend(normed, &attending)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.ungated(normed, Activation::GeluTanh)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    block::logits(config, plan, tensors, x, embeddings, NormKind::Layer { eps }, 1.0)
}
