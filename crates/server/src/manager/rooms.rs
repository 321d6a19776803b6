//! Who has room in memory: loading, lending, expiry and eviction of models.
//!
//! One lock guards a few small facts and is never held while a model is loaded or dropped. A keeper thread drops what has
//! expired or must make room. A model that is being dropped still counts until its memory is back; whoever asks for it
//! meanwhile waits and loads it again.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use whit_engine::{EngineError, Service, Shutdown};

use crate::config::KeepAlive;
use crate::library::Entry;

/// What a loader does with the path of a model.
type Load<T> = Box<dyn Fn(&Path) -> Result<T, EngineError> + Send + Sync>;

/// How models are loaded.
pub(super) struct Loader {
    /// Bytes that a model will take.
    pub(super) estimate: Load<u64>,
    pub(super) load: Load<Service>,
}

/// Why a model was not lent. Told to all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(
        "the model needs {} of memory, and all models together may take {}; ask for a smaller one, or start the server \
         with fewer --cache-tokens",
        readable(*needed), readable(*budget)
    )]
    TooLarge { needed: u64, budget: u64 },
    #[error(
        "the model needs {} of memory, but {} of {} are free and nothing that is loaded is idle; try again later, ask \
         for a smaller model, or start the server with fewer --cache-tokens",
        readable(*needed), readable(budget.saturating_sub(*in_use)), readable(*budget)
    )]
    NoRoom { needed: u64, in_use: u64, budget: u64 },
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
    /// Something in the state has changed.
    changed: Condvar,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    slots: HashMap<PathBuf, Slot>,
    next_id: u64,
    stopping: bool,
}

/// A model's place in memory.
struct Slot {
    /// Tells it from others that had the same path before.
    id: u64,
    entry: Entry,
    /// Bytes that it counts for.
    size: u64,
    stage: Stage,
    n_leases: usize,
    keep_alive: KeepAlive,
    /// When it was last given back.
    last_used: Instant,
}

enum Stage {
    /// Somebody loads it; the outcome is for all who wait.
    Loading(Arc<Mutex<Option<LoadError>>>),
    Ready(Service),
    /// Nobody gets it any more; the keeper takes the service and drops it.
    Leaving(Option<Service>),
}

impl Slot {
    fn is_idle(&self) -> bool {
        self.n_leases == 0 && matches!(self.stage, Stage::Ready(_))
    }

    /// When it goes; `None`: not as things are.
    fn expires(&self) -> Option<Instant> {
        match self.keep_alive {
            KeepAlive::For(time) if self.is_idle() => self.last_used.checked_add(time),
            _ => None,
        }
    }

    fn leave(&mut self) {
        if let Stage::Ready(service) = &self.stage {
            self.stage = Stage::Leaving(Some(service.clone()));
        }
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
    pub(super) fn new(loader: Loader, budget: Option<u64>, keep_alive: KeepAlive) -> Arc<Rooms> {
        let rooms = Arc::new(Rooms {
            loader,
            budget,
            keep_alive,
            state: Mutex::default(),
            changed: Condvar::new(),
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
                rooms.lock().stopping = true;
            }
        }
        rooms
    }

    /// The model, if it is loaded.
    pub(super) fn lease_loaded(
        self: &Arc<Self>,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
    ) -> Option<Lease> {
        self.lend(&mut self.lock(), entry, keep_alive)
    }

    /// The model. Waits while it is loaded, by this thread or another.
    pub(super) fn lease(
        self: &Arc<Self>,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, LoadError> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Err(LoadError::Stopping);
            }
            if let Some(lease) = self.lend(&mut state, entry, keep_alive) {
                return Ok(lease);
            }
            match state.slots.get(&entry.path).map(|slot| &slot.stage) {
                None => {
                    let outcome = Arc::new(Mutex::new(None));
                    let id = self.insert(&mut state, entry, Arc::clone(&outcome));
                    drop(state);
                    let loaded = self.load(entry, id);
                    state = self.lock();
                    self.settle(&mut state, entry, &outcome, loaded)?;
                }
                Some(Stage::Loading(outcome)) => {
                    let outcome = Arc::clone(outcome);
                    state = self.wait(state);
                    if let Some(error) = &*outcome.lock().unwrap_or_else(PoisonError::into_inner) {
                        return Err(error.clone());
                    }
                }
                Some(_) => state = self.wait(state),
            }
        }
    }

    fn insert(&self, state: &mut State, entry: &Entry, outcome: Arc<Mutex<Option<LoadError>>>) -> u64 {
        let id = state.next_id;
        state.next_id += 1;
        let slot = Slot {
            id,
            entry: entry.clone(),
            size: 0,
            stage: Stage::Loading(outcome),
            n_leases: 0,
            keep_alive: self.keep_alive,
            last_used: Instant::now(),
        };
        state.slots.insert(entry.path.clone(), slot);
        id
    }

    /// Ends a load: the model is ready, or its slot is gone and everybody is told why.
    fn settle(
        &self,
        state: &mut State,
        entry: &Entry,
        outcome: &Mutex<Option<LoadError>>,
        loaded: Result<Service, LoadError>,
    ) -> Result<(), LoadError> {
        self.changed.notify_all();
        let loaded = match loaded {
            // Its thread ends when it is dropped here.
            Ok(_) if state.stopping => Err(LoadError::Stopping),
            loaded => loaded,
        };
        match (loaded, state.slots.get_mut(&entry.path)) {
            (Ok(service), Some(slot)) => {
                slot.stage = Stage::Ready(service);
                slot.last_used = Instant::now();
                Ok(())
            }
            (loaded, _) => {
                let error = loaded.err().unwrap_or(LoadError::Stopping);
                state.slots.remove(&entry.path);
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                Err(error)
            }
        }
    }

    fn load(&self, entry: &Entry, id: u64) -> Result<Service, LoadError> {
        let engine = |error| LoadError::Engine(Arc::new(error));
        // What a loader panics with is in the log by then; those who wait must not wait forever.
        let guarded = |work: &dyn Fn() -> Result<Service, LoadError>| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
                Err(engine(EngineError::Failed("loading it panicked; the server's log says more".to_owned())))
            })
        };
        guarded(&|| {
            let size = (self.loader.estimate)(&entry.path).map_err(engine)?;
            self.make_room(&entry.path, size)?;
            let start = Instant::now();
            let service = (self.loader.load)(&entry.path).map_err(engine)?;
            tracing::info!(model = entry.name, id, size, ms = start.elapsed().as_millis() as u64, "loaded");
            Ok(service)
        })
    }

    /// Sees to `size` bytes for the model at `path`, which is being loaded: those idle for longest go first.
    fn make_room(&self, path: &Path, size: u64) -> Result<(), LoadError> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Err(LoadError::Stopping);
            }
            let in_use: u64 = state.slots.values().map(|slot| slot.size).sum();
            let Some(budget) = self.budget.filter(|&budget| in_use.saturating_add(size) > budget) else {
                if let Some(slot) = state.slots.get_mut(path) {
                    slot.size = size;
                }
                return Ok(());
            };
            if size > budget {
                return Err(LoadError::TooLarge { needed: size, budget });
            }
            // Nothing is given up in vain.
            let given = |slot: &Slot| slot.is_idle() || matches!(slot.stage, Stage::Leaving(_));
            if (in_use - sizes(&state, given)).saturating_add(size) > budget {
                return Err(LoadError::NoRoom { needed: size, in_use, budget });
            }
            let leaving: u64 = sizes(&state, |slot| matches!(slot.stage, Stage::Leaving(_)));
            if (in_use - leaving).saturating_add(size) > budget {
                let idle = state.slots.values_mut().filter(|slot| slot.is_idle());
                if let Some(oldest) = idle.min_by_key(|slot| slot.last_used) {
                    tracing::info!(model = oldest.entry.name, "unloading to make room");
                    oldest.leave();
                    self.changed.notify_all();
                    continue;
                }
            }
            state = self.wait(state);
        }
    }

    fn lend(
        self: &Arc<Self>,
        state: &mut State,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
    ) -> Option<Lease> {
        if state.stopping {
            return None;
        }
        let slot = state.slots.get_mut(&entry.path)?;
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
        self.changed.notify_all();
        true
    }

    /// Drops all, also what is in use. Returns when the memory is back, but for what is just being loaded.
    pub(super) fn shutdown(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.slots.values_mut().for_each(Slot::leave);
        self.changed.notify_all();
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
                self.changed.notify_all();
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
}

fn sizes(state: &State, wanted: impl Fn(&Slot) -> bool) -> u64 {
    state.slots.values().filter(|slot| wanted(slot)).map(|slot| slot.size).sum()
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.rooms.lock();
        let Some(slot) = state.slots.get_mut(&self.path).filter(|slot| slot.id == self.id) else { return };
        slot.n_leases = slot.n_leases.saturating_sub(1);
        slot.last_used = Instant::now();
        self.rooms.changed.notify_all();
    }
}
