//! Who has room in memory: lending, expiry and eviction of models. Their way in is `line`'s.
//!
//! One lock guards a few small facts and is never held while a model is loaded or dropped. A keeper thread drops what has
//! expired or must make room. A model that is being dropped still counts until its memory is back; whoever asks for it
//! meanwhile waits and loads it again.

mod line;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use whit_engine::{EngineError, Service, Shutdown};

use crate::config::KeepAlive;
use crate::library::Entry;
use slot::{Slot, Stage};

/// What a loader does with a model.
type Load<T> = Box<dyn Fn(&Entry) -> Result<T, EngineError> + Send + Sync>;

/// How models are loaded.
pub(super) struct Loader {
    /// Bytes that a model will take.
    pub(super) estimate: Load<u64>,
    pub(super) load: Load<Service>,
}

/// What requests may ask of the rooms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Requests that may wait for models.
    pub(super) max_queue: usize,
    /// How long one may wait for room.
    pub(super) patience: Duration,
}

/// Why a model was not lent. Told to all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(
        "the model needs {} of memory, and all models together may take {}; ask for a smaller one, or start the server \
         with fewer --cache-tokens, or a larger --memory",
        readable(*needed), readable(*budget)
    )]
    TooLarge { needed: u64, budget: u64 },
    #[error(
        "the model needs {} of memory, {} of {} are free, and the models in use were not done within {} s; try again \
         later, or ask for a smaller model",
        readable(*needed), readable(budget.saturating_sub(*in_use)), readable(*budget), waited.as_secs()
    )]
    NoRoom { needed: u64, in_use: u64, budget: u64, waited: Duration },
    #[error("too many requests wait for models already")]
    Busy,
    #[error("nobody waits for the model any more")]
    Abandoned,
    #[error("the server is shutting down")]
    Stopping,
    #[error(transparent)]
    Engine(Arc<EngineError>),
}

fn readable(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// The loaded models and the memory that they share.
pub(super) struct Rooms {
    loader: Loader,
    /// Bytes for all models together. `None`: no bound is known.
    budget: Option<u64>,
    keep_alive: KeepAlive,
    state: Mutex<State>,
    limits: Limits,
    /// Something in the state has changed: for threads...
    changed: Condvar,
    /// ...and for requests.
    news: watch::Sender<()>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    slots: HashMap<PathBuf, Slot>,
    next_id: u64,
    /// Requests that wait for models.
    n_wishes: usize,
    /// Nothing is lent or loaded any more...
    is_closed: bool,
    /// ...and everything goes.
    stopping: bool,
}

impl State {
    fn sizes(&self, wanted: impl Fn(&Slot) -> bool) -> u64 {
        self.slots.values().filter(|slot| wanted(slot)).map(|slot| slot.size).sum()
    }

    /// Bytes that models take.
    fn in_use(&self) -> u64 {
        self.sizes(|_| true)
    }

    /// The slot that has waited longest for room.
    fn first_in_line(&self) -> Option<u64> {
        let in_line = self.slots.values().filter(|slot| matches!(slot.stage, Stage::InLine(..)));
        in_line.map(|slot| slot.id).min()
    }
}

/// A loaded model, which stays loaded while this lives.
pub(crate) struct Lease {
    pub(crate) service: Service,
    rooms: Arc<Rooms>,
    path: PathBuf,
    id: u64,
}

/// A loaded model, to be listed.
pub(crate) struct Loaded {
    pub(crate) entry: Entry,
    pub(crate) service: Service,
    /// When it goes if nobody asks for it; `None`: never.
    pub(crate) expires: Option<SystemTime>,
}

impl Rooms {
    pub(super) fn new(
        loader: Loader,
        budget: Option<u64>,
        keep_alive: KeepAlive,
        limits: Limits,
    ) -> Arc<Rooms> {
        let rooms = Arc::new(Rooms {
            loader,
            budget,
            keep_alive,
            state: Mutex::default(),
            limits,
            changed: Condvar::new(),
            news: watch::Sender::new(()),
            keeper: Mutex::default(),
        });
        let keeper = {
            let rooms = Arc::clone(&rooms);
            std::thread::Builder::new().name("whit-keeper".to_owned()).spawn(move || rooms.keep())
        };
        match keeper {
            Ok(keeper) => *rooms.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper),
            Err(error) => {
                // Without it nothing would ever be dropped.
                tracing::error!(%error, "no thread for the models could be started");
                rooms.lock().is_closed = true;
            }
        }
        rooms
    }

    /// The model, if it is loaded and may be had.
    pub(super) fn lease_loaded(
        self: &Arc<Self>,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
    ) -> Option<Lease> {
        self.lend(&mut self.lock(), entry, keep_alive, None)
    }

    /// `wish`: the slot that the request has waited for; it gets that even where others wait for its room.
    fn lend(
        self: &Arc<Self>,
        state: &mut State,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
        wish: Option<u64>,
    ) -> Option<Lease> {
        if state.is_closed {
            return None;
        }
        let slot = state.slots.get_mut(&entry.path).filter(|slot| !slot.is_held || wish == Some(slot.id))?;
        let Stage::Ready(service) = &slot.stage else { return None };
        if let Some(reason) = service.failure() {
            tracing::error!(model = entry.name, reason, "the model failed and is loaded again");
            // Its memory is free already, whoever still holds it.
            state.slots.remove(&entry.path);
            return None;
        }
        let service = service.clone();
        slot.n_leases += 1;
        slot.keep_alive = keep_alive.unwrap_or(self.keep_alive);
        Some(Lease { service, rooms: Arc::clone(self), path: entry.path.clone(), id: slot.id })
    }

    /// The loaded models, by name.
    pub(super) fn loaded(&self) -> Vec<Loaded> {
        let state = self.lock();
        let (now, today) = (Instant::now(), SystemTime::now());
        let mut loaded: Vec<Loaded> = state
            .slots
            .values()
            .filter_map(|slot| {
                let Stage::Ready(service) = &slot.stage else { return None };
                let expires = match slot.keep_alive {
                    KeepAlive::Forever => None,
                    KeepAlive::For(time) => {
                        let idle = if slot.n_leases > 0 {
                            Duration::ZERO
                        } else {
                            now.duration_since(slot.last_used)
                        };
                        today.checked_add(time.saturating_sub(idle))
                    }
                };
                Some(Loaded { entry: slot.entry.clone(), service: service.clone(), expires })
            })
            .collect();
        loaded.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        loaded
    }

    /// Requests that wait for models.
    pub(super) fn n_waiting(&self) -> usize {
        self.lock().n_wishes
    }

    /// Drops a model as soon as nobody uses it. Whether it was loaded.
    pub(super) fn unload(&self, entry: &Entry) -> bool {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&entry.path) else { return false };
        if !matches!(slot.stage, Stage::Ready(_)) {
            return false;
        }
        slot.keep_alive = KeepAlive::For(Duration::ZERO);
        if slot.is_idle() {
            slot.leave();
        }
        self.tell();
        true
    }

    /// Lends no more, and tells those who wait. What is in use stays.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.tell();
    }

    /// Drops all, also what is in use. Returns when the memory is back, but for what is just being loaded.
    pub(super) fn shutdown(&self) {
        let mut state = self.lock();
        (state.is_closed, state.stopping) = (true, true);
        state.slots.values_mut().for_each(Slot::leave);
        self.tell();
        drop(state);
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            // It panics with a service alone, and those catch their own.
            let _ = keeper.join();
        }
    }

    /// The keeper: drops what has expired and what must leave, until the end.
    fn keep(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let expired = |slot: &&mut Slot| slot.expires().is_some_and(|at| at <= now);
            state.slots.values_mut().filter(expired).for_each(Slot::leave);
            let next = state.slots.iter_mut().find_map(|(path, slot)| match &mut slot.stage {
                Stage::Leaving(service) => Some((path.clone(), slot.entry.name.clone(), service.take()?)),
                _ => None,
            });
            if let Some((path, name, service)) = next {
                drop(state);
                service.shutdown(Shutdown::Cancel);
                drop(service);
                tracing::info!(model = name, "unloaded");
                state = self.lock();
                state.slots.remove(&path);
                self.tell();
            } else if state.stopping {
                return;
            } else {
                let first = state.slots.values().filter_map(Slot::expires).min();
                state = match first {
                    None => self.wait(state),
                    Some(at) => {
                        let time = at.saturating_duration_since(now);
                        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody that something in the state has changed.
    fn tell(&self) {
        self.changed.notify_all();
        self.news.send_replace(());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.rooms.lock();
        let Some(slot) = state.slots.get_mut(&self.path).filter(|slot| slot.id == self.id) else { return };
        slot.n_leases = slot.n_leases.saturating_sub(1);
        slot.last_used = Instant::now();
        self.rooms.tell();
    }
}
