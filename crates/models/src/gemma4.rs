//! The text part of Gemma 4, dense: Gemma 3's block, with heads of another width in the layers that see everything, norms on
//! values, the last layers seeing what earlier ones have cached, a factor on what each layer gives, and, in the sizes named
//! E, a small embedding of each token for every layer.
//!
//! Left out: the mixture of experts of one size, vision and hearing (files of their own). Truth: `transformers`,
//! `models/gemma4`; keys and names as the converter of llama.cpp writes them.

use whit_base::{Activation, CacheLayer, NormKind, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::{self, Attending, Block, QkNorm, Values};
use crate::config::Config;
use crate::gemma3n::{PerLayer, sharing};
use crate::rope;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    if config.opt_usize("expert_count")?.unwrap_or(0) > 0 {
        return Err(config.unsupported("experts beside a feed-forward part that every token goes through"));
    }
    let attention = config.attention()?;
    let n_heads = attention.n_heads;
    let n_layers = attention.n_kv_heads.len();
    let n_embd = config.n_embd()?;
    let eps = config.rms_eps()?;
    let norm = NormKind::Rms { eps };
    let window = config.size("attention.sliding_window")?;
    let is_local = config.local_layers(n_layers, 6)?;
    let n_sharing = sharing(config, n_layers)?;

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, n_embd)?;
    let global_rope = rope::from_config(config, tensors, attention.head_dim, RopeStyle::Halves)?;
    let local_rope = rope::local(config, attention.local_head_dim, RopeStyle::Halves)?;
    let (global_rope, local_rope) = (plan.rope_table(global_rope), plan.rope_table(local_rope));

    let mut x = plan.embed("embd", embeddings, (n_embd as f32).sqrt());
    let width = config.opt_usize("embedding_length_per_layer_input")?.filter(|&width| width > 0);
    let per_layer =
        width.map(|width| PerLayer::new(&mut plan, tensors, x, (width, n_embd), norm)).transpose()?;
    let (mut local_cache, mut global_cache) = (None, None);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };
        let (head_dim, rope, last_cache) = match is_local[layer] {
            true => (attention.local_head_dim, local_rope, &mut local_cache),
            false => (attention.head_dim, global_rope, &mut global_cache),
        };
        let values = if layer < n_layers - n_sharing {
            let window = is_local[layer].then_some(window);
            *last_cache = Some(block.plan.cache(CacheLayer { n_kv_heads, head_dim, window }));
            Values::Normed(norm)
        } else {
            block.pass_over_keys();
            Values::Cached
        };
        let Some(cache) = *last_cache else {
            let expected = "fewer: the first of them has no layer of its kind before it";
            return Err(config.bad("attention.shared_kv_layers", n_sharing, expected));
        };

        let h = block.rms_norm("attn_norm", x, eps)?;
        let attending = Attending {
            scale: 1.0,
            norm: QkNorm::Heads(norm),
            rope: Some(rope),
            cache: Some(cache),
            values,
            ..Attending::new(n_heads, n_kv_heads, head_dim)
        };
        let h = block.attend(h, &attending)?;
        let h = block.rms_norm("post_attention_norm", h, eps)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.rms_norm("ffn_norm", x, eps)?;
        let h = block.gated(h, Activation::GeluTanh)?;
        let h = block.rms_norm("post_ffw_norm", h, eps)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;

        if let Some(per_layer) = &per_layer {
            let h = per_layer.apply(&mut block, x, eps)?;
            x = block.plan.add(&block.name("per_layer_residual"), x, h)?;
        }
        let name = block.name("layer_output_scale.weight");
        if let Some(factor) = block.tensors.number(&name)? {
            x = block.plan.scale(&block.name("out_scaled"), x, factor);
        }
    }
    block::logits(config, plan, tensors, x, embeddings, norm, 1.0)
}
