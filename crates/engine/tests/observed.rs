//! What an observer sees of every golden model: the same on every backend, whether operations are fused or not, and without
//! changing what comes out.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::collections::BTreeMap;

use common::{Golden, backends, exact, reference};
use whit_engine::{EngineOptions, Evaluation, Observer, ProductInput};

/// The name of a weight, and which expert's.
type Key = (String, Option<(usize, usize)>);

/// Rows, and the sums of squares of their columns.
#[derive(Default)]
struct Seen(BTreeMap<Key, (usize, Vec<f64>)>);

impl Observer for Seen {
    fn input(&mut self, input: ProductInput<'_>) {
        for weight in input.weights {
            assert_eq!(weight.n_cols, input.n_cols(), "{}", weight.name);
            let key = (weight.name.clone(), input.expert);
            let (n, sums) = self.0.entry(key).or_insert_with(|| (0, vec![0.0; input.n_cols()]));
            *n += input.rows().len();
            for row in input.rows() {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x).powi(2));
            }
        }
    }
}

#[test]
fn every_backend_shows_the_same() {
    for golden in Golden::all() {
        let n = golden.prompt.len();
        let run = |engine: &mut whit_engine::Engine| {
            let input = [Evaluation { tokens: &golden.prompt, outputs: 0..n }];
            let (mut seen, mut with, mut without) = (Seen::default(), Vec::new(), Vec::new());
            engine
                .evaluate_observed(&input, &mut seen, &mut |_, _, row| with.extend_from_slice(row))
                .unwrap();
            engine.evaluate(&input, &mut |_, _, row| without.extend_from_slice(row)).unwrap();
            assert_eq!(with, without, "{}: looking on changes nothing", golden.name);
            seen.0
        };
        let expected = run(&mut golden.engine(&reference(), &exact()));
        assert!(expected.values().all(|(rows, _)| *rows > 0));
        // Outside of mixtures, every row goes into every product, where a model uses a weight twice two times.
        let is_whole =
            |((_, expert), (rows, _)): (&Key, &(usize, Vec<f64>))| expert.is_some() || rows.is_multiple_of(n);
        assert!(expected.iter().all(is_whole), "{}", golden.name);
        for backend in backends() {
            for max_rows in [None, Some(7)] {
                let mut engine = golden.engine(&*backend, &EngineOptions { max_rows, ..exact() });
                let case = format!("{} on {}, {max_rows:?} rows", golden.name, engine.backend());
                let got = run(&mut engine);
                assert!(got.keys().eq(expected.keys()), "{case}: other products");
                for ((key, (rows, sums)), (expected_rows, expected)) in got.iter().zip(expected.values()) {
                    assert_eq!(rows, expected_rows, "{case}: {key:?}");
                    let most = expected.iter().copied().fold(0.0, f64::max);
                    for (column, (got, expected)) in sums.iter().zip(expected).enumerate() {
                        let distance = (got - expected).abs();
                        assert!(distance <= 2e-3 * most, "{case}: {key:?}, {column}: {got}, not {expected}");
                    }
                }
            }
        }
    }
}
