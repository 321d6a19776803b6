//! What a backend is: something that loads a Plan and runs batches through it.

use std::ops::Range;

use crate::{CacheType, Plan, PoolKind, Weight};

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

/// What goes into a product with weights: `(rows, n_cols)` f32, before any rounding.
#[derive(Clone, Copy, Debug)]
pub struct ProductInput<'a> {
    /// The matrices that it is multiplied with, several where they share it: queries, keys and values; gate and up.
    pub weights: &'a [&'a Weight],
    /// Which of a mixture's experts they are, and of how many; the rows are those of the tokens that go through it.
    pub expert: Option<(usize, usize)>,
    /// Rows, one every `stride` values, the last as long as `n_cols`.
    values: &'a [f32],
    stride: usize,
    n_cols: usize,
}

impl<'a> ProductInput<'a> {
    /// `n_cols` values every `stride` are a row, as many as `values` holds.
    ///
    /// # Panics
    /// If rows overlap, or `values` ends within one.
    pub fn new(
        weights: &'a [&'a Weight],
        expert: Option<(usize, usize)>,
        values: &'a [f32],
        stride: usize,
        n_cols: usize,
    ) -> ProductInput<'a> {
        assert!(0 < n_cols && n_cols <= stride, "rows of {n_cols} values every {stride}");
        let whole = values.is_empty() || values.len() % stride == n_cols % stride;
        assert!(whole, "{} values in rows of {n_cols} every {stride}", values.len());
        ProductInput { weights, expert, values, stride, n_cols }
    }

    /// Values in a row.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// The rows, in the order of the batch's.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        let n_cols = self.n_cols;
        self.values.chunks(self.stride).map(move |row| &row[..n_cols])
    }
}

/// Sees what goes into every product with weights while a batch runs: what calibration, GPTQ and pruning learn from.
pub trait Observer: Send {
    /// Called once for each input, in the order of the plan, before the product.
    fn input(&mut self, input: ProductInput<'_>);
}

/// Runs batches through one loaded plan and owns its cache pages.
pub trait Executor: Send {
    /// Runs one batch. `logits` is `(outputs, n_vocab)` and is written in the order of [`Batch::outputs`]. `pooled` is
    /// `(pools, width)` in the order of [`Batch::pools`]; it holds the state that each sequence's segment before left
    /// there (anything, for a first segment) and is overwritten with the new one.
    fn run(&mut self, batch: &Batch<'_>, logits: &mut [f32], pooled: &mut [f32]) -> Result<(), BackendError>;

    /// As [`run`](Self::run), with `observer` looking on. Results are the same, bit for bit.
    fn run_observed(
        &mut self,
        _batch: &Batch<'_>,
        _logits: &mut [f32],
        _pooled: &mut [f32],
        _observer: &mut dyn Observer,
    ) -> Result<(), BackendError> {
        let what = "showing what goes into its products".to_owned();
        Err(BackendError::Unsupported { backend: "this backend".to_owned(), what })
    }

    /// Copies the first `n_tokens` entries of a page, in every layer of group `group`, onto another page: the
    /// copy-on-write step when a sequence continues from the middle of a shared page.
    fn copy_page(&mut self, group: usize, from: u32, to: u32, n_tokens: usize);

    /// Bytes held in caches and buffers, weights not counted.
    fn memory(&self) -> usize;
}
