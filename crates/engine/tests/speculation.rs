//! Drafting changes nothing but the number of steps: whatever is drafted, answers are those that come without, to the last
//! log-probability, and nothing that was drafted wrongly is left anywhere.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod common;

use std::collections::HashMap;
use std::path::PathBuf;

use common::{Golden, Parts, answer, backends, exact, greedy, reference};
use whit_base::DType;
use whit_base::quant::{decode_row, encode_row};
use whit_engine::{
    CacheSize, CancelToken, Done, Engine, EngineError, EngineOptions, Event, FinishReason, Grammar, Model,
    Overflow, Request, RequestId, SamplerConfig, Speculation,
};

const LLAMA: &str = "llama-gqa-llama3";
/// With windows of 8, so that pages leave them while drafts run ahead.
const MODELS: [&str; 3] = [LLAMA, "gemma3-global-linear", "mistral-window"];

const LOOKUP: Speculation = Speculation { lookup: true, model: false, max_tokens: 7 };
const MODEL: Speculation = Speculation { lookup: false, model: true, max_tokens: 7 };

/// A golden model that is surer of itself, as trained ones are.
struct Target {
    name: &'static str,
    prompt: Vec<u32>,
    folder: tempfile::TempDir,
}

impl Target {
    fn new(name: &'static str) -> Target {
        let target = Target { name, prompt: Golden::load(name).prompt, folder: tempfile::tempdir().unwrap() };
        Target::sharpened(name).write(&target.path());
        target
    }

    /// Its weights are values that Q8_0 has.
    fn sharpened(name: &str) -> Parts {
        let mut parts = Parts::of(name);
        change(&mut parts.tensor("output_norm.weight").3, |value| 4.0 * value);
        for (_, _, shape, data) in parts.tensors.iter_mut().filter(|tensor| tensor.2.len() == 2) {
            let (mut values, bytes) = (vec![0.0; shape.iter().product()], in_q8_0(data));
            decode_row(DType::Q8_0, &bytes, &mut values);
            *data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        }
        parts
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("target.gguf")
    }

    /// A model of a quarter of its size that drafts what it might say, the less so the more `noise` is on its weights.
    fn draft(&self, noise: f32) -> PathBuf {
        let mut parts = Target::sharpened(self.name);
        let mut state = 1u32;
        for (name, dtype, shape, data) in &mut parts.tensors {
            if name == "rope_freqs.weight" {
                continue;
            }
            change(data, |value| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                value * (1.0 + noise * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0))
            });
            if shape.len() == 2 {
                (*dtype, *data) = (DType::Q8_0, in_q8_0(data));
            }
        }
        let path = self.folder.path().join(format!("draft-{noise}.gguf"));
        parts.write(&path);
        path
    }

    fn engine(&self, options: &EngineOptions) -> Engine {
        Engine::with_backend(Model::open(self.path()).unwrap(), &reference(), options).unwrap()
    }
}

fn in_q8_0(data: &[u8]) -> Vec<u8> {
    let values: Vec<f32> = data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut bytes = vec![0; DType::Q8_0.row_bytes(values.len()).unwrap()];
    encode_row(DType::Q8_0, &values, None, &mut bytes);
    bytes
}

fn change(data: &mut [u8], mut to: impl FnMut(f32) -> f32) {
    for value in data.chunks_exact_mut(4) {
        let number = f32::from_le_bytes(<[u8; 4]>::try_from(&*value).unwrap());
        value.copy_from_slice(&to(number).to_le_bytes());
    }
}

/// Requests of every kind, on a few tokens only, so that the text repeats itself now and then.
fn requests(target: &Target) -> Vec<(&'static str, Request)> {
    let few = |temperature: f32, seed: u64| SamplerConfig {
        temperature,
        seed: Some(seed),
        logit_bias: (0..64)
            .filter(|id| ![20, 21, 22, 30, 31, 40].contains(id))
            .map(|id| (id, -1e9))
            .collect(),
        logprobs: Some(3),
        ..SamplerConfig::default()
    };
    let ask = |sampling: SamplerConfig| Request { sampling, ignore_eos: true, ..greedy(&target.prompt, 90) };
    let penalized = |temperature| SamplerConfig {
        repeat_penalty: 1.3,
        repeat_last_n: 9,
        presence_penalty: 0.4,
        frequency_penalty: 0.2,
        ..few(temperature, 3)
    };
    let bound =
        |regex: &str, sampling| Request { grammar: Some(Grammar::regex(regex).unwrap()), ..ask(sampling) };
    let any = |temperature, seed| SamplerConfig { logit_bias: Vec::new(), ..few(temperature, seed) };
    vec![
        ("greedy", ask(any(0.0, 0))),
        ("greedy, few tokens", ask(few(0.0, 0))),
        ("sampled", ask(few(0.6, 1))),
        ("sampled, hot", ask(few(2.0, 2))),
        ("penalties", ask(penalized(0.0))),
        ("penalties, sampled", ask(penalized(0.8))),
        ("grammar", bound("(a|b|cc|da){20,30}", any(0.0, 0))),
        ("grammar, sampled", bound("(ab|ac)*d{3}[a-f]{1,40}", any(1.0, 4))),
        ("one token", Request { max_tokens: Some(1), ..ask(few(0.0, 0)) }),
        ("two tokens", Request { max_tokens: Some(2), ..ask(few(0.0, 0)) }),
        ("cut off", Request { max_tokens: Some(37), ..ask(few(0.3, 5)) }),
        ("the model's own end", Request { ignore_eos: false, ..ask(any(3.0, 6)) }),
        ("full context", Request { ctx: Some(target.prompt.len() + 40), ..ask(few(0.4, 7)) }),
        (
            "shifted",
            Request { ctx: Some(70), overflow: Overflow::Shift, n_keep: Some(4), ..ask(few(0.4, 8)) },
        ),
        ("prompt scored", Request { prompt_logprobs: Some(2), ..ask(few(0.4, 9)) }),
    ]
}

/// What an answer is: all but how it was come by.
#[derive(Debug, PartialEq)]
struct Answer {
    events: Vec<Event>,
    reason: FinishReason,
    n_prompt: usize,
    n_generated: usize,
}

impl Answer {
    fn of(all: Vec<Event>) -> (Answer, Done) {
        let mut events: Vec<Event> = Vec::new();
        for event in all {
            // A prompt is read, and scored, in pieces of any size.
            match (events.last_mut(), event) {
                (Some(Event::Prompt(scored)), Event::Prompt(more)) => scored.extend(more),
                (_, event) => events.push(event),
            }
        }
        let Some(Event::Done(done)) = events.pop() else { panic!("ended with {events:?}") };
        let (n_prompt, n_generated) = (done.usage.prompt_tokens, done.usage.generated_tokens);
        (Answer { events, reason: done.reason, n_prompt, n_generated }, done)
    }

    /// Where its text could be cut: some characters from the middle of it.
    fn stop(&self) -> String {
        let texts = self.events.iter().filter_map(|event| match event {
            Event::Token { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<String>().chars().skip(25).take(3).collect()
    }
}

fn run(engine: &mut Engine, request: &Request) -> (Answer, Done) {
    Answer::of(engine.generate(request.clone()).unwrap().map(Result::unwrap).collect())
}

/// The requests, and those that stop at a text that their answer has, each with its answer without drafts.
fn expected(target: &Target) -> Vec<(&'static str, Request, Answer)> {
    let mut engine = target.engine(&EngineOptions { speculation: Speculation::OFF, ..exact() });
    let mut all = Vec::new();
    for (case, request) in requests(target) {
        let (answer, done) = run(&mut engine, &request);
        assert_eq!((done.usage.drafted_tokens, done.usage.accepted_tokens), (0, 0));
        let stop = answer.stop();
        if !stop.is_empty() {
            let stopped = Request { stop: vec!["@@".to_owned(), stop], ..request.clone() };
            let (answer, _) = run(&mut engine, &stopped);
            all.push(("stopped", stopped, answer));
        }
        all.push((case, request, answer));
    }
    all
}

/// Every way to draft: its name, the options, and whether some drafts must be right, and some wrong.
fn ways(target: &Target) -> Vec<(&'static str, EngineOptions, (bool, bool))> {
    let options = |speculation, draft| EngineOptions { speculation, draft, ..exact() };
    let draft = |noise| Some(target.draft(noise));
    vec![
        ("lookup", options(LOOKUP, None), (true, true)),
        ("one token at a time", options(Speculation { max_tokens: 1, ..LOOKUP }, None), (true, true)),
        ("a good model", options(MODEL, draft(0.0)), (true, true)),
        ("a model", options(MODEL, draft(0.2)), (true, true)),
        ("a bad model", options(MODEL, draft(3.0)), (false, true)),
        ("lookup and a model", options(Speculation::default(), draft(0.2)), (true, true)),
        ("off", options(Speculation::OFF, draft(0.2)), (false, false)),
    ]
}

#[track_caller]
fn check_drafts(case: &str, engine: &Engine, (some_right, some_wrong): (bool, bool)) {
    let stats = engine.stats();
    let (drafted, accepted) = (stats.drafted_tokens, stats.accepted_tokens);
    assert!(!some_right || accepted > 0, "{case}: none accepted");
    assert_eq!(drafted > accepted, some_wrong, "{case}: {accepted} of {drafted} accepted");
}

#[test]
fn answers_are_the_same() {
    for target in MODELS.map(Target::new) {
        let expected = expected(&target);
        for (way, options, drafts) in ways(&target) {
            let way = format!("{}, {way}", target.name);
            let mut engine = target.engine(&options);
            let pages = engine.free_pages();
            for (case, request, expected) in &expected {
                let (got, done) = run(&mut engine, request);
                assert_eq!(got, *expected, "{way}: {case}");
                assert!(done.usage.accepted_tokens <= done.usage.drafted_tokens);
                // What is kept of it for others is right, too.
                let (again, done) = run(&mut engine, request);
                assert_eq!(again, *expected, "{way}: {case}, again");
                let n_reused = if request.prompt_logprobs.is_some() { 0 } else { target.prompt.len() - 1 };
                assert_eq!(done.usage.cached_tokens, n_reused, "{way}: {case}");
            }
            check_drafts(&way, &engine, drafts);
            engine.clear_prefixes();
            assert_eq!(engine.free_pages(), pages, "{way}: pages leaked");
        }
    }
}

/// Steps until idle; the answer of each request.
fn run_all(engine: &mut Engine) -> HashMap<RequestId, Answer> {
    let mut events: HashMap<RequestId, Vec<Event>> = HashMap::new();
    while !engine.is_idle() {
        engine.step(&mut |id, item| events.entry(id).or_default().push(item.unwrap())).unwrap();
    }
    events.into_iter().map(|(id, events)| (id, Answer::of(events).0)).collect()
}

#[test]
fn company_changes_nothing() {
    for target in MODELS.map(Target::new) {
        let expected = expected(&target);
        for (way, options, drafts) in ways(&target) {
            for (max_sequences, cache) in [
                (2, CacheSize::Each),
                (4, CacheSize::Each),
                (20, CacheSize::Each),
                (4, CacheSize::Tokens(256)),
            ] {
                let way = format!("{}, {way}, {max_sequences} at once, {cache:?}", target.name);
                let mut engine = target.engine(&EngineOptions { max_sequences, cache, ..options.clone() });
                let pages = engine.free_pages();
                let ids: Vec<RequestId> =
                    expected.iter().map(|(_, request, _)| engine.submit(request.clone()).unwrap()).collect();
                let got = run_all(&mut engine);
                for (id, (case, _, expected)) in ids.iter().zip(&expected) {
                    assert_eq!(got[id], *expected, "{way}: {case}");
                }
                if max_sequences < 8 {
                    check_drafts(&way, &engine, drafts);
                }
                engine.clear_prefixes();
                assert_eq!(engine.free_pages(), pages, "{way}: pages leaked");
            }
        }
    }
}

/// A draft model that is the model itself, in fewer bytes, is always right about the likeliest token; also after answers in
/// which much of what it drafted was not kept, and in a text that others have begun.
#[test]
fn a_draft_model_forgets_what_was_not_kept() {
    for target in MODELS.map(Target::new) {
        let options = EngineOptions { draft: Some(target.draft(0.0)), speculation: MODEL, ..exact() };
        let mut engine = target.engine(&options);
        for seed in 0..4 {
            let sampling = SamplerConfig { temperature: 1.5, seed: Some(seed), ..SamplerConfig::default() };
            let request = Request { sampling, ignore_eos: true, ..greedy(&target.prompt, 50) };
            let (ids, done) = answer(&mut engine, request);
            assert!(done.usage.accepted_tokens > 0, "{}", target.name);
            assert!(done.usage.drafted_tokens > done.usage.accepted_tokens, "{}", target.name);
            let text = [&target.prompt[..], &ids].concat();
            let (_, done) = answer(&mut engine, Request { ignore_eos: true, ..greedy(&text, 60) });
            assert!(done.usage.accepted_tokens > 30, "{}: {:?}", target.name, done.usage);
            assert_eq!(done.usage.drafted_tokens, done.usage.accepted_tokens, "{}", target.name);
        }
    }
}

/// A step that is full of sequences has no rows for drafts.
#[test]
fn many_sequences_draft_nothing() {
    let golden = Golden::load(LLAMA);
    let options = EngineOptions { max_sequences: 8, speculation: LOOKUP, ..exact() };
    let mut engine = golden.engine(&reference(), &options);
    for _ in 0..8 {
        let sampling = SamplerConfig { logit_bias: vec![(20, 1e6)], ..SamplerConfig::greedy() };
        engine.submit(Request { sampling, ..greedy(&golden.prompt, 30) }).unwrap();
    }
    run_all(&mut engine);
    assert_eq!(engine.stats().drafted_tokens, 0);
}

/// Drafts save steps: a text of one token comes eight tokens at a time.
#[test]
fn drafts_save_steps() {
    let golden = Golden::load(LLAMA);
    let sampling = SamplerConfig { logit_bias: vec![(20, 1e6)], ..SamplerConfig::greedy() };
    let request = Request { sampling, ..greedy(&golden.prompt, 80) };
    let steps = |request: &Request| {
        let mut engine = golden.engine(&reference(), &exact());
        let (_, done) = run(&mut engine, request);
        (engine.stats().steps, done.usage)
    };
    let off = Request { speculation: Some(Speculation::OFF), ..request.clone() };
    assert_eq!(steps(&off).0, 80);
    let (n, usage) = steps(&request);
    assert!(n < 20, "{n} steps");
    assert_eq!(usage.generated_tokens, 80);
    // Each token was chosen in a step, or accepted.
    assert_eq!(usage.generated_tokens, n as usize + usage.accepted_tokens);
}

/// On every backend a draft of the model's own likeliest tokens is accepted whole, but for near ties.
#[test]
fn greedy_answers_of_every_backend() {
    for name in MODELS {
        let golden = Golden::load(name);
        for backend in backends() {
            let mut plain =
                golden.engine(&*backend, &EngineOptions { speculation: Speculation::OFF, ..exact() });
            let request = greedy(&golden.prompt, golden.greedy.len());
            assert_eq!(answer(&mut plain, request.clone()).0, golden.greedy);
            let options = EngineOptions { draft: Some(golden.path.clone()), speculation: MODEL, ..exact() };
            let mut engine = golden.engine(&*backend, &options);
            let (ids, done) = answer(&mut engine, request);
            assert_eq!(ids, golden.greedy, "{name} on {}", backend.describe());
            assert!(done.usage.accepted_tokens > 0, "{name} on {}", backend.describe());
        }
    }
}

#[test]
fn cancelled_in_the_middle() {
    let target = Target::new(LLAMA);
    for (way, options, _) in ways(&target) {
        let mut engine = target.engine(&options);
        let pages = engine.free_pages();
        for n_before in [1, 7, 30] {
            let cancel = CancelToken::new();
            let request = Request { cancel: Some(cancel.clone()), ..requests(&target).swap_remove(1).1 };
            let mut generation = engine.generate(request).unwrap();
            for _ in 0..n_before {
                assert!(matches!(generation.next(), Some(Ok(Event::Token { .. }))), "{way}");
            }
            cancel.cancel();
            // What its last step had given still comes.
            let rest: Vec<Event> = generation.map(Result::unwrap).collect();
            assert!(rest.len() <= 8, "{way}");
            let Some(Event::Done(done)) = rest.last() else { panic!("{rest:?}") };
            assert_eq!(done.reason, FinishReason::Cancelled, "{way}");
            assert_eq!(done.usage.generated_tokens, n_before + rest.len() - 1, "{way}");
        }
        engine.clear_prefixes();
        assert_eq!(engine.free_pages(), pages, "{way}: pages leaked");
    }
}

/// Loads the golden model with a changed one as its draft.
fn with_draft(golden: &str, change: impl FnOnce(&mut Parts)) -> Result<Engine, EngineError> {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = Parts::of(golden);
    change(&mut parts);
    let path = folder.path().join("draft.gguf");
    parts.write(&path);
    let model = Model::open(Golden::load(LLAMA).path).unwrap();
    Engine::with_backend(model, &reference(), &EngineOptions { draft: Some(path), ..exact() })
}

/// Its text, and its kind in the numbers of GGUF.
type Token = (Vec<u8>, u32);

/// Gives a model other tokens; new ones get the first embedding.
fn set_vocabulary(parts: &mut Parts, tokens: &[Token]) {
    parts.writer.set_strings("tokenizer.ggml.tokens", tokens.iter().map(|(text, _)| text));
    let kinds: Vec<i32> = tokens.iter().map(|&(_, kind)| kind as i32).collect();
    parts.writer.set_numbers("tokenizer.ggml.token_type", &kinds);
    let (_, _, shape, data) = parts.tensor("token_embd.weight");
    let row = data[..data.len() / shape[0]].to_vec();
    while shape[0] < tokens.len() {
        data.extend_from_slice(&row);
        shape[0] += 1;
    }
}

#[test]
fn vocabularies_must_agree() {
    const UNUSED: u32 = 5;
    let model = Model::open(Golden::load(LLAMA).path).unwrap();
    let metadata = model.gguf().metadata();
    let texts = metadata.strings("tokenizer.ggml.tokens").unwrap();
    let kinds = metadata.integers("tokenizer.ggml.token_type").unwrap();
    let tokens: Vec<Token> = texts.zip(kinds).map(|(text, kind)| (text.to_vec(), kind as u32)).collect();
    let changed = |at: usize, token: (&str, u32)| {
        let mut tokens = tokens.clone();
        tokens[at] = (token.0.into(), token.1);
        tokens
    };
    let longer = |more: &[(&str, u32)]| {
        [&tokens[..], &more.iter().map(|more| (more.0.into(), more.1)).collect::<Vec<_>>()].concat()
    };
    // (its tokens; what the message says, if it is refused)
    let cases: &[(Vec<Token>, &[&str])] = &[
        (tokens.clone(), &[]),
        (longer(&[("[PAD64]", UNUSED), ("[PAD65]", UNUSED)]), &[]),
        (tokens[..63].to_vec(), &["token 63 is nothing", "has `Ġthe`"]),
        (longer(&[("~~", 1)]), &["token 64 is `~~`", "has nothing"]),
        (changed(20, ("~~", 1)), &["draft.gguf", "token 20 is `~~`", "has `o`", "--draft"]),
        (changed(20, ("o", 3)), &["token 20 is `o`"]),
    ];
    for (tokens, expected) in cases {
        match with_draft(LLAMA, |parts| set_vocabulary(parts, tokens)) {
            Ok(mut engine) => {
                assert!(expected.is_empty(), "must be refused: {expected:?}");
                let golden = Golden::load(LLAMA);
                let request = Request { speculation: Some(MODEL), ..greedy(&golden.prompt, 24) };
                let (ids, done) = answer(&mut engine, request);
                assert_eq!(ids, golden.greedy);
                assert!(done.usage.accepted_tokens > 0);
            }
            Err(error) => {
                let message = error.to_string();
                assert!(!expected.is_empty(), "{message}");
                expected
                    .iter()
                    .for_each(|part| assert!(message.contains(part), "`{message}` lacks `{part}`"));
            }
        }
    }
    let error = with_draft("bert", |_| {}).unwrap_err();
    assert!(matches!(error, EngineError::DraftEncoder { .. }), "{error}");
    let missing = EngineOptions { draft: Some("/no/such.gguf".into()), ..exact() };
    assert!(Engine::load(Golden::load(LLAMA).path, &missing).is_err());
}

#[test]
fn the_draft_model_counts_as_memory() {
    let golden = Golden::load(LLAMA);
    let options = |draft| EngineOptions { draft, ..exact() };
    let alone = golden.engine(&reference(), &options(None));
    let both = golden.engine(&reference(), &options(Some(golden.path.clone())));
    assert_eq!(both.memory().total(), 2 * alone.memory().total());
    assert_eq!(both.memory(), both.model().estimate(&options(Some(golden.path.clone()))).unwrap());
    assert_eq!(both.memory_in_use(), 2 * alone.memory_in_use());
}
