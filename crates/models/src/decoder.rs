//! The block that most families share: a norm before each half, rotary attention over grouped heads, gated feed-forward.
//! A family says in a [`Decoder`] in what it differs.

use whit_base::{Activation, NormKind, Plan, PlanBuilder, RopeStyle, Sharpening};

use crate::ModelError;
use crate::block::{self, Attending, Block, Mixture, QkNorm};
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

/// What a family makes of the common block. [`new`](Decoder::new) is Llama's.
pub(crate) struct Decoder {
    pub(crate) style: RopeStyle,
    /// Of the gate.
    pub(crate) act: Activation,
    /// RMS norms on q and k.
    pub(crate) norms: Norms,
    /// Of the experts that a token takes, if there are any: bring their proportions to a sum of 1.
    pub(crate) normalizes_experts: bool,
    /// Each layer whose number, from 1, is a multiple of this does not rotate.
    pub(crate) no_rope_every: Option<usize>,
    /// On the scores of attention.
    pub(crate) sharpening: Option<Sharpening>,
    /// On the embeddings.
    pub(crate) embedding_scale: f32,
    /// On what each half adds to the residual.
    pub(crate) residual_scale: f32,
    /// On the logits.
    pub(crate) logit_scale: f32,
}

/// Where q and k have norms.
pub(crate) enum Norms {
    None,
    /// On each head.
    Heads,
    /// On all heads together.
    Width,
}

impl Decoder {
    pub(crate) fn new(style: RopeStyle) -> Decoder {
        Decoder {
            style,
            act: Activation::Silu,
            norms: Norms::None,
            normalizes_experts: true,
            no_rope_every: None,
            sharpening: None,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
        }
    }

    pub(crate) fn build(self, config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
        let mixture = Mixture::from_config(config, self.normalizes_experts)?;
        let attention = config.attention()?;
        let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
        let eps = config.rms_eps()?;
        let norm = NormKind::Rms { eps };
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
            let rotates = self.no_rope_every.is_none_or(|every| !(layer + 1).is_multiple_of(every));
            let attending = Attending {
                scale,
                sharpening: self.sharpening,
                window: window.filter(|_| is_local[layer]),
                norm: match self.norms {
                    Norms::None => QkNorm::None,
                    Norms::Heads => QkNorm::Heads(norm),
                    Norms::Width => QkNorm::Width(norm),
                },
                rope: rotates.then_some(rope),
                ..Attending::new(n_heads, n_kv_heads, head_dim)
            };
            let h = block.attend(h, &attending)?;
            let h = block.plan.scale(&block.name("attn_scaled"), h, self.residual_scale);
            x = block.plan.add(&block.name("attn_residual"), x, h)?;

            let h = block.rms_norm("ffn_norm", x, eps)?;
            // Some layers of a model with experts may have none.
            let h = match &mixture {
                Some(mixture) if block.has("ffn_gate_inp.weight") => block.mixture(h, self.act, mixture)?,
                _ => block.gated(h, self.act)?,
            };
            let h = block.plan.scale(&block.name("ffn_scaled"), h, self.residual_scale);
            x = block.plan.add(&block.name("ffn_residual"), x, h)?;
        }
        block::logits(config, plan, tensors, x, embeddings, norm, self.logit_scale)
    }
}
