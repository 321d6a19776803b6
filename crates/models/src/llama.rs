//! Llama 1 to 3.x, SmolLM and SmolLM2, TinyLlama, Mistral 7B, and all else that converters file under `llama`.
//!
//! Pre-norm blocks, grouped-query attention, rotary embeddings in interleaved pairs (the converter permutes the rows of
//! q and k so), SwiGLU. Left out: mixtures of experts. Truth: `transformers`, `models/llama`.

use whit_base::{Activation, AttendSpec, CacheLayer, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::Block;
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    decoder(config, tensors, RopeStyle::Interleaved)
}

/// The decoder that Llama and Qwen2 share; they differ in how files lay out q and k, and in which biases a file holds.
pub(crate) fn decoder(
    config: &Config<'_>,
    tensors: &mut Tensors<'_>,
    style: RopeStyle,
) -> Result<Plan, ModelError> {
    if config.opt_usize("expert_count")?.unwrap_or(0) > 0 {
        return Err(config.unsupported("a mixture of experts"));
    }
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let eps = config.rms_eps()?;
    let scale = match config.opt_float("attention.scale")? {
        Some(scale) if scale != 0.0 => scale,
        _ => 1.0 / (head_dim as f32).sqrt(),
    };

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let rope = rope::from_config(config, tensors, head_dim, style)?;
    let rope = plan.rope_table(rope);

    let mut x = plan.embed("embd", embeddings, 1.0);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let h = block.rms_norm("attn_norm", x, eps)?;
        let q = block.linear("attn_q", h)?;
        let k = block.linear("attn_k", h)?;
        let v = block.linear("attn_v", h)?;
        let q = block.plan.rope(&block.name("q"), q, rope, head_dim)?;
        let k = block.plan.rope(&block.name("k"), k, rope, head_dim)?;
        let cache = block.plan.cache(CacheLayer { n_kv_heads, head_dim, window: None });
        let spec = AttendSpec { cache, n_heads, scale, softcap: None };
        let h = block.plan.attend(&block.name("attn"), q, k, v, spec)?;
        let h = block.linear("attn_output", h)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.rms_norm("ffn_norm", x, eps)?;
        let gate = block.linear("ffn_gate", h)?;
        let up = block.linear("ffn_up", h)?;
        let h = block.plan.glu(&block.name("ffn_act"), gate, up, Activation::Silu)?;
        let h = block.linear("ffn_down", h)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    let x = plan.select("selected", x);
    let weight = tensors.vector(&mut plan, "output_norm.weight")?;
    let x = plan.rms_norm("output_norm", x, weight, eps)?;
    let output = tensors.output(&mut plan, embeddings)?;
    Ok(plan.logits(x, output, 1.0, None)?)
}
