//! Llama and its next of kin: Mistral, Ministral, Ministral 3, Mixtral, SmolLM3, Arcee, Granite. Their architectures rotate
//! pairs.

use super::{Family, Keys, RMS, RMS_5, SILU, SIZES, field, nothing_more, rope, windows};
use crate::ModelError;
use crate::hf::field::Field;
use crate::hf::names::{ATTENTION, ENDS, GATED, NORMS_BEFORE, Name, Role, name};
use crate::hf::settings::Settings;

const NAMES: &[&[Name]] = &[ENDS, ATTENTION, GATED, NORMS_BEFORE];

pub(super) const LLAMA: Family = Family {
    model_types: &["llama"],
    architecture: "llama",
    fields: &[SIZES, RMS],
    stated_head_dim: |settings| settings.opt_count("head_dim"),
    head_dim: None,
    rope: Some(rope::PLAIN),
    activation: SILU,
    more: nothing_more,
    tied: false,
    names: NAMES,
    left_out: &[],
    first_position: |_| Ok(0),
    in_pairs: true,
    converts: true,
    back: |_, _| Ok(()),
    prefix: "model.",
    class: "LlamaForCausalLM",
    biases: &[("attention_bias", "blk.0.attn_q.bias"), ("mlp_bias", "blk.0.ffn_up.bias")],
    period: None,
    layers_of_27b: None,
    norms_from_one: false,
};

pub(super) const MISTRAL: Family = Family {
    model_types: &["mistral"],
    class: "MistralForCausalLM",
    biases: &[],
    period: Some(0),
    fields: &[MISTRAL_SIZES, RMS],
    more: |settings, keys| windows(settings, keys, None, &|_| true, &|_| true),
    ..LLAMA
};

pub(super) const MINISTRAL: Family =
    Family { model_types: &["ministral"], class: "MinistralForCausalLM", ..MISTRAL };

pub(super) const MINISTRAL3: Family = Family {
    model_types: &["ministral3"],
    architecture: "mistral3",
    class: "Ministral3ForCausalLM",
    head_dim: Some(128),
    fields: &[MISTRAL_SIZES, RMS_5],
    rope: Some(rope::RopeDefaults { base: 1_000_000.0, ..rope::PLAIN }),
    more: ministral3,
    ..MISTRAL
};

/// Scores grow with the position, by steps of the context that YaRN stretches.
fn ministral3(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    let (parameters, _) = rope::parameters(settings)?;
    if let Some(by) = parameters.opt_number("llama_4_scaling_beta")? {
        if rope::kind(&parameters)? != "yarn" {
            return Err(settings.unsupported("scores that grow with the position, without YaRN"));
        }
        keys.set("attention.temperature_scale", by as f32);
    }
    (MISTRAL.more)(settings, keys)
}

pub(super) const MIXTRAL: Family = Family {
    model_types: &["mixtral"],
    class: "MixtralForCausalLM",
    fields: &[MISTRAL_SIZES, MIXTURE, RMS_5],
    names: &[ENDS, ATTENTION, MIXTRAL_EXPERTS, NORMS_BEFORE],
    ..MISTRAL
};

const MIXTRAL_EXPERTS: &[Name] = &[
    name("layers.{}.block_sparse_moe.gate", "blk.{}.ffn_gate_inp"),
    name("layers.{}.block_sparse_moe.experts.{}.w1", "blk.{}.ffn_gate.{}"),
    name("layers.{}.block_sparse_moe.experts.{}.w3", "blk.{}.ffn_up.{}"),
    name("layers.{}.block_sparse_moe.experts.{}.w2", "blk.{}.ffn_down.{}"),
];

const MIXTURE: &[Field] = &[
    field::count("num_local_experts", "expert_count"),
    field::count("num_experts_per_tok", "expert_used_count"),
];

const MISTRAL_SIZES: &[Field] = &[
    field::count("max_position_embeddings", "context_length"),
    field::count("hidden_size", "embedding_length"),
    field::count("num_hidden_layers", "block_count"),
    field::count("intermediate_size", "feed_forward_length"),
    field::count("num_attention_heads", "attention.head_count"),
    field::count("num_key_value_heads", "attention.head_count_kv").or_count(8),
];

pub(super) const SMOLLM3: Family = Family {
    model_types: &["smollm3"],
    architecture: "smollm3",
    class: "SmolLM3ForCausalLM",
    rope: Some(rope::RopeDefaults { base: 2_000_000.0, ..rope::PLAIN }),
    more: smollm3,
    tied: true,
    ..LLAMA
};

/// Every fourth layer does not rotate; no key says so.
fn smollm3(settings: &Settings, _: &mut Keys<'_>) -> Result<(), ModelError> {
    let usual = |layer: usize| if (layer + 1).is_multiple_of(4) { 0.0 } else { 1.0 };
    let is_usual = match settings.opt_numbers("no_rope_layers")? {
        Some(layers) => layers.iter().enumerate().all(|(layer, rotates)| *rotates == usual(layer)),
        None => settings.opt_count("no_rope_layer_interval")?.is_none_or(|interval| interval == 4),
    };
    if !is_usual {
        return Err(settings.unsupported("rotation in other layers than all but each fourth"));
    }
    let windowed = settings.opt_texts("layer_types")?.unwrap_or_default().contains(&"sliding_attention");
    if windowed || settings.opt_bool("use_sliding_window")? == Some(true) {
        return Err(settings.unsupported("sliding-window layers"));
    }
    Ok(())
}

pub(super) const GRANITE: Family = Family {
    model_types: &["granite"],
    architecture: "granite",
    class: "GraniteForCausalLM",
    fields: &[SIZES, RMS, FACTORS],
    ..LLAMA
};

/// The dense sizes of Granite 4: nothing of what its type of model is named for.
pub(super) const GRANITE4: Family = Family {
    model_types: &["granitemoehybrid"],
    class: "GraniteMoeHybridForCausalLM",
    more: granite4,
    names: &[ENDS, ATTENTION, SHARED_MLP, NORMS_BEFORE],
    ..GRANITE
};

const SHARED_MLP: &[Name] = &[
    Name {
        module: "layers.{}.shared_mlp.input_linear",
        gguf: "blk.{}.ffn_gate",
        role: Role::GateAndUp("blk.{}.ffn_up"),
    },
    name("layers.{}.shared_mlp.output_linear", "blk.{}.ffn_down"),
];

fn granite4(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    let types = settings.opt_texts("layer_types")?.unwrap_or_default();
    // Version 4 of `transformers` and version 5.
    if types.is_empty() || types.iter().any(|kind| !matches!(*kind, "attention" | "full_attention")) {
        return Err(settings.unsupported("layers with a state space (Mamba 2)"));
    }
    if settings.opt_count("num_local_experts")?.unwrap_or(8) > 0 {
        return Err(settings.unsupported("experts beside a feed-forward part that every token goes through"));
    }
    if settings.opt_str("position_embedding_type")? != Some("rope") {
        return Err(settings.unsupported("attention without rotation"));
    }
    keys.set("feed_forward_length", settings.count("shared_intermediate_size")?);
    Ok(())
}

pub(super) const ARCEE: Family = Family {
    model_types: &["arcee"],
    architecture: "arcee",
    class: "ArceeForCausalLM",
    fields: &[SIZES, RMS_5],
    activation: ("hidden_act", &["relu2"]),
    ..LLAMA
};

pub(super) const GRANITE_MOE: Family = Family {
    model_types: &["granitemoe"],
    architecture: "granitemoe",
    class: "GraniteMoeForCausalLM",
    fields: &[SIZES, RMS, FACTORS, MIXTURE],
    names: &[ENDS, ATTENTION, GRANITE_EXPERTS, NORMS_BEFORE],
    ..GRANITE
};

/// Gate and up stand in one tensor, for all experts.
const GRANITE_EXPERTS: &[Name] = &[
    name("layers.{}.block_sparse_moe.router.layer", "blk.{}.ffn_gate_inp"),
    name("layers.{}.block_sparse_moe.input_linear", "blk.{}.ffn_gate_up_exps"),
    name("layers.{}.block_sparse_moe.output_linear", "blk.{}.ffn_down_exps"),
];

const FACTORS: &[Field] = &[
    field::number("attention_multiplier", "attention.scale").or_number(1.0),
    field::number("embedding_multiplier", "embedding_scale").or_number(1.0),
    field::number("residual_multiplier", "residual_scale").or_number(1.0),
    field::number("logits_scaling", "logit_scale").or_number(1.0),
];
