//! The engine on its own thread: many callers at once, and everything that can go wrong with them.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{Golden, answer, exact, greedy, reference};
use whit_base::{Backend, BackendError, Batch, Executor, ExecutorLimits, Plan};
use whit_engine::{
    CacheSize, Done, Engine, EngineError, EngineOptions, Event, FinishReason, Item, PromptRows, Request,
    SamplerConfig, Service, ServiceLimits, Shutdown, Sink,
};

const LLAMA: &str = "llama-gqa-llama3";
const GEMMA: &str = "gemma3-global-linear";
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(max_sequences: usize) -> EngineOptions {
    EngineOptions { max_sequences, ..exact() }
}

fn service(golden: &Golden, options: &EngineOptions, max_queue: usize) -> Service {
    Service::start(golden.engine(&reference(), options), ServiceLimits { max_queue }).unwrap()
}

fn receiver() -> (Sink, Receiver<Item>) {
    let (sender, receiver) = channel();
    (Box::new(move |item| sender.send(item).is_ok()), receiver)
}

fn ask(service: &Service, request: Request) -> Receiver<Item> {
    let (sink, receiver) = receiver();
    service.submit(request, sink).unwrap();
    receiver
}

/// All that comes, to the end.
fn collect(receiver: &Receiver<Item>) -> Result<(Vec<u32>, Done), EngineError> {
    let mut ids = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE).expect("the last event must come")? {
            Event::Token { id, .. } => ids.push(id),
            Event::Shifted { .. } | Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Done(done) => {
                assert!(receiver.recv_timeout(PATIENCE).is_err(), "nothing follows, and the sink is dropped");
                return Ok((ids, done));
            }
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until nothing is open; then no page may be in use but for reusable prefixes, of which there are at most as many
/// as the pool holds.
fn settled(service: &Service) {
    until("requests must end", || {
        let stats = service.stats();
        stats.queued + stats.running == 0
    });
}

fn sampled(prompt: &[u32], seed: u64, max_tokens: usize) -> Request {
    let sampling = SamplerConfig { temperature: 1.0, seed: Some(seed), ..SamplerConfig::default() };
    Request { sampling, ignore_eos: true, ..greedy(prompt, max_tokens) }
}

#[test]
fn many_at_once_get_what_each_gets_alone() {
    for golden in Golden::all() {
        let requests: Vec<Request> = (0..24)
            .map(|i| sampled(&golden.prompt[..1 + (i * 7) % golden.prompt.len()], i as u64, 8 + i % 9))
            .collect();
        let tables = [
            EngineOptions { prompt_rows: PromptRows::AtMost(5), ..options(4) },
            // Room for one and a half of the longest: others wait, and wait again.
            EngineOptions { cache: CacheSize::Tokens(96), ctx: Some(96), ..options(6) },
        ];
        for options in tables {
            // As long a context as the service has: LongRoPE chooses its factors by it.
            let mut alone = golden.engine(&reference(), &options);
            let expected: Vec<Vec<u32>> =
                requests.iter().map(|request| answer(&mut alone, request.clone()).0).collect();
            let service = service(&golden, &options, 100);
            std::thread::scope(|scope| {
                for (request, expected) in requests.iter().zip(&expected) {
                    let (service, name) = (&service, &golden.name);
                    scope.spawn(move || {
                        let (ids, done) = collect(&ask(service, request.clone())).unwrap();
                        assert_eq!((&ids, done.reason), (expected, FinishReason::Length), "{name}");
                        assert_eq!(done.usage.generated_tokens, ids.len());
                    });
                }
            });
            settled(&service);
            let stats = service.stats();
            assert_eq!((stats.accepted, stats.refused), (24, 0));
            let n_generated: usize = expected.iter().map(Vec::len).sum();
            assert_eq!(stats.engine.generated_tokens, n_generated as u64);
            let n_prompt: usize = (0..24).map(|i| 1 + (i * 7) % golden.prompt.len()).sum();
            assert_eq!(stats.engine.prompt_tokens, n_prompt as u64);
            service.shutdown(Shutdown::Drain);
        }
    }
}

/// Where the pool is smaller than all contexts together, requests take turns; nobody fails, and pages come back.
#[test]
fn one_pool_for_all() {
    for name in [LLAMA, GEMMA] {
        let golden = Golden::load(name);
        let mut alone = golden.engine(&reference(), &EngineOptions { ctx: Some(160), ..exact() });
        // Prompts that differ from the first token on, so that nothing is shared.
        let prompt = |i: usize| [&golden.prompt[i..], &golden.prompt[..i]].concat();
        let expected: Vec<_> = (0..4).map(|i| answer(&mut alone, sampled(&prompt(i), 5, 110)).0).collect();
        let options =
            EngineOptions { ctx: Some(160), cache: CacheSize::Tokens(320), max_sequences: 4, ..exact() };
        let mut engine = golden.engine(&reference(), &options);
        let pages = engine.free_pages();
        assert_eq!(pages[0], 10, "320 tokens");
        let submit = |i: usize| (engine.submit(sampled(&prompt(i), 5, 110)).unwrap(), i);
        let asked: Vec<_> = (0..4).map(submit).collect();
        let mut got = vec![Vec::new(); 4];
        let mut most = 0;
        while !engine.is_idle() {
            engine
                .step(&mut |id, item| {
                    let at = asked.iter().find(|asked| asked.0 == id).unwrap().1;
                    if let Event::Token { id, .. } = item.unwrap() {
                        got[at].push(id);
                    }
                })
                .unwrap();
            most = most.max(engine.stats().running);
        }
        assert_eq!(got, expected, "{name}");
        assert!(most > 1, "several must run at the same time");
        engine.clear_prefixes();
        assert_eq!(engine.free_pages(), pages, "{name}: pages leaked");
    }
}

/// Requests that outgrow the pool wait again and lose nothing.
#[test]
fn preempted_requests_go_on_where_they_were() {
    let golden = Golden::load(LLAMA);
    let mut alone = golden.engine(&reference(), &EngineOptions { ctx: Some(400), ..exact() });
    let options =
        EngineOptions { ctx: Some(400), cache: CacheSize::Tokens(416), max_sequences: 2, ..exact() };
    let mut engine = golden.engine(&reference(), &options);
    let prompts = [&golden.prompt[..4], &golden.prompt[1..6]];
    let expected: Vec<_> =
        prompts.iter().map(|prompt| answer(&mut alone, sampled(prompt, 9, 300)).0).collect();
    let ids: Vec<_> = prompts.iter().map(|prompt| engine.submit(sampled(prompt, 9, 300)).unwrap()).collect();
    let mut got = vec![Vec::new(); 2];
    while !engine.is_idle() {
        let sink = &mut |id, item: Item| {
            if let Event::Token { id: token, .. } = item.unwrap() {
                got[usize::from(id == ids[1])].push(token);
            }
        };
        engine.step(sink).unwrap();
    }
    assert!(engine.stats().preemptions > 0, "the test must run out of pages");
    assert_eq!(got, expected);
}

#[test]
fn a_context_per_request() {
    let golden = Golden::load(LLAMA);
    let options = EngineOptions { ctx: Some(1000), cache: CacheSize::Tokens(100), ..options(2) };
    let service = service(&golden, &options, 9);
    assert_eq!(service.n_ctx(), 100, "no longer than the pool");
    let n = golden.prompt.len();
    // (context asked for, tokens generated until it is full)
    for (ctx, expected) in [(Some(n), 1), (Some(n + 5), 6), (None, 101 - n), (Some(5000), 101 - n)] {
        let (ids, done) = collect(&ask(&service, Request { ctx, ..greedy(&golden.prompt, 500) })).unwrap();
        assert_eq!((ids.len(), done.reason), (expected, FinishReason::ContextFull), "{ctx:?}");
    }
    // What the options say is for those who do not ask, as long as there is a pool.
    let options = EngineOptions { ctx: Some(n + 5), ..options };
    let pooled = self::service(&golden, &options, 9);
    assert_eq!((pooled.n_ctx(), pooled.longest_ctx()), (n + 5, 100));
    for (ctx, expected) in [(None, 6), (Some(n + 9), 10), (Some(5000), 101 - n)] {
        let (ids, _) = collect(&ask(&pooled, Request { ctx, ..greedy(&golden.prompt, 500) })).unwrap();
        assert_eq!(ids.len(), expected, "{ctx:?}");
    }
    let refused = |request: Request| service.submit(request, receiver().0).unwrap_err();
    let error = refused(Request { ctx: Some(n - 1), ..greedy(&golden.prompt, 5) });
    assert!(
        matches!(error, EngineError::PromptTooLong { n_tokens, n_ctx, .. } if (n_tokens, n_ctx) == (n, n - 1))
    );
    let error = refused(greedy(&[3; 101], 5));
    assert!(matches!(error, EngineError::PromptTooLong { n_tokens: 101, n_ctx: 100, .. }));
    assert!(matches!(refused(Request { ctx: Some(0), ..greedy(&[3], 5) }), EngineError::Setting { .. }));
    assert!(matches!(refused(greedy(&[], 5)), EngineError::EmptyPrompt));
    settled(&service);
}

/// A shared beginning is read once, even by those who ask at the same moment.
#[test]
fn a_shared_beginning_is_read_once() {
    let golden = Golden::load(LLAMA);
    let system: Vec<u32> = golden.prompt.iter().cycle().take(160).copied().collect();
    let mut engine = golden.engine(&reference(), &EngineOptions { max_rows: Some(48), ..options(8) });
    for user in 0..8 {
        engine.submit(greedy(&[&system[..], &[5 + user, 7, 9]].concat(), 3)).unwrap();
    }
    let mut cached = Vec::new();
    while !engine.is_idle() {
        let sink = &mut |_, item: Item| {
            if let Event::Done(done) = item.unwrap() {
                cached.push(done.usage.cached_tokens);
            }
        };
        engine.step(sink).unwrap();
    }
    cached.sort_unstable();
    assert_eq!(cached, [0, 160, 160, 160, 160, 160, 160, 160]);
    assert_eq!(engine.stats().cached_tokens, 7 * 160);
}

/// While answers are generated, prompts are read in small equal parts, all of them at the same time.
#[test]
fn prompts_take_turns() {
    let golden = Golden::load(LLAMA);
    let prompt_rows = PromptRows::AtMost(12);
    let mut engine =
        golden.engine(&reference(), &EngineOptions { max_rows: Some(64), prompt_rows, ..options(4) });
    let first = engine.submit(greedy(&golden.prompt[..2], 60)).unwrap();
    engine.step(&mut |_, _| {}).unwrap();
    let long: Vec<u32> = golden.prompt.iter().cycle().skip(1).take(120).copied().collect();
    let longest = engine.submit(greedy(&long, 1)).unwrap();
    let short = engine.submit(greedy(&golden.prompt[2..12], 1)).unwrap();
    let mut ended = Vec::new();
    for step in 1.. {
        let mut advanced = Vec::new();
        engine
            .step(&mut |id, item| {
                advanced.push(id);
                if matches!(item, Ok(Event::Done(_))) {
                    ended.push((id, step));
                }
            })
            .unwrap();
        if ended.len() == 2 {
            break;
        }
        assert!(advanced.contains(&first), "step {step}: answers go on");
    }
    // 10 tokens at 6 a step, then 120 at 12 but for those that ran beside the short one.
    assert_eq!(ended, [(short, 2), (longest, 11)]);
}

/// A backend that lets a batch run only when it is told to, or fails.
struct Gate {
    state: Mutex<(usize, bool)>,
    opened: Condvar,
    waiting: AtomicUsize,
    fails: AtomicBool,
    panics: AtomicBool,
}

impl Gate {
    fn new() -> Arc<Gate> {
        Arc::new(Gate {
            state: Mutex::new((0, false)),
            opened: Condvar::new(),
            waiting: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        })
    }

    /// Lets `n` more batches run.
    fn pass(&self, n: usize) {
        self.state.lock().unwrap().0 += n;
        self.opened.notify_all();
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.opened.notify_all();
    }

    /// Returns when a batch waits.
    fn wait(&self) {
        until("a batch must come", || self.waiting.load(Ordering::SeqCst) > 0);
    }
}

struct Gated(Arc<Gate>);

struct GatedExecutor {
    gate: Arc<Gate>,
    inner: Box<dyn Executor>,
}

impl Backend for Gated {
    fn describe(&self) -> String {
        "gated".into()
    }

    fn load(&self, plan: Plan, limits: ExecutorLimits) -> Result<Box<dyn Executor>, BackendError> {
        let inner = reference().load(plan, limits)?;
        Ok(Box::new(GatedExecutor { gate: Arc::clone(&self.0), inner }))
    }
}

impl Executor for GatedExecutor {
    fn run(&mut self, batch: &Batch<'_>, logits: &mut [f32], pooled: &mut [f32]) -> Result<(), BackendError> {
        self.gate.waiting.fetch_add(1, Ordering::SeqCst);
        let mut state = self.gate.state.lock().unwrap();
        while !state.1 && state.0 == 0 {
            state = self.gate.opened.wait(state).unwrap();
        }
        state.0 = state.0.saturating_sub(1);
        drop(state);
        self.gate.waiting.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.gate.panics.load(Ordering::SeqCst), "panic on purpose");
        if self.gate.fails.load(Ordering::SeqCst) {
            return Err(BackendError::InvalidBatch("failure on purpose".into()));
        }
        self.inner.run(batch, logits, pooled)
    }

    fn copy_page(&mut self, group: usize, from: u32, to: u32, n_tokens: usize) {
        self.inner.copy_page(group, from, to, n_tokens);
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }
}

fn gated(golden: &Golden, options: &EngineOptions, max_queue: usize) -> (Arc<Gate>, Service) {
    let gate = Gate::new();
    let engine = golden.engine(&Gated(Arc::clone(&gate)), options);
    (gate, Service::start(engine, ServiceLimits { max_queue }).unwrap())
}

/// Errors of a prompt and a full queue come at once, while a batch runs.
#[test]
fn refusals_do_not_wait() {
    let golden = Golden::load(LLAMA);
    let (gate, service) = gated(&golden, &options(2), 3);
    let mut running = vec![ask(&service, greedy(&golden.prompt, 4))];
    gate.wait();
    let error = service.submit(greedy(&[3; 300], 4), receiver().0).unwrap_err();
    assert!(matches!(error, EngineError::PromptTooLong { n_tokens: 300, n_ctx: 256, .. }));
    for _ in 0..4 {
        running.push(ask(&service, greedy(&golden.prompt, 4)));
    }
    for _ in 0..3 {
        let error = service.submit(greedy(&golden.prompt, 4), receiver().0).unwrap_err();
        assert!(matches!(error, EngineError::QueueFull { n_waiting: 3, max_queue: 3 }), "{error}");
    }
    // A full queue is told of before a bad prompt is looked at.
    let error = service.submit(greedy(&[3; 300], 4), receiver().0).unwrap_err();
    assert!(matches!(error, EngineError::QueueFull { .. }));
    let stats = service.stats();
    assert_eq!((stats.queued + stats.running, stats.accepted, stats.refused), (5, 5, 4));
    gate.open();
    for receiver in running {
        assert_eq!(collect(&receiver).unwrap().0, golden.greedy[..4]);
    }
    settled(&service);
    assert_eq!(collect(&ask(&service, greedy(&golden.prompt, 4))).unwrap().0, golden.greedy[..4]);
}

#[test]
fn cancelling_takes_one_step() {
    let golden = Golden::load(GEMMA);
    let (gate, service) = gated(&golden, &options(1), 9);
    let (sink, running) = receiver();
    let id = service.submit(greedy(&golden.prompt, 24), sink).unwrap().id;
    gate.pass(2);
    let mut n_tokens = 0;
    for _ in 0..2 {
        assert!(matches!(running.recv_timeout(PATIENCE), Ok(Ok(Event::Token { .. }))));
        n_tokens += 1;
    }
    gate.wait();
    let (sink, waiting) = receiver();
    let waiting_id = service.submit(greedy(&golden.prompt, 24), sink).unwrap().id;
    let last = ask(&service, greedy(&golden.prompt, 2));
    service.cancel(id);
    service.cancel(waiting_id);
    gate.open();
    let (ids, done) = collect(&running).unwrap();
    assert!(ids.len() <= 1, "the step that ran, and no more");
    assert_eq!(done.usage.generated_tokens, n_tokens + ids.len());
    assert_eq!(done.reason, FinishReason::Cancelled);
    let (ids, done) = collect(&waiting).unwrap();
    assert_eq!((ids.len(), done.reason), (0, FinishReason::Cancelled));
    assert_eq!(collect(&last).unwrap().0, golden.greedy[..2]);
    service.cancel(id);
    settled(&service);
}

/// A receiver that goes away ends its request and no other.
#[test]
fn dropping_cancels() {
    let golden = Golden::load(LLAMA);
    let service = service(&golden, &options(3), 99);
    let mut kept = Vec::new();
    for i in 0..12 {
        let receiver = ask(&service, Request { ignore_eos: true, ..greedy(&golden.prompt, 150) });
        if i % 3 == 0 {
            kept.push(receiver);
        } else if i % 3 == 1 {
            let _ = receiver.recv_timeout(PATIENCE);
        }
    }
    for receiver in kept {
        assert_eq!(collect(&receiver).unwrap().0[..24], golden.greedy);
    }
    settled(&service);
    assert!(service.stats().engine.generated_tokens < 12 * 150, "the others ended early");
}

#[test]
fn a_sink_that_panics_ends_its_own_request_alone() {
    let golden = Golden::load(LLAMA);
    let service = service(&golden, &options(2), 9);
    service.submit(greedy(&golden.prompt, 9), Box::new(|_| panic!("a sink's panic on purpose"))).unwrap();
    assert_eq!(collect(&ask(&service, greedy(&golden.prompt, 9))).unwrap().0, golden.greedy[..9]);
    settled(&service);
}

#[test]
fn slow_sinks_get_everything() {
    let golden = Golden::load(LLAMA);
    let service = service(&golden, &options(4), 9);
    let receivers: Vec<_> = (0..4)
        .map(|_| {
            let (sender, receiver): (Sender<Item>, _) = channel();
            let sink = move |item| {
                std::thread::sleep(Duration::from_millis(2));
                sender.send(item).is_ok()
            };
            service.submit(greedy(&golden.prompt, 24), Box::new(sink)).unwrap();
            receiver
        })
        .collect();
    for receiver in receivers {
        assert_eq!(collect(&receiver).unwrap().0, golden.greedy);
    }
}

/// Every sort of end, over and over: places, pages and memory come back.
#[test]
fn two_thousand_requests_leave_nothing_behind() {
    let golden = Golden::load(GEMMA);
    let options = EngineOptions { cache: CacheSize::Tokens(128), ctx: Some(128), ..options(8) };
    let service = service(&golden, &options, 64);
    let n_done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (service, golden, n_done) = (&service, &golden, &n_done);
            scope.spawn(move || {
                for i in 0..500usize {
                    let n = 1 + (i * 13 + thread) % golden.prompt.len();
                    let (sink, receiver) = receiver();
                    let request = sampled(&golden.prompt[golden.prompt.len() - n..], i as u64, 1 + i % 4);
                    let submitted = service.submit(request, sink).unwrap();
                    match i % 10 {
                        3 => drop(receiver),
                        6 => {
                            service.cancel(submitted.id);
                            collect(&receiver).unwrap();
                        }
                        _ => {
                            let (ids, done) = collect(&receiver).unwrap();
                            assert_eq!((ids.len(), done.reason), (1 + i % 4, FinishReason::Length));
                        }
                    }
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(n_done.into_inner(), 2000);
    settled(&service);
    let stats = service.stats();
    assert_eq!((stats.accepted, stats.refused), (2000, 0));
    // All places are free again: as many requests as ever can be open at once.
    let receivers: Vec<_> = (0..8 + 64).map(|i| ask(&service, sampled(&golden.prompt, i, 2))).collect();
    for receiver in receivers {
        assert_eq!(collect(&receiver).unwrap().0.len(), 2);
    }
    // The pool is one context: if a single page were lost, this could not end.
    for seed in 0..3 {
        let (ids, done) = collect(&ask(&service, sampled(&golden.prompt, seed, 500))).unwrap();
        assert_eq!((ids.len(), done.reason), (129 - golden.prompt.len(), FinishReason::ContextFull));
    }
}

#[test]
fn shutting_down_under_load() {
    let golden = Golden::load(LLAMA);
    for how in [Shutdown::Drain, Shutdown::Cancel] {
        let (gate, service) = gated(&golden, &options(2), 99);
        let receivers: Vec<_> = (0..6).map(|_| ask(&service, greedy(&golden.prompt, 24))).collect();
        gate.pass(3);
        gate.wait();
        let ender = {
            let service = service.clone();
            std::thread::spawn(move || service.shutdown(how))
        };
        until("no more requests must be taken", || {
            matches!(service.submit(greedy(&[3], 1), receiver().0), Err(EngineError::Stopped))
        });
        gate.open();
        ender.join().unwrap();
        for receiver in receivers {
            let (ids, done) = collect(&receiver).unwrap();
            match how {
                Shutdown::Drain => assert_eq!((&ids, done.reason), (&golden.greedy, FinishReason::Length)),
                Shutdown::Cancel => assert_eq!(done.reason, FinishReason::Cancelled),
            }
        }
        service.shutdown(Shutdown::Cancel);
        assert!(service.failure().is_none());
        assert!(matches!(service.submit(greedy(&[3], 1), receiver().0), Err(EngineError::Stopped)));
    }
}

/// The last clone that goes takes the requests with it; their receivers are told.
#[test]
fn dropping_the_service_ends_it() {
    let golden = Golden::load(LLAMA);
    let (gate, service) = gated(&golden, &options(1), 9);
    let receivers = [ask(&service, greedy(&golden.prompt, 24)), ask(&service, greedy(&golden.prompt, 24))];
    gate.wait();
    drop(service.clone());
    drop(service);
    gate.open();
    for receiver in receivers {
        assert_eq!(collect(&receiver).unwrap().1.reason, FinishReason::Cancelled);
    }
}

#[test]
fn a_broken_backend_ends_everything_and_hangs_nobody() {
    let golden = Golden::load(LLAMA);
    for panics in [false, true] {
        let (gate, service) = gated(&golden, &options(2), 9);
        let receivers: Vec<_> = (0..5).map(|_| ask(&service, greedy(&golden.prompt, 24))).collect();
        gate.pass(2);
        gate.wait();
        (if panics { &gate.panics } else { &gate.fails }).store(true, Ordering::SeqCst);
        gate.open();
        for receiver in receivers {
            let error = collect(&receiver).unwrap_err();
            let EngineError::Failed(reason) = error else { panic!("{error}") };
            assert!(reason.contains("on purpose"), "{reason}");
        }
        until("the failure must be known", || service.failure().is_some());
        let error = service.submit(greedy(&golden.prompt, 1), receiver().0).unwrap_err();
        assert!(matches!(error, EngineError::Failed(_)));
        settled(&service);
        service.shutdown(Shutdown::Drain);
    }
}

/// An idle service sleeps: it takes no processor time.
#[test]
#[cfg(target_os = "linux")]
fn idle_services_sleep() {
    let golden = Golden::load(LLAMA);
    let service = service(&golden, &options(1), 9);
    collect(&ask(&service, greedy(&golden.prompt, 2))).unwrap();
    settled(&service);
    let steps = service.stats().engine.steps;
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(service.stats().engine.steps, steps);
}

#[test]
fn services_are_shared_between_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<Service>();
    let golden = Golden::load(LLAMA);
    let engine = golden.engine(&reference(), &options(3));
    let n_ctx = Engine::n_ctx(&engine);
    let service = Service::start(engine, ServiceLimits::default()).unwrap();
    assert_eq!((service.n_ctx(), service.max_sequences()), (n_ctx, 3));
    assert_eq!(service.model().path(), golden.path);
}
