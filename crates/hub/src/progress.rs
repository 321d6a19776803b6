//! What a pull reports while it runs.

use std::time::{Duration, Instant};

/// The least time between two reports of a phase.
const INTERVAL: Duration = Duration::from_millis(90);

/// What a pull is doing. Phases come in this order; all but [`Phase::Downloading`] may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Another process is pulling the same model; its result will be used.
    Waiting,
    /// What an interrupted pull left behind is read again and checked. `done` and `total` count bytes of the model.
    Checking,
    /// Parts arrive, and are unpacked as they do. `done` and `total` count bytes to download.
    Downloading,
    /// A model is copied to or from a folder.
    Copying,
    /// The model is whole, and is being written out to the disk and put in its place.
    Finishing,
}

/// A report, given some ten times a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes so far. Never falls within a phase.
    pub done: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
    /// How many of `done` were there when this pull began: leave them out of the speed.
    pub kept: u64,
    /// Parts that are done.
    pub parts_done: usize,
    /// Parts in all.
    pub n_parts: usize,
}

impl Progress {
    pub(crate) fn new(phase: Phase) -> Progress {
        Progress { phase, done: 0, total: None, kept: 0, parts_done: 0, n_parts: 0 }
    }
}

/// Who is told.
pub(crate) type Report<'a> = &'a mut dyn FnMut(Progress);

/// Passes on the first and the last report of each phase, and those between no oftener than ten times a second.
pub(crate) fn throttle(report: &mut dyn FnMut(Progress)) -> impl FnMut(Progress) {
    let mut last: Option<(Phase, Instant)> = None;
    move |progress| {
        let soon = last.is_some_and(|(phase, at)| phase == progress.phase && at.elapsed() < INTERVAL);
        if !soon || progress.total == Some(progress.done) {
            last = Some((progress.phase, Instant::now()));
            report(progress);
        }
    }
}
