//! Perplexity against the same sums over the logits that `transformers` gives.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::path::PathBuf;

use whit_base::reference::ReferenceBackend;
use whit_engine::{CacheType, Engine, EngineOptions, Model};
use whit_judge::{JudgeError, PerplexityOptions, perplexity, perplexity_of_tokens};

/// `(prompt, logits)` of a golden model of the engine's tests, and an engine of it.
fn golden(max_sequences: usize) -> (Engine, Vec<u32>, Vec<f32>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden");
    let name = "llama-gqa-llama3";
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap()).unwrap();
    let prompt: Vec<u32> =
        json["prompt"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let bytes = std::fs::read(folder.join(format!("{name}.logits.bin"))).unwrap();
    let logits = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let model = Model::open(folder.join(format!("{name}.gguf"))).unwrap();
    let options = EngineOptions {
        cache_type: CacheType::F32,
        ctx: Some(64),
        max_sequences,
        ..EngineOptions::default()
    };
    let backend = ReferenceBackend { quantize_activations: false };
    (Engine::with_backend(model, &backend, &options).unwrap(), prompt, logits)
}

#[test]
fn matches_the_reference() {
    for max_sequences in [1, 2] {
        let (mut engine, prompt, logits) = golden(max_sequences);
        let n = prompt.len();
        // Predictions at n / 2 .. n - 2, the protocol of llama.cpp.
        let nll: Vec<f64> = (n / 2..=n - 2)
            .map(|position| {
                let row: Vec<f64> = logits[position * 64..][..64].iter().map(|&l| f64::from(l)).collect();
                let sum: f64 = row.iter().map(|l| l.exp()).sum();
                sum.ln() - row[prompt[position + 1] as usize]
            })
            .collect();
        let mean = nll.iter().sum::<f64>() / nll.len() as f64;
        let n_scored = 3 * nll.len();
        let variance = nll.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / nll.len() as f64;
        let expected = (mean.exp(), mean.exp() * (variance / (n_scored - 1) as f64).sqrt());

        // Three chunks, each with another first token, and a rest that is not used.
        let mut tokens = [&prompt[..], &prompt, &prompt, &[5, 6, 7]].concat();
        (0..3).for_each(|chunk| tokens[chunk * n] = 4 + chunk as u32);
        let options = PerplexityOptions { ctx: n, chunks: None };
        let mut running = Vec::new();
        let got = perplexity_of_tokens(&mut engine, &tokens, Some(prompt[0]), &options, &mut |progress| {
            running.push((progress.n_done, progress.perplexity));
        })
        .unwrap();
        assert!((got.value / expected.0 - 1.0).abs() < 1e-4, "{} {}", got.value, expected.0);
        assert!((got.uncertainty / expected.1 - 1.0).abs() < 1e-3, "{} {}", got.uncertainty, expected.1);
        assert_eq!((got.n_chunks, got.n_scored, got.n_tokens), (3, n_scored, 3 * n));
        assert_eq!(running.iter().map(|(n_done, _)| *n_done).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(running.iter().all(|(_, value)| (value / expected.0 - 1.0).abs() < 1e-4), "{running:?}");

        // Without BOS the first tokens differ, and so does the value.
        let other = perplexity_of_tokens(&mut engine, &tokens, None, &options, &mut |_| {}).unwrap();
        assert!((other.value / expected.0 - 1.0).abs() > 1e-3, "{} {}", other.value, expected.0);

        let options = PerplexityOptions { ctx: n, chunks: Some(2) };
        let got = perplexity_of_tokens(&mut engine, &tokens, None, &options, &mut |_| {}).unwrap();
        assert_eq!(got.n_chunks, 2);
    }
}

#[test]
fn refusals() {
    let (mut engine, ..) = golden(1);
    let mut ask = |text: &str, ctx| {
        let options = PerplexityOptions { ctx, chunks: None };
        perplexity(&mut engine, text, &options, &mut |_| {}).unwrap_err()
    };
    let error = ask("too short", 64);
    assert!(matches!(error, JudgeError::TextTooShort { n_tokens: 9, n_needed: 64 }), "{error:?}");
    assert!(matches!(ask("x", 65), JudgeError::BadContext { ctx: 65, n_ctx: 64 }));
    assert!(matches!(ask("x", 0), JudgeError::BadContext { .. }));
}
