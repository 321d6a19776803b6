//! What a backend is: something that loads a Plan and runs batches through it.

use std::ops::Range;

use crate::{CacheType, Plan, PoolKind};

/// Tokens that one cache page holds, in every backend.
pub const PAGE_TOKENS: usize = 32;

/// An entry of a page table whose page has been given back (it left its layer's window).
pub const NO_PAGE: u32 = u32::MAX;

/// A run of consecutive positions of one sequence inside a batch.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// The batch rows that belong to this sequence.
    pub rows: Range<usize>,
    /// Position of the first of those rows; the others follow one by one.
    pub first_position: usize,
    /// One page table per [cache group](crate::Plan::cache_groups): entry `p / PAGE_TOKENS` is the page of position
    /// `p`. Every page that the segment's rows read or write must be present.
    pub pages: Vec<&'a [u32]>,
}

/// A sequence whose hidden states are pooled into one vector; see [`Op::Pool`](crate::Op::Pool).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// Which of [`Batch::segments`].
    pub segment: usize,
    /// Whether the sequence ends with this segment: the vector is then finished. Until then it is a state, which the
    /// caller keeps and hands back with the sequence's next segment.
    pub ends: bool,
}

/// One step: tokens of one or many sequences, in one pass through the plan.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// Token ids, one per row.
    pub tokens: &'a [u32],
    /// Which text of a pair each token belongs to, 0 or 1, one per row; empty means the first for all. Only plans with an
    /// [`Op::EmbedType`](crate::Op::EmbedType) look at it.
    pub types: &'a [u8],
    /// Sequences, covering the rows in order without gaps. A sequence appears at most once.
    pub segments: &'a [Segment<'a>],
    /// Rows whose logits are wanted, ascending.
    pub outputs: &'a [usize],
    /// Sequences that are pooled, ascending by segment. Only plans with an [`Op::Pool`](crate::Op::Pool) take any.
    pub pools: &'a [Pooling],
}

impl Batch<'_> {
    /// Puts the rows that [`Op::Select`](crate::Op::Select) keeps into `rows`: those whose logits are wanted, then those
    /// that `kind` pools, sequence by sequence.
    pub fn selected(&self, kind: Option<PoolKind>, rows: &mut Vec<usize>) {
        rows.clear();
        rows.extend_from_slice(self.outputs);
        for pool in self.pools {
            let pooled = kind.zip(self.segments.get(pool.segment));
            rows.extend(pooled.map_or(0..0, |(kind, segment)| kind.rows(segment, pool.ends)));
        }
    }
}

/// Sizes that an executor allocates for.
#[derive(Clone, Debug)]
pub struct ExecutorLimits {
    /// How cached keys and values are stored.
    pub cache_type: CacheType,
    /// Most rows in one batch.
    pub max_rows: usize,
    /// Most rows that one batch may [select](Batch::selected): for logits and for pooling together.
    pub max_outputs: usize,
    /// Cache pages per cache group, in the order of [`Plan::cache_groups`](crate::Plan::cache_groups).
    pub n_pages: Vec<usize>,
}

/// What can go wrong in a backend. None of these is caused by a well-formed plan on a healthy machine.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The plan holds something that this backend cannot run.
    #[error("{backend} cannot run this model: {what}")]
    Unsupported {
        /// Backend name.
        backend: String,
        /// The missing piece.
        what: String,
    },
    /// A batch breaks a rule of [`Batch`].
    #[error("invalid batch: {0}")]
    InvalidBatch(String),
    /// Memory for caches or buffers could not be had.
    #[error("not enough memory for {what}: {bytes} bytes are needed; use a smaller context (--ctx)")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
}

/// Loads plans.
pub trait Backend {
    /// What this backend is and which level it runs at, e.g. `cpu (avx512-vnni, 2 threads)`.
    fn describe(&self) -> String;

    /// Prepares `plan` (in its unfused form) for execution.
    fn load(&self, plan: Plan, limits: ExecutorLimits) -> Result<Box<dyn Executor>, BackendError>;
}

/// Runs batches through one loaded plan and owns its cache pages.
pub trait Executor: Send {
    /// Runs one batch. `logits` is `(outputs, n_vocab)` and is written in the order of [`Batch::outputs`]. `pooled` is
    /// `(pools, width)` in the order of [`Batch::pools`]; it holds the state that each sequence's segment before left
    /// there (anything, for a first segment) and is overwritten with the new one.
    fn run(&mut self, batch: &Batch<'_>, logits: &mut [f32], pooled: &mut [f32]) -> Result<(), BackendError>;

    /// Copies the first `n_tokens` entries of a page, in every layer of group `group`, onto another page: the
    /// copy-on-write step when a sequence continues from the middle of a shared page.
    fn copy_page(&mut self, group: usize, from: u32, to: u32, n_tokens: usize);

    /// Bytes held in caches and buffers, weights not counted.
    fn memory(&self) -> usize;
}
