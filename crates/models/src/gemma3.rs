//! Gemma 3, text: scaled embeddings, a norm before and after each half of a block, norms on q and k, GELU gates, and
//! sliding-window layers with a rotation of their own between the global ones.
//!
//! Norm weights in the file already hold the 1 that the reference adds. Left out: the vision tower (a file of its own).
//! Truth: `transformers`, `models/gemma3`; keys and defaults as the converter of llama.cpp writes them.

use whit_base::{Activation, AttendSpec, CacheLayer, Plan, PlanBuilder, RopeStyle};
use whit_files::Value;

use crate::ModelError;
use crate::block::Block;
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

/// Every sixth layer is global, unless the file says otherwise.
const PATTERN: usize = 6;
/// The base of the rotation in sliding-window layers, unless the file says otherwise.
const LOCAL_BASE: f32 = 10_000.0;
/// The one size (27B) whose attention is scaled by the width per head rather than by the head's own.
const LAYERS_OF_27B: usize = 62;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let n_layers = attention.n_kv_heads.len();
    let n_embd = config.n_embd()?;
    let eps = config.rms_eps()?;
    let scaled_by = if n_layers == LAYERS_OF_27B { n_embd / n_heads } else { head_dim };
    let scale = 1.0 / (scaled_by.max(1) as f32).sqrt();
    let softcap = config.softcap("attn_logit_softcapping")?;
    let window = config.opt_usize("attention.sliding_window")?.filter(|&window| window > 0);
    let is_local = local_layers(config, n_layers)?;

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, n_embd)?;
    let global_rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let local_base = config.opt_positive("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    let local_rope = rope::plain(local_base, 2 * global_rope.inv_freq.len(), RopeStyle::Halves);
    let global_rope = plan.rope_table(global_rope);
    let local_rope = plan.rope_table(local_rope);

    let mut x = plan.embed("embd", embeddings, (n_embd as f32).sqrt());
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };
        let window = window.filter(|_| is_local[layer]);
        let rope = if window.is_some() { local_rope } else { global_rope };

        let h = block.rms_norm("attn_norm", x, eps)?;
        let q = block.linear("attn_q", h)?;
        let k = block.linear("attn_k", h)?;
        let v = block.linear("attn_v", h)?;
        let q = block.head_norm("attn_q_norm", q, head_dim, eps)?;
        let k = block.head_norm("attn_k_norm", k, head_dim, eps)?;
        let q = block.plan.rope(&block.name("q"), q, rope, head_dim)?;
        let k = block.plan.rope(&block.name("k"), k, rope, head_dim)?;
        let cache = block.plan.cache(CacheLayer { n_kv_heads, head_dim, window });
        let h =
            block.plan.attend(&block.name("attn"), q, k, v, AttendSpec { cache, n_heads, scale, softcap })?;
        let h = block.linear("attn_output", h)?;
        let h = block.rms_norm("post_attention_norm", h, eps)?;
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.rms_norm("ffn_norm", x, eps)?;
        let gate = block.linear("ffn_gate", h)?;
        let up = block.linear("ffn_up", h)?;
        let h = block.plan.glu(&block.name("ffn_act"), gate, up, Activation::GeluTanh)?;
        let h = block.linear("ffn_down", h)?;
        let h = block.rms_norm("post_ffw_norm", h, eps)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    let x = plan.select("selected", x);
    let weight = tensors.vector(&mut plan, "output_norm.weight")?;
    let x = plan.rms_norm("output_norm", x, weight, eps)?;
    let output = tensors.output(&mut plan, embeddings)?;
    Ok(plan.logits(x, output, 1.0, config.softcap("final_logit_softcapping")?)?)
}

/// Which layers see a window alone. The key holds a period (its last layer is global; 0 means none is), or a flag for
/// each layer.
fn local_layers(config: &Config<'_>, n_layers: usize) -> Result<Vec<bool>, ModelError> {
    let name = "attention.sliding_window_pattern";
    if let Some(Value::Array(array)) = config.metadata().get(&config.key(name)) {
        let flags: Option<Vec<bool>> = match array.bools() {
            Some(flags) => Some(flags.collect()),
            None => array.integers().map(|flags| flags.map(|flag| flag != 0).collect()),
        };
        let flags = flags.filter(|flags| flags.len() == n_layers);
        return flags.ok_or_else(|| {
            config.bad(name, Value::Array(array), format!("a flag for each of the {n_layers} layers"))
        });
    }
    let period = config.opt_usize(name)?.unwrap_or(PATTERN);
    Ok((0..n_layers).map(|layer| period == 0 || layer % period < period - 1).collect())
}
