//! ModernBERT: a norm before each half (the first layer's is that of the embeddings), rotation, gates, and layers that see a
//! window alone between the global ones.
//!
//! Truth: `transformers`, `models/modernbert`; keys and defaults as in the converter of llama.cpp and in its loader.

use whit_base::{Activation, NormKind, Plan, PlanBuilder, RopeStyle, Sight};

use crate::ModelError;
use crate::block::{Attending, Block};
use crate::config::Config;
use crate::encoder;
use crate::rope;
use crate::tensors::Tensors;

/// One in so many layers is global, the first of them, unless the file says otherwise.
const GLOBAL_EVERY: usize = 3;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let eps = config.layer_eps()?;
    // The key counts the whole window, half of it on each side.
    let window = config.opt_usize("attention.sliding_window")?.filter(|&window| window > 0);
    let period = config.opt_size("attention.sliding_window_pattern")?.unwrap_or(GLOBAL_EVERY);
    let act = match config.metadata().opt_str(&config.key("hidden_activation"))? {
        None | Some("gelu") => Activation::Gelu,
        Some("silu") => Activation::Silu,
        Some(other) => return Err(config.bad("hidden_activation", other, "gelu or silu")),
    };

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let cache = encoder::cache(config, &mut plan, &attention)?;
    let global_rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let n_rot = 2 * global_rope.inv_freq.len();
    let local_base = config.opt_positive("rope.freq_base_swa")?;
    let local_rope = local_base.map(|base| plan.rope_table(rope::plain(base, n_rot, RopeStyle::Halves)));
    let global_rope = plan.rope_table(global_rope);
    let local_rope = local_rope.unwrap_or(global_rope);

    let x = plan.embed("embd", embeddings, 1.0);
    let mut x = encoder::embedding_norm(&mut plan, tensors, x, eps)?;
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };
        let window = window.filter(|_| layer % period != 0);

        let h = if layer > 0 || block.has("attn_norm.weight") {
            block.layer_norm("attn_norm", x, eps)?
        } else {
            x
        };
        let attending = Attending {
            rope: Some(if window.is_some() { local_rope } else { global_rope }),
            sight: window.map_or(Sight::All, |window| Sight::Near(window / 2)),
            cache: Some(cache),
            ..Attending::new(n_heads, n_kv_heads, head_dim)
        };
        let h = block.attend(h, &attending)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.layer_norm("ffn_norm", x, eps)?;
        let h = block.gated(h, act)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    let weight = tensors.vector(&mut plan, "output_norm.weight")?;
    let bias = tensors.opt_vector(&mut plan, "output_norm.bias")?;
    let x = plan.norm("output_norm", x, NormKind::Layer { eps }, Some(weight), bias, None)?;
    encoder::end(config, plan, tensors, x, embeddings, Activation::Gelu)
}
