//! Asking for weights while a thread waits for others.
//!
//! A single token's time is that of reading the weights once; norms, attention and barriers leave the memory idle. So a
//! thread that waits asks for the beginning of its own share of the next product.

use super::CpuExecutor;
use super::step::{Matrix, Step};
use crate::kernels::{FEW_ROWS, prefetch_line};
use crate::pool::Worker;

/// Bytes that a thread asks for ahead of a product: well below the second-level cache of any core.
const MAX_BYTES: usize = 128 << 10;

/// Lines asked for at once, between two looks at the barrier.
const LINES: usize = 4;

/// How far a thread has come with the next product.
pub(super) struct Ahead {
    /// The product's step.
    step: usize,
    /// Items of the own share that have been asked for.
    items: usize,
    /// What is left to ask for of the next: two matrices at most.
    left: [(*const u8, usize); 2],
    bytes: usize,
}

impl Ahead {
    pub(super) fn new() -> Ahead {
        Ahead { step: usize::MAX, items: 0, left: [(std::ptr::null(), 0); 2], bytes: 0 }
    }

    /// Asks for a little of what comes after step `done`.
    pub(super) fn ask(&mut self, executor: &CpuExecutor, n_rows: usize, done: usize, worker: &Worker<'_>) {
        if n_rows > FEW_ROWS {
            return;
        }
        let Some(next) = executor.next_product(done + 1) else { return };
        if self.step != next {
            *self = Ahead { step: next, ..Ahead::new() };
        }
        let Some(part) = self.left.iter_mut().find(|part| part.1 > 0) else {
            if self.bytes < MAX_BYTES {
                self.left = executor.item(next, self.items, worker);
                self.items += 1;
                self.bytes += self.left[0].1 + self.left[1].1;
                if self.left[0].1 == 0 {
                    self.bytes = MAX_BYTES;
                }
            }
            return;
        };
        for _ in 0..LINES {
            prefetch_line(part.0);
            part.0 = part.0.wrapping_add(64);
            part.1 = part.1.saturating_sub(64);
        }
    }
}

impl CpuExecutor {
    /// The first product among the steps from `step` on.
    fn next_product(&self, step: usize) -> Option<usize> {
        let product = |step: &Step| matches!(step, Step::Linear(_) | Step::Gated(_) | Step::Logits(_));
        self.steps.get(step..)?.iter().position(product).map(|at| step + at)
    }

    /// The weights of item `index` of a thread's share of a product with few rows; nothing past its end.
    fn item(&self, step: usize, index: usize, worker: &Worker<'_>) -> [(*const u8, usize); 2] {
        const NONE: (*const u8, usize) = (std::ptr::null(), 0);
        let rows = |matrix: &Matrix, r0: usize, chunk: usize| {
            let n = chunk.min(matrix.n_rows.saturating_sub(r0));
            (matrix.data.wrapping_add(r0 * matrix.row_bytes), n * matrix.row_bytes)
        };
        let own = |n: usize| {
            let share = worker.share(n, worker.index);
            Some(share.start + index).filter(|item| *item < share.end)
        };
        match &self.steps[step] {
            Step::Linear(step) => {
                let chunk = self.chunk(1, step.n_weight_rows());
                let Some((part, r0)) = own(step.n_items(chunk)).and_then(|item| step.part(item, chunk))
                else {
                    return [NONE; 2];
                };
                [rows(&part.weight, r0, chunk), NONE]
            }
            Step::Gated(step) => {
                let chunk = self.chunk(1, step.gate.n_rows);
                let Some(item) = own(step.gate.n_rows.div_ceil(chunk)) else { return [NONE; 2] };
                [rows(&step.gate, item * chunk, chunk), rows(&step.up, item * chunk, chunk)]
            }
            Step::Logits(step) => {
                let chunk = self.chunk(1, step.weight.n_rows);
                let Some(item) = own(step.weight.n_rows.div_ceil(chunk)) else { return [NONE; 2] };
                [rows(&step.weight, item * chunk, chunk), NONE]
            }
            _ => [NONE; 2],
        }
    }
}
