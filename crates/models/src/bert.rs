//! BERT and what follows its block, a norm behind each half: MiniLM, BGE, E5, RoBERTa and XLM-RoBERTa (`bert`), Nomic's
//! (`nomic-bert`: rotation instead of learned positions, a gate, no biases) and MPNet (`mpnet`: learned positions and a
//! bias on the scores by distance; the name and that of its tensor are ours, for the field has no such GGUF files).
//!
//! Left out: Nomic's mixture of experts. Truth: `transformers`, `models/bert`, `roberta`, `xlm_roberta`, `nomic_bert`,
//! `mpnet`; names as in the converter of llama.cpp.

use whit_base::{Activation, Bytes, DType, Plan, PlanBuilder, RopeStyle, Sight, Weight, WeightId};

use crate::ModelError;
use crate::block::{Attending, Block};
use crate::config::Config;
use crate::encoder;
use crate::rope;
use crate::tensors::Tensors;

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    encode(config, tensors, false, None)
}

pub(crate) fn build_nomic(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    encode(config, tensors, true, None)
}

pub(crate) fn build_mpnet(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    encode(config, tensors, false, Some("attn_rel_b.weight"))
}

fn encode(
    config: &Config<'_>,
    tensors: &mut Tensors<'_>,
    rotates: bool,
    bias: Option<&str>,
) -> Result<Plan, ModelError> {
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let eps = config.layer_eps()?;

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, config.n_embd()?)?;
    let cache = encoder::cache(config, &mut plan, &attention)?;
    let rope = match rotates {
        true => {
            let rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
            Some(plan.rope_table(rope))
        }
        false => None,
    };
    let bias = bias.map(|name| distance_bias(tensors, &mut plan, name, n_heads)).transpose()?;

    let x = plan.embed("embd", embeddings, 1.0);
    let x = encoder::placed(config, &mut plan, tensors, x)?;
    let mut x = encoder::embedding_norm(&mut plan, tensors, x, eps)?;
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let attending = Attending {
            rope,
            sight: Sight::All,
            bias,
            cache: Some(cache),
            ..Attending::new(n_heads, n_kv_heads, head_dim)
        };
        let h = block.attend(x, &attending)?;
        let h = block.plan.add(&block.name("attn_residual"), x, h)?;
        x = block.layer_norm("attn_output_norm", h, eps)?;

        let h = if block.has("ffn_gate.weight") {
            block.gated(x, Activation::Silu)?
        } else {
            block.ungated(x, Activation::Gelu)?
        };
        let h = block.plan.add(&block.name("ffn_residual"), x, h)?;
        x = block.layer_norm("layer_output_norm", h, eps)?;
    }
    encoder::end(config, plan, tensors, x, embeddings, Activation::Tanh)
}

/// Distances from here on share a bucket.
const FAR: usize = 128;

/// The bias on the scores, `(n_heads, 2 FAR + 1)`, of a table with one row for each bucket of distances.
fn distance_bias(
    tensors: &mut Tensors<'_>,
    plan: &mut PlanBuilder,
    name: &str,
    n_heads: usize,
) -> Result<WeightId, ModelError> {
    let n_buckets = tensors.n_rows(name)?;
    let table = tensors.table(name)?.unwrap_or_default();
    if n_buckets != N_BUCKETS || table.len() != n_buckets * n_heads {
        let want = format!("{N_BUCKETS} x {n_heads}");
        return Err(tensors.misshapen(name, "a bias by distance", want));
    }
    let distances = || -(FAR as isize)..=FAR as isize;
    let values = (0..n_heads).flat_map(|head| distances().map(move |d| bucket(d) * n_heads + head));
    let data = values.flat_map(|at| table[at].to_le_bytes()).collect();
    Ok(plan.weight(Weight {
        name: name.to_owned(),
        dtype: DType::F32,
        n_rows: n_heads,
        n_cols: 2 * FAR + 1,
        data: Bytes::from_vec(data),
    }))
}

const N_BUCKETS: usize = 32;

/// The bucket of a key that stands `distance` behind the query (T5's rule): half of them for each side, of which half again
/// hold one distance each, and the others reach up to [`FAR`] in steps of equal ratio.
fn bucket(distance: isize) -> usize {
    let side = N_BUCKETS / 2;
    let first = if distance > 0 { side } else { 0 };
    let n = distance.unsigned_abs();
    let exact = side / 2;
    if n < exact {
        return first + n;
    }
    // In single precision, as the reference: it decides where a step falls.
    let ratio = (n as f32 / exact as f32).ln() / ((FAR / exact) as f32).ln();
    first + (exact + (ratio * (side - exact) as f32) as usize).min(side - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_the_reference() {
        // transformers' MPNetEncoder.relative_position_bucket: the first distance of each bucket.
        let first = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for distance in 0..=FAR {
            let expected = first.iter().rposition(|&first| distance >= first).unwrap_or(0);
            assert_eq!(bucket(-(distance as isize)), expected, "{distance} before");
            if distance > 0 {
                assert_eq!(bucket(distance as isize), 16 + expected, "{distance} behind");
            }
        }
    }
}
