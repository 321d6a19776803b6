//! Model folders: configurations of versions 4 and 5 of `transformers` say the same, and what cannot be used is refused with
//! what to do. That models in folders compute what they should is tested with the golden models, in `whit-engine`.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use whit_base::DType;
use whit_base::quant::decode_row;
use whit_files::{GgufWriter, SafeTensors, SafeTensorsWriter};
use whit_models::hf::Folder;

/// A folder with this configuration and a tensor, `model.embed_tokens.weight`.
fn folder(at: &Path, config: &Value) {
    let mut writer = SafeTensorsWriter::new();
    writer.declare("model.embed_tokens.weight", DType::F32, &[2, 4]).unwrap();
    let mut out = writer.create(at).unwrap();
    out.put("config.json", config.to_string().as_bytes()).unwrap();
    out.write_with("model.embed_tokens.weight", |out| out.write_all(&[0; 32])).unwrap();
    out.finish().unwrap();
}

/// The keys and the made tensors that a configuration comes to, as text.
fn keys(config: &Value) -> BTreeMap<String, String> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model");
    folder(&path, config);
    let gguf = whit_models::open(&path).unwrap();
    let array = |array: whit_files::Array<'_>| {
        format!("{:?}", array.values().map(|v| v.to_string()).collect::<Vec<_>>())
    };
    let text = |value: whit_files::Value<'_>| match value {
        whit_files::Value::Array(items) => array(items),
        other => other.to_string(),
    };
    let keys = gguf.metadata().iter().filter(|(key, _)| !key.starts_with("general."));
    let mut keys: BTreeMap<String, String> = keys.map(|(key, value)| (key.to_owned(), text(value))).collect();
    for tensor in gguf.tensors().iter().filter(|tensor| &*tensor.name != "token_embd.weight") {
        let values = gguf.tensor_bytes(tensor);
        let values: Vec<f32> =
            values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        keys.insert(tensor.name.to_string(), format!("{values:?}"));
    }
    keys
}

/// `base` with these fields in addition; `null` removes one.
fn with(base: &Value, more: Value) -> Value {
    let mut all = base.as_object().unwrap().clone();
    for (key, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(all.remove(key)),
            value => drop(all.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(all)
}

fn sizes(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "vocab_size": 2, "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 12,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    })
}

#[test]
fn versions_4_and_5_say_the_same() {
    let llama3 = json!({ "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192 });
    let long = json!({ "short_factor": [1.0, 1.1], "long_factor": [1.5, 12.5] });
    let base = sizes("llama");
    let wide = with(&base, json!({ "head_dim": 8 }));
    let gemma = with(
        &sizes("gemma3_text"),
        json!({ "head_dim": 2, "query_pre_attn_scalar": 2, "sliding_window": 512 }),
    );
    let phi = with(&sizes("phi3"), json!({ "hidden_size": 8, "original_max_position_embeddings": 1024 }));
    let types = |period: usize| -> Vec<&str> {
        (1..=12).map(|i| if i % period == 0 { "full_attention" } else { "sliding_attention" }).collect()
    };
    #[rustfmt::skip]
    // What, the rest of the configuration, as version 4 says it, as version 5 does, some of the keys.
    type Case<'a> = (&'a str, Value, Value, Value, &'a [(&'a str, &'a str)]);
    let cases: Vec<Case<'_>> = vec![
        (
            "plain",
            base.clone(),
            json!({ "rope_theta": 500000.0 }),
            json!({ "rope_parameters": { "rope_type": "default", "rope_theta": 500000.0 } }),
            &[
                ("llama.rope.freq_base", "500000"),
                ("whit.rope_in_halves", "true"),
                ("llama.rope.dimension_count", "2"),
            ],
        ),
        (
            "linear",
            base.clone(),
            json!({ "rope_theta": 10000.0, "rope_scaling": { "type": "linear", "factor": 4.0 } }),
            json!({ "rope_parameters": { "rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0 } }),
            &[("llama.rope.scaling.type", "\"linear\""), ("llama.rope.scaling.factor", "4")],
        ),
        // The divisors of Llama 3.2, for heads of 8: plain frequencies over those of `transformers`, `_compute_llama3_parameters`.
        (
            "llama3",
            wide.clone(),
            json!({ "rope_theta": 500000.0, "rope_scaling": with(&llama3, json!({ "rope_type": "llama3" })) }),
            json!({ "rope_parameters": with(&llama3, json!({ "rope_type": "llama3", "rope_theta": 500000.0 })) }),
            &[("rope_freqs.weight", "[1.0, 1.0, 3.292262, 32.0]")],
        ),
        (
            "yarn",
            base.clone(),
            json!({ "rope_theta": 1000000.0, "rope_scaling": { "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024 } }),
            json!({ "rope_parameters": { "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "rope_theta": 1000000.0 } }),
            &[("llama.rope.scaling.original_context_length", "1024"), ("llama.rope.scaling.factor", "4")],
        ),
        (
            "longrope",
            phi.clone(),
            json!({ "rope_theta": 10000.0, "rope_scaling": with(&long, json!({ "type": "su" })) }),
            json!({ "rope_parameters": with(&long, json!({ "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 1.0 })) }),
            // sqrt(1 + ln 4 / ln 1024)
            &[
                ("phi3.rope.scaling.attn_factor", "1.0954452"),
                ("rope_factors_long.weight", "[1.5, 12.5]"),
                ("phi3.attention.sliding_window", "0"),
            ],
        ),
        (
            "a part of each head",
            with(&phi, json!({ "hidden_size": 16 })),
            json!({ "partial_rotary_factor": 0.75 }),
            json!({ "rope_parameters": { "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75 } }),
            &[("phi3.rope.dimension_count", "6")],
        ),
        (
            "two rotations",
            gemma.clone(),
            json!({ "rope_theta": 1000000.0, "rope_local_base_freq": 20000.0, "rope_scaling": { "rope_type": "linear", "factor": 8.0 }, "sliding_window_pattern": 6 }),
            json!({ "rope_parameters": {
                "full_attention": { "rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0 },
                "sliding_attention": { "rope_type": "default", "rope_theta": 20000.0 } }, "layer_types": types(6) }),
            &[
                ("gemma3.rope.freq_base_swa", "20000"),
                ("gemma3.rope.scaling.factor", "8"),
                ("gemma3.attention.sliding_window", "512"),
            ],
        ),
        (
            "another pattern",
            gemma.clone(),
            json!({ "sliding_window_pattern": 3 }),
            json!({ "layer_types": types(3) }),
            &[(
                "gemma3.attention.sliding_window_pattern",
                r#"["true", "true", "false", "true", "true", "false", "true", "true", "false", "true", "true", "false"]"#,
            )],
        ),
        (
            "a window of all layers",
            sizes("mistral"),
            json!({ "sliding_window": 4096 }),
            json!({ "sliding_window": 4096, "layer_types": vec!["sliding_attention"; 12] }),
            &[("llama.attention.sliding_window", "4096")],
        ),
        (
            "a window of some layers",
            sizes("qwen2"),
            json!({ "use_sliding_window": true, "sliding_window": 64, "max_window_layers": 10 }),
            json!({ "use_sliding_window": true, "sliding_window": 64, "layer_types": (0..12).map(|i| if i < 10 { "full_attention" } else { "sliding_attention" }).collect::<Vec<_>>() }),
            &[("qwen2.attention.sliding_window", "64")],
        ),
        (
            "a window of no layer",
            sizes("qwen2"),
            json!({ "use_sliding_window": false, "sliding_window": 131072 }),
            json!({ "sliding_window": null, "layer_types": vec!["full_attention"; 12] }),
            &[("qwen2.attention.head_count_kv", "1")],
        ),
        (
            "the part for text",
            gemma.clone(),
            json!({}),
            json!({ "model_type": "gemma3", "text_config": gemma.clone(), "vision_config": { "model_type": "siglip_vision_model", "hidden_size": 99 } }),
            &[("gemma3.embedding_length", "4")],
        ),
    ];
    for (what, base, four, five, expected) in cases {
        let (four, five) = (keys(&with(&base, four)), keys(&with(&base, five)));
        assert_eq!(four, five, "{what}");
        for (key, value) in expected {
            assert_eq!(four.get(*key).map(String::as_str), Some(*value), "{what}: {key} of {four:#?}");
        }
    }
    assert!(!keys(&sizes("qwen2")).contains_key("qwen2.attention.sliding_window"));
}

#[test]
fn what_is_not_stated_is_as_the_reference_has_it() {
    // The makers' configuration of Gemma 3 4B says no more than this of its part for text.
    let config = json!({ "model_type": "gemma3", "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": { "factor": 8.0, "rope_type": "linear" }, "sliding_window": 1024, "vocab_size": 262208 } });
    let keys = keys(&config);
    for (key, value) in [
        ("attention.head_count", "8"),
        ("attention.head_count_kv", "4"),
        ("attention.key_length", "256"),
        ("attention.layer_norm_rms_epsilon", "0.000001"),
        ("context_length", "131072"),
        ("rope.freq_base", "1000000"),
        ("rope.freq_base_swa", "10000"),
        ("rope.scaling.factor", "8"),
    ] {
        assert_eq!(keys.get(&format!("gemma3.{key}")).map(String::as_str), Some(value), "{key}");
    }
    assert!(
        !keys.contains_key("gemma3.attention.scale")
            && !keys.contains_key("gemma3.attention.sliding_window_pattern")
    );
}

#[test]
fn what_cannot_be_used_is_refused() {
    let base = sizes("llama");
    let layers = vec!["linear_attention"; 12];
    let cases = [
        (
            json!({ "model_type": "mamba" }),
            "the architecture `mamba` is not supported; supported are: llama, mistral",
        ),
        (json!({ "model_type": null }), "`model_type` is missing"),
        (json!({ "hidden_size": "wide" }), "`hidden_size` is \"wide\", but must be a whole number from 0 up"),
        (json!({ "hidden_size": -1 }), "`hidden_size` is -1"),
        (json!({ "num_hidden_layers": 1e300 }), "`num_hidden_layers` is 1e+300"),
        (json!({ "num_hidden_layers": null }), "`num_hidden_layers` is missing"),
        (json!({ "num_attention_heads": 0 }), "missing, but must be there"),
        (json!({ "head_dim": u32::MAX }), "`head_dim` is 4294967295, but must be from 1 to 65536"),
        (json!({ "hidden_act": "relu" }), "`hidden_act` is \"relu\", but must be silu or swish"),
        (json!({ "rope_scaling": { "type": "dreamt" } }), "uses the rotation `dreamt`"),
        (json!({ "rope_scaling": [] }), "`rope_scaling` is [], but must be an object"),
        (json!({ "rope_scaling": { "type": "linear" } }), "`factor` is missing"),
        (json!({ "model_type": "mistral", "layer_types": layers }), "layers of the kind `linear_attention`"),
        (
            json!({ "model_type": "phi3", "rope_scaling": { "type": "longrope", "long_factor": [1], "short_factor": [1, 1] } }),
            "a divisor for each of 1 pairs",
        ),
        (json!({ "model_type": "smollm3", "no_rope_layer_interval": 3 }), "rotation in other layers"),
        (
            json!({ "model_type": "ministral3", "rope_parameters": { "llama_4_scaling_beta": 0.1 } }),
            "scores that grow with the position, without YaRN",
        ),
        (json!({ "model_type": "phi", "hidden_act": "gelu_new", "qk_layernorm": true }), "norms on q and k"),
        (
            json!({ "quantization_config": { "quant_method": "gptq", "bits": 4 } }),
            "it is quantized by `gptq`, and none of its tensors is of a layout that is read",
        ),
        (json!({ "tie_word_embeddings": false }), "the tensor `lm_head.weight` is missing"),
    ];
    let place = tempfile::tempdir().unwrap();
    for (i, (more, expected)) in cases.into_iter().enumerate() {
        let path = place.path().join(i.to_string());
        folder(&path, &with(&base, more.clone()));
        let message = whit_models::open(&path).expect_err(expected).to_string();
        assert!(message.contains(expected), "{more}: expected \"{expected}\" in: {message}");
    }

    // Weights without a configuration, a configuration that is none, tensors that have no place.
    let check = |name: &str, tensor: &str, config: Option<&str>, expected: &str| {
        let path = place.path().join(name);
        let mut writer = SafeTensorsWriter::new();
        writer.declare(tensor, DType::F32, &[3, 2]).unwrap();
        let mut out = writer.create(&path).unwrap();
        out.write_with(tensor, |out| out.write_all(&[0; 24])).unwrap();
        if let Some(config) = config {
            out.put("config.json", config.as_bytes()).unwrap();
        }
        out.finish().unwrap();
        let message = whit_models::open(&path).expect_err(name).to_string();
        assert!(message.contains(expected), "{name}: {message}");
    };
    let llama = base.to_string();
    check("bare", "t.weight", None, "no `config.json` that says what they are");
    check("garbled", "t.weight", Some("{\"model_type\""), "it is no JSON");
    check("list", "t.weight", Some("[]"), "it is no JSON object");
    check(
        "stranger",
        "model.layers.0.self_attn.rel_pos.weight",
        Some(&llama),
        "1 tensors have no place in this architecture, the first is `model.layers.0.self_attn.rel_pos.weight`",
    );
    check(
        "odd",
        "model.layers.0.self_attn.q_proj.weight",
        Some(&llama),
        "has 3 rows, but `config.json` says 2 heads of an even width",
    );
    let empty = place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(whit_models::open(&empty).unwrap_err().to_string().contains("it holds neither"));
}

#[test]
fn the_card_and_the_template_are_read() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("models--me--My-Model-1B/snapshots/0123456789");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    folder(&path, &sizes("llama"));
    fs::write(
        path.join("README.md"),
        "---\nlanguage: en\nlicense: apache-2.0\n---\n# My model\nlicense: none\n",
    )
    .unwrap();
    fs::write(path.join("generation_config.json"), r#"{"temperature": 0.6, "top_k": 20, "top_p": 0.95}"#)
        .unwrap();
    let template = |path: &Path| {
        let gguf = whit_models::open(path).unwrap();
        gguf.metadata().opt_str("tokenizer.chat_template").unwrap().map(str::to_owned)
    };
    assert_eq!(template(&path), None);
    let gguf = whit_models::open(&path).unwrap();
    assert_eq!(gguf.metadata().str("general.name").unwrap(), "My-Model-1B");
    assert_eq!(gguf.metadata().str("general.license").unwrap(), "apache-2.0");
    assert_eq!(gguf.metadata().i32("general.sampling.top_k").unwrap(), 20);
    assert_eq!(gguf.metadata().f32("general.sampling.temp").unwrap(), 0.6);

    let named = json!([{ "name": "tool_use", "template": "t" }, { "name": "default", "template": "d" }]);
    fs::write(path.join("tokenizer_config.json"), json!({ "chat_template": named }).to_string()).unwrap();
    assert_eq!(template(&path).as_deref(), Some("d"));
    fs::write(path.join("chat_template.json"), r#"{"chat_template": "j"}"#).unwrap();
    assert_eq!(template(&path).as_deref(), Some("j"));
    fs::write(path.join("chat_template.jinja"), "own").unwrap();
    assert_eq!(template(&path).as_deref(), Some("own"));
}

#[test]
fn a_file_is_opened_as_before() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("m.gguf");
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "llama");
    writer.create(&path).unwrap().finish().unwrap();
    assert_eq!(whit_models::open(&path).unwrap().path(), path);
}

#[test]
fn what_ends_an_answer_is_told_by_several_files() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("m");
    folder(&path, &with(&sizes("llama"), json!({ "bos_token_id": 0, "eos_token_id": 1 })));
    let vocab = json!({ "<s>": 0, "</s>": 1, "<turn>": 2, "a": 3 });
    let special = |id: usize, text: &str| json!({ "id": id, "content": text, "special": true });
    let tokenizer = json!({
        "added_tokens": [special(0, "<s>"), special(1, "</s>"), special(2, "<turn>")],
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "use_regex": true },
        "decoder": { "type": "ByteLevel" },
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    fs::write(path.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let ends = |path: &Path| {
        let tokenizer = whit_models::vocab::tokenizer(&whit_models::open(path).unwrap()).unwrap();
        (tokenizer.special_ids().bos, [0, 1, 2, 3].map(|id| tokenizer.is_end_of_generation(id)))
    };
    assert_eq!(ends(&path), (Some(0), [false, true, false, false]));
    fs::write(path.join("generation_config.json"), r#"{"eos_token_id": [1, 2]}"#).unwrap();
    assert_eq!(ends(&path), (Some(0), [false, true, true, false]));
    fs::write(path.join("generation_config.json"), r#"{"eos_token_id": "end"}"#).unwrap();
    let error = whit_models::vocab::tokenizer(&whit_models::open(&path).unwrap()).unwrap_err().to_string();
    assert!(error.contains("`eos_token_id` is \"end\", but must be a token id"), "{error}");
}

/// A quantized matrix under its module's name becomes the tensor that the plain one would be, in blocks, whatever the layout.
#[test]
fn quantized_matrices_take_their_places() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../files/tests/golden/packed");
    let cases = fs::read_to_string(golden.join("cases.json")).unwrap();
    let cases: serde_json::Map<String, Value> = serde_json::from_str(&cases).unwrap();
    let place = tempfile::tempdir().unwrap();
    for (name, key, format) in [
        ("gptq4-zeros", "quantization_config", DType::Q5_0),
        ("compressed4", "quantization_config", DType::Q4_0),
        ("mlx4", "quantization", DType::Q4_1),
        ("nf4", "quantization_config", DType::Q8_0),
        ("fp8", "quantization_config", DType::BF16),
    ] {
        let source = SafeTensors::open(golden.join(format!("{name}.safetensors"))).unwrap();
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), "F32", vec![2, 4], vec![0; 32])];
        for tensor in source.tensors().iter().filter(|tensor| tensor.name.starts_with("m.")) {
            let part = tensor.name.strip_prefix("m").unwrap();
            let name = format!("model.layers.0.mlp.down_proj{part}");
            tensors.push((name, tensor.kind.name(), tensor.shape.clone(), tensor.data.to_vec()));
        }
        let path = place.path().join(name);
        fs::create_dir(&path).unwrap();
        let config = with(&sizes("llama"), json!({ key: cases[name]["config"] }));
        fs::write(path.join("config.json"), config.to_string()).unwrap();
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, kind, shape, bytes) in tensors {
            let span = [data.len(), data.len() + bytes.len()];
            header.insert(name, json!({ "dtype": kind, "shape": shape, "data_offsets": span }));
            data.extend(bytes);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        fs::write(path.join("model.safetensors"), file).unwrap();

        let gguf = whit_models::open(&path).unwrap();
        let tensor = gguf.tensor("blk.0.ffn_down.weight").unwrap();
        assert_eq!((tensor.n_rows(), tensor.n_cols(), tensor.dtype), (32, 64, format), "{name}");
        let expected = &source.tensor("expected").unwrap().data;
        let mut values = vec![0.0; 32 * 64];
        decode_row(format, &gguf.tensor_bytes(tensor), &mut values);
        for (value, expected) in values.iter().zip(expected.as_chunks::<4>().0) {
            let expected = f32::from_le_bytes(*expected);
            assert!(
                (value - expected).abs() <= 5e-3 * expected.abs().max(0.2),
                "{name}: {value}, not {expected}"
            );
        }
        // In a file of floats, the values themselves.
        let translation = Folder::open(&path).unwrap().translate().unwrap();
        let tensor = translation.tensors.iter().find(|t| t.name() == "blk.0.ffn_down.weight").unwrap();
        let mut written = Vec::new();
        tensor.write(DType::F32, &mut written).unwrap();
        let largest = values.iter().fold(0f32, |most, value| most.max(value.abs()));
        for (value, expected) in written.as_chunks::<4>().0.iter().zip(expected.as_chunks::<4>().0) {
            let error = (f32::from_le_bytes(*value) - f32::from_le_bytes(*expected)).abs();
            assert!(error <= 1e-6 * largest, "{name}");
        }
    }
}
