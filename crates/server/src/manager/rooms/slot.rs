//! A model's place in memory, and the stages of its stay.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use whit_engine::Service;

use super::LoadError;
use crate::config::KeepAlive;
use crate::library::Entry;

/// Why a model could not be loaded, for all who wait for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome(Arc<Mutex<Option<LoadError>>>);

impl Outcome {
    pub(super) fn set(&self, error: LoadError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(super) fn get(&self) -> Option<LoadError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A model's place in memory.
pub(super) struct Slot {
    /// Tells it from others that had the same path before. Later ones are larger.
    pub(super) id: u64,
    pub(super) entry: Entry,
    /// Bytes that it counts for.
    pub(super) size: u64,
    pub(super) stage: Stage,
    pub(super) n_leases: usize,
    /// Requests that wait for it to be loaded.
    pub(super) n_wishes: usize,
    /// Another model waits for its room: it goes when those who use it are done, and nobody new gets it.
    pub(super) is_held: bool,
    pub(super) keep_alive: KeepAlive,
    /// When it was last given back.
    pub(super) last_used: Instant,
}

pub(super) enum Stage {
    /// It is being measured.
    Measured(Outcome),
    /// It waits in line for room, and will take this many bytes.
    InLine(Outcome, u64),
    /// It has its room and is being loaded.
    Loading(Outcome),
    Ready(Service),
    /// Nobody gets it any more; the keeper takes the service and drops it.
    Leaving(Option<Service>),
}

impl Slot {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.is_ready() && self.n_leases == 0 && self.n_wishes == 0
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_))
    }

    /// What becomes of it, while it is on its way in.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match &self.stage {
            Stage::Measured(outcome) | Stage::InLine(outcome, _) | Stage::Loading(outcome) => Some(outcome),
            Stage::Ready(_) | Stage::Leaving(_) => None,
        }
    }

    /// When it goes; `None`: not as things are.
    pub(super) fn expires(&self) -> Option<Instant> {
        match self.keep_alive {
            KeepAlive::For(time) if self.is_idle() => self.last_used.checked_add(time),
            _ => None,
        }
    }

    pub(super) fn leave(&mut self) {
        if let Stage::Ready(service) = &self.stage {
            self.stage = Stage::Leaving(Some(service.clone()));
        }
    }
}
