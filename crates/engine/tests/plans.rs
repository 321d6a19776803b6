//! Configuration keys that no golden model has, against the published formulas.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use common::Parts;
use whit_base::{DType, Op, Plan, PoolKind, PoolOutput};

fn plan(parts: Parts, n_ctx: usize) -> Plan {
    whit_models::build(&parts.gguf(), n_ctx).unwrap().plan
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Frequencies of the golden llama, 16 values per head and base 10,000, each divided.
fn check_frequencies(got: &[f32], divisors: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), 8);
    for (i, &got) in got.iter().enumerate() {
        let expected = 10_000f64.powf(-(i as f64) / 8.0) / divisors(i);
        assert!((f64::from(got) / expected - 1.0).abs() < 1e-6, "pair {i}: {got}, not {expected}");
    }
}

fn llama(set: impl FnOnce(&mut Parts)) -> Parts {
    let mut parts = Parts::of("llama-gqa-llama3");
    parts.tensors.retain(|tensor| tensor.0 != "rope_freqs.weight");
    set(&mut parts);
    parts
}

#[test]
fn long_rope_chooses_by_context() {
    let parts = || {
        llama(|parts| {
            parts.writer.set("llama.rope.scaling.type", "longrope");
            parts.writer.set("llama.rope.scaling.original_context_length", 64u32);
            parts.writer.set("llama.rope.scaling.attn_factor", 1.25f32);
            for (name, step) in [("rope_factors_long.weight", 2.0), ("rope_factors_short.weight", 0.5)] {
                let factors: Vec<f32> = (0..8).map(|i| 1.0 + step * i as f32).collect();
                parts.tensors.push((name.to_owned(), DType::F32, vec![8], floats(&factors)));
            }
        })
    };
    for (n_ctx, step) in [(64, 0.5), (65, 2.0)] {
        let plan = plan(parts(), n_ctx);
        check_frequencies(&plan.ropes[0].inv_freq, |i| 1.0 + step * i as f64);
        assert_eq!(plan.ropes[0].magnitude, 1.25);
    }
}

#[test]
fn scalings() {
    let none = plan(llama(|_| {}), 64);
    check_frequencies(&none.ropes[0].inv_freq, |_| 1.0);
    // Files from before 2023-10.
    let old = plan(llama(|parts| parts.writer.set("llama.rope.scale_linear", 4.0f32)), 64);
    check_frequencies(&old.ropes[0].inv_freq, |_| 4.0);
    let off = llama(|parts| {
        parts.writer.set("llama.rope.scaling.type", "none");
        parts.writer.set("llama.rope.scaling.factor", 4.0f32);
    });
    check_frequencies(&plan(off, 64).ropes[0].inv_freq, |_| 1.0);
    // Half of each head rotates.
    let partial = plan(llama(|parts| parts.writer.set("llama.rope.dimension_count", 8u32)), 64);
    assert_eq!(partial.ropes[0].inv_freq.len(), 4);
    assert!((partial.ropes[0].inv_freq[1] - 0.1).abs() < 1e-7);
}

#[test]
fn gemma_windows() {
    let windows = |set: &dyn Fn(&mut Parts)| -> Vec<Option<usize>> {
        let mut parts = Parts::of("gemma3-global-linear");
        set(&mut parts);
        plan(parts, 64).caches.iter().map(|layer| layer.window).collect()
    };
    let pattern = "gemma3.attention.sliding_window_pattern";
    let (w, g) = (Some(8), None);
    assert_eq!(windows(&|_| {}), [w, w, w, w, w, g, w]);
    assert_eq!(windows(&|p| p.writer.set(pattern, 3u32)), [w, w, g, w, w, g, w]);
    assert_eq!(windows(&|p| p.writer.set(pattern, 1u32)), [g; 7]);
    assert_eq!(windows(&|p| p.writer.set(pattern, 0u32)), [w; 7]);
    let flags = [1u8, 0, 1, 0, 0, 0, 1];
    assert_eq!(windows(&|p| p.writer.set_numbers(pattern, &flags)), [w, g, w, g, g, g, w]);
    assert_eq!(windows(&|p| p.writer.unset("gemma3.attention.sliding_window")), [g; 7]);
}

#[test]
fn attention_scale() {
    let scales = |plan: &Plan| -> Vec<f32> {
        let scale = |op: &Op| if let Op::Attend { scale, .. } = op { Some(*scale) } else { None };
        plan.ops.iter().filter_map(scale).collect()
    };
    assert_eq!(scales(&plan(llama(|_| {}), 64)), [0.25; 2]);
    let own = llama(|parts| parts.writer.set("llama.attention.scale", 0.125f32));
    assert_eq!(scales(&plan(own, 64)), [0.125; 2]);
}

#[test]
fn plans_end_with_the_wanted_rows() {
    // `fuse` counts on it: selection before the last norm, then what becomes of it.
    for golden in common::golden() {
        let plan = plan(Parts::of(&golden), 64);
        let n = plan.ops.len();
        assert!(matches!(plan.ops[n - 1], Op::Logits { .. }));
        assert!(matches!(plan.ops[n - 2], Op::Pool { .. }));
        assert!(matches!(plan.ops[n - 3], Op::Norm { .. }));
        assert!(matches!(plan.ops[n - 4], Op::Select { .. }));
    }
}

#[test]
fn pooling() {
    let key = "gemma3.pooling_type";
    for (kind, expected) in [
        (None, Ok(PoolKind::Last)),
        (Some(0u32), Ok(PoolKind::Last)),
        (Some(1), Ok(PoolKind::Mean)),
        (Some(2), Ok(PoolKind::First)),
        (Some(3), Ok(PoolKind::Last)),
        (Some(4), Err("ranks texts")),
        (Some(5), Err("from 0 to 4")),
    ] {
        let mut parts = Parts::of("gemma3-global-linear");
        if let Some(kind) = kind {
            parts.writer.set(key, kind);
        }
        let built = whit_models::build(&parts.gguf(), 64);
        match (built, expected) {
            (Ok(model), Ok(kind)) => assert_eq!(model.plan.pool(), Some(PoolOutput { kind, width: 32 })),
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
            (built, _) => panic!("{kind:?}: {:?}", built.map(|model| model.plan.pool())),
        }
    }
}

#[test]
fn facts() {
    let info = whit_models::describe(&Parts::of("gemma3-global-linear").gguf()).unwrap();
    assert_eq!((info.architecture.as_str(), info.name.as_deref()), ("gemma3", Some("gemma3-global-linear")));
    assert_eq!((info.n_layers, info.n_heads, info.n_kv_heads, info.head_dim), (7, 2, 1, 16));
    assert_eq!((info.n_embd, info.n_ff, info.n_vocab, info.n_ctx_train), (32, Some(32), 64, 512));
    assert_eq!((info.file_type.as_deref(), info.sliding_window), (Some("F32"), Some(8)));
    assert_eq!(info.bits_per_weight(), 32.0);
    assert_eq!(info.formats.len(), 1);
    assert_eq!(info.weight_bytes, 4 * info.n_params);
}
