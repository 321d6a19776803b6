//! Vectors of texts against the hidden states of `transformers`: within 1e-3, however the tokens come, whole or in chunks,
//! alone or beside others.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::{Golden, Parts, answer, backends, exact, greedy, reference};
use whit_base::PoolKind;
use whit_engine::{
    CancelToken, EmbedRequest, Engine, EngineError, EngineOptions, Event, FinishReason, Item, Model, Prompt,
    Service, ServiceLimits,
};

const TOLERANCE: f32 = 1e-3;
const LLAMA: &str = "llama-gqa-llama3";
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a file says it, and what it means; nothing said means the last.
const KINDS: [(Option<u32>, PoolKind); 4] = [
    (None, PoolKind::Last),
    (Some(1), PoolKind::Mean),
    (Some(2), PoolKind::First),
    (Some(3), PoolKind::Last),
];

fn model(name: &str, kind: Option<u32>) -> Model {
    let mut parts = Parts::of(name);
    if let Some(kind) = kind {
        let architecture = Model::open(Golden::load(name).path).unwrap().info().architecture.clone();
        parts.writer.set(&format!("{architecture}.pooling_type"), kind);
    }
    parts.open().unwrap()
}

/// What the reference's states come to, of the first `n` tokens.
fn expected(golden: &Golden, kind: PoolKind, n: usize) -> Vec<f32> {
    let states = &golden.states[..n];
    let width = states[0].len();
    let vector: Vec<f64> = (0..width)
        .map(|i| match kind {
            PoolKind::Mean => states.iter().map(|state| f64::from(state[i])).sum::<f64>() / n as f64,
            PoolKind::First => f64::from(states[0][i]),
            PoolKind::Last => f64::from(states[n - 1][i]),
        })
        .collect();
    let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
    vector.iter().map(|v| (v / length) as f32).collect()
}

#[track_caller]
fn check(case: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{case}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= TOLERANCE,
            "{case}: {i}: {got}, but the reference gives {expected}"
        );
    }
}

fn request(tokens: &[u32]) -> EmbedRequest {
    EmbedRequest::new(Prompt::Tokens(tokens.to_vec()))
}

#[test]
fn vectors() {
    for golden in Golden::all() {
        let whole = golden.prompt.len();
        for (key, kind) in KINDS {
            let model = model(&golden.name, key);
            for backend in backends() {
                // (tokens per step, sequences at the same time, lengths)
                for (max_rows, max_sequences, lengths) in [
                    (None, 1, vec![whole]),
                    (Some(7), 1, vec![whole, 1]),
                    (Some(1), 1, vec![9]),
                    (Some(16), 3, vec![whole, 3, whole, 17, 1]),
                ] {
                    let options = golden.options(&EngineOptions { max_rows, max_sequences, ..exact() });
                    let mut engine = Engine::with_backend(model.clone(), &*backend, &options).unwrap();
                    let requests = lengths.iter().map(|&n| request(&golden.prompt[..n]));
                    let embedded = engine.embed(requests).unwrap();
                    for (embedded, &n) in embedded.iter().zip(&lengths) {
                        let case = format!("{} {kind:?}, {max_rows:?} rows, {n} tokens", golden.name);
                        check(&case, &embedded.vector, &expected(&golden, kind, n));
                        assert_eq!((embedded.usage.prompt_tokens, embedded.usage.cached_tokens), (n, 0));
                    }
                    assert!(engine.is_idle());
                }
            }
        }
    }
}

#[test]
fn vectors_and_answers_share_steps() {
    let golden = Golden::load(LLAMA);
    for (key, kind) in KINDS {
        let options = EngineOptions { max_rows: Some(8), max_sequences: 3, ..exact() };
        let mut engine = Engine::with_backend(model(LLAMA, key), &reference(), &options).unwrap();
        let free = engine.free_pages();
        let asked = engine.submit(greedy(&golden.prompt, 24)).unwrap();
        let embedded = engine.submit_embedding(request(&golden.prompt)).unwrap();
        let (mut tokens, mut vector, mut n_done) = (Vec::new(), Vec::new(), 0);
        while !engine.is_idle() {
            engine
                .step(&mut |id, item| match item.unwrap() {
                    Event::Token { id: token, .. } => {
                        assert_eq!(id, asked);
                        tokens.push(token);
                    }
                    Event::Embedding(it) => {
                        assert_eq!(id, embedded);
                        assert!(tokens.len() < 24, "the vector does not wait for the answer");
                        vector = it;
                    }
                    Event::Done(_) => n_done += 1,
                    other => panic!("{other:?}"),
                })
                .unwrap();
        }
        assert_eq!((&tokens, n_done), (&golden.greedy, 2));
        check("beside an answer", &vector, &expected(&golden, kind, golden.prompt.len()));
        // Neither takes anything from the other's cache: a vector depends on its text alone.
        let (_, done) = answer(&mut engine, greedy(&golden.prompt, 1));
        assert_eq!(done.usage.cached_tokens, golden.prompt.len() - 1);
        assert_eq!(engine.embed([request(&golden.prompt)]).unwrap()[0].usage.cached_tokens, 0);
        engine.clear_prefixes();
        assert_eq!(engine.free_pages(), free, "pages leaked");
        engine.embed([request(&golden.prompt)]).unwrap();
        let (_, done) = answer(&mut engine, greedy(&golden.prompt, 1));
        assert_eq!(done.usage.cached_tokens, 0);
    }
}

#[test]
fn texts_that_do_not_fit() {
    let golden = Golden::load(LLAMA);
    let mut engine = golden.engine(&reference(), &EngineOptions { ctx: Some(10), ..exact() });
    let error = engine.embed([request(&golden.prompt)]).unwrap_err();
    assert!(matches!(error, EngineError::PromptTooLong { n_tokens: 24, n_ctx: 10, .. }), "{error}");
    assert!(engine.is_idle());
    for (ctx, n) in [(None, 10), (Some(7), 7), (Some(99), 10)] {
        let cut = EmbedRequest { truncate: true, ctx, ..request(&golden.prompt) };
        let embedded = engine.embed([cut]).unwrap();
        check("cut", &embedded[0].vector, &expected(&golden, PoolKind::Last, n));
        assert_eq!(embedded[0].usage.prompt_tokens, n);
    }
    assert!(matches!(engine.embed([request(&[])]), Err(EngineError::EmptyPrompt)));
    assert!(matches!(engine.embed([request(&[64])]), Err(EngineError::TokenOutOfRange { .. })));
    let none = EmbedRequest { ctx: Some(0), ..request(&[5]) };
    assert!(matches!(engine.embed([none]), Err(EngineError::Setting { .. })));
}

/// A text gets the tokens that close it, also when its end is left out.
#[test]
fn texts_are_closed() {
    let model = |adds: bool| {
        let mut parts = Parts::of(LLAMA);
        parts.writer.set("tokenizer.ggml.add_eos_token", adds);
        parts.open().unwrap()
    };
    let golden = Golden::load(LLAMA);
    let text: String = {
        let tokenizer = model(false);
        let tokenizer = tokenizer.tokenizer().unwrap();
        let mut bytes = Vec::new();
        golden.prompt.iter().for_each(|&id| tokenizer.token_bytes(id, &mut bytes).unwrap());
        String::from_utf8(bytes).unwrap()
    };
    let embed = |adds, input: Prompt, truncate, ctx| {
        let mut engine = Engine::with_backend(model(adds), &reference(), &exact()).unwrap();
        let request = EmbedRequest { truncate, ctx, ..EmbedRequest::new(input) };
        engine.embed([request]).unwrap().remove(0)
    };
    let open = embed(false, Prompt::Text(text.clone()), false, None);
    check("open", &open.vector, &expected(&golden, PoolKind::Last, golden.prompt.len()));
    let eos = 1;
    let closed = embed(true, Prompt::Text(text.clone()), false, None);
    let by_hand = embed(false, Prompt::Tokens([&golden.prompt[..], &[eos]].concat()), false, None);
    assert_eq!(closed, by_hand);
    let cut = embed(true, Prompt::Text(text), true, Some(9));
    let by_hand = embed(false, Prompt::Tokens([&golden.prompt[..8], &[eos]].concat()), false, None);
    assert_eq!(cut, by_hand);
}

fn collect(receiver: &Receiver<Item>) -> (Vec<f32>, FinishReason) {
    let mut vector = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE).expect("the last event must come").unwrap() {
            Event::Embedding(it) => vector = it,
            Event::Done(done) => return (vector, done.reason),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_service_embeds_for_many() {
    let golden = Golden::load(LLAMA);
    let options = EngineOptions { max_sequences: 2, ..exact() };
    let service =
        Service::start(golden.engine(&reference(), &options), ServiceLimits { max_queue: 20 }).unwrap();
    let embed = |request: EmbedRequest| {
        let (sender, receiver) = channel();
        service.embed(request, Box::new(move |item| sender.send(item).is_ok())).map(|_| receiver)
    };
    let receivers: Vec<_> = (1..=20).map(|n| embed(request(&golden.prompt[..n])).unwrap()).collect();
    for (n, receiver) in (1..=20).zip(&receivers) {
        let (vector, reason) = collect(receiver);
        check("served", &vector, &expected(&golden, PoolKind::Last, n));
        assert_eq!(reason, FinishReason::Length);
    }
    let cancel = CancelToken::new();
    cancel.cancel();
    let cancelled = EmbedRequest { cancel: Some(cancel), ..request(&golden.prompt) };
    assert_eq!(collect(&embed(cancelled).unwrap()), (Vec::new(), FinishReason::Cancelled));
    assert!(matches!(embed(request(&[])), Err(EngineError::EmptyPrompt)));
    // One that was refused takes no place.
    let waiting: Vec<_> = (0..30).map(|_| embed(request(&golden.prompt))).collect();
    assert!(waiting.iter().flatten().count() >= 20);
    waiting.into_iter().flatten().for_each(|receiver| assert_eq!(collect(&receiver).0.len(), 32));
}
