//! The pieces that most decoder blocks are made of, each named after its tensor: `blk.<layer>.<part>`.

use whit_base::{Activation, BufferId, LogitsSpec, NormKind, Plan, PlanBuilder, WeightId};

use crate::ModelError;
use crate::config::Config;
use crate::tensors::Tensors;

/// One layer under construction.
pub(crate) struct Block<'b, 'a> {
    pub(crate) plan: &'b mut PlanBuilder,
    pub(crate) tensors: &'b mut Tensors<'a>,
    pub(crate) layer: usize,
}

impl Block<'_, '_> {
    pub(crate) fn name(&self, part: &str) -> String {
        format!("blk.{}.{part}", self.layer)
    }

    /// Whether the file has `blk.<layer>.<tensor>`.
    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.tensors.has(&self.name(tensor))
    }

    fn vector(&mut self, part: &str) -> Result<WeightId, ModelError> {
        let name = self.name(&format!("{part}.weight"));
        self.tensors.vector(self.plan, &name)
    }

    /// Layer norm over the width, with its bias where the file has one.
    pub(crate) fn layer_norm(&mut self, part: &str, x: BufferId, eps: f32) -> Result<BufferId, ModelError> {
        let weight = self.vector(part)?;
        let bias = self.tensors.opt_vector(self.plan, &self.name(&format!("{part}.bias")))?;
        Ok(self.plan.norm(&self.name(part), x, NormKind::Layer { eps }, Some(weight), bias, None)?)
    }

    /// RMS norm over the width.
    pub(crate) fn rms_norm(&mut self, part: &str, x: BufferId, eps: f32) -> Result<BufferId, ModelError> {
        let weight = self.vector(part)?;
        Ok(self.plan.rms_norm(&self.name(part), x, weight, eps)?)
    }

    /// RMS norm over each head.
    pub(crate) fn head_norm(
        &mut self,
        part: &str,
        x: BufferId,
        head_dim: usize,
        eps: f32,
    ) -> Result<BufferId, ModelError> {
        let weight = self.vector(part)?;
        let kind = NormKind::Rms { eps };
        Ok(self.plan.norm(&self.name(part), x, kind, Some(weight), None, Some(head_dim))?)
    }

    /// Queries, keys and values: three tensors, or one.
    pub(crate) fn qkv(
        &mut self,
        x: BufferId,
        n_heads: usize,
        n_kv_heads: usize,
        head_dim: usize,
    ) -> Result<(BufferId, BufferId, BufferId), ModelError> {
        let fused = self.name("attn_qkv");
        if !self.has("attn_qkv.weight") {
            return Ok((self.linear("attn_q", x)?, self.linear("attn_k", x)?, self.linear("attn_v", x)?));
        }
        let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let [q, k, v] = self.fused(&fused, x, [("q", n_q), ("k", n_kv), ("v", n_kv)])?;
        Ok((q, k, v))
    }

    /// `down(act(gate(x)) * up(x))`; gate and up in two tensors, or in one.
    pub(crate) fn gated(&mut self, x: BufferId, act: Activation) -> Result<BufferId, ModelError> {
        let (gate, up) = if self.has("ffn_gate.weight") {
            (self.linear("ffn_gate", x)?, self.linear("ffn_up", x)?)
        } else {
            let name = self.name("ffn_up");
            let n_ff = self.tensors.n_rows(&format!("{name}.weight"))? / 2;
            let [gate, up] = self.fused(&name, x, [("gate", n_ff), ("up", n_ff)])?;
            (gate, up)
        };
        let h = self.plan.glu(&self.name("ffn_act"), gate, up, act)?;
        self.linear("ffn_down", h)
    }

    /// `down(act(up(x)))`.
    pub(crate) fn ungated(&mut self, x: BufferId, act: Activation) -> Result<BufferId, ModelError> {
        let h = self.linear("ffn_up", x)?;
        let h = self.plan.act(&self.name("ffn_act"), h, act);
        self.linear("ffn_down", h)
    }

    /// Several projections of `x` that stand in one tensor, one below the other.
    fn fused<const N: usize>(
        &mut self,
        name: &str,
        x: BufferId,
        parts: [(&'static str, usize); N],
    ) -> Result<[BufferId; N], ModelError> {
        let weights = self.tensors.fused(self.plan, name, parts)?;
        let mut out = [x; N];
        for ((out, (weight, bias)), (part, _)) in out.iter_mut().zip(weights).zip(parts) {
            *out = self.plan.linear(&format!("{name} ({part})"), x, weight, bias)?;
        }
        Ok(out)
    }

    /// A projection, with its bias where the file has one.
    pub(crate) fn linear(&mut self, part: &str, x: BufferId) -> Result<BufferId, ModelError> {
        let name = self.name(part);
        let weight = self.tensors.matrix(self.plan, &format!("{name}.weight"))?;
        let bias = self.tensors.opt_vector(self.plan, &format!("{name}.bias"))?;
        Ok(self.plan.linear(&name, x, weight, bias)?)
    }
}

/// The end of a plan: the wanted rows, their layer norm, and the projection onto the vocabulary with its bias where the
/// file has one.
pub(crate) fn layer_normed_logits(
    config: &Config<'_>,
    mut plan: PlanBuilder,
    tensors: &mut Tensors<'_>,
    x: BufferId,
    embeddings: WeightId,
    eps: f32,
) -> Result<Plan, ModelError> {
    let x = plan.select("selected", x);
    let weight = tensors.vector(&mut plan, "output_norm.weight")?;
    let bias = tensors.opt_vector(&mut plan, "output_norm.bias")?;
    let x = plan.norm("output_norm", x, NormKind::Layer { eps }, Some(weight), bias, None)?;
    plan.pool(x, config.pooling()?, true);
    let output = tensors.output(&mut plan, embeddings)?;
    let bias = tensors.opt_vector(&mut plan, "output.bias")?;
    Ok(plan.logits(x, LogitsSpec { bias, ..LogitsSpec::new(output) })?)
}
