//! Runs one batch: packs pieces of sequences into what the backend takes, and hands out its logits.

use std::ops::Range;

use whit_base::{BackendError, Batch, Executor, Observer, Pooling, Segment};

use crate::cache::{PageCopy, SequenceCache};

/// The executor and the memory that its batches are put together in.
pub(crate) struct Runner {
    executor: Box<dyn Executor>,
    sizes: RunnerSizes,
    tokens: Vec<u32>,
    types: Vec<u8>,
    outputs: Vec<usize>,
    pools: Vec<Pooling>,
    logits: Vec<f32>,
    vectors: Vec<f32>,
}

/// What a [`Runner`] must know of its executor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunnerSizes {
    pub(crate) n_vocab: usize,
    /// Width of a pooled vector.
    pub(crate) n_embd: usize,
    pub(crate) max_rows: usize,
    /// Most rows of logits in one step.
    pub(crate) max_logits: usize,
    /// Whether a sequence must run in one piece.
    pub(crate) reads_whole: bool,
}

/// A run of tokens of one sequence.
pub(crate) struct Piece<'a> {
    /// The tokens to run.
    pub(crate) tokens: &'a [u32],
    /// Where the first of them stands.
    pub(crate) first: usize,
    /// Tokens that may follow them. The logits of each are wanted.
    pub(crate) draft: &'a [u32],
    /// Those of them whose logits are wanted, as places.
    pub(crate) outputs: Range<usize>,
    /// The vector that is being made of the sequence.
    pub(crate) pool: Option<PoolPiece<'a>>,
    /// Where the second text of a pair begins.
    pub(crate) second: Option<usize>,
    /// The sequence's pages, reserved.
    pub(crate) cache: &'a SequenceCache,
}

/// A vector that a piece of its sequence goes into.
pub(crate) struct PoolPiece<'a> {
    /// As the piece before left it.
    pub(crate) state: &'a [f32],
    /// Whether this piece is the last.
    pub(crate) ends: bool,
}

impl Runner {
    pub(crate) fn new(executor: Box<dyn Executor>, sizes: RunnerSizes) -> Runner {
        Runner {
            executor,
            sizes,
            tokens: Vec::new(),
            types: Vec::new(),
            outputs: Vec::new(),
            pools: Vec::new(),
            logits: Vec::new(),
            vectors: Vec::new(),
        }
    }

    pub(crate) fn max_rows(&self) -> usize {
        self.sizes.max_rows
    }

    /// Whether a sequence must run in one piece.
    pub(crate) fn reads_whole(&self) -> bool {
        self.sizes.reads_whole
    }

    /// Most rows of logits in one step.
    pub(crate) fn max_logits(&self) -> usize {
        self.sizes.max_logits
    }

    /// Bytes in caches and buffers.
    pub(crate) fn memory(&self) -> usize {
        self.executor.memory() + 4 * (self.logits.capacity() + self.vectors.capacity())
    }

    /// The same, without what grows as logits are asked for.
    pub(crate) fn executor_memory(&self) -> usize {
        self.executor.memory()
    }

    pub(crate) fn copy_page(&mut self, copy: PageCopy) {
        self.executor.copy_page(copy.group, copy.from, copy.to, copy.n_tokens);
    }

    /// Runs the pieces in one pass. The logits of all outputs are then had from [`logits`](Self::logits), and the vectors
    /// from [`vector`](Self::vector), in order.
    pub(crate) fn run<'a>(&mut self, pieces: impl Iterator<Item = Piece<'a>>) -> Result<(), BackendError> {
        self.run_observed(pieces, None)
    }

    /// The same, with an observer of what goes into products.
    pub(crate) fn run_observed<'a>(
        &mut self,
        pieces: impl Iterator<Item = Piece<'a>>,
        observer: Option<&mut dyn Observer>,
    ) -> Result<(), BackendError> {
        self.tokens.clear();
        self.types.clear();
        self.outputs.clear();
        self.pools.clear();
        self.vectors.clear();
        let mut segments = Vec::new();
        for piece in pieces {
            let first = self.tokens.len();
            self.tokens.extend_from_slice(piece.tokens);
            let drafted = self.tokens.len();
            self.tokens.extend_from_slice(piece.draft);
            let n_rows = self.tokens.len() - first;
            let is_second = |place: usize| piece.second.is_some_and(|second| piece.first + place >= second);
            self.types.extend((0..n_rows).map(|place| u8::from(is_second(place))));
            self.outputs.extend(piece.outputs.map(|row| first + row));
            self.outputs.extend(drafted..first + n_rows);
            if let Some(pool) = piece.pool {
                self.pools.push(Pooling { segment: segments.len(), ends: pool.ends });
                self.vectors.extend_from_slice(pool.state);
            }
            segments.push(Segment {
                rows: first..self.tokens.len(),
                first_position: piece.first,
                pages: piece.cache.tables(),
            });
        }
        if self.tokens.is_empty() {
            return Ok(());
        }
        // Every value is overwritten, so nothing is cleared.
        self.logits.resize(self.outputs.len() * self.sizes.n_vocab, 0.0);
        let batch = Batch {
            tokens: &self.tokens,
            types: &self.types,
            segments: &segments,
            outputs: &self.outputs,
            pools: &self.pools,
        };
        match observer {
            None => self.executor.run(&batch, &mut self.logits, &mut self.vectors),
            Some(observer) => {
                self.executor.run_observed(&batch, &mut self.logits, &mut self.vectors, observer)
            }
        }
    }

    /// The logits of the `index`th output of the last run.
    pub(crate) fn logits(&self, index: usize) -> &[f32] {
        let n_vocab = self.sizes.n_vocab;
        &self.logits[index * n_vocab..(index + 1) * n_vocab]
    }

    /// The `index`th vector of the last run.
    pub(crate) fn vector(&self, index: usize) -> &[f32] {
        let n_embd = self.sizes.n_embd;
        &self.vectors[index * n_embd..(index + 1) * n_embd]
    }
}
