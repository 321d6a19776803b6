//! Short convolutions, and the rows that they keep for later batches.
//!
//! A row of this batch that another one needs is read where it stands; only what stands before a sequence's first row comes
//! from its pages. So a batch's rows do not wait for each other.

use whit_base::{BackendError, Batch, History, PAGE_TOKENS, Segment};

use super::CpuExecutor;
use super::step::{Buf, Vector};
use crate::memory::Memory;
use crate::pool::Worker;

pub(crate) struct ConvolveStep {
    pub(crate) x: Buf,
    /// Which of the executor's.
    pub(crate) history: usize,
    /// `(window, width)`: the kernels' first values, then their second.
    pub(crate) taps: Vector,
    pub(crate) bias: Option<Vector>,
    pub(crate) out: Buf,
}

/// Rows that are kept, in pages of `(PAGE_TOKENS, width)`.
pub(crate) struct KeptRows {
    rows: Memory,
    width: usize,
    n_pages: usize,
    /// Which of the batch's page tables is its own.
    pub(crate) group: usize,
}

impl KeptRows {
    pub(crate) fn new(history: &History, group: usize, n_pages: usize) -> Result<KeptRows, BackendError> {
        let what = "what convolutions keep";
        let values = history.width.checked_mul(PAGE_TOKENS).and_then(|page| page.checked_mul(n_pages));
        let values = values.ok_or(BackendError::OutOfMemory { what, bytes: usize::MAX })?;
        Ok(KeptRows { rows: Memory::of::<f32>(values, what)?, width: history.width, n_pages, group })
    }

    /// The row of a position.
    ///
    /// # Safety
    /// The segment has a page for it.
    unsafe fn row(&self, segment: &Segment<'_>, position: usize) -> *mut f32 {
        let page = segment.pages[self.group][position / PAGE_TOKENS] as usize;
        // SAFETY: `validate` has checked the page's number.
        unsafe { self.rows.ptr::<f32>().add((page * PAGE_TOKENS + position % PAGE_TOKENS) * self.width) }
    }

    pub(crate) fn copy_page(&mut self, from: usize, to: usize) {
        assert!(from < self.n_pages && to < self.n_pages, "pages {from} and {to} of {}", self.n_pages);
        let page = PAGE_TOKENS * self.width;
        let base = self.rows.ptr::<f32>();
        // SAFETY: both pages lie within the block; `copy` allows equal ones.
        unsafe { std::ptr::copy(base.add(from * page), base.add(to * page), page) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.len()
    }
}

impl CpuExecutor {
    /// # Safety
    /// `validate` has checked the batch.
    pub(crate) unsafe fn convolve(&self, step: &ConvolveStep, batch: &Batch<'_>, worker: &Worker<'_>) {
        let kept = self.kept_rows(step.history);
        let width = step.out.width;
        self.for_rows(batch.tokens.len(), worker, |m| {
            let Some(segment) = batch.segments.iter().find(|segment| segment.rows.contains(&m)) else {
                return;
            };
            let offset = m - segment.rows.start;
            let position = segment.first_position + offset;
            // SAFETY: rows are as wide as the plan says, and disjoint between the items of a phase; what is read from pages
            // are positions before the batch, what is written positions in it.
            unsafe {
                let out = std::slice::from_raw_parts_mut(step.out.row(m), width);
                match &step.bias {
                    Some(bias) => out.copy_from_slice(bias),
                    None => out.fill(0.0),
                }
                // How far back a tap reaches: the last one to the row itself.
                for (back, taps) in step.taps.chunks_exact(width).rev().enumerate().take(position + 1) {
                    let row = match back <= offset {
                        true => step.x.row(m - back),
                        false => kept.row(segment, position - back),
                    };
                    let row = std::slice::from_raw_parts(row, width);
                    for ((out, tap), x) in out.iter_mut().zip(taps).zip(row) {
                        *out += tap * x;
                    }
                }
                std::ptr::copy_nonoverlapping(step.x.row(m), kept.row(segment, position), width);
                step.out.round(self.kernels, m, 0, width);
            }
        });
    }
}
