//! The pieces that most decoder blocks are made of, each named after its tensor: `blk.<layer>.<part>`.

use whit_base::{
    Activation, AttendSpec, BufferId, CacheId, CacheLayer, Expert, ExpertsSpec, LogitsSpec, NormKind, Plan,
    PlanBuilder, RopeId, Sharpening, Sight, WeightId,
};

use crate::ModelError;
use crate::config::Config;
use crate::tensors::Tensors;

/// One layer under construction.
pub(crate) struct Block<'b, 'a> {
    pub(crate) plan: &'b mut PlanBuilder,
    pub(crate) tensors: &'b mut Tensors<'a>,
    pub(crate) layer: usize,
}

/// How a layer attends. [`new`](Attending::new) is a decoder's plain way, without rotation.
#[derive(Clone, Copy)]
pub(crate) struct Attending {
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Factor on the scores.
    pub(crate) scale: f32,
    /// A further one, by the position of the query.
    pub(crate) sharpening: Option<Sharpening>,
    /// `c * tanh(score / c)`.
    pub(crate) softcap: Option<f32>,
    /// Tokens that a token sees, with itself; `None`: all.
    pub(crate) window: Option<usize>,
    /// Of q and k.
    pub(crate) norm: QkNorm,
    pub(crate) rope: Option<RopeId>,
    pub(crate) sight: Sight,
    /// On the scores, by distance.
    pub(crate) bias: Option<WeightId>,
    /// `None`: one of the layer's own.
    pub(crate) cache: Option<CacheId>,
    pub(crate) values: Values,
}

/// Where a layer's keys and values come from.
#[derive(Clone, Copy)]
pub(crate) enum Values {
    Projected,
    /// Each head of the values normed, without a weight. Where the file has no projection for them, they are the keys.
    Normed(NormKind),
    /// They are in the cache: a layer before has put its own there.
    Cached,
}

/// A feed-forward part of many experts, of which each token takes a few.
#[derive(Clone, Copy)]
pub(crate) struct Mixture {
    pub(crate) n_experts: usize,
    pub(crate) n_used: usize,
    /// Bring the proportions of those few to a sum of 1.
    pub(crate) normalize: bool,
}

impl Mixture {
    /// What the file says of its experts; `None`: it has none.
    pub(crate) fn from_config(config: &Config<'_>, normalize: bool) -> Result<Option<Mixture>, ModelError> {
        let Some(n_experts) = config.opt_usize("expert_count")?.filter(|&n| n > 0) else { return Ok(None) };
        if config.opt_usize("expert_shared_count")?.unwrap_or(0) > 0
            || config.opt_usize("expert_shared_feed_forward_length")?.unwrap_or(0) > 0
        {
            return Err(config.unsupported("experts that every token goes through"));
        }
        // 1 is llama.cpp's number for a softmax.
        if config.opt_usize("expert_gating_func")?.is_some_and(|function| function > 1) {
            return Err(config.unsupported("another choice of experts than by softmax"));
        }
        if config.opt_float("expert_weights_scale")?.is_some_and(|scale| scale != 0.0 && scale != 1.0) {
            return Err(config.unsupported("a factor on the weights of experts"));
        }
        let n_used = config.size("expert_used_count")?;
        if n_used > n_experts {
            return Err(config.bad("expert_used_count", n_used, format!("at most the {n_experts} experts")));
        }
        Ok(Some(Mixture { n_experts, n_used, normalize }))
    }
}

/// Norms on q and k, `attn_q_norm` and `attn_k_norm`, before the rotation unless it says otherwise.
#[derive(Clone, Copy)]
pub(crate) enum QkNorm {
    None,
    /// Each head on its own.
    Heads(NormKind),
    /// The same, behind the rotation.
    RotatedHeads(NormKind),
    /// All heads together.
    Width(NormKind),
}

impl Attending {
    pub(crate) fn new(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> Attending {
        Attending {
            n_heads,
            n_kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            sharpening: None,
            softcap: None,
            window: None,
            norm: QkNorm::None,
            rope: None,
            sight: Sight::Before,
            bias: None,
            cache: None,
            values: Values::Projected,
        }
    }
}

impl Block<'_, '_> {
    pub(crate) fn name(&self, part: &str) -> String {
        format!("blk.{}.{part}", self.layer)
    }

    /// Whether the file has `blk.<layer>.<tensor>`.
    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.tensors.has(&self.name(tensor))
    }

    /// Knows of what a layer needs for keys and values of its own, and has no use for it.
    pub(crate) fn pass_over_keys(&mut self) {
        for part in ["attn_k", "attn_v", "attn_k_norm"] {
            let name = self.name(&format!("{part}.weight"));
            self.tensors.pass_over(&name);
        }
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

    /// Attention over `x`, with its projections: `attn_output(attend(q, k, v))`.
    pub(crate) fn attend(&mut self, x: BufferId, how: &Attending) -> Result<BufferId, ModelError> {
        let Attending {
            n_heads, n_kv_heads, head_dim, scale, sharpening, softcap, window, sight, bias, ..
        } = *how;
        let (q, kv) = match how.values {
            Values::Cached => (self.linear("attn_q", x)?, None),
            Values::Projected | Values::Normed(_) => {
                let (q, k, v) = self.qkv(x, how)?;
                (q, Some((self.place("k", k, how)?, self.values(v, how)?)))
            }
        };
        let q = self.place("q", q, how)?;
        let own = || CacheLayer { n_kv_heads, head_dim, window };
        let cache = how.cache.unwrap_or_else(|| self.plan.cache(own()));
        let spec = AttendSpec { cache, n_heads, scale, sharpening, softcap, sight, bias };
        let h = self.plan.attend(&self.name("attn"), q, kv, spec)?;
        self.linear("attn_output", h)
    }

    /// Norm and rotation of `q` or `k`.
    fn place(&mut self, which: &str, x: BufferId, how: &Attending) -> Result<BufferId, ModelError> {
        match how.norm {
            QkNorm::None => self.rotate(which, x, how),
            QkNorm::Heads(kind) => {
                let x = self.qk_norm(which, x, how, kind, Some(how.head_dim))?;
                self.rotate(which, x, how)
            }
            QkNorm::RotatedHeads(kind) => {
                let x = self.rotate(which, x, how)?;
                self.qk_norm(which, x, how, kind, Some(how.head_dim))
            }
            QkNorm::Width(kind) => {
                let x = self.qk_norm(which, x, how, kind, None)?;
                self.rotate(which, x, how)
            }
        }
    }

    fn values(&mut self, v: BufferId, how: &Attending) -> Result<BufferId, ModelError> {
        match how.values {
            Values::Normed(kind) => {
                Ok(self.plan.norm(&self.name("attn_v_norm"), v, kind, None, None, Some(how.head_dim))?)
            }
            Values::Projected | Values::Cached => Ok(v),
        }
    }

    fn rotate(&mut self, which: &str, x: BufferId, how: &Attending) -> Result<BufferId, ModelError> {
        match how.rope {
            None => Ok(x),
            Some(rope) => Ok(self.plan.rope(&self.name(which), x, rope, how.head_dim)?),
        }
    }

    fn qk_norm(
        &mut self,
        which: &str,
        x: BufferId,
        how: &Attending,
        kind: NormKind,
        head_dim: Option<usize>,
    ) -> Result<BufferId, ModelError> {
        let part = format!("attn_{which}_norm");
        let n_heads = if which == "q" { how.n_heads } else { how.n_kv_heads };
        let weight = if self.has(&format!("{part}.0.weight")) {
            self.tensors.joined(self.plan, &self.name(&part), n_heads)?
        } else {
            self.vector(&part)?
        };
        Ok(self.plan.norm(&self.name(&part), x, kind, Some(weight), None, head_dim)?)
    }

    /// Queries, keys and values: three tensors, or one.
    fn qkv(
        &mut self,
        x: BufferId,
        &Attending { n_heads, n_kv_heads, head_dim, values, .. }: &Attending,
    ) -> Result<(BufferId, BufferId, BufferId), ModelError> {
        let fused = self.name("attn_qkv");
        if !self.has("attn_qkv.weight") {
            let (q, k) = (self.linear("attn_q", x)?, self.linear("attn_k", x)?);
            let are_keys = matches!(values, Values::Normed(_)) && !self.has("attn_v.weight");
            return Ok((q, k, if are_keys { k } else { self.linear("attn_v", x)? }));
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

    /// The feed-forward parts of a few experts, chosen by `ffn_gate_inp`, in the proportions of its softmax.
    pub(crate) fn mixture(
        &mut self,
        x: BufferId,
        act: Activation,
        &Mixture { n_experts, n_used, normalize }: &Mixture,
    ) -> Result<BufferId, ModelError> {
        let scores = self.linear("ffn_gate_inp", x)?;
        let n = self.tensors.n_rows(&self.name("ffn_gate_inp.weight"))?;
        if n != n_experts {
            let want = format!("{n_experts} rows, one per expert");
            return Err(self.tensors.misshapen(
                &self.name("ffn_gate_inp.weight"),
                "a choice of experts",
                want,
            ));
        }
        let weights = self.plan.route(&self.name("ffn_weights"), scores, n_used, normalize)?;
        let experts = self.experts(n_experts)?;
        let spec = ExpertsSpec { n_used, experts, act };
        Ok(self.plan.experts(&self.name("ffn_experts"), x, weights, spec)?)
    }

    /// The weights of all experts: one below the other, with gate and up in one tensor or in two, or each in a tensor of its
    /// own.
    fn experts(&mut self, n_experts: usize) -> Result<Vec<Expert>, ModelError> {
        if self.has("ffn_gate.0.weight") {
            let mut matrix = |part: &str, expert: usize| {
                self.tensors.matrix(self.plan, &format!("blk.{}.{part}.{expert}.weight", self.layer))
            };
            let expert = |n| {
                Ok(Expert {
                    gate: matrix("ffn_gate", n)?,
                    up: matrix("ffn_up", n)?,
                    down: matrix("ffn_down", n)?,
                })
            };
            return (0..n_experts).map(expert).collect();
        }
        let is_joined = self.has("ffn_gate_up_exps.weight");
        let mut stacked = |part: &str, n: usize| {
            self.tensors.stacked(self.plan, &format!("blk.{}.{part}.weight", self.layer), n)
        };
        let down = stacked("ffn_down_exps", n_experts)?;
        let (gate, up) = if is_joined {
            let both = stacked("ffn_gate_up_exps", 2 * n_experts)?;
            both.chunks_exact(2).map(|both| (both[0], both[1])).unzip()
        } else {
            (stacked("ffn_gate_exps", n_experts)?, stacked("ffn_up_exps", n_experts)?)
        };
        let all = gate.into_iter().zip(up).zip(down);
        Ok(all.map(|((gate, up), down)| Expert { gate, up, down }).collect())
    }

    /// `down(act(up(x)))`.
    pub(crate) fn ungated(&mut self, x: BufferId, act: Activation) -> Result<BufferId, ModelError> {
        let h = self.linear("ffn_up", x)?;
        let h = self.plan.act(&self.name("ffn_act"), h, act);
        self.linear("ffn_down", h)
    }

    /// Several projections of `x` that stand in one tensor, one below the other.
    pub(crate) fn fused<const N: usize>(
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

/// The end of a plan: the wanted rows, their norm, the vector of a text, and the projection onto the vocabulary, with its
/// bias and soft cap where the file has them. `scale` is on the logits.
pub(crate) fn logits(
    config: &Config<'_>,
    plan: PlanBuilder,
    tensors: &mut Tensors<'_>,
    x: BufferId,
    embeddings: WeightId,
    norm: NormKind,
    scale: f32,
) -> Result<Plan, ModelError> {
    logits_behind(config, plan, tensors, x, embeddings, ("output_norm", norm), scale)
}

/// As [`logits`], with the norm under this name.
pub(crate) fn logits_behind(
    config: &Config<'_>,
    mut plan: PlanBuilder,
    tensors: &mut Tensors<'_>,
    x: BufferId,
    embeddings: WeightId,
    (name, norm): (&str, NormKind),
    scale: f32,
) -> Result<Plan, ModelError> {
    let x = plan.select("selected", x);
    let weight = tensors.vector(&mut plan, &format!("{name}.weight"))?;
    let bias = tensors.opt_vector(&mut plan, &format!("{name}.bias"))?;
    let x = plan.norm("output_norm", x, norm, Some(weight), bias, None)?;
    plan.pool(x, config.pooling()?, true);
    let output = tensors.output(&mut plan, embeddings)?;
    let bias = tensors.opt_vector(&mut plan, "output.bias")?;
    let softcap = config.softcap("final_logit_softcapping")?;
    Ok(plan.logits(x, LogitsSpec { weight: output, bias, scale, softcap })?)
}
