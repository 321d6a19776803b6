//! Divergence against what numpy calculates from the logits that `transformers` gave (golden/make_divergence.py).
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::path::{Path, PathBuf};

use common::golden_engine;
use serde_json::Value;
use whit_judge::{
    Divergence, Estimate, JudgeError, KlBase, PerplexityOptions, Protocol, Spread, divergence_from,
    divergence_of_tokens, save_kl_base_of_tokens,
};

const BASE: &str = "ernie45";
const OWN: &str = "granite";

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(here("divergence.json")).unwrap()).unwrap()
}

/// The chunks of the golden files: the prompt, each time with another first token, which BOS replaces.
fn tokens(expected: &Value) -> (Vec<u32>, u32, PerplexityOptions) {
    let prompt: Vec<u32> =
        expected["prompt"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let n_chunks = expected["n_chunks"].as_u64().unwrap() as u32;
    let chunk = |chunk: u32| std::iter::once(4 + chunk).chain(prompt[1..].iter().copied());
    let options = PerplexityOptions { ctx: prompt.len(), ..PerplexityOptions::default() };
    ((0..n_chunks).flat_map(chunk).collect(), prompt[0], options)
}

fn check(what: &str, got: &Divergence, expected: &Value) {
    let close = |name: &str, got: f64, expected: &Value| {
        let expected = expected.as_f64().unwrap();
        assert!(
            (got - expected).abs() <= 1e-3 * expected.abs() + 2e-5,
            "{what}, {name}: {got}, not {expected}"
        );
    };
    let estimate = |name: &str, got: Estimate| {
        close(name, got.value, &expected[name][0]);
        close(&format!("error of {name}"), got.error, &expected[name][1]);
    };
    estimate("perplexity", got.perplexity);
    estimate("base_perplexity", got.base_perplexity);
    estimate("ln_ratio", got.ln_ratio);
    estimate("ratio", got.ratio);
    estimate("difference", got.difference);
    estimate("change_rms", got.change_rms);
    estimate("same_top", got.same_top);
    close("correlation", got.correlation, &expected["correlation"]);
    let spread = |name: &str, got: &Spread| {
        estimate(name, got.mean);
        for pair in expected[&format!("{name}_quantiles")].as_array().unwrap() {
            close(&format!("{name} {}", pair[0]), got.quantile(pair[0].as_f64().unwrap()), &pair[1]);
        }
    };
    spread("kl", &got.kl);
    spread("change", &got.change);
    assert_eq!((got.n_chunks, got.n_scored), (12, expected["n_scored"].as_u64().unwrap() as usize));
}

#[test]
fn between_two_models() {
    let expected = expected();
    let (tokens, bos, options) = tokens(&expected);
    let (mut base, mut own) = (golden_engine(BASE, 1), golden_engine(OWN, 2));
    let mut seen = Vec::new();
    let got = divergence_of_tokens(&mut base, &mut own, &tokens, Some(bos), &options, &mut |progress| {
        seen.push((progress.n_done, progress.divergence.unwrap()));
    })
    .unwrap();
    check("two models", &got, &expected);
    assert_eq!(seen.len(), 12);
    assert!((seen[0].1 - got.kl.mean.value).abs() < 1e-6, "{seen:?}");

    let mut same = golden_engine(OWN, 1);
    let got = divergence_of_tokens(&mut same, &mut own, &tokens, Some(bos), &options, &mut |_| {}).unwrap();
    assert!(got.kl.quantile(1.0).abs() < 1e-6 && got.same_top.value == 1.0, "{got:?}");
}

#[test]
fn from_a_file() {
    let expected = expected();
    let (tokens, bos, options) = tokens(&expected);
    // The file has what BOS replaces; the golden tokenizers replace nothing, so here the tokens must have it already.
    let replaced: Vec<u32> = tokens
        .chunks(options.ctx)
        .flat_map(|chunk| std::iter::once(bos).chain(chunk[1..].iter().copied()))
        .collect();
    let mut bytes = std::fs::read(here("divergence.base")).unwrap();
    for (place, token) in replaced.iter().enumerate() {
        bytes[20 + 4 * place..24 + 4 * place].copy_from_slice(&token.to_le_bytes());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    std::fs::write(&path, bytes).unwrap();

    let base = KlBase::open(&path).unwrap();
    assert_eq!((base.ctx(), base.n_vocab(), base.n_chunks()), (24, 64, 12));
    let mut own = golden_engine(OWN, 2);
    let got = divergence_from(base, &mut own, None, &mut |_| {}).unwrap();
    check("a file", &got, &expected);
    let got = divergence_from(KlBase::open(&path).unwrap(), &mut own, Some(2), &mut |_| {}).unwrap();
    assert_eq!((got.n_chunks, got.n_scored), (2, 22));
}

/// What is written is what the script wrote, up to the rounding of logits that differ in their last bits.
#[test]
fn writes_the_file() {
    let (tokens, bos, options) = tokens(&expected());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    let mut engine = golden_engine(BASE, 3);
    save_kl_base_of_tokens(&mut engine, &tokens, Some(bos), &options, &path, &mut |_| {}).unwrap();
    let (got, expected) = (std::fs::read(&path).unwrap(), std::fs::read(here("divergence.base")).unwrap());
    assert_eq!(got.len(), expected.len());
    let head = 20 + 4 * tokens.len();
    assert_eq!(got[..head], expected[..head]);
    let float = |bytes: &[u8], at: usize| f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    for (got, expected) in got[head..].chunks(2 * 68).zip(expected[head..].chunks(2 * 68)) {
        for at in [0, 4] {
            let (got, expected) = (float(got, at), float(expected, at));
            assert!((got - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{got} {expected}");
        }
        for (got, expected) in got[8..].chunks(2).zip(expected[8..].chunks(2)) {
            let [got, expected] =
                [got, expected].map(|b| i32::from(u16::from_le_bytes(b.try_into().unwrap())));
            assert!((got - expected).abs() <= 2, "{got} {expected}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn files_that_lie() {
    let good = std::fs::read(here("divergence.base")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    let with = |at: usize, value: i32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("short", good[..19].to_vec()),
        ("another magic", [b"_LOGITS_", &good[8..]].concat()),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("too long", [&good[..], b"x"].concat()),
        ("no context", with(8, 0)),
        ("negative context", with(8, -24)),
        ("huge context", with(8, i32::MAX)),
        ("huge vocabulary", with(12, i32::MAX)),
        ("huge number of chunks", with(16, i32::MAX)),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = KlBase::open(&path).unwrap_err();
        assert!(matches!(error, JudgeError::BadBase { .. }), "{what}: {error}");
    }
    assert!(matches!(KlBase::open(folder.path().join("none")), Err(JudgeError::Io { .. })));
    // Tokens beyond the vocabulary: one that runs, and the last of a chunk, which does not.
    for (place, is_last) in [(1, false), (23, true)] {
        std::fs::write(&path, with(20 + 4 * place, 64)).unwrap();
        let error =
            divergence_from(KlBase::open(&path).unwrap(), &mut golden_engine(OWN, 1), None, &mut |_| {});
        let error = error.unwrap_err();
        assert_eq!(matches!(error, JudgeError::NotANumber { .. }), is_last, "{error}");
    }
}

#[test]
fn refusals() {
    let (tokens, bos, options) = tokens(&expected());
    let options = PerplexityOptions { protocol: Protocol::Full, ..options };
    let (mut base, mut own) = (golden_engine(BASE, 1), golden_engine(OWN, 1));
    let error =
        divergence_of_tokens(&mut base, &mut own, &tokens, Some(bos), &options, &mut |_| {}).unwrap_err();
    assert!(matches!(error, JudgeError::BaseProtocol), "{error}");
}
