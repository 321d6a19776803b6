//! What happens to requests: how they end, what text comes of them, and that company changes nothing.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::collections::HashMap;

use common::{Golden, answer, exact, greedy, reference};
use whit_base::{Backend, BackendError, Batch, Executor, ExecutorLimits, Plan};
use whit_cpu::{CpuBackend, CpuConfig, Level};
use whit_engine::{
    CacheSize, CancelToken, Done, Engine, EngineError, EngineOptions, Evaluation, Event, FinishReason,
    Message, Model, Overflow, Prompt, Request, RequestId, SamplerConfig,
};
use whit_text::DecodeOptions;

const LLAMA: &str = "llama-gqa-llama3";
const GEMMA: &str = "gemma3-global-linear";

fn engine(name: &'static str, options: &EngineOptions) -> (Golden, Engine) {
    let golden = Golden::load(name);
    let engine = golden.engine(&reference(), options);
    (golden, engine)
}

/// Text, ids and end of a request that runs alone.
fn text(engine: &mut Engine, request: Request) -> (String, Vec<u32>, Done) {
    let (mut all, mut ids) = (String::new(), Vec::new());
    for event in engine.generate(request).unwrap() {
        match event.unwrap() {
            Event::Token { id, text, .. } => {
                all.push_str(&text);
                ids.push(id);
            }
            Event::Shifted { .. } | Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Done(done) => return (all, ids, done),
        }
    }
    panic!("no Done");
}

/// Steps until idle; the events of each request.
fn run_all(engine: &mut Engine) -> HashMap<RequestId, Vec<Event>> {
    let mut events: HashMap<RequestId, Vec<Event>> = HashMap::new();
    while !engine.is_idle() {
        engine.step(&mut |id, item| events.entry(id).or_default().push(item.unwrap())).unwrap();
    }
    events
}

fn ids(events: &[Event]) -> Vec<u32> {
    events
        .iter()
        .filter_map(|event| if let Event::Token { id, .. } = event { Some(*id) } else { None })
        .collect()
}

fn done(events: &[Event]) -> Done {
    match events.last() {
        Some(Event::Done(done)) => *done,
        other => panic!("ended with {other:?}"),
    }
}

#[test]
fn how_requests_end() {
    let (golden, mut engine) = engine(LLAMA, &exact());
    let pages = engine.free_pages();
    let whole = {
        let tokenizer = engine.model().tokenizer().unwrap();
        tokenizer.decode(&golden.greedy, DecodeOptions::CONTINUATION).unwrap()
    };
    let ask = || greedy(&golden.prompt, golden.greedy.len());

    let (got, ids, done) = text(&mut engine, ask());
    assert_eq!((got, ids, done.reason), (whole.clone(), golden.greedy.clone(), FinishReason::Length));

    // Stop texts: within the answer, at its very end, one that never completes, the first of two.
    let cut = |from: usize, to: usize| whole.chars().skip(from).take(to - from).collect::<String>();
    let n = whole.chars().count();
    let first = |stop: &str| whole[..whole.find(stop).unwrap()].to_owned();
    let cases: Vec<(Vec<String>, String, FinishReason)> = vec![
        (vec![cut(7, 10)], first(&cut(7, 10)), FinishReason::Stop(0)),
        (vec!["@@@".into(), cut(9, 13)], first(&cut(9, 13)), FinishReason::Stop(1)),
        (vec![cut(n - 2, n)], first(&cut(n - 2, n)), FinishReason::Stop(0)),
        (vec![cut(n - 3, n) + "#"], whole.clone(), FinishReason::Length),
        (vec![cut(10, 12), cut(5, 9)], first(&cut(5, 9)), FinishReason::Stop(1)),
    ];
    for (stop, expected, reason) in cases {
        let (got, _, done) = text(&mut engine, Request { stop: stop.clone(), ..ask() });
        assert_eq!((got, done.reason), (expected, reason), "{stop:?} in {whole:?}");
    }

    // The model's own end, forced by a bias; it has no text.
    let sampling = SamplerConfig { logit_bias: vec![(1, 1000.0)], ..SamplerConfig::greedy() };
    let (got, ids, done) = text(&mut engine, Request { sampling: sampling.clone(), ..ask() });
    assert_eq!((got.as_str(), &ids[..], done.reason), ("", &[1][..], FinishReason::Eos));
    assert_eq!(done.usage.generated_tokens, 1);
    let (_, ids, done) = text(&mut engine, Request { sampling, ignore_eos: true, ..ask() });
    assert_eq!((ids, done.reason), (vec![1; 24], FinishReason::Length));

    engine.clear_prefixes();
    assert_eq!(engine.free_pages(), pages, "pages leaked");
}

#[test]
fn cancelling() {
    let (golden, mut engine) = engine(GEMMA, &EngineOptions { max_rows: Some(8), ..exact() });
    let pages = engine.free_pages();
    // (events to see first, events after)
    for n_before in [0, 1, 5] {
        let cancel = CancelToken::new();
        let request = Request { cancel: Some(cancel.clone()), ..greedy(&golden.prompt, 24) };
        let mut generation = engine.generate(request).unwrap();
        for _ in 0..n_before {
            assert!(matches!(generation.next(), Some(Ok(Event::Token { .. }))));
        }
        cancel.cancel();
        match generation.next() {
            Some(Ok(Event::Done(done))) => assert_eq!(done.reason, FinishReason::Cancelled),
            other => panic!("{other:?}"),
        }
        assert!(generation.next().is_none());
        drop(generation);
        assert!(engine.is_idle());
    }
    // Dropping does it too, and so does `remove`, in line and running.
    engine.generate(greedy(&golden.prompt, 24)).unwrap().take(3).for_each(drop);
    assert!(engine.is_idle());
    let first = engine.submit(greedy(&golden.prompt, 24)).unwrap();
    let second = engine.submit(greedy(&golden.prompt, 24)).unwrap();
    engine.step(&mut |_, _| {}).unwrap();
    engine.remove(second);
    engine.remove(first);
    assert!(engine.is_idle());
    engine.clear_prefixes();
    assert_eq!(engine.free_pages(), pages, "pages leaked");
}

#[test]
fn full_contexts() {
    for name in [LLAMA, GEMMA] {
        let (golden, mut engine) = engine(name, &EngineOptions { ctx: Some(45), ..exact() });
        let n = golden.prompt.len();
        // The last token comes from the last place of the context.
        let (ids, done) = answer(&mut engine, greedy(&golden.prompt, 100));
        assert_eq!(done.reason, FinishReason::ContextFull);
        assert_eq!(ids.len(), 45 - n + 1);
        let n_common = ids.len().min(golden.greedy.len());
        assert_eq!(ids[..n_common], golden.greedy[..n_common]);
    }
}

/// Shifting gives exactly what a fresh sequence of the remaining tokens gives.
#[test]
fn shifting_is_exact() {
    for name in [LLAMA, GEMMA] {
        let (golden, mut engine) = engine(name, &EngineOptions { ctx: Some(41), ..exact() });
        let (_, mut fresh) = self::engine(name, &exact());
        let pages = engine.free_pages();
        let n_keep = 5;
        let request = Request {
            overflow: Overflow::Shift,
            n_keep: Some(n_keep),
            ..greedy(&[&golden.prompt[..], &golden.greedy].concat(), 60)
        };

        let mut tokens = [&golden.prompt[..], &golden.greedy].concat();
        let shift = |tokens: &mut Vec<u32>, shifts: &mut Vec<Event>| {
            let before = tokens.len();
            while tokens.len() > 41 {
                let drop = (tokens.len() - n_keep).div_ceil(2);
                tokens.drain(n_keep..n_keep + drop);
            }
            if tokens.len() < before {
                shifts.push(Event::Shifted { n_kept: n_keep, n_dropped: before - tokens.len() });
            }
        };
        let (mut expected, mut shifts) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            shift(&mut tokens, &mut shifts);
            fresh.clear_prefixes();
            let (next, _) = answer(&mut fresh, greedy(&tokens, 1));
            tokens.extend(&next);
            expected.extend(next);
        }
        assert!(shifts.len() > 2, "the test must shift more than once");

        let events: Vec<Event> = engine.generate(request).unwrap().map(Result::unwrap).collect();
        assert_eq!(ids(&events), expected, "{name}");
        let got: Vec<Event> = events.iter().filter(|e| matches!(e, Event::Shifted { .. })).cloned().collect();
        assert_eq!(got, shifts, "{name}");
        engine.clear_prefixes();
        assert_eq!(engine.free_pages(), pages, "pages leaked");
    }
}

#[test]
fn shifting_keeps_the_system_message() {
    let template = "{% for m in messages %}<|eos|>{{ m.content }}{% endfor %}<|bos|>";
    let model = Model::open(Golden::load(LLAMA).path).unwrap();
    let options = EngineOptions { ctx: Some(24), ..exact() };
    // (template, system message, tokens kept): each message is its characters and one control token; without a
    // template the messages are joined.
    for (template, system, expected) in [(Some(template), "abcde", 6), (None, "abcde", 5), (None, "", 0)] {
        let model = model.clone();
        let model = template.map_or(model.clone(), |template| model.with_template(template).unwrap());
        let mut engine = Engine::with_backend(model, &reference(), &options).unwrap();
        let mut messages = vec![Message::system(system), Message::user("x".repeat(40))];
        messages.retain(|message| message.text() != Some(""));
        let request = Request {
            overflow: Overflow::Shift,
            max_tokens: Some(1),
            ..Request::new(Prompt::Chat(messages))
        };
        match engine.generate(request).unwrap().next() {
            Some(Ok(Event::Shifted { n_kept, .. })) => assert_eq!(n_kept, expected, "{template:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn engines_may_move_between_threads() {
    fn check<T: Send>() {}
    check::<Engine>();
    check::<Model>();
    check::<Event>();
    check::<EngineError>();
}

#[test]
fn the_same_seed_gives_the_same_text() {
    for name in [LLAMA, GEMMA] {
        let golden = Golden::load(name);
        let sampled = |seed| Request {
            sampling: SamplerConfig { temperature: 1.2, seed: Some(seed), ..SamplerConfig::default() },
            ..greedy(&golden.prompt, 16)
        };
        for level in Level::ALL.into_iter().filter(|level| level.is_supported()) {
            let mut texts = Vec::new();
            // More threads than cores are slow, so the third at one level alone.
            for threads in [1, 2, 3].into_iter().take(if level == Level::detect() { 3 } else { 2 }) {
                let backend =
                    CpuBackend::new(CpuConfig { threads: Some(threads), level: Some(level) }).unwrap();
                let mut engine = golden.engine(&backend, &exact());
                texts.push(answer(&mut engine, sampled(7)).0);
                assert_ne!(answer(&mut engine, sampled(8)).0, texts[0], "the seed must matter");
            }
            assert!(texts.iter().all(|text| *text == texts[0]), "{name}, {level}: threads changed the text");
        }
    }
}

#[test]
fn company_changes_nothing() {
    let golden = Golden::load(GEMMA);
    let backends: Vec<Box<dyn Backend>> =
        vec![Box::new(reference()), Box::new(CpuBackend::new(CpuConfig::default()).unwrap())];
    for backend in backends {
        let request = |n: usize, seed| Request {
            sampling: SamplerConfig { temperature: 1.0, seed: Some(seed), ..SamplerConfig::default() },
            ..greedy(&golden.prompt[..n], 30)
        };
        let asked = [(40, 1), (3, 2), (25, 3), (40, 4), (33, 5), (1, 6)];
        let mut alone = golden.engine(&*backend, &exact());
        let expected: Vec<Vec<u32>> = asked
            .iter()
            .map(|&(n, seed)| {
                alone.clear_prefixes();
                answer(&mut alone, request(n, seed)).0
            })
            .collect();
        let options = EngineOptions { max_sequences: 4, max_rows: Some(24), ..exact() };
        let mut engine = golden.engine(&*backend, &options);
        let pages = engine.free_pages();
        let ids_in_order: Vec<RequestId> =
            asked.iter().map(|&(n, seed)| engine.submit(request(n, seed)).unwrap()).collect();
        let events = run_all(&mut engine);
        for (id, expected) in ids_in_order.iter().zip(&expected) {
            assert_eq!(ids(&events[id]), *expected, "{}", backend.describe());
            assert_eq!(done(&events[id]).reason, FinishReason::Length);
        }
        engine.clear_prefixes();
        assert_eq!(engine.free_pages(), pages, "pages leaked");
    }
}

#[test]
fn a_long_prompt_does_not_hold_up_answers() {
    let (golden, mut engine) =
        engine(LLAMA, &EngineOptions { max_sequences: 2, max_rows: Some(4), ..exact() });
    let first = engine.submit(greedy(&golden.prompt[..2], 20)).unwrap();
    engine.step(&mut |_, _| {}).unwrap();
    let second = engine.submit(greedy(&golden.prompt, 5)).unwrap();
    let mut second_began = false;
    for step in 0..12 {
        let mut advanced = Vec::new();
        engine.step(&mut |id, _| advanced.push(id)).unwrap();
        assert!(advanced.contains(&first), "step {step}");
        second_began |= advanced.contains(&second);
    }
    // 24 tokens, 3 a step beside the first request.
    assert!(second_began);
}

#[test]
fn live_sequences_share_a_prompt() {
    let (golden, mut engine) = engine(GEMMA, &EngineOptions { max_sequences: 2, ..exact() });
    let first = engine.submit(greedy(&golden.prompt, 24)).unwrap();
    engine.step(&mut |_, _| {}).unwrap();
    // The first has its prompt of 40 in the cache: one full page, and a part that it still writes.
    let second = engine.submit(greedy(&golden.prompt, 24)).unwrap();
    let events = run_all(&mut engine);
    assert_eq!(done(&events[&second]).usage.cached_tokens, 32);
    assert_eq!(ids(&events[&second]), golden.greedy);
    assert_eq!(ids(&events[&first]), golden.greedy[1..], "one came with the step before");
}

#[test]
fn others_keep_their_events_while_one_is_iterated() {
    let (golden, mut engine) = engine(LLAMA, &EngineOptions { max_sequences: 2, ..exact() });
    let other = engine.submit(greedy(&golden.prompt, 5)).unwrap();
    let (ids_of_one, _) = answer(&mut engine, greedy(&golden.prompt, 10));
    assert_eq!(ids_of_one, golden.greedy[..10]);
    let events = run_all(&mut engine);
    assert_eq!(ids(&events[&other]), golden.greedy[..5]);
    assert_eq!(done(&events[&other]).reason, FinishReason::Length);
}

#[test]
fn logprobs_are_those_of_the_model() {
    let (golden, mut engine) = engine(LLAMA, &exact());
    let sampling = SamplerConfig { logprobs: Some(3), ..SamplerConfig::greedy() };
    let request = Request { sampling, ..greedy(&golden.prompt, 1) };
    let event = engine.generate(request).unwrap().next().unwrap().unwrap();
    let Event::Token { id, logprob, top, .. } = event else { panic!("{event:?}") };

    let row = &golden.logits[golden.logits.len() - golden.n_vocab..];
    let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
    let mut expected: Vec<(u32, f64)> =
        row.iter().enumerate().map(|(i, &logit)| (i as u32, f64::from(logit) - sum.ln())).collect();
    expected.sort_by(|a, b| b.1.total_cmp(&a.1));
    assert_eq!(id, expected[0].0);
    assert!((f64::from(logprob.unwrap()) - expected[0].1).abs() < 1e-3);
    assert_eq!(top.len(), 3);
    for ((id, logprob), (expected_id, expected)) in top.iter().zip(&expected) {
        assert_eq!(id, expected_id);
        assert!((f64::from(*logprob) - expected).abs() < 1e-3);
    }
}

#[test]
fn conversations_without_a_template_are_completed_raw() {
    let (_, mut engine) = engine(LLAMA, &exact());
    let ask = |text: &str| {
        let messages = vec![Message::system("a b"), Message::user(text)];
        Request { max_tokens: Some(1), ..Request::new(Prompt::Chat(messages)) }
    };
    let tokens = engine.model().prepare(&ask("c").prompt).unwrap();
    assert!(tokens.raw);
    let plain = engine.model().prepare(&Prompt::Text("a b\n\nc".into())).unwrap();
    assert_eq!((tokens.tokens, plain.raw), (plain.tokens, false));
    let generation = engine.generate(ask("c")).unwrap();
    assert!(generation.prompt().raw);
    drop(generation);
    assert!(!engine.model().has_chat_template());

    let template = "{% for m in messages %}<|eos|>{{ m.content }}{% endfor %}<|bos|>";
    let model = Model::open(Golden::load(LLAMA).path).unwrap().with_template(template).unwrap();
    assert!(model.has_chat_template());
    let prepared = model.prepare(&ask("<|pad|>").prompt).unwrap();
    assert!(!prepared.raw);
    // Control tokens come from the template alone; what the user spells is text, here of single characters.
    let specials: Vec<u32> = prepared.tokens.iter().copied().filter(|&id| id < 4).collect();
    assert_eq!(specials, [1, 1, 0]);
}

#[test]
fn scoring_needs_a_place() {
    let (golden, mut engine) = engine(LLAMA, &exact());
    let pages = engine.free_pages();
    let inputs = [Evaluation { tokens: &golden.prompt, outputs: 3..7 }];
    let id = engine.submit(greedy(&golden.prompt, 24)).unwrap();
    engine.step(&mut |_, _| {}).unwrap();
    let error = engine.evaluate(&inputs, &mut |_, _, _| {}).unwrap_err();
    assert!(matches!(error, EngineError::Busy { max_sequences: 1 }));
    engine.remove(id);
    let mut positions = Vec::new();
    engine
        .evaluate(&inputs, &mut |_, position, row| {
            assert_eq!(row.len(), golden.n_vocab);
            positions.push(position);
        })
        .unwrap();
    assert_eq!(positions, [3, 4, 5, 6]);
    let long = vec![5; 257];
    let too_long = [Evaluation { tokens: &long, outputs: 0..0 }];
    let error = engine.evaluate(&too_long, &mut |_, _, _| {}).unwrap_err();
    assert!(matches!(error, EngineError::PromptTooLong { n_tokens: 257, .. }));
    engine.clear_prefixes();
    assert_eq!(engine.free_pages(), pages, "pages leaked");
}

#[test]
fn memory_is_estimated() {
    // (model, context, bytes of keys and values at f16: 2 values * 2 bytes * heads * head_dim * layers * tokens)
    let (_, engine) =
        engine(LLAMA, &EngineOptions { ctx: Some(64), cache_type: Default::default(), ..exact() });
    assert_eq!(engine.memory().kv_cache, 2 * 2 * 2 * 16 * 2 * 64);
    let tensors: usize = engine.model().gguf().tensors().iter().map(|t| t.n_bytes()).sum();
    let frequencies = engine.model().gguf().tensor("rope_freqs.weight").unwrap().n_bytes();
    assert_eq!(engine.memory().weights, tensors - frequencies);
    assert!(engine.memory().buffers < 24 << 20);
    // Sliding-window layers need no more for a longer context.
    let model = Model::open(Golden::load(GEMMA).path).unwrap();
    let kv = |ctx, max_rows| {
        let options = EngineOptions { ctx: Some(ctx), max_rows: Some(max_rows), ..EngineOptions::default() };
        model.estimate(&options).unwrap().kv_cache
    };
    let per_token = 2 * 2 * 16; // one global layer of one head of 16
    assert_eq!(kv(100_000, 32) - kv(50_000, 32), per_token * 32 * (3125 - 1563));
}

/// One pool for all, whatever their number: what usual conversations need, no more than what there is.
#[test]
fn a_pool_is_sized_by_need_and_means() {
    let model = Model::open(Golden::load(LLAMA).path).unwrap();
    assert_eq!(model.info().n_ctx_train, 512);
    let per_token = 2 * 2 * 2 * 16 * 2;
    let usual = |memory| CacheSize::Usual { memory };
    // (cache, context asked for, sequences; tokens in the pool)
    for (cache, ctx, max_sequences, expected) in [
        // 1024 for every sequence, or a whole context; never more than a whole context for each.
        (usual(None), Some(9600), 16, 16_384),
        (usual(None), Some(9600), 2, 9600),
        (usual(None), None, 8, 4096),
        // A quarter of the memory, but at least one context.
        (usual(Some(16 << 20)), None, 64, 16_384),
        (usual(Some(1 << 20)), None, 64, 1024),
        (usual(Some(0)), None, 64, 512),
        (usual(Some(0)), Some(64), 8, 64),
        (usual(Some(1 << 20)), Some(9600), 2, 9600),
        (CacheSize::Tokens(320), None, 8, 320),
        (CacheSize::Tokens(1 << 30), None, 8, 4096),
        (CacheSize::Each, Some(64), 8, 512),
        (CacheSize::Each, None, 2, 1024),
    ] {
        let options = EngineOptions { cache, ctx, max_sequences, ..EngineOptions::default() };
        let n_tokens = model.estimate(&options).unwrap().kv_cache / per_token;
        assert_eq!(n_tokens, expected, "{cache:?}, {ctx:?}, {max_sequences}");
    }
}

/// A backend whose executor fails at its `n`th batch.
struct Failing {
    n: usize,
}

struct FailingExecutor {
    inner: Box<dyn Executor>,
    left: usize,
}

impl Backend for Failing {
    fn describe(&self) -> String {
        "failing".into()
    }

    fn load(&self, plan: Plan, limits: ExecutorLimits) -> Result<Box<dyn Executor>, BackendError> {
        Ok(Box::new(FailingExecutor { inner: reference().load(plan, limits)?, left: self.n }))
    }
}

impl Executor for FailingExecutor {
    fn run(&mut self, batch: &Batch<'_>, logits: &mut [f32], pooled: &mut [f32]) -> Result<(), BackendError> {
        match self.left {
            0 => Err(BackendError::InvalidBatch("on purpose".into())),
            _ => {
                self.left -= 1;
                self.inner.run(batch, logits, pooled)
            }
        }
    }

    fn copy_page(&mut self, group: usize, from: u32, to: u32, n_tokens: usize) {
        self.inner.copy_page(group, from, to, n_tokens);
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }
}

#[test]
fn a_failing_backend_ends_requests_and_leaks_nothing() {
    let golden = Golden::load(GEMMA);
    let mut engine = golden.engine(&Failing { n: 3 }, &exact());
    let pages = engine.free_pages();
    let items: Vec<_> = engine.generate(greedy(&golden.prompt, 24)).unwrap().collect();
    assert_eq!(items.len(), 4);
    assert!(items[..3].iter().all(Result::is_ok));
    assert!(items[3].as_ref().unwrap_err().to_string().contains("on purpose"));
    let inputs = [Evaluation { tokens: &golden.prompt, outputs: 0..1 }];
    assert!(engine.evaluate(&inputs, &mut |_, _, _| {}).is_err());
    assert!(engine.is_idle());
    engine.clear_prefixes();
    assert_eq!(engine.free_pages(), pages, "pages leaked");
}
