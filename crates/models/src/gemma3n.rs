//! The text part of Gemma 3n: four streams, of which the layers compute one and predict and correct the others (AltUp); a
//! second, narrow way around each attention (Laurel); in the first layers only what stands out of a gate; the last layers see
//! what earlier ones have cached; a small embedding of each token for every layer.
//!
//! Left out: vision and hearing (files of their own). Truth: `transformers`, `models/gemma3n`; keys and names as the converter of
//! llama.cpp writes them.

use std::f32::consts::FRAC_1_SQRT_2;

use whit_base::{Activation, BufferId, CacheLayer, NormKind, Plan, PlanBuilder, RopeStyle, WeightId};
use whit_files::Value;

use crate::ModelError;
use crate::block::{self, Attending, Block, QkNorm, Values};
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

/// The reference's least mean square of a stream.
const LEAST: f32 = 1e-5;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let n_layers = attention.n_kv_heads.len();
    let n_embd = config.n_embd()?;
    let eps = config.rms_eps()?;
    let norm = NormKind::Rms { eps };
    let window = config.size("attention.sliding_window")?;
    let is_local = config.local_layers(n_layers, 5)?;
    let n_sharing = sharing(config, n_layers)?;
    let n_streams = config.opt_size("altup.num_inputs")?.unwrap_or(4);
    if config.opt_usize("altup.active_idx")?.unwrap_or(0) != 0 {
        return Err(config.unsupported("another stream than the first to compute"));
    }
    let deviations = deviations(config, n_layers)?;

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, n_embd)?;
    let global_rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let local_rope = rope::local(config, head_dim, RopeStyle::Halves)?;
    let (global_rope, local_rope) = (plan.rope_table(global_rope), plan.rope_table(local_rope));

    let first = plan.embed("embd", embeddings, (n_embd as f32).sqrt());
    let width = config.size("embedding_length_per_layer_input")?;
    let per_layer = PerLayer::new(&mut plan, tensors, first, (width, n_embd), norm)?;
    let mut streams = vec![first];
    for (i, weight) in projections(&mut plan, tensors, "altup_proj", n_streams - 1)?.into_iter().enumerate() {
        let h = plan.linear(&format!("altup_proj.{i}"), first, weight, None)?;
        streams.push(plan.match_size(&format!("altup_proj.{i}.matched"), h, first, LEAST));
    }

    let (mut local_cache, mut global_cache) = (None, None);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };
        let (rope, last_cache) = match is_local[layer] {
            true => (local_rope, &mut local_cache),
            false => (global_rope, &mut global_cache),
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

        let predicted = predict(&mut block, &streams, (n_embd, eps))?;
        let x = predicted[0];
        let normed = block.rms_norm("attn_norm", x, eps)?;
        let h = block.linear("laurel_l", normed)?;
        let h = block.linear("laurel_r", h)?;
        let h = block.rms_norm("laurel_post_norm", h, eps)?;
        let laurel = block.plan.add(&block.name("laurel"), normed, h)?;

        let attending = Attending {
            scale: 1.0,
            norm: QkNorm::Heads(norm),
            rope: Some(rope),
            cache: Some(cache),
            values,
            ..Attending::new(n_heads, n_kv_heads, head_dim)
        };
        let h = block.attend(normed, &attending)?;
        let h = block.rms_norm("post_attention_norm", h, eps)?;
        let h = block.plan.add(&block.name("attn_residual"), x, h)?;
        let h = block.plan.add(&block.name("attn_laurel"), h, laurel)?;
        let x = block.plan.scale(&block.name("attn_laurel_scaled"), h, FRAC_1_SQRT_2);

        let h = block.rms_norm("ffn_norm", x, eps)?;
        let (gate, up) = (block.linear("ffn_gate", h)?, block.linear("ffn_up", h)?);
        let gate = match deviations[layer] {
            Some(deviations) => block.plan.outliers(&block.name("ffn_gate_outliers"), gate, deviations),
            None => gate,
        };
        let h = block.plan.glu(&block.name("ffn_act"), gate, up, Activation::GeluTanh)?;
        let h = block.linear("ffn_down", h)?;
        let h = block.rms_norm("post_ffw_norm", h, eps)?;
        let activated = block.plan.add(&block.name("ffn_residual"), x, h)?;

        streams = correct(&mut block, &predicted, activated, (n_embd, eps))?;
        let name = block.name("altup_correct_scale.weight");
        let scale = block.tensors.vector(block.plan, &name)?;
        let h = block.plan.multiply(&block.name("altup_scaled"), streams[0], scale)?;
        let h = per_layer.apply(&mut block, h, eps)?;
        for (i, stream) in streams.iter_mut().enumerate().skip(1) {
            *stream = block.plan.add(&block.name(&format!("per_layer_residual.{i}")), *stream, h)?;
        }
    }

    let mut sum = streams[0];
    let projections = projections(&mut plan, tensors, "altup_unembd_proj", n_streams - 1)?;
    for (i, weight) in projections.into_iter().enumerate() {
        let h = plan.linear(&format!("altup_unembd_proj.{i}"), streams[i + 1], weight, None)?;
        let h = plan.match_size(&format!("altup_unembd_proj.{i}.matched"), h, streams[0], LEAST);
        sum = plan.add(&format!("altup_sum.{i}"), sum, h)?;
    }
    let x = plan.scale("altup_mean", sum, 1.0 / n_streams as f32);
    block::logits(config, plan, tensors, x, embeddings, norm, 1.0)
}

/// A matrix for each stream but the first: all in one tensor, or each in its own.
fn projections(
    plan: &mut PlanBuilder,
    tensors: &mut Tensors<'_>,
    name: &str,
    n: usize,
) -> Result<Vec<WeightId>, ModelError> {
    match tensors.has(&format!("{name}.0.weight")) {
        true => (0..n).map(|i| tensors.matrix(plan, &format!("{name}.{i}.weight"))).collect(),
        false => tensors.stacked(plan, &format!("{name}.weight"), n),
    }
}

/// How the streams are weighed, as the stream `x` of width `n_embd` says: `(rows, n_streams)`.
fn modalities(
    block: &mut Block<'_, '_>,
    x: BufferId,
    (n_embd, eps): (usize, f32),
) -> Result<BufferId, ModelError> {
    let h = block.rms_norm("altup_router_norm", x, eps)?;
    let h = block.linear("altup_router", h)?;
    let h = block.plan.scale(&block.name("altup_router_scaled"), h, 1.0 / n_embd as f32);
    Ok(block.plan.act(&block.name("altup_modalities"), h, Activation::Tanh))
}

/// Each stream, and a mixture of all.
fn predict(
    block: &mut Block<'_, '_>,
    streams: &[BufferId],
    sizes: (usize, f32),
) -> Result<Vec<BufferId>, ModelError> {
    let modalities = modalities(block, streams[0], sizes)?;
    let coefficients = block.linear("altup_predict_coef", modalities)?;
    let predict = |(i, &x): (usize, &BufferId)| {
        let name = block.name(&format!("altup_predicted.{i}"));
        Ok(block.plan.mix(&name, x, streams.to_vec(), coefficients, i * streams.len())?)
    };
    streams.iter().enumerate().map(predict).collect()
}

/// Each predicted stream, and of what was computed beyond the first prediction once that and a part of it more.
fn correct(
    block: &mut Block<'_, '_>,
    predicted: &[BufferId],
    activated: BufferId,
    sizes: (usize, f32),
) -> Result<Vec<BufferId>, ModelError> {
    let modalities = modalities(block, activated, sizes)?;
    let coefficients = block.linear("altup_correct_coef", modalities)?;
    let negative = block.plan.scale(&block.name("altup_negative"), predicted[0], -1.0);
    let innovation = block.plan.add(&block.name("altup_innovation"), activated, negative)?;
    let correct = |(i, &x): (usize, &BufferId)| {
        let once = block.plan.add(&block.name(&format!("altup_innovated.{i}")), x, innovation)?;
        let name = block.name(&format!("altup_corrected.{i}"));
        Ok(block.plan.mix(&name, once, vec![innovation], coefficients, i)?)
    };
    predicted.iter().enumerate().map(correct).collect()
}

/// How many standard deviations above its mean what of a gate counts begins, by layer; `None`: all of it counts.
pub(crate) fn deviations(config: &Config<'_>, n_layers: usize) -> Result<Vec<Option<f32>>, ModelError> {
    let name = "activation_sparsity_scale";
    let Some(Value::Array(array)) = config.metadata().get(&config.key(name)) else {
        return Ok(vec![None; n_layers]);
    };
    let numbers = array.floats().filter(|numbers| numbers.len() == n_layers);
    let numbers = numbers.ok_or_else(|| {
        config.bad(name, Value::Array(array), format!("a number for each of the {n_layers} layers"))
    })?;
    // Minus infinity is what the converter writes for all of it.
    Ok(numbers.map(|number| Some(number).filter(|number| number.is_finite())).collect())
}

/// How many layers, the last ones, see what earlier ones have cached.
pub(crate) fn sharing(config: &Config<'_>, n_layers: usize) -> Result<usize, ModelError> {
    let name = "attention.shared_kv_layers";
    match config.opt_usize(name)?.unwrap_or(0) {
        n if n < n_layers => Ok(n),
        n => Err(config.bad(name, n, format!("below the {n_layers} layers"))),
    }
}

/// What the layers get for each token beside the stream.
pub(crate) struct PerLayer {
    /// `(rows, n_layers * width)`.
    inputs: BufferId,
    width: usize,
}

impl PerLayer {
    /// For each token and layer the mean, but for its length, of two: what a table has for the token, and what the stream
    /// `x` says of it.
    pub(crate) fn new(
        plan: &mut PlanBuilder,
        tensors: &mut Tensors<'_>,
        x: BufferId,
        (width, n_embd): (usize, usize),
        norm: NormKind,
    ) -> Result<PerLayer, ModelError> {
        let table = tensors.matrix(plan, "per_layer_token_embd.weight")?;
        let own = plan.embed("per_layer_embd", table, (width as f32).sqrt());
        let weight = tensors.matrix(plan, "per_layer_model_proj.weight")?;
        let h = plan.linear("per_layer_model_proj", x, weight, None)?;
        let h = plan.scale("per_layer_proj_scaled", h, 1.0 / (n_embd as f32).sqrt());
        let weight = tensors.vector(plan, "per_layer_proj_norm.weight")?;
        let h = plan.norm("per_layer_proj_norm", h, norm, Some(weight), None, Some(width))?;
        let h = plan.add("per_layer_sum", h, own)?;
        Ok(PerLayer { inputs: plan.scale("per_layer_inputs", h, FRAC_1_SQRT_2), width })
    }

    /// What the layer makes of `x` and its own input.
    pub(crate) fn apply(
        &self,
        block: &mut Block<'_, '_>,
        x: BufferId,
        eps: f32,
    ) -> Result<BufferId, ModelError> {
        let gate = block.linear("inp_gate", x)?;
        let first = block.layer * self.width;
        let own = block.plan.columns(&block.name("per_layer_input"), self.inputs, first, self.width)?;
        let h = block.plan.glu(&block.name("per_layer_act"), gate, own, Activation::GeluTanh)?;
        let h = block.linear("proj", h)?;
        block.rms_norm("post_norm", h, eps)
    }
}
