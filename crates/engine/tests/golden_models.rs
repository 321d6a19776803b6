//! Every architecture against `transformers`, as a GGUF file and as the folder that `transformers` saved: logits within 1e-3, and the same greedy tokens, however the tokens come:
//! whole or in chunks, alone or beside others, with and without a cached prefix.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::collections::HashMap;

use common::{Golden, answer, backends, exact, greedy};
use whit_engine::{EngineOptions, Evaluation, Event};

const TOLERANCE: f32 = 1e-3;

fn check_rows(golden: &Golden, case: &str, rows: &HashMap<(usize, usize), Vec<f32>>, n_inputs: usize) {
    assert_eq!(rows.len(), n_inputs * golden.prompt.len(), "{case}: every row once");
    for ((_, position), row) in rows {
        let expected = &golden.logits[position * golden.n_vocab..(position + 1) * golden.n_vocab];
        for (token, (got, expected)) in row.iter().zip(expected).enumerate() {
            let distance = (got - expected).abs();
            assert!(
                distance <= TOLERANCE,
                "{case}: position {position}, token {token}: {got}, but the reference gives {expected}"
            );
        }
    }
}

#[test]
fn logits() {
    for golden in Golden::all_forms() {
        for backend in backends() {
            // (tokens per step, sequences at the same time, inputs)
            for (max_rows, max_sequences, n_inputs) in
                [(None, 1, 1), (Some(7), 1, 1), (Some(1), 1, 1), (Some(32), 3, 5)]
            {
                let options = EngineOptions { max_rows, max_sequences, ..exact() };
                let mut engine = golden.engine(&*backend, &options);
                let (form, level) = (golden.form(), engine.backend());
                let case = format!("{form} on {level}, {max_rows:?} rows, {n_inputs} inputs");
                let input = Evaluation { tokens: &golden.prompt, outputs: 0..golden.prompt.len() };
                let mut rows = HashMap::new();
                engine
                    .evaluate(&vec![input; n_inputs], &mut |index, position, row| {
                        rows.insert((index, position), row.to_vec());
                    })
                    .unwrap();
                check_rows(&golden, &case, &rows, n_inputs);
            }
        }
    }
}

#[test]
fn greedy_tokens() {
    for golden in Golden::all_forms() {
        for backend in backends() {
            for max_rows in [None, Some(7), Some(1)] {
                let options = EngineOptions { max_rows, ..exact() };
                let mut engine = golden.engine(&*backend, &options);
                let case = format!("{} on {}, {max_rows:?} rows", golden.form(), engine.backend());
                let n = golden.greedy.len();
                let (ids, done) = answer(&mut engine, greedy(&golden.prompt, n));
                assert_eq!(ids, golden.greedy, "{case}");
                assert_eq!((done.usage.cached_tokens, done.usage.generated_tokens), (0, n), "{case}");

                // The same again, from the cache.
                let (ids, done) = answer(&mut engine, greedy(&golden.prompt, n));
                assert_eq!(ids, golden.greedy, "{case}, with a cached prefix");
                assert_eq!(done.usage.cached_tokens, golden.prompt.len() - 1, "{case}");

                // From the middle of the answer, as the next turn of a conversation would.
                let longer = [&golden.prompt[..], &golden.greedy[..10]].concat();
                let (ids, done) = answer(&mut engine, greedy(&longer, n - 10));
                assert_eq!(ids, golden.greedy[10..], "{case}, with a cached answer");
                assert_eq!(done.usage.cached_tokens, longer.len() - 1, "{case}");
            }
        }
    }
}

#[test]
fn greedy_tokens_beside_others() {
    for golden in Golden::all() {
        for backend in backends() {
            let options = EngineOptions { max_rows: Some(16), max_sequences: 3, ..exact() };
            let mut engine = golden.engine(&*backend, &options);
            // The golden one among others of other lengths, of which some have to wait.
            let mut ids = HashMap::new();
            let whole = golden.prompt.len();
            for (length, n) in [(5, 3), (whole, 24), (17, 9), (whole, 24), (1, 20)] {
                let id = engine.submit(greedy(&golden.prompt[..length], n)).unwrap();
                ids.insert(id, (length, Vec::new()));
            }
            while !engine.is_idle() {
                engine
                    .step(&mut |id, item| {
                        if let Event::Token { id: token, .. } = item.unwrap() {
                            ids.get_mut(&id).unwrap().1.push(token);
                        }
                    })
                    .unwrap();
            }
            for (length, tokens) in ids.into_values().filter(|(length, _)| *length == golden.prompt.len()) {
                assert_eq!(tokens, golden.greedy, "{} beside others, {length}", golden.name);
            }
        }
    }
}
