//! OLMo 2: norms behind each half rather than before it, and over the whole width of q and k.
//!
//! Truth: `transformers`, `models/olmo2`.

use whit_base::{Activation, AttendSpec, CacheLayer, LogitsSpec, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::Block;
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
    let scale = 1.0 / (head_dim as f32).sqrt();

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let rope = plan.rope_table(rope);

    let mut x = plan.embed("embd", embeddings, 1.0);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let (q, k, v) = block.qkv(x, n_heads, n_kv_heads, head_dim)?;
        let q = block.rms_norm("attn_q_norm", q, eps)?;
        let k = block.rms_norm("attn_k_norm", k, eps)?;
        let q = block.plan.rope(&block.name("q"), q, rope, head_dim)?;
        let k = block.plan.rope(&block.name("k"), k, rope, head_dim)?;
        let cache = block.plan.cache(CacheLayer { n_kv_heads, head_dim, window: None });
        let spec = AttendSpec { cache, n_heads, scale, softcap: None };
        let h = block.plan.attend(&block.name("attn"), q, k, v, spec)?;
        let h = block.linear("attn_output", h)?;
        let h = block.rms_norm("post_attention_norm", h, eps)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.gated(x, Activation::Silu)?;
        let h = block.rms_norm("post_ffw_norm", h, eps)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    let x = plan.select("selected", x);
    let weight = tensors.vector(&mut plan, "output_norm.weight")?;
    let x = plan.rms_norm("output_norm", x, weight, eps)?;
    plan.pool(x, config.pooling()?, true);
    let output = tensors.output(&mut plan, embeddings)?;
    Ok(plan.logits(x, LogitsSpec::new(output))?)
}
