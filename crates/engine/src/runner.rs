//! Runs one batch: packs pieces of sequences into what the backend takes, and hands out its logits.

use std::ops::Range;

use whit_base::{BackendError, Batch, Executor, Segment};

use crate::cache::{PageCopy, SequenceCache};

/// The executor and the memory that its batches are put together in.
pub(crate) struct Runner {
    executor: Box<dyn Executor>,
    n_vocab: usize,
    max_rows: usize,
    max_outputs: usize,
    tokens: Vec<u32>,
    outputs: Vec<usize>,
    logits: Vec<f32>,
}

/// A run of tokens of one sequence.
pub(crate) struct Piece<'a> {
    /// The tokens to run; the first stands at position `cache.len()`.
    pub(crate) tokens: &'a [u32],
    /// Those whose logits are wanted, as places in `tokens`.
    pub(crate) outputs: Range<usize>,
    /// The sequence's pages, reserved.
    pub(crate) cache: &'a SequenceCache,
}

impl Runner {
    pub(crate) fn new(
        executor: Box<dyn Executor>,
        n_vocab: usize,
        max_rows: usize,
        max_outputs: usize,
    ) -> Runner {
        let (tokens, outputs, logits) = (Vec::new(), Vec::new(), Vec::new());
        Runner { executor, n_vocab, max_rows, max_outputs, tokens, outputs, logits }
    }

    pub(crate) fn max_rows(&self) -> usize {
        self.max_rows
    }

    pub(crate) fn max_outputs(&self) -> usize {
        self.max_outputs
    }

    /// Bytes in caches and buffers.
    pub(crate) fn memory(&self) -> usize {
        self.executor.memory() + 4 * self.logits.capacity()
    }

    pub(crate) fn copy_page(&mut self, copy: PageCopy) {
        self.executor.copy_page(copy.group, copy.from, copy.to, copy.n_tokens);
    }

    /// Runs the pieces in one pass. The logits of all outputs are then had from [`logits`](Self::logits), in order.
    pub(crate) fn run<'a>(&mut self, pieces: impl Iterator<Item = Piece<'a>>) -> Result<(), BackendError> {
        self.tokens.clear();
        self.outputs.clear();
        let mut segments = Vec::new();
        for piece in pieces {
            let first = self.tokens.len();
            self.tokens.extend_from_slice(piece.tokens);
            self.outputs.extend(piece.outputs.map(|row| first + row));
            segments.push(Segment {
                rows: first..self.tokens.len(),
                first_position: piece.cache.len(),
                pages: piece.cache.tables(),
            });
        }
        if self.tokens.is_empty() {
            return Ok(());
        }
        // Every value is overwritten, so nothing is cleared.
        self.logits.resize(self.outputs.len() * self.n_vocab, 0.0);
        let batch = Batch { tokens: &self.tokens, segments: &segments, outputs: &self.outputs, pools: &[] };
        self.executor.run(&batch, &mut self.logits, &mut [])
    }

    /// The logits of the `index`th output of the last run.
    pub(crate) fn logits(&self, index: usize) -> &[f32] {
        &self.logits[index * self.n_vocab..(index + 1) * self.n_vocab]
    }
}
