//! What a model is said to need in memory, against what a process that fills a context with it really holds. The only test of its
//! process, so that nothing else moves the number.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::path::Path;

use common::Parts;
use whit_base::DType;
use whit_engine::{Engine, EngineOptions, Prompt, Request, SamplerConfig};

const N_LAYERS: usize = 16;
const N_EMBD: usize = 640;
const N_FF: usize = 2048;
const N_CTX: usize = 1024;

/// A model large enough to be seen among what every process holds. Its weights are zeros, which take as much room as others.
fn write(path: &Path) {
    let mut parts = Parts::of("llama-gqa-llama3");
    let set = |parts: &mut Parts, key: &str, value: usize| parts.writer.set(key, value as u32);
    set(&mut parts, "llama.block_count", N_LAYERS);
    set(&mut parts, "llama.context_length", N_CTX);
    set(&mut parts, "llama.embedding_length", N_EMBD);
    set(&mut parts, "llama.feed_forward_length", N_FF);
    set(&mut parts, "llama.attention.head_count", N_EMBD / 64);
    set(&mut parts, "llama.attention.head_count_kv", N_EMBD / 64);
    set(&mut parts, "llama.attention.key_length", 64);
    set(&mut parts, "llama.attention.value_length", 64);
    set(&mut parts, "llama.rope.dimension_count", 64);
    let mut tensors = Vec::new();
    let mut add = |name: String, dtype: DType, shape: &[usize]| {
        let n_rows: usize = shape[..shape.len() - 1].iter().product();
        let bytes = vec![0; n_rows * dtype.row_bytes(shape[shape.len() - 1]).unwrap()];
        tensors.push((name, dtype, shape.to_vec(), bytes));
    };
    add("token_embd.weight".to_owned(), DType::Q8_0, &[64, N_EMBD]);
    add("output_norm.weight".to_owned(), DType::F32, &[N_EMBD]);
    for layer in 0..N_LAYERS {
        let mut matrix = |name: &str, n_rows, n_cols| {
            add(format!("blk.{layer}.{name}.weight"), DType::Q8_0, &[n_rows, n_cols]);
        };
        ["attn_q", "attn_k", "attn_v", "attn_output"]
            .into_iter()
            .for_each(|name| matrix(name, N_EMBD, N_EMBD));
        ["ffn_gate", "ffn_up"].into_iter().for_each(|name| matrix(name, N_FF, N_EMBD));
        matrix("ffn_down", N_EMBD, N_FF);
        ["attn_norm", "ffn_norm"]
            .into_iter()
            .for_each(|name| add(format!("blk.{layer}.{name}.weight"), DType::F32, &[N_EMBD]));
    }
    parts.tensors = tensors;
    parts.write(path);
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Fills the context of a model, most of it with a prompt; gives the engine, with what it holds.
fn run(path: &Path, options: &EngineOptions) -> Engine {
    let mut engine = Engine::load(path, options).unwrap();
    let n_ctx = engine.n_ctx() as u32;
    let tokens = (0..n_ctx - 16).map(|n| 4 + n * n % 60).collect();
    let request = Request {
        ignore_eos: true,
        sampling: SamplerConfig::greedy(),
        ..Request::new(Prompt::Tokens(tokens))
    };
    engine.generate(request).unwrap().for_each(|event| drop(event.unwrap()));
    engine
}

#[test]
fn what_is_resident_is_what_was_estimated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write(&path);
    let options = EngineOptions { ctx: Some(N_CTX), threads: Some(2), ..EngineOptions::default() };
    // The program itself comes into memory as it runs; so it runs before.
    let small = EngineOptions { ctx: Some(256), ..options.clone() };
    drop(run(&common::golden_folder().join("llama-gqa-llama3.gguf"), &small));
    let before = resident();
    let engine = run(&path, &options);
    let (held, expected) = (resident() - before, engine.allocated());
    let off = held as f64 / expected.total() as f64 - 1.0;
    assert!(off.abs() < 0.03, "{held} bytes, {:.1} % off {expected:?}", 100.0 * off);
}
