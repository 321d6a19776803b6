//! Encoders against the hidden states and the scores of `transformers`: within 1e-3, alone and beside others.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::path::{Path, PathBuf};

use common::{Parts, backends, exact, greedy, reference};
use whit_base::PoolKind;
use whit_engine::{
    CacheSize, EmbedRequest, Engine, EngineError, EngineOptions, Evaluation, Model, Prompt, Service,
    ServiceLimits,
};

const TOLERANCE: f32 = 1e-3;
const ENCODERS: [&str; 4] = ["bert", "nomic-bert", "modern-bert", "mpnet"];
const RANKERS: [&str; 3] = ["bert-rank", "xlmr-rank", "modern-bert-rank"];
const KINDS: [(Option<u32>, PoolKind); 4] = [
    (None, PoolKind::Mean),
    (Some(1), PoolKind::Mean),
    (Some(2), PoolKind::First),
    (Some(3), PoolKind::Last),
];

/// An encoder and what `transformers` says of some inputs.
struct Golden {
    name: &'static str,
    inputs: Vec<Vec<u32>>,
    /// Of pairs: where the second text begins.
    second: Vec<usize>,
    /// The states of every input's tokens, or its score.
    answers: Vec<Vec<Vec<f32>>>,
}

impl Golden {
    fn load(name: &'static str) -> Golden {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let inputs: Vec<Vec<u32>> = serde_json::from_value(json["inputs"].clone()).unwrap();
        let second: Vec<usize> = serde_json::from_value(json["second"].clone()).unwrap_or_default();
        let what = if second.is_empty() { "states" } else { "scores" };
        let bytes = std::fs::read(folder.join(format!("{name}.{what}.bin"))).unwrap();
        let floats: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let n_rows = |input: &Vec<u32>| if second.is_empty() { input.len() } else { 1 };
        let width = floats.len() / inputs.iter().map(n_rows).sum::<usize>();
        let mut rows = floats.chunks_exact(width).map(<[f32]>::to_vec);
        let answers = inputs.iter().map(|input| rows.by_ref().take(n_rows(input)).collect()).collect();
        Golden { name, inputs, second, answers }
    }

    /// The model as the folder that `transformers` saved.
    fn folder(&self, place: &Path) -> Model {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        common::folder::write(self.name, &golden, place);
        Model::open(place).unwrap()
    }

    fn model(&self, kind: Option<u32>) -> Model {
        let mut parts = Parts::of(self.name);
        let architecture = self.name.trim_end_matches("-rank").replace("xlmr", "bert");
        if let Some(kind) = kind {
            parts.writer.set(&format!("{architecture}.pooling_type"), kind);
        }
        parts.open().unwrap()
    }

    fn request(&self, index: usize) -> EmbedRequest {
        let tokens = &self.inputs[index];
        match self.second.get(index) {
            None => EmbedRequest::new(Prompt::Tokens(tokens.clone())),
            Some(&second) => EmbedRequest {
                document: Some(Prompt::Tokens(tokens[second..].to_vec())),
                ..EmbedRequest::new(Prompt::Tokens(tokens[..second].to_vec()))
            },
        }
    }

    /// The vector of an input's states, of length 1; or its score.
    fn expected(&self, index: usize, kind: PoolKind) -> Vec<f32> {
        let states = &self.answers[index];
        if !self.second.is_empty() {
            return states[0].clone();
        }
        let sum = |i: usize| states.iter().map(|state| f64::from(state[i])).sum::<f64>();
        let vector: Vec<f64> = (0..states[0].len())
            .map(|i| match kind {
                PoolKind::Mean => sum(i) / states.len() as f64,
                PoolKind::First => f64::from(states[0][i]),
                PoolKind::Last => f64::from(states[states.len() - 1][i]),
            })
            .collect();
        let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        vector.iter().map(|v| (v / length) as f32).collect()
    }
}

#[track_caller]
fn check(case: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{case}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let distance = (got - expected).abs();
        assert!(distance <= TOLERANCE, "{case}: {i}: {got}, but the reference gives {expected}");
    }
}

/// All inputs of a model, in several steps and in one.
fn check_all(golden: &Golden, model: &Model, kind: PoolKind) {
    for backend in backends() {
        for (max_rows, cache) in [
            (None, CacheSize::Each),
            (Some(1), CacheSize::Tokens(32)),
            (Some(200), CacheSize::Usual { memory: Some(1) }),
        ] {
            let options = EngineOptions { max_rows, cache, ..exact() };
            let mut engine = Engine::with_backend(model.clone(), &*backend, &options).unwrap();
            let free = engine.free_pages();
            let case = format!("{} {kind:?} on {}, {max_rows:?} rows", golden.name, engine.backend());
            let n = golden.inputs.len();
            // Each alone, and all of them twice at once.
            for index in 0..n {
                let embedded = engine.embed([golden.request(index)]).unwrap();
                check(&case, &embedded[0].vector, &golden.expected(index, kind));
                assert_eq!(embedded[0].usage.prompt_tokens, golden.inputs[index].len());
            }
            let requests = (0..2 * n).map(|index| golden.request(index % n));
            for (index, embedded) in engine.embed(requests).unwrap().iter().enumerate() {
                let case = format!("{case}, input {index} beside others");
                check(&case, &embedded.vector, &golden.expected(index % n, kind));
            }
            assert!(engine.is_idle());
            assert_eq!(engine.free_pages(), free, "{case}: pages leaked");
        }
    }
}

#[test]
fn vectors() {
    for golden in ENCODERS.map(Golden::load) {
        for (key, kind) in KINDS {
            check_all(&golden, &golden.model(key), kind);
        }
        let place = tempfile::tempdir().unwrap();
        check_all(&golden, &golden.folder(place.path()), PoolKind::Mean);
        // As the files of `sentence-transformers` have it.
        std::fs::create_dir(place.path().join("1_Pooling")).unwrap();
        std::fs::write(place.path().join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#)
            .unwrap();
        let modules =
            r#"[{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]"#;
        std::fs::write(place.path().join("modules.json"), modules).unwrap();
        check_all(&golden, &Model::open(place.path()).unwrap(), PoolKind::First);
    }
}

#[test]
fn scores() {
    for golden in RANKERS.map(Golden::load) {
        // Some files say that they rank, some do not.
        for key in [None, Some(4)] {
            check_all(&golden, &golden.model(key), PoolKind::First);
        }
        let place = tempfile::tempdir().unwrap();
        check_all(&golden, &golden.folder(place.path()), PoolKind::First);
    }
}

#[test]
fn many_texts_share_a_step() {
    let golden = Golden::load("bert");
    let mut engine = Engine::with_backend(golden.model(None), &reference(), &exact()).unwrap();
    let n_tokens: usize = golden.inputs.iter().map(Vec::len).sum();
    engine.embed((0..golden.inputs.len()).map(|index| golden.request(index))).unwrap();
    assert_eq!((engine.stats().steps, n_tokens), (1, 94));
    // No step is longer than the rows that there are, and nobody waits for ever.
    let options = EngineOptions { max_rows: Some(64), ..exact() };
    let mut engine = Engine::with_backend(golden.model(None), &reference(), &options).unwrap();
    engine.embed((0..golden.inputs.len()).map(|index| golden.request(index))).unwrap();
    assert_eq!(engine.stats().steps, 2);
}

#[test]
fn what_encoders_do_not_do() {
    let golden = Golden::load("bert");
    let mut engine = Engine::with_backend(golden.model(None), &reference(), &exact()).unwrap();
    assert!(engine.model().info().is_encoder && engine.model().info().is_embedder);
    assert!(matches!(engine.generate(greedy(&[5, 6], 3)), Err(EngineError::NoGeneration)));
    assert!(matches!(engine.submit(greedy(&[5, 6], 3)), Err(EngineError::NoGeneration)));
    let input = Evaluation { tokens: &[5, 6], outputs: 0..1 };
    assert!(matches!(engine.evaluate(&[input], &mut |_, _, _| {}), Err(EngineError::NoGeneration)));
    let pair = EmbedRequest { document: Some(Prompt::Tokens(vec![7])), ..golden.request(0) };
    assert!(matches!(engine.embed([pair]), Err(EngineError::DoesNotRank)));

    let ranker = Golden::load("bert-rank");
    let mut engine = Engine::with_backend(ranker.model(None), &reference(), &exact()).unwrap();
    let info = engine.model().info();
    assert!(info.ranks && info.is_encoder && !info.is_embedder);
    assert!(matches!(engine.embed([golden.request(0)]), Err(EngineError::OnlyRanks)));

    // A decoder ranks nothing either.
    let mut engine = Parts::of("llama-gqa-llama3").load().unwrap();
    assert!(!engine.model().info().is_encoder);
    let pair = EmbedRequest { document: Some(Prompt::Tokens(vec![7])), ..golden.request(0) };
    assert!(matches!(engine.embed([pair]), Err(EngineError::DoesNotRank)));
}

/// Contexts are no longer than the training, however the engine is set up, and what does not fit is refused with its
/// numbers or cut.
#[test]
fn texts_that_do_not_fit() {
    let golden = Golden::load("bert");
    for (ctx, cache, n_ctx) in [
        (None, CacheSize::Each, 64),
        (Some(10), CacheSize::Each, 10),
        (Some(4096), CacheSize::Each, 64),
        (Some(4096), CacheSize::Usual { memory: None }, 64),
    ] {
        let options = EngineOptions { ctx, cache, ..exact() };
        let mut engine = Engine::with_backend(golden.model(Some(2)), &reference(), &options).unwrap();
        assert_eq!(engine.n_ctx(), n_ctx);
        let long = |n: usize| EmbedRequest::new(Prompt::Tokens(vec![9; n]));
        let error = engine.embed([long(n_ctx + 3)]).unwrap_err();
        let EngineError::PromptTooLong { n_tokens, n_ctx: most, .. } = error else { panic!("{error}") };
        assert_eq!((n_tokens, most), (n_ctx + 3, n_ctx));
        let cut = engine.embed([EmbedRequest { truncate: true, ..long(n_ctx + 3) }]).unwrap();
        assert_eq!(cut, engine.embed([long(n_ctx)]).unwrap());
    }
    // A pair loses the end of its document.
    let ranker = Golden::load("bert-rank");
    let options = EngineOptions { ctx: Some(20), ..exact() };
    let mut engine = Engine::with_backend(ranker.model(None), &reference(), &options).unwrap();
    let pair = |document: &[u32], truncate| EmbedRequest {
        document: Some(Prompt::Tokens(document.to_vec())),
        truncate,
        ..EmbedRequest::new(Prompt::Tokens(vec![7; 8]))
    };
    let document: Vec<u32> = (10..40).collect();
    assert!(matches!(
        engine.embed([pair(&document, false)]),
        Err(EngineError::PromptTooLong { n_tokens: 38, n_ctx: 20, .. })
    ));
    let by_hand = [&document[..11], &document[29..]].concat();
    assert_eq!(
        engine.embed([pair(&document, true)]).unwrap(),
        engine.embed([pair(&by_hand, false)]).unwrap()
    );
}

#[test]
fn a_service_embeds_for_many() {
    let golden = Golden::load("modern-bert");
    let engine = Engine::with_backend(golden.model(None), &reference(), &exact()).unwrap();
    let service = Service::start(engine, ServiceLimits { max_queue: 200 }).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    for index in 0..100 {
        let sender = sender.clone();
        let request = golden.request(index % golden.inputs.len());
        service.embed(request, Box::new(move |item| sender.send((index, item)).is_ok())).unwrap();
    }
    drop(sender);
    let mut n_vectors = 0;
    for (index, item) in receiver {
        if let whit_engine::Event::Embedding(vector) = item.unwrap() {
            check("served", &vector, &golden.expected(index % golden.inputs.len(), PoolKind::Mean));
            n_vectors += 1;
        }
    }
    assert_eq!(n_vectors, 100);
}
