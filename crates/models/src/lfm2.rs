//! LFM2, dense: some layers attend, with a norm over each head of q and k; the others are short convolutions between two
//! gates. Every layer has a gated feed-forward part.
//!
//! Left out: the sizes with experts, and those that read a text as a whole. Truth: `transformers`, `models/lfm2`.

use whit_base::{Activation, BufferId, NormKind, Plan, PlanBuilder, RopeStyle};

use crate::ModelError;
use crate::block::{self, Attending, Block, QkNorm};
use crate::config::Config;
use crate::rope;
use crate::tensors::Tensors;

/// The last norm, as the converter names it.
const OUTPUT_NORM: &str = "token_embd_norm";

pub(crate) fn build(config: &Config<'_>, tensors: &mut Tensors<'_>) -> Result<Plan, ModelError> {
    if config.metadata().opt_bool(&config.key("attention.causal"))? == Some(false) {
        return Err(config.unsupported("attention to both sides"));
    }
    let attention = config.attention()?;
    let (n_heads, head_dim) = (attention.n_heads, attention.head_dim);
    let n_embd = config.n_embd()?;
    let eps = config.rms_eps()?;
    let norm = NormKind::Rms { eps };
    let window = config.opt_usize("attention.sliding_window")?.filter(|&window| window > 0);

    let mut plan = PlanBuilder::new();
    let embeddings = tensors.embeddings(&mut plan, n_embd)?;
    let rope = rope::from_config(config, tensors, head_dim, RopeStyle::Halves)?;
    let rope = plan.rope_table(rope);

    let mut x = plan.embed("embd", embeddings, 1.0);
    for (layer, &n_kv_heads) in attention.n_kv_heads.iter().enumerate() {
        let mut block = Block { plan: &mut plan, tensors, layer };

        let h = block.rms_norm("attn_norm", x, eps)?;
        let h = if n_kv_heads == 0 {
            convolution(&mut block, h, n_embd)?
        } else {
            let attending = Attending {
                window,
                norm: QkNorm::Heads(norm),
                rope: Some(rope),
                ..Attending::new(n_heads, n_kv_heads, head_dim)
            };
            block.attend(h, &attending)?
        };
        x = block.plan.add(&block.name("attn_residual"), x, h)?;

        let h = block.rms_norm("ffn_norm", x, eps)?;
        let h = block.gated(h, Activation::Silu)?;
        x = block.plan.add(&block.name("ffn_residual"), x, h)?;
    }
    let last = if tensors.has("output_norm.weight") { "output_norm" } else { OUTPUT_NORM };
    block::logits_behind(config, plan, tensors, x, embeddings, (last, norm), 1.0)
}

/// `out(c * convolve(b * x))`, where `b`, `c` and `x` are projections of the input, in one tensor.
fn convolution(block: &mut Block<'_, '_>, h: BufferId, n_embd: usize) -> Result<BufferId, ModelError> {
    let name = block.name("shortconv.in_proj");
    let [b, c, x] = block.fused(&name, h, [("b", n_embd), ("c", n_embd), ("x", n_embd)])?;
    let h = block.plan.glu(&block.name("shortconv.gated"), b, x, Activation::Identity)?;
    let (weight, bias) = (block.name("shortconv.conv.weight"), block.name("shortconv.conv.bias"));
    let weight = block.tensors.vector(block.plan, &weight)?;
    let bias = block.tensors.opt_vector(block.plan, &bias)?;
    let h = block.plan.convolve(&block.name("shortconv.conv"), h, weight, bias)?;
    let h = block.plan.glu(&block.name("shortconv.gated_out"), c, h, Activation::Identity)?;
    block.linear("shortconv.out_proj", h)
}
