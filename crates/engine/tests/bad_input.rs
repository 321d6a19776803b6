//! Files and requests that must be refused, each with a message that says what is wrong and what to do.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use common::{Golden, Parts, answer, exact, greedy, reference};
use whit_engine::{
    CacheType, Engine, EngineError, EngineOptions, Event, FinishReason, Model, Overflow, Prompt, Request,
    SamplerConfig,
};

const LLAMA: &str = "llama-gqa-llama3";
const GEMMA: &str = "gemma3-global-linear";

/// Loads a changed golden model; the message must contain all of `expected`.
fn refused(golden: &str, change: impl FnOnce(&mut Parts), expected: &[&str]) {
    let mut parts = Parts::of(golden);
    change(&mut parts);
    let error = parts.load().expect_err(&format!("must be refused: {expected:?}"));
    let message = error.to_string();
    for part in expected {
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    }
}

#[test]
fn unchanged_parts_load() {
    for golden in Golden::all() {
        let model = Parts::of(&golden.name).open().unwrap();
        let mut engine =
            Engine::with_backend(model, &common::reference(), &golden.options(&common::exact())).unwrap();
        let (ids, _) = answer(&mut engine, greedy(&golden.prompt, 3));
        assert_eq!(ids, golden.greedy[..3]);
    }
}

#[test]
fn architectures() {
    refused(
        LLAMA,
        |p| p.writer.set("general.architecture", "mamba"),
        &["`mamba`", "llama, mistral3, qwen2, qwen3, qwen3moe, gemma"],
    );
    refused(LLAMA, |p| p.writer.unset("general.architecture"), &["general.architecture", "missing"]);
    refused(LLAMA, |p| p.writer.set("general.architecture", 7u32), &["general.architecture"]);
    refused(LLAMA, |p| p.writer.set("llama.expert_count", 8u32), &["llama.expert_used_count", "missing"]);
    let mixture = "qwen3-moe";
    let cases: &[(&str, u32, &[&str])] = &[
        ("qwen3moe.expert_count", 3, &["blk.0.ffn_gate_inp.weight", "3 rows"]),
        ("qwen3moe.expert_count", 1, &["expert_used_count", "at most the 1"]),
        ("qwen3moe.expert_count", u32::MAX, &["blk.0.ffn_gate_inp.weight"]),
        ("qwen3moe.expert_used_count", 0, &["expert_used_count"]),
        ("qwen3moe.expert_used_count", 5, &["expert_used_count", "at most the 4"]),
        ("qwen3moe.expert_shared_count", 1, &["experts that every token goes through"]),
        ("qwen3moe.expert_gating_func", 2, &["another choice of experts"]),
    ];
    for &(key, value, says) in cases {
        refused(mixture, |p| p.writer.set(key, value), says);
    }
    for (tensor, rows, says) in
        [("blk.1.ffn_gate_exps.weight", 127, "rows for each"), ("blk.1.ffn_down_exps.weight", 64, "32 x 32")]
    {
        let cut = |p: &mut Parts| {
            let (_, _, shape, data) = p.tensor(tensor);
            data.truncate(data.len() / shape.iter().rev().skip(1).product::<usize>() * rows);
            *shape = vec![rows, 32];
        };
        refused(mixture, cut, &[tensor, says]);
    }
}

#[test]
fn configuration() {
    let cases: &[(&str, u32, &[&str])] = &[
        ("llama.block_count", u32::MAX, &["llama.block_count"]),
        ("llama.block_count", 200, &["llama.block_count", "tensors"]),
        ("llama.block_count", 3, &["blk.2.attn_norm.weight", "missing"]),
        ("llama.block_count", 1, &["blk.1.", "no place"]),
        ("llama.block_count", 0, &["llama.block_count"]),
        ("llama.embedding_length", 31, &["token_embd.weight", "31 columns"]),
        ("llama.embedding_length", u32::MAX, &["llama.embedding_length"]),
        ("llama.attention.head_count", 0, &["llama.attention.head_count"]),
        ("llama.attention.head_count", 3, &["llama.attention.head_count_kv", "divisor"]),
        ("llama.attention.head_count", 8, &["attn_q"]),
        ("llama.attention.head_count", 1 << 24, &["attn_q"]),
        ("llama.attention.head_count_kv", 4, &["blk.0.k"]),
        ("llama.attention.key_length", 1 << 20, &["attn_q"]),
        ("llama.attention.value_length", 8, &["keys of 16 and values of 8"]),
        ("llama.rope.dimension_count", 18, &["llama.rope.dimension_count", "16"]),
        ("llama.rope.dimension_count", 15, &["llama.rope.dimension_count", "even"]),
        ("llama.context_length", 0, &["llama.context_length"]),
    ];
    for (key, value, expected) in cases {
        refused(LLAMA, |p| p.writer.set(key, *value), expected);
    }
    let eps = "llama.attention.layer_norm_rms_epsilon";
    refused(LLAMA, |p| p.writer.unset(eps), &[eps, "missing"]);
    refused(LLAMA, |p| p.writer.set(eps, f32::NAN), &[eps, "finite"]);
    refused(LLAMA, |p| p.writer.set("llama.rope.freq_base", -1.0f32), &["llama.rope.freq_base"]);
    refused(
        "llama-untied-linear-bias",
        |p| p.writer.set("llama.rope.scaling.type", "spiral"),
        &["spiral", "yarn"],
    );
    let pattern = "gemma3.attention.sliding_window_pattern";
    refused(GEMMA, |p| p.writer.set_numbers(pattern, &[1u32, 0]), &[pattern, "7 layers"]);
}

#[test]
fn tensors() {
    refused(
        LLAMA,
        |p| p.tensors.retain(|t| t.0 != "blk.1.ffn_up.weight"),
        &["blk.1.ffn_up.weight", "missing"],
    );
    refused(LLAMA, |p| p.tensors.retain(|t| t.0 != "token_embd.weight"), &["token_embd.weight", "missing"]);
    let extra = ("blk.0.attn_gate.weight".to_owned(), whit_base::DType::F32, vec![4], vec![0; 16]);
    refused(LLAMA, |p| p.tensors.push(extra), &["blk.0.attn_gate.weight", "no place"]);
    let transpose = |p: &mut Parts, name: &str| p.tensor(name).2.reverse();
    refused(LLAMA, |p| transpose(p, "blk.0.attn_q.weight"), &["blk.0.attn_q.weight", "32 x 64"]);
    let halve = |p: &mut Parts, name: &str| {
        let (_, _, shape, data) = p.tensor(name);
        shape[0] /= 2;
        data.truncate(data.len() / 2);
    };
    refused(LLAMA, |p| halve(p, "blk.0.attn_norm.weight"), &["blk.0.attn_norm.weight"]);
    refused(LLAMA, |p| halve(p, "rope_freqs.weight"), &["rope_freqs.weight"]);
    refused("llama-untied-linear-bias", |p| halve(p, "output.weight"), &["output.weight", "64 rows"]);
    // Fewer embeddings than the tokenizer has tokens.
    refused(LLAMA, |p| halve(p, "token_embd.weight"), &["64 tokens", "32"]);
}

#[test]
fn weights_that_are_no_numbers() {
    for bad in [f32::NAN, f32::INFINITY] {
        let put = |p: &mut Parts, name: &str, at: usize| {
            p.tensor(name).3[at * 4..at * 4 + 4].copy_from_slice(&bad.to_le_bytes());
        };
        refused(
            LLAMA,
            |p| put(p, "blk.1.ffn_norm.weight", 5),
            &["blk.1.ffn_norm.weight", "position 5", "damaged"],
        );
        refused("qwen2-gqa7", |p| put(p, "blk.0.attn_k.bias", 1), &["blk.0.attn_k.bias", "position 1"]);

        // In a matrix it shows when the model runs.
        let mut parts = Parts::of(LLAMA);
        put(&mut parts, "blk.0.ffn_down.weight", 100);
        let mut engine = parts.load().unwrap();
        let items: Vec<_> = engine.generate(greedy(&[5, 6], 4)).unwrap().collect();
        assert_eq!(items.len(), 1);
        let message = items[0].as_ref().unwrap_err().to_string();
        assert!(message.contains("weights are damaged"), "{message}");
        assert!(engine.is_idle());
    }
}

#[test]
fn tokenizer() {
    refused(LLAMA, |p| p.writer.unset("tokenizer.ggml.model"), &["tokenizer.ggml.model", "missing"]);
    refused(LLAMA, |p| p.writer.unset("tokenizer.ggml.tokens"), &["tokenizer.ggml.tokens", "missing"]);
    refused(LLAMA, |p| p.writer.set("tokenizer.ggml.model", "unigram"), &["unigram"]);
    refused(LLAMA, |p| p.writer.set("tokenizer.ggml.pre", "new-model"), &["new-model"]);
}

#[test]
fn broken_template() {
    let mut parts = Parts::of(LLAMA);
    parts.writer.set("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}");
    let model = parts.open().unwrap();
    let error = model.prepare(&Prompt::Chat(vec![whit_engine::Message::user("hi")])).unwrap_err();
    assert!(error.to_string().contains("chat template is broken"), "{error}");
    // Text needs no template.
    assert!(model.prepare(&Prompt::Text("hi".into())).is_ok());
}

#[test]
fn prompts() {
    let golden = Golden::load(LLAMA);
    let options = EngineOptions { ctx: Some(16), ..exact() };
    let mut engine = golden.engine(&reference(), &options);
    let mut refused = |request: Request, expected: &[&str]| {
        let message = engine.generate(request).map(|_| ()).unwrap_err().to_string();
        for part in expected {
            assert!(message.contains(part), "`{message}` lacks `{part}`");
        }
    };
    let wanted = &["24 tokens", "8 tokens longer", "16", "--ctx 24", "--overflow shift"];
    refused(greedy(&golden.prompt, 4), wanted);
    refused(greedy(&vec![5; 1000], 4), &["984 tokens longer", "trained for 512"]);
    refused(greedy(&[], 4), &["empty"]);
    refused(greedy(&[63, 64], 4), &["token id 64", "64 tokens"]);
    let sampling = SamplerConfig { temperature: -1.0, ..SamplerConfig::default() };
    refused(Request { sampling, ..greedy(&[5], 4) }, &["temperature"]);
    refused(Request { stop: vec![String::new()], ..greedy(&[5], 4) }, &["stop"]);
    let sampling = SamplerConfig { logit_bias: vec![(64, 1.0)], ..SamplerConfig::greedy() };
    refused(Request { sampling, ..greedy(&[5], 4) }, &["token 64"]);
    // Nothing of the kind left anything behind, and the same prompt goes through if old text may be dropped.
    assert!(engine.is_idle());
    let (ids, done) = answer(&mut engine, Request { overflow: Overflow::Shift, ..greedy(&golden.prompt, 4) });
    assert_eq!((ids.len(), done.reason), (4, FinishReason::Length));
}

#[test]
fn options() {
    let cases: &[(EngineOptions, &str)] = &[
        (EngineOptions { ctx: Some(0), ..exact() }, "--ctx"),
        (EngineOptions { ctx: Some(usize::MAX), ..exact() }, "--ctx"),
        (EngineOptions { max_sequences: 0, ..exact() }, "sequences"),
        (EngineOptions { max_rows: Some(0), ..exact() }, "step"),
    ];
    let golden = Golden::load(LLAMA);
    for (options, expected) in cases {
        let model = Model::open(&golden.path).unwrap();
        let error = Engine::with_backend(model, &reference(), options).unwrap_err();
        assert!(matches!(error, EngineError::Setting { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // The smallest that makes sense still works.
    let options = EngineOptions { ctx: Some(1), cache_type: CacheType::F16, ..EngineOptions::default() };
    let mut engine = Engine::new(Model::open(&golden.path).unwrap(), &options).unwrap();
    let events: Vec<Event> = engine.generate(greedy(&[5], 9)).unwrap().map(Result::unwrap).collect();
    assert!(
        matches!(events[..], [Event::Token { .. }, Event::Done(done)] if done.reason == FinishReason::ContextFull)
    );
}
