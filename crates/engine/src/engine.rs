//! The engine: a loaded model, the sequences that run on it, and the step that moves all of them on.
//!
//! Each step packs the next token of every sequence that generates, and as much of the waiting prompts as fits beside
//! them, into one batch; runs it; and chooses a token for each sequence whose turn it is. Nothing here runs in the
//! background: a caller steps, alone ([`Engine::generate`]) or in a loop of its own ([`Engine::submit`],
//! [`Engine::step`]).

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use whit_base::Backend;
use whit_base::reference::ReferenceBackend;
use whit_cpu::{CpuBackend, CpuConfig};

use crate::cache::KvCache;
use crate::memory::Sizing;
use crate::runner::{Piece, Runner};
use crate::sequence::{Live, Sequence};
use crate::{
    BackendChoice, EngineError, EngineOptions, Event, FinishReason, MemoryEstimate, Model, Overflow,
    Prepared, Request,
};

/// Names a request among those of its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What happened to a request: the last item is [`Event::Done`] or an error.
pub type Item = Result<Event, EngineError>;

/// A model, ready to generate.
pub struct Engine {
    model: Model,
    pub(crate) runner: Runner,
    pub(crate) cache: KvCache,
    n_ctx: usize,
    n_vocab: usize,
    max_sequences: usize,
    description: String,
    estimate: MemoryEstimate,
    load_time: Duration,
    next_id: u64,
    waiting: VecDeque<Sequence>,
    pub(crate) live: Vec<Live>,
    /// What the current step runs; kept for its memory.
    pieces: Vec<(usize, usize)>,
    /// Events that a step could not hand to the one who made it.
    outbox: VecDeque<(RequestId, Item)>,
}

impl Engine {
    /// Opens and loads the model file at `path`.
    ///
    /// # Errors
    /// Whatever is wrong with the file, the options or the memory of the machine.
    pub fn load(path: impl AsRef<Path>, options: &EngineOptions) -> Result<Engine, EngineError> {
        Engine::new(Model::open(path)?, options)
    }

    /// Loads an opened model.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn new(model: Model, options: &EngineOptions) -> Result<Engine, EngineError> {
        match options.backend {
            BackendChoice::Cpu => {
                let config = CpuConfig { threads: options.threads, level: options.level };
                let backend = CpuBackend::new(config)?;
                Engine::with_backend(model, &backend, options)
            }
            BackendChoice::Reference => {
                Engine::with_backend(model, &ReferenceBackend { quantize_activations: false }, options)
            }
        }
    }

    /// Loads an opened model onto a backend of the caller's.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn with_backend(
        model: Model,
        backend: &dyn Backend,
        options: &EngineOptions,
    ) -> Result<Engine, EngineError> {
        let start = Instant::now();
        options.validate()?;
        let n_ctx = options.n_ctx(model.info().n_ctx_train);
        // A large vocabulary takes as long as all the rest.
        let (loaded, tokenizer) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| model.tokenizer().map(|_| ()));
            let loaded =
                whit_models::build(model.gguf(), n_ctx).map_err(EngineError::from).and_then(|built| {
                    let sizing = Sizing::new(&built.plan, n_ctx, options);
                    let n_vocab = built.plan.n_vocab;
                    let windows: Vec<_> =
                        built.plan.cache_groups().iter().map(|group| group.window).collect();
                    let executor = backend.load(built.plan, sizing.limits.clone())?;
                    Ok((sizing, n_vocab, windows, executor))
                });
            (loaded, tokenizer.join())
        });
        match tokenizer {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        let (sizing, n_vocab, windows, executor) = loaded?;
        let limits = sizing.limits;
        let engine = Engine {
            runner: Runner::new(executor, n_vocab, limits.max_rows, limits.max_outputs),
            cache: KvCache::new(windows.into_iter().zip(limits.n_pages)),
            n_ctx,
            n_vocab,
            max_sequences: options.max_sequences,
            description: backend.describe(),
            estimate: sizing.memory,
            load_time: start.elapsed(),
            next_id: 0,
            waiting: VecDeque::new(),
            live: Vec::with_capacity(options.max_sequences),
            pieces: Vec::new(),
            outbox: VecDeque::new(),
            model,
        };
        tracing::debug!(
            path = %engine.model.path().display(),
            backend = engine.description,
            n_ctx,
            max_rows = limits.max_rows,
            load_ms = engine.load_time.as_millis() as u64,
            "model loaded"
        );
        Ok(engine)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Tokens of context per sequence.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Tokens in the vocabulary: the length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Sequences that run at the same time.
    pub fn max_sequences(&self) -> usize {
        self.max_sequences
    }

    /// Where it computes, e.g. `cpu (avx512, 2 threads)`.
    pub fn backend(&self) -> &str {
        &self.description
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// What it may use with every context full. What is in use now is [`memory_in_use`](Self::memory_in_use).
    pub fn memory(&self) -> MemoryEstimate {
        self.estimate
    }

    /// Bytes allocated for caches and buffers. Untouched parts of them cost nothing yet.
    pub fn memory_in_use(&self) -> usize {
        self.runner.memory()
    }

    /// Whether no request waits or runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.live.is_empty() && self.outbox.is_empty()
    }

    /// Free cache pages of each group; pages that hold reusable prefixes are not free.
    pub fn free_pages(&self) -> Vec<usize> {
        self.cache.n_free()
    }

    /// Forgets the prefixes kept for reuse: the next prompt runs whole.
    pub fn clear_prefixes(&mut self) {
        self.cache.clear();
    }

    /// Puts a request in line. It moves on with each [`step`](Self::step).
    ///
    /// # Errors
    /// A prompt that cannot be tokenized, is empty or too long, and settings out of range.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, EngineError> {
        let prepared = self.model.prepare(&request.prompt)?;
        self.submit_prepared(request, prepared)
    }

    pub(crate) fn submit_prepared(
        &mut self,
        mut request: Request,
        prepared: Prepared,
    ) -> Result<RequestId, EngineError> {
        if request.overflow == Overflow::Shift && request.n_keep.is_none() {
            let n_system = self.model.n_system_tokens(&request.prompt, &prepared)?;
            request.n_keep = Some(n_system).filter(|&n| n > 0);
        }
        let tokens = prepared.tokens;
        self.check_tokens(&tokens)?;
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if tokens.len() > self.n_ctx && request.overflow == Overflow::Error {
            return Err(self.too_long(tokens.len()));
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let bos = self.model.tokenizer()?.special_ids().bos;
        self.waiting.push_back(Sequence::new(id, request, tokens, self.n_vocab, bos)?);
        Ok(id)
    }

    pub(crate) fn too_long(&self, n_tokens: usize) -> EngineError {
        EngineError::PromptTooLong { n_tokens, n_ctx: self.n_ctx, n_ctx_train: self.model.info().n_ctx_train }
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), EngineError> {
        match tokens.iter().find(|&&id| id as usize >= self.n_vocab) {
            Some(&id) => Err(EngineError::TokenOutOfRange { id, n_vocab: self.n_vocab }),
            None => Ok(()),
        }
    }

    /// Ends a request without a word: no further event comes for it. To end it with [`FinishReason::Cancelled`], give it
    /// a [`CancelToken`](crate::CancelToken).
    pub fn remove(&mut self, id: RequestId) {
        self.waiting.retain(|sequence| sequence.id != id);
        self.outbox.retain(|(owner, _)| *owner != id);
        if let Some(index) = self.live.iter().position(|live| live.sequence.id == id) {
            self.retire(index);
        }
    }

    /// Keeps an event for the next step: its receiver is not the one who steps now.
    pub(crate) fn post(&mut self, id: RequestId, item: Item) {
        self.outbox.push_back((id, item));
    }

    /// Runs one batch, and hands every event that comes of it to `sink`. Does nothing when idle.
    ///
    /// # Errors
    /// A failure of the backend, which ends all running requests. What goes wrong with one request alone goes to `sink`.
    pub fn step(&mut self, sink: &mut dyn FnMut(RequestId, Item)) -> Result<(), EngineError> {
        while let Some((id, item)) = self.outbox.pop_front() {
            sink(id, item);
        }
        self.drop_cancelled(sink);
        self.admit(sink);
        let mut pieces = std::mem::take(&mut self.pieces);
        self.pack(&mut pieces, sink);
        let result = self.run(&pieces);
        match result {
            Ok(()) => self.advance(&pieces, sink),
            Err(_) => {
                while !self.live.is_empty() {
                    self.retire(0);
                }
            }
        }
        self.pieces = pieces;
        result
    }

    /// Takes a sequence out; what it cached stays for others.
    fn retire(&mut self, index: usize) -> Sequence {
        let Live { sequence, cache } = self.live.remove(index);
        self.cache.release(cache, &sequence.tokens);
        sequence
    }

    fn drop_cancelled(&mut self, sink: &mut dyn FnMut(RequestId, Item)) {
        self.waiting.retain(|sequence| {
            let cancelled = sequence.is_cancelled();
            if cancelled {
                sink(sequence.id, Ok(sequence.done(FinishReason::Cancelled)));
            }
            !cancelled
        });
        for index in (0..self.live.len()).rev() {
            if self.live[index].sequence.is_cancelled() {
                let sequence = self.retire(index);
                sink(sequence.id, Ok(sequence.done(FinishReason::Cancelled)));
            }
        }
    }

    /// Gives free places to those who wait, and shifts what has outgrown its context.
    fn admit(&mut self, sink: &mut dyn FnMut(RequestId, Item)) {
        for index in 0..self.live.len() {
            if self.live[index].sequence.is_over(self.n_ctx) {
                let Live { mut sequence, cache } = self.live.remove(index);
                self.cache.release(cache, &sequence.tokens);
                sink(sequence.id, Ok(sequence.shift(self.n_ctx)));
                let live = self.place(sequence);
                self.live.insert(index, live);
            }
        }
        while self.live.len() < self.max_sequences
            && let Some(mut sequence) = self.waiting.pop_front()
        {
            if sequence.is_over(self.n_ctx) {
                sink(sequence.id, Ok(sequence.shift(self.n_ctx)));
            }
            let mut live = self.place(sequence);
            live.sequence.start(live.cache.len());
            self.live.push(live);
        }
    }

    fn place(&mut self, sequence: Sequence) -> Live {
        let runner = &mut self.runner;
        let cache = self.cache.start(&sequence.tokens, |copy| runner.copy_page(copy));
        Live { sequence, cache }
    }

    /// Chooses what runs in this step: `(live sequence, tokens)`, in the order of the live ones. Sequences that generate
    /// come first, so that a long prompt does not hold up answers.
    fn pack(&mut self, pieces: &mut Vec<(usize, usize)>, sink: &mut dyn FnMut(RequestId, Item)) {
        let mut left = self.runner.max_rows();
        pieces.clear();
        pieces.resize(self.live.len(), (0, 0));
        for generating in [true, false] {
            for (index, live) in self.live.iter().enumerate() {
                let n_pending = live.n_pending();
                if (n_pending == 1) == generating {
                    let n = n_pending.min(left);
                    pieces[index] = (index, n);
                    left -= n;
                }
            }
        }
        // From the back, so that the places before a sequence that must go stay what they are.
        for index in (0..self.live.len()).rev() {
            if self.cache.reserve(&mut self.live[index].cache, pieces[index].1).is_err() {
                let sequence = self.retire(index);
                pieces.remove(index);
                pieces[index..].iter_mut().for_each(|piece| piece.0 -= 1);
                sink(sequence.id, Err(EngineError::OutOfPages));
            }
        }
        pieces.retain(|&(_, n)| n > 0);
    }

    fn run(&mut self, pieces: &[(usize, usize)]) -> Result<(), EngineError> {
        let live = &self.live;
        self.runner.run(pieces.iter().map(|&(index, n)| {
            let Live { sequence, cache } = &live[index];
            let from = cache.len();
            // Logits are wanted of the last token alone.
            let outputs = if live[index].n_pending() == n { n - 1..n } else { 0..0 };
            Piece { tokens: &sequence.tokens[from..from + n], outputs, cache }
        }))?;
        for &(index, n) in pieces {
            let Live { sequence, cache } = &mut self.live[index];
            self.cache.commit(cache, &sequence.tokens, n);
        }
        Ok(())
    }

    /// Chooses a token for each sequence whose last one has run.
    fn advance(&mut self, pieces: &[(usize, usize)], sink: &mut dyn FnMut(RequestId, Item)) {
        let tokenizer = match self.model.tokenizer() {
            Ok(tokenizer) => tokenizer,
            Err(error) => unreachable!("loading built the tokenizer: {error}"),
        };
        let mut output = 0;
        let mut ended = Vec::new();
        for &(index, _) in pieces {
            let live = &mut self.live[index];
            if live.n_pending() > 0 {
                continue;
            }
            let (logits, id) = (self.runner.logits(output), live.sequence.id);
            output += 1;
            match live.sequence.advance(logits, tokenizer, self.n_ctx) {
                Ok((event, reason)) => {
                    sink(id, Ok(event));
                    if let Some(reason) = reason {
                        sink(id, Ok(live.sequence.done(reason)));
                        ended.push(index);
                    }
                }
                Err(error) => {
                    sink(id, Err(error));
                    ended.push(index);
                }
            }
        }
        for &index in ended.iter().rev() {
            self.retire(index);
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("model", &self.model.path())
            .field("backend", &self.description)
            .field("n_ctx", &self.n_ctx)
            .field("live", &self.live.len())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
