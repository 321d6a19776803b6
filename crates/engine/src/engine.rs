//! The engine: a loaded model, the sequences that run on it, and the step that moves all of them on.
//!
//! Each step packs the next token of every sequence that generates, and as much of the waiting prompts as fits beside
//! them, into one batch (see `schedule`); runs it; and chooses a token for each sequence whose turn it is. Nothing here
//! runs in the background: a caller steps, alone ([`Engine::generate`]) or in a loop of its own ([`Engine::submit`],
//! [`Engine::step`]), or leaves it to a [`Service`](crate::Service).

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use whit_base::Backend;
use whit_base::reference::ReferenceBackend;
use whit_cpu::{CpuBackend, CpuConfig};

use crate::cache::KvCache;
use crate::intake::Intake;
use crate::load::Loaded;
use crate::memory::Sizing;
use crate::pace::Pace;
use crate::runner::{Piece, Runner};
use crate::sequence::{Given, Live, Sequence};
use crate::speculate::DraftModel;
use crate::{
    BackendChoice, EngineError, EngineOptions, EngineStats, Event, FinishReason, MemoryEstimate, Model,
    Request, RequestId, Speculation,
};

/// What happened to a request: the last item is [`Event::Done`] or an error.
pub type Item = Result<Event, EngineError>;

/// A model, ready to generate.
pub struct Engine {
    pub(crate) intake: Intake,
    pub(crate) runner: Runner,
    pub(crate) cache: KvCache,
    pub(crate) draft_model: Option<DraftModel>,
    pub(crate) max_sequences: usize,
    description: String,
    estimate: MemoryEstimate,
    load_time: Duration,
    /// Longest waiting first.
    pub(crate) waiting: VecDeque<Sequence>,
    /// First admitted first.
    pub(crate) live: Vec<Live>,
    pub(crate) pace: Pace,
    pub(crate) stats: EngineStats,
    /// What the current step runs, `(live sequence, tokens)`; kept for its memory.
    pieces: Vec<(usize, usize)>,
    /// What the draft model is asked for, `(live sequence, tokens)`; likewise.
    pub(crate) asked: Vec<(usize, usize)>,
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
        let Loaded { runner, cache, sizing, sizes, knows_pairs } = Loaded::new(&model, backend, options)?;
        let Sizing { limits, mut memory, n_ctx, longest_ctx, .. } = sizing;
        let draft_model = match &options.draft {
            Some(path) if !model.info().is_encoder => {
                let (draft_model, more) = DraftModel::load(path, (&model, memory.weights), backend, options)?;
                memory = memory.plus(more);
                Some(draft_model)
            }
            _ => None,
        };
        let max_sequences = options.n_sequences(model.info());
        let contexts = (n_ctx, longest_ctx);
        let engine = Engine {
            runner,
            cache,
            draft_model,
            intake: Intake::new(model, contexts, sizes, knows_pairs, options.speculation),
            max_sequences,
            description: backend.describe(),
            estimate: memory,
            load_time: start.elapsed(),
            waiting: VecDeque::new(),
            live: Vec::with_capacity(max_sequences),
            pace: Pace::new(options.prompt_rows, limits.max_rows),
            stats: EngineStats::default(),
            pieces: Vec::new(),
            asked: Vec::new(),
            outbox: VecDeque::new(),
        };
        tracing::debug!(
            path = %engine.model().path().display(),
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
        &self.intake.model
    }

    /// Tokens of context of a request that asks for no other number.
    pub fn n_ctx(&self) -> usize {
        self.intake.n_ctx
    }

    /// Tokens of context that a request may ask for.
    pub fn longest_ctx(&self) -> usize {
        self.intake.longest_ctx
    }

    /// Tokens in the vocabulary: the length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.intake.n_vocab
    }

    /// Sequences that run at the same time.
    pub fn max_sequences(&self) -> usize {
        self.max_sequences
    }

    /// How tokens are drafted for a request that says nothing of it.
    pub fn speculation(&self) -> Speculation {
        self.intake.speculation
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

    /// What it takes with every context full, with the buffers that the backend really made. More than
    /// [`memory`](Self::memory), which must say it before there is a backend, by some buffers of each thread.
    pub fn allocated(&self) -> MemoryEstimate {
        let rows = (1 + self.intake.speculation.max_tokens).min(self.runner.max_logits());
        let logits = 4 * self.intake.n_vocab * rows;
        let own = self.runner.executor_memory()
            + self.draft_model.as_ref().map_or(0, |draft| draft.runner.memory());
        MemoryEstimate { buffers: own.saturating_sub(self.estimate.kv_cache) + logits, ..self.estimate }
    }

    /// Bytes allocated for caches and buffers. Untouched parts of them cost nothing yet.
    pub fn memory_in_use(&self) -> usize {
        self.runner.memory() + self.draft_model.as_ref().map_or(0, |draft| draft.runner.memory())
    }

    /// Whether no request waits or runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.live.is_empty() && self.outbox.is_empty()
    }

    /// Free cache pages of each group, those of the draft model behind; pages that hold reusable prefixes are not free.
    pub fn free_pages(&self) -> Vec<usize> {
        let mut pages = self.cache.n_free();
        pages.extend(self.draft_model.iter().flat_map(|draft| draft.cache.n_free()));
        pages
    }

    /// Forgets the prefixes kept for reuse: the next prompt runs whole.
    pub fn clear_prefixes(&mut self) {
        self.cache.clear();
        if let Some(draft) = &mut self.draft_model {
            draft.cache.clear();
        }
    }

    /// What it has done so far, and what it is doing.
    pub fn stats(&self) -> EngineStats {
        let (free_pages, total_pages) = self.cache.n_pages();
        EngineStats {
            waiting: self.waiting.len(),
            running: self.live.len(),
            free_pages,
            total_pages,
            ..self.stats
        }
    }

    /// Puts a request in line. It moves on with each [`step`](Self::step).
    ///
    /// # Errors
    /// A prompt that cannot be tokenized, is empty or too long, and settings out of range.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, EngineError> {
        let (sequence, _) = self.intake.accept(request)?;
        let id = sequence.id;
        self.enqueue(sequence);
        Ok(id)
    }

    pub(crate) fn enqueue(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// Ends a request without a word: no further event comes for it. To end it with [`FinishReason::Cancelled`], give it
    /// a [`CancelToken`](crate::CancelToken).
    pub fn remove(&mut self, id: RequestId) {
        self.outbox.retain(|(owner, _)| *owner != id);
        self.take_out(id);
    }

    /// Ends a request; gives its last event.
    pub(crate) fn cancel(&mut self, id: RequestId) -> Option<Event> {
        self.take_out(id).map(|sequence| sequence.done(FinishReason::Cancelled))
    }

    fn take_out(&mut self, id: RequestId) -> Option<Sequence> {
        if let Some(index) = self.waiting.iter().position(|sequence| sequence.id == id) {
            return self.waiting.remove(index);
        }
        let index = self.live.iter().position(|live| live.sequence.id == id)?;
        Some(self.retire(index))
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
        self.begin();
        let start = Instant::now();
        let drafted = self.draft();
        let mut pieces = std::mem::take(&mut self.pieces);
        self.pack(&mut pieces, sink);
        let n_rows: usize = pieces.iter().map(|piece| piece.1).sum();
        let n_generating = self.live.iter().filter(|live| live.is_generating()).count();
        let result = drafted.map_err(EngineError::from).and_then(|()| self.run(&pieces));
        match result {
            Ok(()) => {
                self.advance(&pieces, sink);
                if n_rows > 0 {
                    let time = start.elapsed();
                    self.pace.record(n_rows - n_generating.min(n_rows), n_generating, time);
                    self.stats.steps += 1;
                    self.stats.last_step = time;
                    self.stats.step_time += time;
                }
            }
            Err(_) => {
                while !self.live.is_empty() {
                    self.retire(0);
                }
            }
        }
        self.pieces = pieces;
        result
    }

    fn run(&mut self, pieces: &[(usize, usize)]) -> Result<(), EngineError> {
        let live = &self.live;
        self.runner.run(pieces.iter().map(|&(index, n)| {
            let Live { sequence, cache, draft, .. } = &live[index];
            let from = cache.len();
            Piece {
                tokens: &sequence.tokens[from..from + n],
                first: from,
                draft: &draft.tokens,
                outputs: sequence.outputs(from, n),
                pool: sequence.pool(from + n),
                second: sequence.second(),
                cache,
            }
        }))?;
        for &(index, n) in pieces {
            let Live { sequence, cache, .. } = &mut self.live[index];
            self.cache.commit(cache, &sequence.tokens, n);
        }
        Ok(())
    }

    /// Hands each sequence what the step gave for it: logits to choose its next token by, or its vector.
    fn advance(&mut self, pieces: &[(usize, usize)], sink: &mut dyn FnMut(RequestId, Item)) {
        let tokenizer = match self.intake.model.tokenizer() {
            Ok(tokenizer) => tokenizer,
            Err(error) => unreachable!("loading built the tokenizer: {error}"),
        };
        let (mut next_row, mut next_vector) = (0, 0);
        let mut ended = Vec::new();
        for &(index, n) in pieces {
            let Live { sequence, cache, draft, .. } = &mut self.live[index];
            let (first, end) = (cache.len() - n, cache.len());
            let n_rows = sequence.outputs(first, n).len();
            let vector = sequence.pool(end).map(|_| next_vector);
            let given = Given { logits: next_row..next_row + n_rows, draft, vector };
            next_row += n_rows + draft.tokens.len();
            next_vector += usize::from(vector.is_some());
            let (id, n_tokens) = (sequence.id, sequence.tokens.len());
            let (stats, runner) = (&mut self.stats, &self.runner);
            let advanced = sequence.advance((first, end), given, runner, tokenizer, &mut |event| {
                stats.generated_tokens += u64::from(matches!(event, Event::Token { .. }));
                sink(id, Ok(event));
            });
            // The last token chosen has not run. What was drafted in its place, and beyond, is not the sequence's.
            let n_kept = (sequence.tokens.len() - n_tokens).saturating_sub(1);
            self.cache.commit(cache, &sequence.tokens, n_kept);
            self.stats.drafted_tokens += draft.tokens.len() as u64;
            self.stats.accepted_tokens += n_kept as u64;
            if let Some(model) = &mut self.draft_model {
                model.keep(&mut self.live[index], n_kept);
            }
            match advanced {
                Ok(None) => {}
                Ok(Some(reason)) => {
                    sink(id, Ok(self.live[index].sequence.done(reason)));
                    ended.push(index);
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

    /// Takes a sequence out; what it cached stays for others.
    pub(crate) fn retire(&mut self, index: usize) -> Sequence {
        let mut live = self.live.remove(index);
        if let Some(model) = &mut self.draft_model {
            model.release(&mut live);
        }
        let Live { sequence, cache, .. } = live;
        self.cache.release(cache, &sequence.tokens);
        sequence
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("model", &self.model().path())
            .field("backend", &self.description)
            .field("n_ctx", &self.n_ctx())
            .field("live", &self.live.len())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
