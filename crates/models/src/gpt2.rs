//! GPT-2: learned positions, layer norms before each half, biases everywhere, and no gate.
//!
//! Truth: `transformers`, `models/gpt2`.

use whit_base::{Activation, NormKind, Plan, PlanBuilder};

use crate::ModelError;
use crate::block::{self, Attending, Block};
use crate::config::Config;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let eps = config.layer_eps()?;

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let positions = tensors.matrix(&mut plan, "position_embd.weight")?;
    if config.n_ctx()? > tensors.n_rows("position_embd.weight")? {
        let n = tensors.n_rows("position_embd.weight")?;
        return Err(config.unsupported(format!("more context than its {n} learned positions")));
    }

    let tokens = plan.embed("embd", embeddings, 1.0);
    let places = plan.embed_position("position_embd", positions);
    let mut x = plan.add("embd_with_position", tokens, places)?;
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let h = block.layer_norm("attn_norm", x, eps)?;
        let h = block.attend(h, &Attending::new(n_heads, n_kv_heads, head_dim))?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.layer_norm("ffn_norm", x, eps)?;
        let h = block.ungated(h, Activation::GeluTanh)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    block::logits(config, plan, tensors, x, embeddings, NormKind::Layer { eps }, 1.0)
}
