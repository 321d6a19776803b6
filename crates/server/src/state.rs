//! What every handler shares.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::ServerConfig;
use crate::conversations::Conversations;
use crate::error::ApiError;
use crate::keep::Keep;
use crate::library::{Drafts, Entry, Library};
use crate::manager::Manager;
use crate::metrics::Metrics;
use crate::openai::{Batches, files, responses};

/// Shared by all requests; cloning is cheap.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: ServerConfig,
    pub(crate) library: Library,
    pub(crate) manager: Manager,
    pub(crate) conversations: Conversations,
    pub(crate) metrics: Metrics,
    /// What clients uploaded, and what batches gave.
    pub(crate) files: Keep,
    pub(crate) batches: Batches,
    /// Answers that others may go on from.
    pub(crate) responses: Keep,
    /// How far the server is on its way down.
    pub(crate) stopping: watch::Sender<Stopping>,
}

/// Stages of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stopping {
    No,
    /// No new connections; running answers finish.
    Draining,
    /// Running answers are cut off, with a word.
    Now,
}

impl AppState {
    /// `drafts`: which file drafts for which model. `folder` is where the server keeps what is its own.
    pub(crate) fn new(config: ServerConfig, library: Library, drafts: Drafts, folder: &Path) -> AppState {
        let manager = Manager::new(&config, drafts);
        let (stopping, _) = watch::channel(Stopping::No);
        let conversations = Conversations::below(folder.join("conversations"));
        AppState(Arc::new(Inner {
            files: Keep::open(folder.join("files"), files::LIMITS),
            batches: Batches::open(folder.join("batches")),
            responses: Keep::open(folder.join("responses"), responses::LIMITS),
            config,
            library,
            manager,
            conversations,
            metrics: Metrics::default(),
            stopping,
        }))
    }
}

impl AppState {
    /// The model that a client means. One that is loaded goes on when its file has gone.
    pub(crate) fn find(&self, name: &str) -> Result<Entry, ApiError> {
        self.library.find(name).or_else(|error| {
            let wanted = name.trim();
            let wanted = wanted.strip_suffix(":latest").unwrap_or(wanted);
            let is_missing = matches!(error, ApiError::ModelNotFound(_));
            let loaded = self.manager.loaded().into_iter().map(|loaded| loaded.entry);
            loaded.filter(|_| is_missing).find(|entry| entry.name == wanted).ok_or(error)
        })
    }
}

impl Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
