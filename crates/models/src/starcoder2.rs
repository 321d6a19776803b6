//! StarCoder2: layer norms before each half, biases everywhere, rotary embeddings in halves, and no gate.
//!
//! Truth: `transformers`, `models/starcoder2`.

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
    let window = config.opt_usize("attention.sliding_window")?.filter(|&window| window > 0);

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let rope = plan.rope_table(rope);

    let mut x = plan.embed("embd", embeddings, 1.0);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let h = block.layer_norm("attn_norm", x, eps)?;
        let attending =
            Attending { window, rope: Some(rope), ..Attending::new(n_heads, n_kv_heads, head_dim) };
        let h = block.attend(h, &attending)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.layer_norm("ffn_norm", x, eps)?;
        let h = block.ungated(h, Activation::GeluTanh)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    block::logits(config, plan, tensors, x, embeddings, NormKind::Layer { eps }, 1.0)
}
