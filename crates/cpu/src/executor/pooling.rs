//! Vectors of whole sequences: the sums, means and lengths of their hidden states.

use whit_base::{Batch, PoolKind};

use super::CpuExecutor;
use super::step::Buf;
use crate::pool::Worker;

pub(crate) struct PoolStep {
    pub(crate) x: Buf,
    pub(crate) kind: PoolKind,
    pub(crate) normalize: bool,
}

impl CpuExecutor {
    /// One phase: a thread takes whole sequences, for a vector is little work beside the layers before it.
    pub(crate) unsafe fn pool_sequences(
        &self,
        step: &PoolStep,
        batch: &Batch<'_>,
        pooled: *mut f32,
        worker: &Worker<'_>,
    ) {
        loop {
            let items = worker.take(batch.pools.len(), 1);
            if items.is_empty() {
                return;
            }
            let index = items.start;
            let n_rows = |index: usize| {
                let pool = &batch.pools[index];
                step.kind.rows(&batch.segments[pool.segment], pool.ends).len()
            };
            let first_row = batch.outputs.len() + (0..index).map(n_rows).sum::<usize>();
            // SAFETY: `validate` checked the segments and the length of `pooled`; each item writes a vector of its own.
            unsafe {
                let vector = pooled.add(index * step.x.width);
                self.pool_one(step, batch, index, first_row..first_row + n_rows(index), vector);
            }
        }
    }

    /// One phase: each sequence's mean, in all of its rows.
    pub(crate) unsafe fn sequence_mean(&self, x: &Buf, out: &Buf, batch: &Batch<'_>, worker: &Worker<'_>) {
        loop {
            let items = worker.take(batch.segments.len(), 1);
            if items.is_empty() {
                return;
            }
            let rows = batch.segments[items.start].rows.clone();
            // SAFETY: a thread takes whole sequences, whose rows are in both buffers.
            unsafe {
                let mean = out.row(rows.start);
                std::ptr::write_bytes(mean, 0, out.width);
                for row in rows.clone() {
                    (self.kernels.add)(mean, x.row(row), mean, out.width);
                }
                (self.kernels.scale)(mean, 1.0 / rows.len() as f32, out.width);
                for row in rows.clone().skip(1) {
                    std::ptr::copy_nonoverlapping(mean, out.row(row), out.width);
                }
                rows.for_each(|row| out.round(self.kernels, row, 0, out.width));
            }
        }
    }

    unsafe fn pool_one(
        &self,
        step: &PoolStep,
        batch: &Batch<'_>,
        index: usize,
        rows: std::ops::Range<usize>,
        vector: *mut f32,
    ) {
        let pool = &batch.pools[index];
        let segment = &batch.segments[pool.segment];
        let (kernels, width) = (self.kernels, step.x.width);
        // SAFETY: the rows were selected for this sequence, and the vector is as wide as they are.
        unsafe {
            match step.kind {
                PoolKind::Mean => {
                    if segment.first_position == 0 {
                        std::ptr::write_bytes(vector, 0, width);
                    }
                    for row in rows {
                        (kernels.add)(vector, step.x.row(row), vector, width);
                    }
                    if pool.ends {
                        let n = segment.first_position + segment.rows.len();
                        (kernels.scale)(vector, 1.0 / n as f32, width);
                    }
                }
                PoolKind::First | PoolKind::Last => {
                    for row in rows {
                        std::ptr::copy_nonoverlapping(step.x.row(row), vector, width);
                    }
                }
            }
            if step.normalize && pool.ends {
                let values = std::slice::from_raw_parts(vector, width);
                let length = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
                if length > 0.0 {
                    (kernels.scale)(vector, (1.0 / length) as f32, width);
                }
            }
        }
    }
}
