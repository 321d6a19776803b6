//! The tokens that survive the chain and their probabilities: against a numpy implementation (`scripts/golden.py`),
//! against a plain one that sorts everything, and as frequencies of the draw.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use serde_json::Value;
use whit_sample::{Choice, SampleError, Sampler, SamplerConfig};

/// Every stage off, temperature 1.
fn off() -> SamplerConfig {
    SamplerConfig { top_k: 0, top_p: 1.0, temperature: 1.0, seed: Some(1), ..Default::default() }
}

fn distribution(sampler: &mut Sampler, logits: &[f32], mask: Option<&[u32]>) -> Vec<Choice> {
    let mut out = Vec::new();
    sampler.distribution(logits, mask, &mut out).unwrap();
    out
}

fn mask_of(n_vocab: usize, allowed: impl IntoIterator<Item = usize>) -> Vec<u32> {
    let mut mask = vec![0u32; n_vocab.div_ceil(32)];
    for token in allowed {
        mask[token / 32] |= 1 << (token % 32);
    }
    mask
}

fn config_of(settings: &Value) -> SamplerConfig {
    let number = |name: &str, otherwise: f32| settings[name].as_f64().map_or(otherwise, |x| x as f32);
    let d = off();
    SamplerConfig {
        logit_bias: settings["logit_bias"].as_array().map_or(vec![], |list| {
            list.iter().map(|e| (e[0].as_u64().unwrap() as u32, e[1].as_f64().unwrap() as f32)).collect()
        }),
        repeat_last_n: settings["repeat_last_n"].as_i64().map_or(d.repeat_last_n, |n| n as i32),
        repeat_penalty: number("repeat_penalty", d.repeat_penalty),
        presence_penalty: number("presence_penalty", d.presence_penalty),
        frequency_penalty: number("frequency_penalty", d.frequency_penalty),
        top_k: settings["top_k"].as_u64().map_or(d.top_k, |n| n as u32),
        typical_p: number("typical_p", d.typical_p),
        top_p: number("top_p", d.top_p),
        min_p: number("min_p", d.min_p),
        temperature: number("temperature", d.temperature),
        ..d
    }
}

#[test]
fn numpy_reference() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/distributions.json")).unwrap();
    assert!(cases.len() > 100);
    for (index, case) in cases.iter().enumerate() {
        let numbers = |name: &str| -> Vec<f64> {
            case[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let logits: Vec<f32> = numbers("logits").iter().map(|&x| x as f32).collect();
        let mask = case["allowed"]
            .as_array()
            .map(|list| mask_of(logits.len(), list.iter().map(|x| x.as_u64().unwrap() as usize)));
        let mut sampler = Sampler::new(config_of(&case["settings"]), logits.len()).unwrap();
        for token in numbers("history") {
            sampler.accept(token as u32);
        }
        // The file holds all ids, ascending, and the largest probabilities.
        let mut got = distribution(&mut sampler, &logits, mask.as_deref());
        got.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.id.cmp(&b.id)));
        let (expected, probabilities) = (numbers("ids"), numbers("probabilities"));
        let mut ids: Vec<f64> = got.iter().map(|choice| f64::from(choice.id)).collect();
        ids.sort_by(f64::total_cmp);
        let about = format!("case {index}: {}, {} logits", case["settings"], logits.len());
        assert_eq!(ids, expected, "{about}");
        for (choice, expected) in got.iter().zip(probabilities) {
            let error = (f64::from(choice.probability) - expected).abs();
            assert!(error <= 1e-5 * expected + 1e-9, "{about}: {choice:?}, expected {expected}");
        }
    }
}

/// What is left of the ids, by sorting everything at every stage.
fn survivors_by_sorting(logits: &[f32], config: &SamplerConfig, allowed: &[bool]) -> Vec<u32> {
    let mut ids: Vec<usize> =
        (0..logits.len()).filter(|&i| allowed[i] && logits[i] > f32::NEG_INFINITY).collect();
    let sort = |ids: &mut Vec<usize>| {
        ids.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
    };
    let shares = |ids: &[usize]| -> Vec<f64> {
        let max = ids.iter().map(|&i| f64::from(logits[i])).fold(f64::MIN, f64::max);
        let weights: Vec<f64> = ids.iter().map(|&i| (f64::from(logits[i]) - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    };
    let until = |ids: &mut Vec<usize>, enough: &dyn Fn(f64) -> bool| {
        let mut sum = 0.0;
        let n = shares(ids).iter().position(|share| {
            sum += share;
            enough(sum)
        });
        ids.truncate(n.map_or(ids.len(), |n| n + 1));
    };
    sort(&mut ids);
    if config.top_k > 0 {
        ids.truncate(config.top_k as usize);
    }
    if config.top_p < 1.0 {
        until(&mut ids, &|sum| sum >= f64::from(config.top_p));
    }
    if config.min_p > 0.0 {
        let floor = f64::from(logits[ids[0]]) + f64::from(config.min_p).ln();
        ids.retain(|&i| f64::from(logits[i]) >= floor);
    }
    ids.sort_unstable();
    ids.iter().map(|&i| i as u32).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Logits are multiples of 1/4, so that ties are common; the fractions are no sums of such weights.
    #[test]
    fn selection_equals_sorting(
        quarters in prop::collection::vec(prop_oneof![8 => -80i32..80, 1 => Just(i32::MIN)], 1..1500),
        top_k in prop_oneof![Just(0u32), 1u32..60, 300u32..2000],
        top_p in prop_oneof![Just(1.0f32), 0.001f32..0.9999],
        min_p in prop_oneof![Just(0.0f32), 0.00001f32..0.99],
        allow in any::<u64>(),
    ) {
        let logits: Vec<f32> = quarters
            .iter()
            .map(|&q| if q == i32::MIN { f32::NEG_INFINITY } else { q as f32 / 4.0 })
            .collect();
        // Whole words of nothing allowed, of everything, and of some.
        let allowed: Vec<bool> = (0..logits.len())
            .map(|i| match allow >> (i / 32 % 32) & 3 { 0 => false, 1 => i % 3 == 0, _ => true })
            .collect();
        let mask = mask_of(logits.len(), (0..logits.len()).filter(|&i| allowed[i]));
        let config = SamplerConfig { top_k, top_p, min_p, ..off() };
        let mut sampler = Sampler::new(config.clone(), logits.len()).unwrap();
        let mut got = Vec::new();
        if (0..logits.len()).any(|i| allowed[i] && logits[i] > f32::NEG_INFINITY) {
            sampler.distribution(&logits, Some(&mask), &mut got).unwrap();
            let mut ids: Vec<u32> = got.iter().map(|choice| choice.id).collect();
            ids.sort_unstable();
            prop_assert_eq!(ids, survivors_by_sorting(&logits, &config, &allowed));
            let sum: f64 = got.iter().map(|choice| f64::from(choice.probability)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-4);
        } else {
            prop_assert_eq!(sampler.sample_masked(&logits, &mask), Err(SampleError::NothingAllowed));
        }
    }
}

/// Pearson's statistic of 20,000 draws against the probabilities that softmax gives; its 99.9th percentile for 9
/// degrees of freedom is 27.9. The seed is fixed, so this passes always or never.
#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = (0..10).map(|i| i as f32 * 0.37 - 1.0).collect();
    for temperature in [0.5f32, 1.0, 2.0] {
        let weights: Vec<f64> = logits.iter().map(|&x| f64::from(x / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let config = SamplerConfig { temperature, seed: Some(42), ..off() };
        let mut sampler = Sampler::new(config, logits.len()).unwrap();
        let mut counts = [0u32; 10];
        for _ in 0..20_000 {
            counts[sampler.sample(&logits).unwrap().id as usize] += 1;
        }
        let statistic: f64 = counts
            .iter()
            .zip(&weights)
            .map(|(&count, weight)| {
                let expected = 20_000.0 * weight / total;
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum();
        assert!(statistic < 27.9, "temperature {temperature}: {statistic}, {counts:?}");
    }
}

#[test]
fn one_seed_one_text() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 / 400.0).collect();
    let draw = |seed, reset: bool| -> Vec<u32> {
        let config = SamplerConfig { seed: Some(seed), repeat_penalty: 1.2, ..Default::default() };
        let mut sampler = Sampler::new(config, logits.len()).unwrap();
        let mut run = |n| -> Vec<u32> {
            let step = |_| {
                let id = sampler.sample(&logits).unwrap().id;
                sampler.accept(id);
                id
            };
            let ids = (0..n).map(step).collect();
            sampler.reset();
            ids
        };
        if reset {
            run(17);
        }
        run(50)
    };
    assert_eq!(draw(5, false), draw(5, false));
    assert_eq!(draw(5, false), draw(5, true));
    assert_ne!(draw(5, false), draw(6, false));
}

#[test]
fn edges() {
    let inf = f32::INFINITY;
    let greedy = || SamplerConfig { temperature: 0.0, ..off() };
    // (settings, logits, the ids that may be drawn)
    let cases: Vec<(SamplerConfig, Vec<f32>, Vec<u32>)> = vec![
        (off(), vec![-inf, -inf, 3.0, -inf], vec![2]),
        (SamplerConfig::default(), vec![-inf, -inf, 3.0, -inf], vec![2]),
        (SamplerConfig { typical_p: 0.5, ..off() }, vec![-inf, -inf, 3.0, -inf], vec![2]),
        (off(), vec![-7.0], vec![0]),
        (greedy(), vec![-7.0], vec![0]),
        (SamplerConfig { top_p: 0.0, ..off() }, vec![1.0, 2.0, 2.0, 0.0], vec![1]),
        (SamplerConfig { top_k: 9, ..off() }, vec![1.0, 2.0, 2.0, 0.0], vec![0, 1, 2, 3]),
        (SamplerConfig { top_k: 4, ..off() }, vec![1.0, 2.0, 2.0, 0.0], vec![0, 1, 2, 3]),
        // Of equals the lowest ids stay.
        (SamplerConfig { top_k: 2, ..off() }, vec![1.0; 100], vec![0, 1]),
        (SamplerConfig { top_k: 1, ..off() }, vec![-0.0, 0.0], vec![0]),
        (SamplerConfig { top_p: 0.5, ..off() }, vec![1.0; 3000], (0..1500).collect()),
        (SamplerConfig { min_p: 1.0, ..off() }, vec![1.0, 2.0, 2.0, 0.0], vec![1, 2]),
        (greedy(), vec![1.0, 2.0, 2.0, 0.0], vec![1]),
        (greedy(), vec![-0.0, 0.0], vec![0]),
        (greedy(), vec![f32::MIN, -inf], vec![0]),
        (SamplerConfig { temperature: 1e-30, ..off() }, vec![1.0, 2.0, 1.999], vec![0, 1, 2]),
        (SamplerConfig { logit_bias: vec![(1, -inf)], ..greedy() }, vec![1.0, 9.0], vec![0]),
    ];
    for (config, logits, expected) in cases {
        let mut sampler = Sampler::new(config.clone(), logits.len()).unwrap();
        let mut ids: Vec<u32> = distribution(&mut sampler, &logits, None).iter().map(|c| c.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected, "{config:?}");
        for _ in 0..20 {
            assert!(expected.contains(&sampler.sample(&logits).unwrap().id));
        }
    }
    let cold = SamplerConfig { temperature: 1e-30, ..off() };
    assert_eq!(Sampler::new(cold, 3).unwrap().sample(&[1.0, 2.0, 1.999]).unwrap().id, 1);
}

#[test]
fn bad_logits_and_masks() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let every = [
        off(),
        SamplerConfig::default(),
        SamplerConfig::greedy(),
        SamplerConfig { typical_p: 0.5, ..off() },
        SamplerConfig { top_k: 2, ..off() },
    ];
    for config in every {
        let mut sampler = Sampler::new(config, 40).unwrap();
        let mut fails = |at: usize, value: f32| {
            let mut logits = vec![0.5; 40];
            logits[at] = value;
            match sampler.sample(&logits) {
                Err(SampleError::NotANumber { token, .. }) => assert_eq!(token as usize, at),
                other => panic!("{value} at {at}: {other:?}"),
            }
        };
        fails(0, nan);
        fails(39, nan);
        fails(33, inf);
        assert_eq!(sampler.sample(&[-inf; 40]), Err(SampleError::NothingAllowed));
        assert_eq!(sampler.sample_masked(&[0.0; 40], &[0, 0]), Err(SampleError::NothingAllowed));
        assert_eq!(sampler.sample(&[0.0; 39]), Err(SampleError::LogitCount { expected: 40, got: 39 }));
        assert_eq!(
            sampler.sample_masked(&[0.0; 40], &[1]),
            Err(SampleError::MaskLength { expected: 2, got: 1 })
        );
        assert_eq!(sampler.sample_masked(&[0.0; 40], &[0, 1 << 7]).unwrap().id, 39);
    }
    assert_eq!(Sampler::new(off(), 0).unwrap_err(), SampleError::Vocabulary { vocab_size: 0 });
    let biased = SamplerConfig { logit_bias: vec![(4, 1.0)], ..off() };
    assert_eq!(Sampler::new(biased, 4).unwrap_err(), SampleError::BiasToken { token: 4, vocab_size: 4 });
}

/// Values: `logits - log(sum(exp(logits)))` by numpy.
#[test]
fn logprobs_are_the_models_own() {
    let logits = [1.0, 3.0, 2.0, -1.0];
    let expected = [-2.419_717f32, -0.419_717, -1.419_717, -4.419_717];
    // Bias and temperature choose token 3; its log-probability is still the model's.
    let config = SamplerConfig { logprobs: Some(2), logit_bias: vec![(3, 50.0)], temperature: 0.1, ..off() };
    let sampled = Sampler::new(config, 4).unwrap().sample(&logits).unwrap();
    assert_eq!(sampled.id, 3);
    assert!((sampled.logprob.unwrap() - expected[3]).abs() < 1e-6);
    assert_eq!(sampled.top.iter().map(|entry| entry.0).collect::<Vec<_>>(), [1, 2]);
    for (id, logprob) in sampled.top {
        assert!((logprob - expected[id as usize]).abs() < 1e-6);
    }
    for (n, length) in [(0, 0), (9, 4)] {
        let config = SamplerConfig { logprobs: Some(n), ..off() };
        let sampled = Sampler::new(config, 4).unwrap().sample(&logits).unwrap();
        assert_eq!(sampled.top.len(), length);
        assert!(sampled.logprob.is_some());
    }
    assert_eq!(Sampler::new(off(), 4).unwrap().sample(&logits).unwrap().logprob, None);
}
