//! The thread of a [`Service`](crate::Service): the engine, the sinks, and the loop that steps.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use super::{Phase, Shared, Shutdown, Sink};
use crate::engine::Item;
use crate::sequence::Sequence;
use crate::{Engine, EngineError, Event, RequestId};

pub(super) fn start(engine: Engine, shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("whit-engine".to_owned());
    builder.spawn(move || {
        let mut worker = Worker { shared: &shared, engine, sinks: Sinks::default() };
        let outcome = catch_unwind(AssertUnwindSafe(|| worker.run()));
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(message_of(&*panic)),
        };
        worker.end(failure);
    })
}

struct Worker<'s> {
    shared: &'s Shared,
    engine: Engine,
    sinks: Sinks,
}

/// What has come in since the last step.
struct Incoming {
    arrivals: Vec<(Sequence, Sink)>,
    cancelled: Vec<RequestId>,
    cancel_all: bool,
}

impl Worker<'_> {
    fn run(&mut self) -> Result<(), EngineError> {
        while let Some(incoming) = self.wait() {
            for (sequence, sink) in incoming.arrivals {
                self.sinks.open.insert(sequence.id, sink);
                self.engine.enqueue(sequence);
            }
            let mut cancelled = incoming.cancelled;
            if incoming.cancel_all {
                cancelled.extend(self.sinks.open.keys());
            }
            for id in cancelled {
                if let Some(event) = self.engine.cancel(id) {
                    self.sinks.hand(id, Ok(event));
                }
            }
            let sinks = &mut self.sinks;
            self.engine.step(&mut |id, item| sinks.hand(id, item))?;
            for id in self.sinks.gone.drain(..) {
                self.engine.remove(id);
            }
        }
        Ok(())
    }

    /// Publishes what the last step came to; sleeps until there is something to do. `None`: the end.
    fn wait(&mut self) -> Option<Incoming> {
        let stats = self.engine.stats();
        let mut state = self.shared.lock();
        self.shared.n_open.fetch_sub(std::mem::take(&mut self.sinks.n_ended), Ordering::Relaxed);
        state.stats = stats;
        loop {
            if !state.arrivals.is_empty() || !state.cancelled.is_empty() || !self.engine.is_idle() {
                let arrivals = std::mem::take(&mut state.arrivals);
                // They count as waiting until the engine's own numbers come, with the next step.
                state.stats.waiting += arrivals.len();
                return Some(Incoming {
                    arrivals,
                    cancelled: std::mem::take(&mut state.cancelled),
                    cancel_all: matches!(state.phase, Phase::ShuttingDown(Shutdown::Cancel)),
                });
            }
            if !matches!(state.phase, Phase::Serving) {
                return None;
            }
            state = self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells everyone that is left, and gives the engine's memory back.
    fn end(self, failure: Option<String>) {
        let Worker { shared, engine, mut sinks } = self;
        if let Some(reason) = &failure {
            tracing::error!(reason, "the engine failed");
            let mut state = shared.lock();
            state.phase = Phase::Failed(reason.clone());
            let arrivals = std::mem::take(&mut state.arrivals);
            drop(state);
            let left: Vec<RequestId> = sinks.open.keys().copied().collect();
            for id in left {
                sinks.hand(id, Err(EngineError::Failed(reason.clone())));
            }
            for (sequence, sink) in arrivals {
                sinks.open.insert(sequence.id, sink);
                sinks.hand(sequence.id, Err(EngineError::Failed(reason.clone())));
            }
        }
        let mut stats = engine.stats();
        (stats.waiting, stats.running) = (0, 0);
        // A backend that has panicked may do so again.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
        let mut state = shared.lock();
        shared.n_open.fetch_sub(sinks.n_ended, Ordering::Relaxed);
        state.stats = stats;
        state.has_ended = true;
        shared.ended.notify_all();
    }
}

/// The receivers of events.
#[derive(Default)]
struct Sinks {
    open: HashMap<RequestId, Sink>,
    /// Requests whose receivers want no more; the engine does not know yet.
    gone: Vec<RequestId>,
    /// Requests that have ended and still count as open.
    n_ended: usize,
}

impl Sinks {
    fn hand(&mut self, id: RequestId, item: Item) {
        // A receiver that has gone may get another event of the same step.
        let Some(sink) = self.open.get_mut(&id) else { return };
        let is_last = matches!(item, Ok(Event::Done(_)) | Err(_));
        // One receiver's panic is no other's.
        let goes_on = catch_unwind(AssertUnwindSafe(|| sink(item))).unwrap_or(false);
        if is_last || !goes_on {
            let sink = self.open.remove(&id);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(sink)));
            self.n_ended += 1;
            if !is_last {
                self.gone.push(id);
            }
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no message"))
}
