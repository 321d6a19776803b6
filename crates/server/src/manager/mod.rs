//! The models that are loaded: each is loaded on its first request, shared by all that ask for it, and dropped when it
//! has been idle for its keep-alive, or earlier when another needs its memory. One that is in use stays until it is not, and
//! whoever needs its memory waits.
//!
//! `rooms` decides, with plain threads and locks; here is what the handlers see of it.

mod memory;
mod rooms;

use std::sync::Arc;

use whit_engine::{
    BackendError, CacheSize, Engine, EngineError, EngineOptions, Model, Service, ServiceLimits,
};

use crate::config::{KeepAlive, ServerConfig};
use crate::error::ApiError;
use crate::library::{Drafts, Entry};
pub(crate) use rooms::{Lease, Loaded};
use rooms::{Limits, LoadError, Loader, Rooms};

/// The loaded models.
pub(crate) struct Manager {
    rooms: Arc<Rooms>,
}

impl Manager {
    /// `drafts`: which file drafts for which model.
    pub(crate) fn new(config: &ServerConfig, drafts: Drafts) -> Manager {
        let budget = config.memory.or_else(memory::available);
        let cache = match config.engine.cache {
            CacheSize::Usual { memory: None } => CacheSize::Usual { memory: budget },
            chosen => chosen,
        };
        let options = EngineOptions { max_sequences: config.num_parallel, cache, ..config.engine.clone() };
        let limits = ServiceLimits { max_queue: config.max_queue };
        let options = Arc::new(move |entry: &Entry| {
            let draft = [Some(&entry.name), entry.parent.as_ref()].into_iter().flatten();
            let draft = draft.filter_map(|name| drafts.get(name)).next().cloned();
            EngineOptions { draft, ..options.clone() }
        });
        let to_estimate = Arc::clone(&options);
        let loader = Loader {
            estimate: Box::new(move |entry| {
                Ok(Model::open(&entry.path)?.estimate(&to_estimate(entry))?.total() as u64)
            }),
            load: Box::new(move |entry| Service::start(Engine::load(&entry.path, &options(entry))?, limits)),
        };
        let waiting = Limits { max_queue: config.max_queue, patience: config.max_wait };
        Manager { rooms: Rooms::new(loader, budget, config.keep_alive, waiting) }
    }

    /// The model, loaded if need be.
    pub(crate) async fn lease(
        &self,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, ApiError> {
        if let Some(lease) = self.rooms.lease_loaded(entry, keep_alive) {
            return Ok(lease);
        }
        Ok(self.rooms.lease(entry, keep_alive).await?)
    }

    /// The loaded models.
    pub(crate) fn loaded(&self) -> Vec<Loaded> {
        self.rooms.loaded()
    }

    /// Requests that wait for their model.
    pub(crate) fn n_waiting(&self) -> usize {
        self.rooms.n_waiting()
    }

    /// Drops a model as soon as nobody uses it. Whether it was loaded.
    pub(crate) fn unload(&self, entry: &Entry) -> bool {
        self.rooms.unload(entry)
    }

    /// Lends no more, and tells those who wait.
    pub(crate) fn close(&self) {
        self.rooms.close();
    }

    /// Drops all, also what is in use, and loads no more.
    pub(crate) fn shutdown(&self) {
        self.rooms.shutdown();
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.rooms.shutdown();
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> ApiError {
        match error {
            LoadError::NoRoom { .. } | LoadError::Abandoned => ApiError::NoRoom(error.to_string()),
            LoadError::TooLarge { .. } => ApiError::DoesNotFit(error.to_string()),
            LoadError::Busy => ApiError::Busy,
            LoadError::Stopping => ApiError::ShuttingDown,
            LoadError::Engine(error) => match &*error {
                EngineError::Backend(BackendError::OutOfMemory { .. }) => {
                    ApiError::DoesNotFit(error.to_string())
                }
                error => ApiError::internal(error),
            },
        }
    }
}
