//! The block that most families share: RMS norms before each half, behind it, or both; rotary attention over grouped heads;
//! a gated feed-forward part. A family says in a [`Decoder`] in what it differs.

use whit_base::{Activation, BufferId, NormKind, Plan, PlanBuilder, RopeStyle, Sharpening};

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
    /// Whether the feed-forward part has a gate.
    pub(crate) is_gated: bool,
    /// Of each half.
    pub(crate) norms: Norms,
    /// RMS norms on q and k.
    pub(crate) qk_norms: QkNorms,
    /// Of the experts that a token takes, if there are any: bring their proportions to a sum of 1.
    pub(crate) normalizes_experts: bool,
    /// In models with windows: one in so many layers sees everything, unless the file says otherwise; 0: none does.
    pub(crate) period: usize,
    pub(crate) rotation: Rotation,
    /// On the scores of attention.
    pub(crate) sharpening: Option<Sharpening>,
    /// On the embeddings.
    pub(crate) embedding_scale: f32,
    /// On what each half adds to the residual.
    pub(crate) residual_scale: f32,
    /// On the logits.
    pub(crate) logit_scale: f32,
}

/// Where each half of a block has a norm.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Norms {
    Before,
    /// On what it adds to the residual.
    Behind,
    BeforeAndBehind,
}

/// Where q and k have norms.
#[derive(Clone, Copy)]
pub(crate) enum QkNorms {
    None,
    /// On each head.
    Heads,
    /// On each head, behind the rotation.
    RotatedHeads,
    /// On all heads together.
    Width,
}

/// How layers rotate q and k.
#[derive(Clone, Copy)]
pub(crate) enum Rotation {
    All,
    /// All but those whose number, from 1, is a multiple of this.
    AllButEvery(usize),
    /// In models with windows, only those that have one.
    Windowed,
    /// All; those with a window without the file's scaling.
    WindowedUnscaled,
}

impl Decoder {
    pub(crate) fn new(style: RopeStyle) -> Decoder {
        Decoder {
            style,
            act: Activation::Silu,
            is_gated: true,
            norms: Norms::Before,
            qk_norms: QkNorms::None,
            normalizes_experts: true,
            period: 0,
            rotation: Rotation::All,
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
        let is_local = config.local_layers(attention.n_kv_heads.len(), self.period)?;

        let mut plan = PlanBuilder::new();
        let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
        let rope = rope::from_config(config, tensors, head_dim, self.style)?;
        let unscaled = rope::unscaled(config, &rope)?;
        let rope = plan.rope_table(rope);

        let mut x = plan.embed("embd", embeddings, self.embedding_scale);
        for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
            let mut block = Block { plan: &mut plan, tensors, layer };
            let own_window = window.filter(|_| is_local[layer]);

            let h = self.norm_before(&mut block, "attn_norm", x, eps)?;
            let attending = Attending {
                scale,
                sharpening: self.sharpening,
                window: own_window,
                norm: match self.qk_norms {
                    QkNorms::None => QkNorm::None,
                    QkNorms::Heads => QkNorm::Heads(norm),
                    QkNorms::RotatedHeads => QkNorm::RotatedHeads(norm),
                    QkNorms::Width => QkNorm::Width(norm),
                },
                rope: match self.rotation {
                    Rotation::AllButEvery(n) if (layer + 1).is_multiple_of(n) => None,
                    Rotation::Windowed if window.is_some() && own_window.is_none() => None,
                    Rotation::WindowedUnscaled if own_window.is_some() => {
                        Some(block.plan.rope_table(unscaled.clone()))
                    }
                    _ => Some(rope),
                },
                ..Attending::new(n_heads, n_kv_heads, head_dim)
            };
            let h = block.attend(h, &attending)?;
            let h = self.norm_behind(&mut block, "post_attention_norm", h, eps)?;
            let h = block.plan.scale(&block.name("attn_scaled"), h, self.residual_scale);
            x = block.plan.add(&block.name("attn_residual"), x, h)?;

            let h = self.norm_before(&mut block, "ffn_norm", x, eps)?;
            // Some layers of a model with experts may have none.
            let h = match &mixture {
                Some(mixture) if block.has("ffn_gate_inp.weight") => block.mixture(h, self.act, mixture)?,
                _ if self.is_gated => block.gated(h, self.act)?,
                _ => block.ungated(h, self.act)?,
            };
            let h = self.norm_behind(&mut block, "post_ffw_norm", h, eps)?;
            let h = block.plan.scale(&block.name("ffn_scaled"), h, self.residual_scale);
            x = block.plan.add(&block.name("ffn_residual"), x, h)?;
        }
        block::logits(config, plan, tensors, x, embeddings, norm, self.logit_scale)
    }

    fn norm_before(
        &self,
        block: &mut Block<'_, '_>,
        part: &str,
        x: BufferId,
        eps: f32,
    ) -> Result<BufferId, ModelError> {
        if self.norms == Norms::Behind { Ok(x) } else { block.rms_norm(part, x, eps) }
    }

    fn norm_behind(
        &self,
        block: &mut Block<'_, '_>,
        part: &str,
        x: BufferId,
        eps: f32,
    ) -> Result<BufferId, ModelError> {
        if self.norms == Norms::Before { Ok(x) } else { block.rms_norm(part, x, eps) }
    }
}
