//! What models of several streams do with a row: plain loops, a small part of what a step costs.

use super::CpuExecutor;
use super::step::{Buf, Vector};
use crate::pool::Worker;

pub(crate) struct MixStep {
    pub(crate) x: Buf,
    pub(crate) parts: Vec<Buf>,
    pub(crate) coefficients: Buf,
    pub(crate) first: usize,
    pub(crate) out: Buf,
}

/// A row of a buffer.
///
/// # Safety
/// The row exists, and nobody writes it meanwhile.
unsafe fn row(buf: &Buf, m: usize) -> &[f32] {
    // SAFETY: rows are as wide as the buffer.
    unsafe { std::slice::from_raw_parts(buf.row(m), buf.width) }
}

/// A row to write.
///
/// # Safety
/// The row exists and is this item's alone.
#[expect(clippy::mut_from_ref, reason = "the memory is the executor's; phases decide who may use it")]
unsafe fn row_mut(buf: &Buf, m: usize) -> &mut [f32] {
    // SAFETY: rows are as wide as the buffer.
    unsafe { std::slice::from_raw_parts_mut(buf.row(m), buf.width) }
}

/// The mean of the squares, summed in lanes so that a compiler may use registers.
fn mean_square(x: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v * v);
    }
    let rest: f32 = rest.iter().map(|v| v * v).sum();
    (lanes.iter().sum::<f32>() + rest) / x.len() as f32
}

fn mean(x: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v);
    }
    (lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()) / x.len() as f32
}

impl CpuExecutor {
    /// # Safety
    /// As for every step: `n_rows` rows exist, and what is read was written in an earlier phase.
    pub(crate) unsafe fn mix(&self, step: &MixStep, n_rows: usize, worker: &Worker<'_>) {
        self.for_rows(n_rows, worker, |m| {
            // SAFETY: rows are disjoint between items, and an output is never one of its inputs.
            unsafe {
                let out = row_mut(&step.out, m);
                out.copy_from_slice(row(&step.x, m));
                let factors = &row(&step.coefficients, m)[step.first..];
                for (part, &factor) in step.parts.iter().zip(factors) {
                    out.iter_mut().zip(row(part, m)).for_each(|(sum, v)| *sum += factor * v);
                }
                step.out.round(self.kernels, m, 0, step.out.width);
            }
        });
    }

    /// # Safety
    /// As for [`mix`](Self::mix).
    pub(crate) unsafe fn match_size(
        &self,
        (x, like, out): (&Buf, &Buf, &Buf),
        least: f32,
        n_rows: usize,
        worker: &Worker<'_>,
    ) {
        self.for_rows(n_rows, worker, |m| {
            // SAFETY: as in `mix`.
            unsafe {
                let x = row(x, m);
                let factor = (mean_square(row(like, m)) / mean_square(x).max(least)).sqrt();
                row_mut(out, m).iter_mut().zip(x).for_each(|(out, v)| *out = v * factor);
                out.round(self.kernels, m, 0, out.width);
            }
        });
    }

    /// # Safety
    /// As for [`mix`](Self::mix).
    pub(crate) unsafe fn outliers(
        &self,
        (x, out): (&Buf, &Buf),
        deviations: f32,
        n_rows: usize,
        worker: &Worker<'_>,
    ) {
        self.for_rows(n_rows, worker, |m| {
            // SAFETY: as in `mix`.
            unsafe {
                let (x, to) = (row(x, m), row_mut(out, m));
                let mean = mean(x);
                to.iter_mut().zip(x).for_each(|(to, v)| *to = v - mean);
                let least = deviations * mean_square(to).sqrt();
                to.iter_mut().for_each(|v| *v = (*v - least).max(0.0));
                out.round(self.kernels, m, 0, out.width);
            }
        });
    }

    /// # Safety
    /// As for [`mix`](Self::mix).
    pub(crate) unsafe fn multiply(
        &self,
        (x, out): (&Buf, &Buf),
        weight: &Vector,
        n_rows: usize,
        worker: &Worker<'_>,
    ) {
        self.for_rows(n_rows, worker, |m| {
            // SAFETY: as in `mix`.
            unsafe {
                let rows = row_mut(out, m).iter_mut().zip(row(x, m)).zip(weight);
                rows.for_each(|((out, v), w)| *out = v * w);
                out.round(self.kernels, m, 0, out.width);
            }
        });
    }
}
