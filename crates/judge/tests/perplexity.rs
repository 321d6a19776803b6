//! Perplexity against the same sums over the logits that `transformers` gives.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use common::{golden_engine, golden_logits};
use whit_engine::Engine;
use whit_judge::{JudgeError, PerplexityOptions, Protocol, perplexity, perplexity_of_tokens};

fn golden(max_sequences: usize) -> (Engine, Vec<u32>, Vec<f32>) {
    let (prompt, logits) = golden_logits("llama-gqa-llama3");
    (golden_engine("llama-gqa-llama3", max_sequences), prompt, logits)
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
        let options = PerplexityOptions { ctx: n, ..PerplexityOptions::default() };
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

        let options = PerplexityOptions { chunks: Some(2), ..options };
        let got = perplexity_of_tokens(&mut engine, &tokens, None, &options, &mut |_| {}).unwrap();
        assert_eq!(got.n_chunks, 2);
    }
}

#[test]
fn refusals() {
    let (mut engine, ..) = golden(1);
    let mut ask = |text: &str, ctx| {
        let options = PerplexityOptions { ctx, ..PerplexityOptions::default() };
        perplexity(&mut engine, text, &options, &mut |_| {}).unwrap_err()
    };
    let error = ask("too short", 64);
    assert!(matches!(error, JudgeError::TextTooShort { n_tokens: 9, n_needed: 64 }), "{error:?}");
    assert!(matches!(ask("x", 65), JudgeError::BadContext { ctx: 65, n_ctx: 64 }));
    assert!(matches!(ask("x", 0), JudgeError::BadContext { .. }));
    for stride in [0, 16] {
        let options = PerplexityOptions { ctx: 16, protocol: Protocol::Stride(stride), chunks: None };
        let error = perplexity_of_tokens(&mut engine, &[5; 40], None, &options, &mut |_| {}).unwrap_err();
        assert!(matches!(error, JudgeError::BadStride { .. }), "{error:?}");
    }
}

/// Negative log-probabilities of the prompt's tokens after the first, by the reference.
fn reference_nll(prompt: &[u32], logits: &[f32]) -> Vec<f64> {
    (0..prompt.len() - 1)
        .map(|position| {
            let row: Vec<f64> = logits[position * 64..][..64].iter().map(|&l| f64::from(l)).collect();
            row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[prompt[position + 1] as usize]
        })
        .collect()
}

/// `ln` of a perplexity, predictions and windows.
type Scored = (f64, usize, usize);
type Run<'a> = &'a mut dyn FnMut(&[u32]) -> Scored;

/// Windows that hold the whole prompt score every token of it. Which tokens later windows score, and behind which others,
/// shows where every window begins with the same tokens: then each predicts as the first does.
#[test]
fn whole_texts() {
    let (mut engine, prompt, logits) = golden(2);
    let nll = reference_nll(&prompt, &logits);
    let n = prompt.len();
    let mut run = |tokens: &[u32], bos, ctx, protocol| {
        let options = PerplexityOptions { ctx, chunks: None, protocol };
        let got = perplexity_of_tokens(&mut engine, tokens, bos, &options, &mut |_| {}).unwrap();
        (got.value.ln(), got.n_scored, got.n_chunks)
    };
    let mean = |nll: &[f64]| nll.iter().sum::<f64>() / nll.len() as f64;
    let check = |got: Scored, expected: Scored| {
        assert!((got.0 - expected.0).abs() < 1e-4, "{got:?} {expected:?}");
        assert_eq!((got.1, got.2), (expected.1, expected.2));
    };
    check(run(&prompt, None, n, Protocol::Stride(4)), (mean(&nll), n - 1, 1));
    check(run(&prompt[1..], Some(prompt[0]), n, Protocol::Full), (mean(&nll), n - 1, 1));
    check(run(&prompt, None, n, Protocol::Full), (mean(&nll), n - 1, 1));
    // Two windows of 11 tokens: the first is the prompt's beginning, the second runs behind the last token of the first.
    let full = run(&prompt[1..23], Some(prompt[0]), 11, Protocol::Full);
    let second = run(&prompt[11..23], None, 24, Protocol::Full);
    let sum = nll[..11].iter().sum::<f64>() + second.0 * second.1 as f64;
    check(full, (sum / 22.0, 22, 2));
    // The last window is short, so it begins earlier: with 18 tokens before its own 3.
    let full = run(&prompt[1..], Some(prompt[0]), 20, Protocol::Full);
    let last = run(&prompt[3..], None, 24, Protocol::Full);
    let before = run(&prompt[3..21], None, 24, Protocol::Full);
    let sum = nll[..20].iter().sum::<f64>() + last.0 * last.1 as f64 - before.0 * before.1 as f64;
    check(full, (sum / 23.0, 23, 2));
    // Windows of 16 tokens at 0, 6 and 8 more: 15, 6 and 2 new ones.
    let stride = run(&prompt, None, 16, Protocol::Stride(6));
    let tail = |from: usize, end: usize, n_new: usize, run: Run<'_>| {
        let (all, but) = (run(&prompt[from..end]), run(&prompt[from..end - n_new]));
        all.0 * all.1 as f64 - but.0 * but.1 as f64
    };
    let mut whole = |tokens: &[u32]| run(tokens, None, 24, Protocol::Full);
    let sum = nll[..15].iter().sum::<f64>() + tail(6, 22, 6, &mut whole) + tail(12, 24, 2, &mut whole);
    check(stride, (sum / 23.0, 23, 3));
}
