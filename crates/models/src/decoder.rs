//! The block that most families share: a norm before each half, rotary attention over grouped heads, gated feed-forward.
//! A family says in a [`Decoder`] in what it differs.

use whit_base::{Activation, AttendSpec, CacheLayer, LogitsSpec, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::Block;
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

/// What a family makes of the common block. [`new`](Decoder::new) is Llama's.
pub(crate) struct Decoder {
    pub(crate) style: RopeStyle,
    /// Of the gate.
    pub(crate) act: Activation,
    /// An RMS norm over each head of q and k.
    pub(crate) head_norms: bool,
    /// Each layer whose number, from 1, is a multiple of this does not rotate.
    pub(crate) no_rope_every: Option<usize>,
    /// On the embeddings.
    pub(crate) embedding_scale: f32,
    /// On what each half adds to the residual.
    pub(crate) residual_scale: f32,
    /// On the logits.
    pub(crate) logit_scale: f32,
}

impl Decoder {
    pub(crate) fn new(style: RopeStyle) -> Decoder {
        Decoder {
            style,
            act: Activation::Silu,
            head_norms: false,
            no_rope_every: None,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
        }
    }

    pub(crate) fn build(self, config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
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
        let window = config.opt_usize("attention.sliding_window")?.filter(|&window| window > 0);
        let is_local = config.local_layers(attention.n_kv_heads.len(), 0)?;

        let mut plan = PlanBuilder::new();
        let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
        let rope = rope::from_config(config, tensors, head_dim, self.style)?;
        let rope = plan.rope_table(rope);

        let mut x = plan.embed("embd", embeddings, self.embedding_scale);
        for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
            let mut block = Block { plan: &mut plan, tensors, layer };

            let h = block.rms_norm("attn_norm", x, eps)?;
            let (mut q, mut k, v) = block.qkv(h, n_heads, n_kv_heads, head_dim)?;
            if self.head_norms {
                q = block.head_norm("attn_q_norm", q, head_dim, eps)?;
                k = block.head_norm("attn_k_norm", k, head_dim, eps)?;
            }
            if self.no_rope_every.is_none_or(|every| !(layer + 1).is_multiple_of(every)) {
                q = block.plan.rope(&block.name("q"), q, rope, head_dim)?;
                k = block.plan.rope(&block.name("k"), k, rope, head_dim)?;
            }
            let window = window.filter(|_| is_local[layer]);
            let cache = block.plan.cache(CacheLayer { n_kv_heads, head_dim, window });
            let spec = AttendSpec { cache, n_heads, scale, softcap: None };
            let h = block.plan.attend(&block.name("attn"), q, k, v, spec)?;
            let h = block.linear("attn_output", h)?;
            let h = block.plan.scale(&block.name("attn_scaled"), h, self.residual_scale);
            x = block.plan.add(&block.name("attn_residual"), x, h)?;

            let h = block.rms_norm("ffn_norm", x, eps)?;
            let h = block.gated(h, self.act)?;
            let h = block.plan.scale(&block.name("ffn_scaled"), h, self.residual_scale);
            x = block.plan.add(&block.name("ffn_residual"), x, h)?;
        }
        let x = plan.select("selected", x);
        let weight = tensors.vector(&mut plan, "output_norm.weight")?;
        let x = plan.rms_norm("output_norm", x, weight, eps)?;
        plan.pool(x, config.pooling()?, true);
        let output = tensors.output(&mut plan, embeddings)?;
        let softcap = config.softcap("final_logit_softcapping")?;
        Ok(plan.logits(x, LogitsSpec { scale: self.logit_scale, softcap, ..LogitsSpec::new(output) })?)
    }
}
