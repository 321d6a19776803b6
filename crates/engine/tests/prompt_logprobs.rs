//! Log-probabilities of prompts against the logits of `transformers`, however the prompt comes.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::collections::HashMap;

use common::{Golden, backends, exact, greedy};
use whit_engine::{EngineError, EngineOptions, Event, FinishReason, Overflow, PromptToken, Request};

const TOLERANCE: f64 = 1e-3;

/// The log-probability of each token after the first `position + 1` ones.
fn log_softmax(golden: &Golden, position: usize) -> Vec<f64> {
    let row = &golden.logits[position * golden.n_vocab..(position + 1) * golden.n_vocab];
    let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
    row.iter().map(|&logit| f64::from(logit) - sum.ln()).collect()
}

#[track_caller]
fn check(case: &str, golden: &Golden, got: &[PromptToken], n: usize, n_top: usize) {
    assert_eq!(got.len(), n, "{case}");
    for (position, token) in got.iter().enumerate() {
        assert_eq!(token.id, golden.prompt[position], "{case}");
        let Some(before) = position.checked_sub(1) else {
            assert_eq!((token.logprob, token.top.len()), (None, 0), "{case}");
            continue;
        };
        let expected = log_softmax(golden, before);
        let logprob = f64::from(token.logprob.unwrap());
        assert!((logprob - expected[token.id as usize]).abs() < TOLERANCE, "{case}: {position}");
        let mut best: Vec<f64> = expected.clone();
        best.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(token.top.len(), n_top, "{case}");
        for (&(id, logprob), best) in token.top.iter().zip(best) {
            assert!((f64::from(logprob) - best).abs() < TOLERANCE, "{case}: {position}");
            assert!((f64::from(logprob) - expected[id as usize]).abs() < TOLERANCE, "{case}: {position}");
        }
    }
}

fn scored(prompt: &[u32], max_tokens: usize, n_top: usize) -> Request {
    Request { prompt_logprobs: Some(n_top), ..greedy(prompt, max_tokens) }
}

#[test]
fn prompts_are_scored() {
    for golden in Golden::all() {
        let whole = golden.prompt.len();
        for backend in backends() {
            for (max_rows, max_sequences) in [(None, 1), (Some(7), 1), (Some(1), 1), (Some(12), 3)] {
                let options = EngineOptions { max_rows, max_sequences, ..exact() };
                let mut engine = golden.engine(&*backend, &options);
                // (tokens of the prompt, to generate, likeliest); a prefix in the cache changes nothing.
                let wanted = [(whole, 0, 3), (1, 0, 1), (whole, 24, 2), (2, 1, 0), (5, 0, 1), (1, 2, 1)];
                let mut got = HashMap::new();
                for (n, max_tokens, n_top) in wanted {
                    let id = engine.submit(scored(&golden.prompt[..n], max_tokens, n_top)).unwrap();
                    got.insert(id, (n, max_tokens, n_top, Vec::new(), Vec::new(), None));
                }
                while !engine.is_idle() {
                    engine
                        .step(&mut |id, item| {
                            let (.., scores, tokens, end) = got.get_mut(&id).unwrap();
                            match item.unwrap() {
                                Event::Prompt(more) => {
                                    assert!(tokens.is_empty(), "the prompt comes first");
                                    scores.extend(more);
                                }
                                Event::Token { id, .. } => tokens.push(id),
                                Event::Done(done) => *end = Some(done),
                                other => panic!("{other:?}"),
                            }
                        })
                        .unwrap();
                }
                for (n, max_tokens, n_top, scores, tokens, end) in got.into_values() {
                    let case = format!("{}, {max_rows:?} rows, {n} + {max_tokens}", golden.name);
                    check(&case, &golden, &scores, n, n_top);
                    assert_eq!(tokens.len(), max_tokens, "{case}");
                    if n == whole {
                        assert_eq!(tokens, golden.greedy[..max_tokens], "{case}");
                    }
                    let end = end.unwrap();
                    // A random model may end a shortened prompt's answer by itself, with its last token.
                    assert!(
                        end.reason == FinishReason::Length || n < whole && end.reason == FinishReason::Eos,
                        "{case}"
                    );
                    assert_eq!(end.usage.cached_tokens, 0, "{case}");
                    assert_eq!(end.usage.generated_tokens, max_tokens, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_prompt_that_is_scored_is_never_shifted() {
    let golden = Golden::load("llama-gqa-llama3");
    let mut engine = golden.engine(&common::reference(), &EngineOptions { ctx: Some(10), ..exact() });
    let request = Request { overflow: Overflow::Shift, ..scored(&golden.prompt, 0, 1) };
    assert!(matches!(engine.submit(request), Err(EngineError::PromptTooLong { .. })));
    // Nothing to generate and nothing to say: the prompt is read, for its prefix to be there.
    let mut engine = golden.engine(&common::reference(), &exact());
    let events: Vec<_> = engine.generate(greedy(&golden.prompt, 0)).unwrap().map(Result::unwrap).collect();
    assert!(matches!(events[..], [Event::Done(done)] if done.reason == FinishReason::Length));
    let (_, done) = common::answer(&mut engine, greedy(&golden.prompt, 1));
    assert_eq!(done.usage.cached_tokens, golden.prompt.len() - 1);
}
