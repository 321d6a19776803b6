//! What a pull reports while it runs.

/// What a pull is doing. Phases come in this order; all but [`Phase::Downloading`] may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Another process is pulling the same model; its result will be used.
    Waiting,
    /// What an interrupted pull left behind is read again and checked. `done` and `total` count bytes of the model.
    Checking,
    /// Parts arrive, and are unpacked as they do. `done` and `total` count bytes to download.
    Downloading,
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
