//! The models that are loaded: each is loaded on its first request, and dropped when it has been idle for its keep-alive.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use whit_engine::{Engine, EngineOptions, Service, ServiceLimits, Shutdown};

use crate::config::{KeepAlive, ServerConfig};
use crate::error::ApiError;
use crate::library::Entry;

/// The loaded models.
pub(crate) struct Manager {
    options: EngineOptions,
    max_queue: usize,
    keep_alive: KeepAlive,
    slots: Arc<Mutex<HashMap<PathBuf, Arc<Slot>>>>,
}

struct Slot {
    entry: Entry,
    /// Empty until the model is loaded; held while it is being loaded.
    service: tokio::sync::OnceCell<Service>,
    use_: Mutex<Use>,
}

struct Use {
    n_leases: usize,
    keep_alive: KeepAlive,
    last: Instant,
}

/// A loaded model, which stays loaded while this lives.
pub(crate) struct Lease {
    pub(crate) service: Service,
    slot: Arc<Slot>,
    slots: Arc<Mutex<HashMap<PathBuf, Arc<Slot>>>>,
}

/// A loaded model, to be listed.
pub(crate) struct Loaded {
    pub(crate) entry: Entry,
    pub(crate) service: Service,
    /// When it goes if nobody asks for it; `None`: never.
    pub(crate) expires: Option<SystemTime>,
}

impl Manager {
    pub(crate) fn new(config: &ServerConfig) -> Manager {
        Manager {
            options: EngineOptions { max_sequences: config.num_parallel, ..config.engine.clone() },
            max_queue: config.max_queue,
            keep_alive: config.keep_alive,
            slots: Arc::default(),
        }
    }

    /// The model, loaded if need be.
    pub(crate) async fn lease(
        &self,
        entry: &Entry,
        keep_alive: Option<KeepAlive>,
    ) -> Result<Lease, ApiError> {
        let slot = {
            let mut slots = lock(&self.slots);
            let slot = slots.entry(entry.path.clone()).or_insert_with(|| {
                let use_ = Use { n_leases: 0, keep_alive: self.keep_alive, last: Instant::now() };
                Arc::new(Slot { entry: entry.clone(), service: tokio::sync::OnceCell::new(), use_: Mutex::new(use_) })
            });
            let mut use_ = lock(&slot.use_);
            use_.n_leases += 1;
            use_.keep_alive = keep_alive.unwrap_or(self.keep_alive);
            slot.clone()
        };
        let load = || async {
            let (path, options, limits) = (entry.path.clone(), self.options.clone(), self.limits());
            let loading = tokio::task::spawn_blocking(move || {
                Service::start(Engine::load(path, &options)?, limits)
            });
            loading.await.map_err(|error| ApiError::internal(&error))?.map_err(|error| ApiError::internal(&error))
        };
        let service = slot.service.get_or_try_init(load).await.cloned();
        match service {
            Ok(service) => Ok(Lease { service, slot, slots: self.slots.clone() }),
            Err(error) => {
                lock(&self.slots).remove(&entry.path);
                Err(error)
            }
        }
    }

    fn limits(&self) -> ServiceLimits {
        ServiceLimits { max_queue: self.max_queue, ..ServiceLimits::default() }
    }

    /// The loaded models.
    pub(crate) fn loaded(&self) -> Vec<Loaded> {
        let slots = lock(&self.slots);
        let loaded = slots.values().filter_map(|slot| {
            let use_ = lock(&slot.use_);
            let expires = match use_.keep_alive {
                KeepAlive::Forever => None,
                KeepAlive::For(time) => {
                    let idle = if use_.n_leases > 0 { Duration::ZERO } else { use_.last.elapsed() };
                    Some(SystemTime::now() + time.saturating_sub(idle))
                }
            };
            Some(Loaded { entry: slot.entry.clone(), service: slot.service.get()?.clone(), expires })
        });
        loaded.collect()
    }

    /// Drops a model as soon as nobody uses it. Whether it was loaded.
    pub(crate) fn unload(&self, entry: &Entry) -> bool {
        let slot = lock(&self.slots).remove(&entry.path);
        slot.is_some()
    }

    /// Drops all.
    pub(crate) fn shutdown(&self) {
        let slots = std::mem::take(&mut *lock(&self.slots));
        slots.into_values().filter_map(|slot| slot.service.get().cloned()).for_each(|service| service.shutdown(Shutdown::Cancel));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let keep_alive = {
            let mut use_ = lock(&self.slot.use_);
            use_.n_leases = use_.n_leases.saturating_sub(1);
            use_.last = Instant::now();
            use_.keep_alive
        };
        let KeepAlive::For(time) = keep_alive else { return };
        let (slot, slots) = (self.slot.clone(), self.slots.clone());
        let expire = move || {
            let mut slots = lock(&slots);
            let use_ = lock(&slot.use_);
            let path = &slot.entry.path;
            if use_.n_leases == 0 && use_.last.elapsed() >= time && slots.get(path).is_some_and(|s| Arc::ptr_eq(s, &slot)) {
                slots.remove(path);
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(time).await;
                expire();
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
