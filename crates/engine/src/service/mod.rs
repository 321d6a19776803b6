//! An engine on a thread of its own, for requests from any thread: what a server needs.
//!
//! Prompts are rendered, tokenized and checked on the thread that submits, while batches run. The engine's thread takes
//! new requests in before each step, hands events to their sinks, and sleeps when there is nothing to do. Requests that
//! run or wait are bounded in number; one more is refused at once.
//!
//! When the backend fails or panics, every request ends with an error, and so does each that comes later.

mod worker;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::Item;
use crate::intake::Intake;
use crate::sequence::Sequence;
use crate::{
    EmbedRequest, Engine, EngineError, EngineStats, MemoryEstimate, Model, PromptReport, Request, RequestId,
    Speculation,
};

/// Receives the events of a request, on the engine's thread, the last one included. `false` ends the request: nothing
/// follows. Must not block: all requests would wait. Dropped when the request ends.
pub type Sink = Box<dyn FnMut(Item) -> bool + Send>;

/// Bounds of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Requests that may wait beside those that run.
    pub max_queue: usize,
}

impl Default for ServiceLimits {
    /// 512 requests, as users of Ollama expect.
    fn default() -> Self {
        ServiceLimits { max_queue: 512 }
    }
}

/// What to do with the requests that are there when a service shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Finish them.
    Drain,
    /// End them with [`FinishReason::Cancelled`](crate::FinishReason::Cancelled).
    Cancel,
}

/// A request that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its name.
    pub id: RequestId,
    /// What its prompt came to.
    pub prompt: PromptReport,
}

/// Numbers of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceStats {
    /// Requests that wait for a place.
    pub queued: usize,
    /// Requests that run.
    pub running: usize,
    /// Requests taken in so far.
    pub accepted: u64,
    /// Requests refused because too many were waiting.
    pub refused: u64,
    /// The engine's own numbers, as of the last step.
    pub engine: EngineStats,
}

/// A running engine. Cloning shares it; when the last clone goes, its requests are cancelled and its thread ends.
#[derive(Clone)]
pub struct Service {
    owner: Arc<Owner>,
}

/// Tells the worker to end when nobody is left to ask.
struct Owner {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
    worker_id: std::thread::ThreadId,
}

/// What both sides know.
struct Shared {
    intake: Intake,
    limits: ServiceLimits,
    max_sequences: usize,
    backend: String,
    memory: MemoryEstimate,
    load_time: Duration,
    /// Requests taken in and not ended, and those that are just being tokenized.
    n_open: AtomicUsize,
    state: Mutex<State>,
    /// There is something for the worker.
    work: Condvar,
    /// The worker has ended.
    ended: Condvar,
}

struct State {
    phase: Phase,
    arrivals: Vec<(Sequence, Sink)>,
    cancelled: Vec<RequestId>,
    accepted: u64,
    refused: u64,
    /// As of the last step.
    stats: EngineStats,
    has_ended: bool,
}

enum Phase {
    Serving,
    ShuttingDown(Shutdown),
    Failed(String),
}

impl Service {
    /// Starts a thread for `engine`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(engine: Engine, limits: ServiceLimits) -> Result<Service, EngineError> {
        let shared = Arc::new(Shared {
            intake: engine.intake.clone(),
            limits,
            max_sequences: engine.max_sequences(),
            backend: engine.backend().to_owned(),
            memory: engine.memory(),
            load_time: engine.load_time(),
            n_open: AtomicUsize::new(0),
            state: Mutex::new(State {
                phase: Phase::Serving,
                arrivals: Vec::new(),
                cancelled: Vec::new(),
                accepted: 0,
                refused: 0,
                stats: engine.stats(),
                has_ended: false,
            }),
            work: Condvar::new(),
            ended: Condvar::new(),
        });
        let worker = worker::start(engine, Arc::clone(&shared)).map_err(EngineError::Thread)?;
        let worker_id = worker.thread().id();
        Ok(Service { owner: Arc::new(Owner { shared, worker: Mutex::new(Some(worker)), worker_id }) })
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.shared().intake.model
    }

    /// Tokens of context of a request that asks for no other number.
    pub fn n_ctx(&self) -> usize {
        self.shared().intake.n_ctx
    }

    /// Tokens of context that a request may ask for.
    pub fn longest_ctx(&self) -> usize {
        self.shared().intake.longest_ctx
    }

    /// How tokens are drafted for a request that says nothing of it.
    pub fn speculation(&self) -> Speculation {
        self.shared().intake.speculation
    }

    /// Requests that run at the same time.
    pub fn max_sequences(&self) -> usize {
        self.shared().max_sequences
    }

    /// Where it computes: see [`Engine::backend`].
    pub fn backend(&self) -> &str {
        &self.shared().backend
    }

    /// What it may use: see [`Engine::memory`].
    pub fn memory(&self) -> MemoryEstimate {
        self.shared().memory
    }

    /// How long loading took.
    pub fn load_time(&self) -> Duration {
        self.shared().load_time
    }

    /// Its numbers.
    pub fn stats(&self) -> ServiceStats {
        let state = self.shared().lock();
        ServiceStats {
            queued: state.arrivals.len() + state.stats.waiting,
            running: state.stats.running,
            accepted: state.accepted,
            refused: state.refused,
            engine: state.stats,
        }
    }

    /// Why it answers no more, if it has failed.
    pub fn failure(&self) -> Option<String> {
        match &self.shared().lock().phase {
            Phase::Failed(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Takes a request in. Its events go to `sink`, in order, until the last one or until `sink` gives `false`.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`]; a prompt that cannot be tokenized, is empty or too long, and settings out of range;
    /// [`EngineError::Stopped`] and [`EngineError::Failed`] when it serves no longer. `sink` hears of none of these.
    pub fn submit(&self, request: Request, sink: Sink) -> Result<Submitted, EngineError> {
        self.take_in(|intake| intake.accept(request), sink)
    }

    /// Takes a request for a vector in; it runs in the same batches as requests for text. Its events, an
    /// [`Event::Embedding`](crate::Event::Embedding) and the end, go to `sink`.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit), and a model that gives no vectors.
    pub fn embed(&self, request: EmbedRequest, sink: Sink) -> Result<Submitted, EngineError> {
        self.take_in(|intake| intake.accept_embedding(request), sink)
    }

    fn take_in(
        &self,
        accept: impl FnOnce(&Intake) -> Result<(Sequence, PromptReport), EngineError>,
        sink: Sink,
    ) -> Result<Submitted, EngineError> {
        let shared = self.shared();
        let place = shared.open()?;
        let (sequence, prompt) = accept(&shared.intake)?;
        let id = sequence.id;
        let mut state = shared.lock();
        state.check()?;
        state.arrivals.push((sequence, sink));
        state.accepted += 1;
        place.keep();
        shared.work.notify_one();
        Ok(Submitted { id, prompt })
    }

    /// Ends a request, within one step. Its sink gets a last event. Does nothing if it has ended.
    pub fn cancel(&self, id: RequestId) {
        let shared = self.shared();
        shared.lock().cancelled.push(id);
        shared.work.notify_one();
    }

    /// Takes no more requests, deals with those that are there, and waits until the engine is gone. Called again with
    /// [`Shutdown::Cancel`], it no longer finishes them. From within a sink it does not wait.
    pub fn shutdown(&self, how: Shutdown) {
        let shared = self.shared();
        shared.stop(how);
        if std::thread::current().id() == self.owner.worker_id {
            return;
        }
        let mut state = shared.lock();
        while !state.has_ended {
            state = shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let worker = self.owner.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            // Its panics are caught and told to the requests.
            let _ = worker.join();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop(Shutdown::Cancel);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that may panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more request, before any work is done for it.
    fn open(&self) -> Result<Place<'_>, EngineError> {
        let mut state = self.lock();
        state.check()?;
        let n_open = self.n_open.load(Ordering::Relaxed);
        if n_open >= self.max_sequences.saturating_add(self.limits.max_queue) {
            state.refused += 1;
            let n_waiting = n_open - self.max_sequences;
            return Err(EngineError::QueueFull { n_waiting, max_queue: self.limits.max_queue });
        }
        self.n_open.fetch_add(1, Ordering::Relaxed);
        Ok(Place { n_open: Some(&self.n_open) })
    }

    fn stop(&self, how: Shutdown) {
        let mut state = self.lock();
        match (&state.phase, how) {
            (Phase::Serving, _) | (Phase::ShuttingDown(Shutdown::Drain), Shutdown::Cancel) => {
                state.phase = Phase::ShuttingDown(how);
            }
            _ => {}
        }
        self.work.notify_one();
    }
}

impl State {
    fn check(&self) -> Result<(), EngineError> {
        match &self.phase {
            Phase::Serving => Ok(()),
            Phase::ShuttingDown(_) => Err(EngineError::Stopped),
            Phase::Failed(reason) => Err(EngineError::Failed(reason.clone())),
        }
    }
}

/// A request's place among the open ones; given up when it is refused after all.
struct Place<'s> {
    n_open: Option<&'s AtomicUsize>,
}

impl Place<'_> {
    /// The worker gives it up when the request has ended.
    fn keep(mut self) {
        self.n_open = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(n_open) = self.n_open {
            n_open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("model", &self.model().path())
            .field("backend", &self.backend())
            .field("n_ctx", &self.n_ctx())
            .field("max_sequences", &self.max_sequences())
            .finish_non_exhaustive()
    }
}
