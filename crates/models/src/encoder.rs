//! What encoders have in common: each token sees the whole text, and what comes out is a vector of it, or a score.
//!
//! A file with a classification head (`cls`, `cls.output`) ranks pairs of texts: its one label is the score, as a logit.
//! Left out: heads of several labels.

use whit_base::{Activation, BufferId, CacheId, CacheLayer, NormKind, Plan, PlanBuilder, PoolKind, WeightId};

use crate::ModelError;
use crate::config::{Attention, Config};
use crate::tensors::Tensors;

pub(crate) const HEAD: &str = "cls.weight";
pub(crate) const HEAD_OUTPUT: &str = "cls.output.weight";

/// The cache that all layers take turns with: its keys and values are needed within their own operation alone.
pub(crate) fn cache(
    config: &Config<'_>,
    plan: &mut PlanBuilder,
    attention: &Attention,
) -> Result<CacheId, ModelError> {
    let n_kv_heads = attention.n_kv_heads.first().copied().unwrap_or(attention.n_heads);
    if attention.n_kv_heads.iter().any(|&n| n != n_kv_heads) {
        return Err(config.unsupported("a different number of heads in each layer"));
    }
    Ok(plan.cache(CacheLayer { n_kv_heads, head_dim: attention.head_dim, window: None }))
}

/// Adds what does not depend on the text around a token: its type, in models that know pairs of texts, and its position,
/// where it is learned.
pub(crate) fn placed(
    config: &Config<'_>,
    plan: &mut PlanBuilder,
    tensors: &mut Tensors<'_>,
    mut x: BufferId,
) -> Result<BufferId, ModelError> {
    if tensors.has("token_types.weight") {
        let table = tensors.matrix(plan, "token_types.weight")?;
        let types = plan.embed_type("token_types", table);
        x = plan.add("embd_with_type", x, types)?;
    }
    if tensors.has("position_embd.weight") {
        let n = tensors.n_rows("position_embd.weight")?;
        if config.n_ctx()? > n {
            return Err(config.unsupported(format!("more context than its {n} learned positions")));
        }
        let table = tensors.matrix(plan, "position_embd.weight")?;
        let positions = plan.embed_position("position_embd", table);
        x = plan.add("embd_with_position", x, positions)?;
    }
    Ok(x)
}

/// The layer norm of the embeddings.
pub(crate) fn embedding_norm(
    plan: &mut PlanBuilder,
    tensors: &mut Tensors<'_>,
    x: BufferId,
    eps: f32,
) -> Result<BufferId, ModelError> {
    let weight = tensors.vector(plan, "token_embd_norm.weight")?;
    let bias = tensors.opt_vector(plan, "token_embd_norm.bias")?;
    Ok(plan.norm("token_embd_norm", x, NormKind::Layer { eps }, Some(weight), bias, None)?)
}

/// The end of the plan: the vector of a text, of length 1, or the score of a pair.
pub(crate) fn end(
    config: &Config<'_>,
    mut plan: PlanBuilder,
    tensors: &mut Tensors<'_>,
    mut x: BufferId,
    embeddings: WeightId,
    head_act: Activation,
) -> Result<Plan, ModelError> {
    if !config.ranks() {
        let x = plan.select("selected", x);
        plan.pool(x, config.encoder_pooling()?, true);
        return Ok(plan.finish(embeddings));
    }
    if config.head_pooling()? == PoolKind::Mean {
        x = plan.sequence_mean("mean", x);
    }
    x = plan.select("selected", x);
    if tensors.has(HEAD) {
        let weight = tensors.matrix(&mut plan, HEAD)?;
        let bias = tensors.opt_vector(&mut plan, "cls.bias")?;
        x = plan.linear("cls", x, weight, bias)?;
        x = plan.act("cls_act", x, head_act);
    }
    if tensors.has("cls.norm.weight") {
        let weight = tensors.vector(&mut plan, "cls.norm.weight")?;
        let bias = tensors.opt_vector(&mut plan, "cls.norm.bias")?;
        let norm = NormKind::Layer { eps: config.layer_eps()? };
        x = plan.norm("cls.norm", x, norm, Some(weight), bias, None)?;
    }
    let n_labels = tensors.n_rows(HEAD_OUTPUT)?;
    if n_labels != 1 {
        return Err(config.unsupported(format!("a head with {n_labels} labels; one that ranks has one")));
    }
    let weight = tensors.matrix(&mut plan, HEAD_OUTPUT)?;
    let bias = tensors.opt_vector(&mut plan, "cls.output.bias")?;
    x = plan.linear("cls.output", x, weight, bias)?;
    plan.pool(x, PoolKind::First, false);
    Ok(plan.finish(embeddings))
}
