//! Golden models of the engine's tests.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::PathBuf;

use whit_base::reference::ReferenceBackend;
use whit_engine::{CacheType, Engine, EngineOptions, Model};

pub(crate) fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden")
}

/// What is known of a golden model: its prompt, and the logits that `transformers` gave for each token of it.
pub(crate) fn golden_logits(name: &str) -> (Vec<u32>, Vec<f32>) {
    let folder = golden_folder();
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let prompt = json["prompt"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let bytes = std::fs::read(folder.join(format!("{name}.logits.bin"))).unwrap();
    let logits = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (prompt, logits)
}

/// A golden model, run in plain f32.
pub(crate) fn golden_engine(name: &str, max_sequences: usize) -> Engine {
    let model = Model::open(golden_folder().join(format!("{name}.gguf"))).unwrap();
    let options = EngineOptions {
        cache_type: CacheType::F32,
        ctx: Some(64),
        max_sequences,
        ..EngineOptions::default()
    };
    let backend = ReferenceBackend { quantize_activations: false };
    Engine::with_backend(model, &backend, &options).unwrap()
}
