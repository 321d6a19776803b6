//! BERT and its next of kin, as models of sentences and as models that rank pairs: MiniLM, BGE, E5, RoBERTa, XLM-RoBERTa,
//! Nomic's, MPNet. Heads for other tasks are left out.

use std::path::{Component, Path};

use serde_json::{Map, Value};

use super::llama::LLAMA;
use super::{Family, Keys, field, rope};
use crate::ModelError;
use crate::config::Config;
use crate::encoder::HEAD_OUTPUT;
use crate::hf::field::Field;
use crate::hf::folder::{MAX_TEXT, bounded, object};
use crate::hf::names::{Name, head, name, norm, positions};
use crate::hf::settings::Settings;

pub(super) const BERT: Family = Family {
    model_types: &["bert"],
    architecture: "bert",
    class: "BertModel",
    prefix: "bert.",
    biases: &[],
    fields: &[SIZES, EPS],
    rope: None,
    activation: ("hidden_act", &["gelu"]),
    more: |settings, keys| {
        if settings.opt_str("position_embedding_type")?.is_some_and(|kind| kind != "absolute") {
            return Err(settings.unsupported("positions relative to each other"));
        }
        types(settings, keys)?;
        encoder(settings, keys)
    },
    back: |config, out| {
        types_back(config, out);
        head_back(config, "BertForSequenceClassification", out)
    },
    tied: true,
    names: &[EMBEDDINGS, ATTENTION, BLOCK, HEADS],
    left_out: &["cls.", "lm_head."],
    in_pairs: false,
    ..LLAMA
};

/// The first rows of its table of positions are for padding.
pub(super) const ROBERTA: Family = Family {
    model_types: &["xlm-roberta", "roberta"],
    more: |settings, keys| {
        keys.set(
            "context_length",
            settings.count("max_position_embeddings")?.saturating_sub(padding(settings)?),
        );
        (BERT.more)(settings, keys)
    },
    first_position: padding,
    ..BERT
};

fn padding(settings: &Settings) -> Result<u32, ModelError> {
    Ok(settings.opt_count("pad_token_id")?.unwrap_or(1).saturating_add(1))
}

pub(super) const MPNET: Family = Family {
    model_types: &["mpnet"],
    architecture: "mpnet",
    more: |settings, keys| {
        keys.set("context_length", settings.count("max_position_embeddings")?.saturating_sub(MPNET_PADDING));
        encoder(settings, keys)
    },
    names: &[EMBEDDINGS, MPNET_ATTENTION, BLOCK, HEADS],
    first_position: |_| Ok(MPNET_PADDING),
    converts: false,
    ..BERT
};

/// Whatever the configuration says.
const MPNET_PADDING: u32 = 2;

pub(super) const NOMIC_BERT: Family = Family {
    model_types: &["nomic_bert"],
    architecture: "nomic-bert",
    class: "NomicBertModel",
    fields: &[NOMIC_SIZES],
    rope: Some(rope::RopeDefaults { base: 1000.0, ..rope::PLAIN }),
    activation: ("activation_function", &["swiglu"]),
    more: nomic,
    back: nomic_back,
    names: &[NOMIC_NAMES, EMBEDDINGS],
    ..BERT
};

/// Sizes under the names of most encoders.
pub(super) const SIZES: &[Field] = &[
    field::count("max_position_embeddings", "context_length"),
    field::count("hidden_size", "embedding_length"),
    field::count("num_hidden_layers", "block_count"),
    field::count("intermediate_size", "feed_forward_length"),
    field::count("num_attention_heads", "attention.head_count"),
];

const EPS: &[Field] = &[field::number("layer_norm_eps", "attention.layer_norm_epsilon").or_number(1e-12)];

/// Under the names of its makers' own code, else under those of `transformers`.
const NOMIC_SIZES: &[Field] = &[
    field::count("n_positions", "context_length").or_as("max_position_embeddings"),
    field::count("n_embd", "embedding_length").or_as("hidden_size"),
    field::count("n_layer", "block_count").or_as("num_hidden_layers"),
    field::count("n_inner", "feed_forward_length").or_as("intermediate_size"),
    field::count("n_head", "attention.head_count").or_as("num_attention_heads"),
    field::number("layer_norm_epsilon", "attention.layer_norm_epsilon").or_number(1e-12),
];

const EMBEDDINGS: &[Name] = &[
    name("embeddings.word_embeddings", "token_embd"),
    positions("embeddings.position_embeddings", "position_embd"),
    name("embeddings.token_type_embeddings", "token_types"),
    norm("embeddings.LayerNorm", "token_embd_norm"),
    name("encoder.relative_attention_bias", "attn_rel_b"),
];

const ATTENTION: &[Name] = &[
    name("encoder.layer.{}.attention.self.query", "blk.{}.attn_q"),
    name("encoder.layer.{}.attention.self.key", "blk.{}.attn_k"),
    name("encoder.layer.{}.attention.self.value", "blk.{}.attn_v"),
    name("encoder.layer.{}.attention.output.dense", "blk.{}.attn_output"),
    norm("encoder.layer.{}.attention.output.LayerNorm", "blk.{}.attn_output_norm"),
];

const MPNET_ATTENTION: &[Name] = &[
    name("encoder.layer.{}.attention.attn.q", "blk.{}.attn_q"),
    name("encoder.layer.{}.attention.attn.k", "blk.{}.attn_k"),
    name("encoder.layer.{}.attention.attn.v", "blk.{}.attn_v"),
    name("encoder.layer.{}.attention.attn.o", "blk.{}.attn_output"),
    norm("encoder.layer.{}.attention.LayerNorm", "blk.{}.attn_output_norm"),
];

const BLOCK: &[Name] = &[
    name("encoder.layer.{}.intermediate.dense", "blk.{}.ffn_up"),
    name("encoder.layer.{}.output.dense", "blk.{}.ffn_down"),
    norm("encoder.layer.{}.output.LayerNorm", "blk.{}.layer_output_norm"),
];

const NOMIC_NAMES: &[Name] = &[
    norm("emb_ln", "token_embd_norm"),
    name("encoder.layers.{}.attn.Wqkv", "blk.{}.attn_qkv"),
    name("encoder.layers.{}.attn.out_proj", "blk.{}.attn_output"),
    norm("encoder.layers.{}.norm1", "blk.{}.attn_output_norm"),
    name("encoder.layers.{}.mlp.fc11", "blk.{}.ffn_up"),
    name("encoder.layers.{}.mlp.fc12", "blk.{}.ffn_gate"),
    name("encoder.layers.{}.mlp.fc2", "blk.{}.ffn_down"),
    norm("encoder.layers.{}.norm2", "blk.{}.layer_output_norm"),
];

/// BERT's classifier stands behind the pooler; that of RoBERTa and MPNet brings a layer of its own.
const HEADS: &[Name] = &[
    head("pooler.dense", "cls"),
    name("classifier", "cls.output"),
    head("classifier.dense", "cls"),
    name("classifier.out_proj", "cls.output"),
];

fn nomic(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    if settings.opt_count("moe_every_n_layers")?.is_some_and(|n| n > 0) {
        return Err(settings.unsupported("experts in some layers"));
    }
    for (field, usual) in [("prenorm", false), ("rotary_emb_interleaved", false), ("causal", false)] {
        if settings.opt_bool(field)?.is_some_and(|value| value != usual) {
            return Err(settings.unsupported(&format!("`{field}`")));
        }
    }
    if settings.opt_number("rotary_emb_fraction")?.is_some_and(|part| part != 1.0) {
        return Err(settings.unsupported("rotation of a part of each head"));
    }
    if settings.has("rotary_emb_scale_base") {
        return Err(settings.unsupported("rotation with a decay"));
    }
    if let Some(base) = settings.opt_number("rotary_emb_base")? {
        keys.set("rope.freq_base", base as f32);
    }
    // The first of them were trained for less than they say.
    if let Some(n) = settings.opt_count("n_positions")? {
        let trained = settings.opt_count("max_trained_positions")?.unwrap_or(2048);
        keys.set("context_length", n.min(trained));
    }
    types(settings, keys)?;
    encoder(settings, keys)
}

/// Its makers' own code and `transformers` name the same numbers differently.
fn nomic_back(config: &Config<'_>, out: &mut Map<String, Value>) -> Result<(), ModelError> {
    let twice = [
        ("n_positions", "max_position_embeddings"),
        ("n_positions", "max_trained_positions"),
        ("n_embd", "hidden_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_inner", "intermediate_size"),
        ("n_head", "num_attention_heads"),
        ("layer_norm_epsilon", "layer_norm_eps"),
        ("rope_theta", "rotary_emb_base"),
    ];
    for (theirs, ours) in twice {
        if let Some(value) = out.get(theirs).cloned() {
            out.insert(ours.to_owned(), value);
        }
    }
    out.insert("hidden_act".to_owned(), "silu".into());
    out.insert("rotary_emb_fraction".to_owned(), 1.0.into());
    for flag in
        ["causal", "prenorm", "rotary_emb_interleaved", "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"]
    {
        out.insert(flag.to_owned(), false.into());
    }
    types_back(config, out);
    Ok(())
}

/// How many types of tokens there are, which other programs want to know.
fn types(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    if let Some(n) = settings.opt_count("type_vocab_size")? {
        keys.set_plain("tokenizer.ggml.token_type_count", n);
    }
    Ok(())
}

fn types_back(config: &Config<'_>, out: &mut Map<String, Value>) {
    let n = config.gguf().tensor("token_types.weight").map_or(0, |table| table.n_rows());
    out.insert("type_vocab_size".to_owned(), n.into());
}

/// The class of a model with a head, and what its head's outputs mean.
pub(super) fn head_back(
    config: &Config<'_>,
    class: &str,
    out: &mut Map<String, Value>,
) -> Result<(), ModelError> {
    let Some(head) = config.gguf().tensor(HEAD_OUTPUT) else { return Ok(()) };
    let named = config.metadata().opt_strings(&config.key("classifier.output_labels"))?;
    let labels: Vec<String> = match named {
        Some(named) => named.map(|label| String::from_utf8_lossy(label).into_owned()).collect(),
        None => (0..head.n_rows()).map(|label| format!("LABEL_{label}")).collect(),
    };
    let numbered = || labels.iter().enumerate();
    let by_number: Map<String, Value> =
        numbered().map(|(n, label)| (n.to_string(), label.clone().into())).collect();
    let by_label: Map<String, Value> = numbered().map(|(n, label)| (label.clone(), n.into())).collect();
    for (field, value) in [
        ("architectures", Value::from(vec![class])),
        ("id2label", by_number.into()),
        ("label2id", by_label.into()),
    ] {
        out.insert(field.to_owned(), value);
    }
    Ok(())
}

/// What every encoder says of itself, and how its sentences are pooled, which the files of `sentence-transformers` say.
pub(super) fn encoder(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    keys.set("attention.causal", false);
    if settings.opt_bool("is_decoder")? == Some(true) {
        return Err(settings.unsupported("attention to what stands before alone"));
    }
    // Two of these names are what every configuration says that was given none.
    if let Some(labels) =
        settings.opt_labels("id2label")?.filter(|labels| labels[..] != ["LABEL_0", "LABEL_1"])
    {
        keys.set_texts("classifier.output_labels", &labels);
    }
    let path = settings.folder().join("modules.json");
    if !path.is_file() {
        return Ok(());
    }
    let broken = |problem: &str| ModelError::Folder { path: path.clone(), problem: problem.to_owned() };
    let modules: Vec<Value> = serde_json::from_slice(&bounded(&path, MAX_TEXT)?)
        .map_err(|_| broken("it is no JSON list; download it again"))?;
    for module in &modules {
        let text = |field| module.get(field).and_then(Value::as_str).unwrap_or_default();
        match text("type").rsplit('.').next().unwrap_or_default() {
            "Pooling" => {
                let folder = Path::new(text("path"));
                if !folder.components().all(|part| matches!(part, Component::Normal(_))) {
                    return Err(broken("it names a file outside of the folder"));
                }
                let path = settings.folder().join(folder).join("config.json");
                keys.set("pooling_type", pooling(&Settings::new(&path, object(&path)?))?);
            }
            "Transformer" | "Normalize" => {}
            other => return Err(settings.unsupported(&format!("a module `{other}` behind the encoder"))),
        }
    }
    Ok(())
}

/// The number of llama.cpp's `llama_pooling_type`.
fn pooling(settings: &Settings) -> Result<u32, ModelError> {
    let kinds = [
        ("pooling_mode_mean_tokens", "mean", 1),
        ("pooling_mode_cls_token", "cls", 2),
        ("pooling_mode_lasttoken", "lasttoken", 3),
    ];
    let named = settings.opt_str("pooling_mode")?;
    let mut chosen = Vec::new();
    for (flag, name, number) in kinds {
        if settings.opt_bool(flag)? == Some(true) || named == Some(name) {
            chosen.push(number);
        }
    }
    match chosen[..] {
        [one] => Ok(one),
        _ => Err(settings.unsupported("another pooling than the mean, the first or the last state")),
    }
}
