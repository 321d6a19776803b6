//! The way in: measuring a model, its place in the line, making room for it, loading it; and the requests that wait
//! for it meanwhile.
//!
//! Models that need room are served in the order in which they were asked for, and only the first of the line takes any:
//! small ones do not overtake a large one for ever. It chooses who must go: those idle for longest, then, where that is
//! not enough, those loaded longest ago. Of these nobody new gets a lease, which is what keeps a busy model from starving
//! the one that waits; but whatever runs on them ends as it would. Who is turned away so gets in line behind.
//!
//! Every way in is a short thread of its own. When no request waits for its model any more, it gives up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use whit_engine::{EngineError, Service};

use super::slot::{Outcome, Slot, Stage};
use super::{Lease, LoadError, Rooms, State};
use crate::config::KeepAlive;
use crate::library::Entry;

/// A request that waits.
struct Wish {
    rooms: Arc<Rooms>,
    path: PathBuf,
    /// Of the slot that it waits for, once there is one.
    slot: Option<(u64, Outcome)>,
}

impl Rooms {
    /// The model, loaded if need be. Waits for room as long as the patience lasts, and no more requests than the queue
    /// holds wait at the same time. Dropping the future gives up the wish.
    pub(in crate::manager) async fn lease(
        self: &Arc<Self>,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, LoadError> {
        let mut news = self.news.subscribe();
        let began = tokio::time::Instant::now();
        let mut wish = None;
        loop {
            // Before the state is looked at, so that nothing that happens after is missed.
            news.borrow_and_update();
            if let Some(lease) = self.try_lease(entry, keep_alive, &mut wish)? {
                return Ok(lease);
            }
            let limit = began + self.limits.patience;
            if tokio::time::timeout_at(limit, news.changed()).await.is_err() {
                if let Some(error) = self.out_of_patience(entry) {
                    return Err(error);
                }
                // Loading takes as long as it takes.
                let _ = news.changed().await;
            }
        }
    }

    /// One look at the state, which may put the model in line. `None`: wait for news.
    fn try_lease(
        self: &Arc<Self>,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
        wish: &mut Option<Wish>,
    ) -> Result<Option<Lease>, LoadError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(LoadError::Stopping);
        }
        let waits_for = wish.as_ref().and_then(|wish: &Wish| wish.slot.clone());
        match waits_for.as_ref().and_then(|(_, outcome)| outcome.get()) {
            // By those who came before; this one has come just then.
            None | Some(LoadError::Abandoned) => {}
            Some(error) => return Err(error),
        }
        if let Some(lease) = self.lend(&mut state, entry, keep_alive, waits_for.map(|(id, _)| id)) {
            return Ok(Some(lease));
        }
        if wish.is_none() {
            if state.n_wishes >= self.limits.max_queue {
                return Err(LoadError::Busy);
            }
            state.n_wishes += 1;
            *wish = Some(Wish { rooms: Arc::clone(self), path: entry.path.clone(), slot: None });
        }
        if !state.slots.contains_key(&entry.path) {
            self.enter(&mut state, entry)?;
        }
        if let (Some(wish), Some(slot)) = (wish.as_mut(), state.slots.get_mut(&entry.path))
            && let Some(outcome) = slot.outcome()
            && wish.slot.as_ref().is_none_or(|(id, _)| *id != slot.id)
        {
            wish.slot = Some((slot.id, outcome.clone()));
            slot.n_wishes += 1;
        }
        Ok(None)
    }

    /// Why a request that has waited long enough goes without; `None`: its model is being loaded, or there.
    fn out_of_patience(&self, entry: &Entry) -> Option<LoadError> {
        let state = self.lock();
        let slot = state.slots.get(&entry.path)?;
        let needed = match slot.stage {
            Stage::Measured(_) | Stage::Loading(_) => return None,
            Stage::Ready(_) if !slot.is_held => return None,
            Stage::InLine(_, size) => size,
            Stage::Ready(_) | Stage::Leaving(_) => slot.size,
        };
        let budget = self.budget.unwrap_or(u64::MAX);
        Some(LoadError::NoRoom { needed, in_use: state.in_use(), budget, waited: self.limits.patience })
    }

    /// Starts a model's way in.
    fn enter(self: &Arc<Self>, state: &mut State, entry: &Entry) -> Result<(), LoadError> {
        let id = state.next_id;
        let outcome = Outcome::default();
        let (rooms, entry_of_thread, outcome_of_thread) = (Arc::clone(self), entry.clone(), outcome.clone());
        let way = move || {
            let loaded = rooms.bring(&entry_of_thread, id);
            rooms.settle(&entry_of_thread, id, &outcome_of_thread, loaded);
        };
        std::thread::Builder::new()
            .name("whit-load".to_owned())
            .spawn(way)
            .map_err(|error| LoadError::Engine(Arc::new(EngineError::Thread(error))))?;
        state.next_id += 1;
        let slot = Slot {
            id,
            entry: entry.clone(),
            size: 0,
            stage: Stage::Measured(outcome),
            n_leases: 0,
            n_wishes: 0,
            is_held: false,
            keep_alive: self.keep_alive,
            last_used: Instant::now(),
        };
        state.slots.insert(entry.path.clone(), slot);
        Ok(())
    }

    /// Measures a model, waits for its room, and loads it.
    fn bring(&self, entry: &Entry, id: u64) -> Result<Service, LoadError> {
        let engine = |error| LoadError::Engine(Arc::new(error));
        let work = || {
            let size = (self.loader.estimate)(entry).map_err(engine)?;
            self.make_room(entry, id, size)?;
            let start = Instant::now();
            let service = (self.loader.load)(entry).map_err(engine)?;
            tracing::info!(model = entry.name, id, size, ms = start.elapsed().as_millis() as u64, "loaded");
            Ok(service)
        };
        // What a loader panics with is in the log by then; those who wait must not wait forever.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
            Err(engine(EngineError::Failed("loading it panicked; the server's log says more".to_owned())))
        })
    }

    /// Sees to `size` bytes for a model that is on its way in.
    fn make_room(&self, entry: &Entry, id: u64, size: u64) -> Result<(), LoadError> {
        let mut state = self.lock();
        if let Some(budget) = self.budget.filter(|&budget| size > budget) {
            return Err(LoadError::TooLarge { needed: size, budget });
        }
        let mut has_told = false;
        loop {
            if state.is_closed {
                return Err(LoadError::Stopping);
            }
            let is_first = state.first_in_line().is_none_or(|first| first >= id);
            let in_use = state.in_use();
            let Some(slot) = state.slots.get_mut(&entry.path).filter(|slot| slot.id == id) else {
                return Err(LoadError::Abandoned);
            };
            let Some(outcome) = slot.outcome().cloned() else { return Err(LoadError::Abandoned) };
            let fits = self.budget.is_none_or(|budget| in_use.saturating_add(size) <= budget);
            let is_wanted = slot.n_wishes > 0;
            if !is_wanted || (is_first && fits) {
                state.slots.values_mut().filter(|_| is_first).for_each(|slot| slot.is_held = false);
                if is_wanted && let Some(slot) = state.slots.get_mut(&entry.path) {
                    slot.size = size;
                    slot.stage = Stage::Loading(outcome);
                }
                // Those held may be used again, and the next in line looks around.
                self.tell();
                return if is_wanted { Ok(()) } else { Err(LoadError::Abandoned) };
            }
            slot.stage = Stage::InLine(outcome, size);
            if !std::mem::replace(&mut has_told, true) {
                tracing::info!(model = entry.name, size, in_use, "waiting for room");
            }
            if is_first {
                self.choose_who_goes(&mut state, size);
            }
            state = self.wait(state);
        }
    }

    /// Sends away, or holds for it, the models without which `size` bytes fit.
    fn choose_who_goes(&self, state: &mut State, size: u64) {
        let Some(budget) = self.budget else { return };
        let leaving: u64 = state.sizes(Slot::is_leaving);
        // Bytes that are still to be had.
        let missing = (state.in_use() - leaving).saturating_add(size).saturating_sub(budget);
        let mut candidates: Vec<&mut Slot> =
            state.slots.values_mut().filter(|slot| slot.is_ready()).collect();
        candidates.iter_mut().for_each(|slot| slot.is_held = false);
        candidates.sort_by_key(|slot| match slot.is_idle() {
            true => (0, Some(slot.last_used), slot.id),
            false => (1, None, slot.id),
        });
        let mut given = 0;
        let mut chosen = Vec::new();
        for slot in candidates {
            if given >= missing {
                break;
            }
            given += slot.size;
            chosen.push(slot);
        }
        let mut has_news = false;
        for slot in chosen {
            // Without those that come after it, it would have been needed; with them perhaps not.
            if given - slot.size >= missing {
                given -= slot.size;
            } else if slot.is_idle() {
                tracing::info!(model = slot.entry.name, "unloading to make room");
                slot.leave();
                has_news = true;
            } else {
                slot.is_held = true;
            }
        }
        if has_news {
            self.tell();
        }
    }

    /// Ends a way in: the model is ready, or its slot is gone and everybody is told why.
    fn settle(&self, entry: &Entry, id: u64, outcome: &Outcome, loaded: Result<Service, LoadError>) {
        let mut state = self.lock();
        let loaded = match loaded {
            // Its thread ends when it is dropped here.
            Ok(_) if state.is_closed => Err(LoadError::Stopping),
            loaded => loaded,
        };
        match (loaded, state.slots.get_mut(&entry.path).filter(|slot| slot.id == id)) {
            (Ok(service), Some(slot)) => {
                slot.stage = Stage::Ready(service);
                slot.last_used = Instant::now();
            }
            (loaded, slot) => {
                if slot.is_some() {
                    state.slots.remove(&entry.path);
                }
                outcome.set(loaded.err().unwrap_or(LoadError::Stopping));
            }
        }
        drop(state);
        self.tell();
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        let mut state = self.rooms.lock();
        state.n_wishes = state.n_wishes.saturating_sub(1);
        if let Some((id, _)) = &self.slot
            && let Some(slot) = state.slots.get_mut(&self.path).filter(|slot| slot.id == *id)
        {
            slot.n_wishes = slot.n_wishes.saturating_sub(1);
            drop(state);
            self.rooms.tell();
        }
    }
}
