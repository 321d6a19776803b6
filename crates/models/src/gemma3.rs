//! Gemma 2, and the text part of Gemma 3: scaled embeddings, a norm before and after each half of a block, GELU gates,
//! and sliding-window layers between the global ones.
//!
//! Gemma 2 caps its attention scores; Gemma 3 has norms on q and k instead, and another rotation in its sliding-window
//! layers. Norm weights in the file already hold the 1 that the reference adds. Left out: the vision tower (a file of its
//! own). Truth: `transformers`, `models/gemma2` and `models/gemma3`; keys and defaults as the converter of llama.cpp writes them.

use whit_base::{Activation, NormKind, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::{self, Attending, Block, QkNorm};
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

/// In what the two generations differ.
struct Generation {
    /// One in so many layers is global, unless the file says otherwise.
    pattern: usize,
    /// Tokens that a sliding-window layer sees, unless the file says otherwise.
    window: Option<usize>,
    /// Norms on q and k, and a rotation of its own in sliding-window layers (with this base, unless the file says otherwise).
    local_base: Option<f32>,
    /// The one size (27B) whose attention is scaled by the width per head rather than by the head's own, by its layers.
    layers_of_27b: usize,
}

pub(crate) fn build_gemma2(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    decoder(
        config,
        tensors,
        &Generation { pattern: 2, window: Some(4096), local_base: None, layers_of_27b: 46 },
    )
}

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    decoder(
        config,
        tensors,
        &Generation { pattern: 6, window: None, local_base: Some(10_000.0), layers_of_27b: 62 },
    )
}

fn decoder(
    config: &Config<'_>,
    tensors: &mut Tensors<'_>,
    generation: &Generation,
) -> Result<Plan, ModelError> {
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let n_layers = attention.n_kv_heads.len();
    let n_embd = config.n_embd()?;
    let eps = config.rms_eps()?;
    let norm = NormKind::Rms { eps };
    let scaled_by = if n_layers == generation.layers_of_27b { n_embd / n_heads } else { head_dim };
    let stated = config.opt_float("attention.scale")?.filter(|&scale| scale != 0.0);
    let scale = stated.unwrap_or_else(|| 1.0 / (scaled_by.max(1) as f32).sqrt());
    let softcap = config.softcap("attn_logit_softcapping")?;
    let window =
        config.opt_usize("attention.sliding_window")?.or(generation.window).filter(|&window| window > 0);
    let is_local = config.local_layers(n_layers, generation.pattern)?;

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, n_embd)?;
    let global_rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let local_base = config.opt_positive("rope.freq_base_swa")?.or(generation.local_base);
    let n_rot = 2 * global_rope.inv_freq.len();
    let local_rope = local_base.map(|base| plan.rope_table(rope::plain(base, n_rot, RopeStyle::Halves)));
    let global_rope = plan.rope_table(global_rope);
    let local_rope = local_rope.unwrap_or(global_rope);

    let mut x = plan.embed("embd", embeddings, (n_embd as f32).sqrt());
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };
        let window = window.filter(|_| is_local[layer]);
        let rope = if window.is_some() { local_rope } else { global_rope };

        let h = block.rms_norm("attn_norm", x, eps)?;
        let attending = Attending {
            scale,
            softcap,
            window,
            norm: if generation.local_base.is_some() { QkNorm::Heads(norm) } else { QkNorm::None },
            rope: Some(rope),
            ..Attending::new(n_heads, n_kv_heads, head_dim)
        };
        let h = block.attend(h, &attending)?;
        let h = block.rms_norm("post_attention_norm", h, eps)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.rms_norm("ffn_norm", x, eps)?;
        let h = block.gated(h, Activation::GeluTanh)?;
        let h = block.rms_norm("post_ffw_norm", h, eps)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    block::logits(config, plan, tensors, x, embeddings, norm, 1.0)
}
