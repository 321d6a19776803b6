//! A model that is loaded, and what it brings: what a run talks to, and a chat can exchange.

use std::time::{Duration, Instant};

use anyhow::Result;
use whit_engine::{Engine, EngineOptions, Model};
use whit_hub::{Manifest, Resolved};

/// A loaded model.
pub(crate) struct Session {
    pub(crate) engine: Engine,
    /// Its name, as the user gave it.
    pub(crate) name: String,
    /// What the store knows of it; `None` for a file of the user's.
    pub(crate) manifest: Option<Manifest>,
    options: EngineOptions,
}

/// How long loading took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadTimes {
    /// Reading the header of the file.
    pub(crate) open: Duration,
    /// All of it.
    pub(crate) whole: Duration,
}

impl Session {
    /// Loads a model that was found under `name`, with a context of `n_ctx` tokens.
    pub(crate) fn open(
        found: Resolved,
        name: &str,
        options: &EngineOptions,
        n_ctx: Option<usize>,
    ) -> Result<(Session, LoadTimes)> {
        let start = Instant::now();
        let options = EngineOptions { ctx: n_ctx.or(options.ctx), ..options.clone() };
        let mut model = Model::open(found.path)?;
        let open = start.elapsed();
        let manifest = found.manifest;
        if let Some(template) = manifest.as_ref().and_then(|manifest| manifest.extras.template.as_deref()) {
            model = model.with_template(template)?;
        }
        let engine = Engine::new(model, &options)?;
        let session = Session { engine, name: name.to_owned(), manifest, options };
        Ok((session, LoadTimes { open, whole: start.elapsed() }))
    }

    /// Gives the model another context; what was computed is lost.
    pub(crate) fn set_context(&mut self, n_ctx: usize) -> Result<()> {
        let options = EngineOptions { ctx: Some(n_ctx), ..self.options.clone() };
        self.engine = Engine::new(self.engine.model().clone(), &options)?;
        self.options = options;
        Ok(())
    }

    /// The options that it was loaded with.
    pub(crate) fn options(&self) -> &EngineOptions {
        &self.options
    }
}
