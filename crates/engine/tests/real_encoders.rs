//! all-MiniLM-L6-v2 with its real weights, as the folder that its authors published, against `transformers`.
//!
//! `cargo xtask test` fetches the folder and sets `WHIT_TEST_DATA`.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::path::PathBuf;

use common::backends;
use whit_engine::{EmbedRequest, Engine, EngineOptions, Model, Prompt};

#[test]
fn minilm() {
    let Some(data) = std::env::var_os("WHIT_TEST_DATA") else {
        eprintln!("SKIPPED: WHIT_TEST_DATA is not set; run cargo xtask test");
        return;
    };
    let model = Model::open(PathBuf::from(data).join("models/all-minilm-l6-v2")).unwrap();
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/minilm.json");
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    // The reference backend would take minutes.
    for backend in backends().into_iter().filter(|backend| !backend.describe().contains("scalar")) {
        // With keys and values in f16, as usual.
        let mut engine = Engine::with_backend(model.clone(), &*backend, &EngineOptions::default()).unwrap();
        let request =
            |case: &serde_json::Value| EmbedRequest::new(Prompt::Text(case["text"].as_str().unwrap().into()));
        let embedded = engine.embed(cases.iter().map(request)).unwrap();
        for (case, embedded) in cases.iter().zip(&embedded) {
            let text = format!("{} on {}", case["text"], engine.backend());
            assert_eq!(case["tokens"], embedded.usage.prompt_tokens, "{text}");
            assert_eq!(embedded.vector.len(), 384);
            let expected: Vec<f32> = serde_json::from_value(case["vector"].clone()).unwrap();
            for (i, (got, expected)) in embedded.vector.iter().zip(&expected).enumerate() {
                assert!((got - expected).abs() < 2e-4, "{text}: {i}: {got}, not {expected}");
            }
        }
    }
}
