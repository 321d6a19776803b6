//! Mixtures of experts: rows are gathered by expert, so that each expert's weights are read once for all of its rows.
//!
//! An *entry* is a row that goes through an expert. Entries lie expert by expert, so that the entries of one are a matrix
//! like any other; afterwards each row collects its own.

use whit_base::{Activation, BackendError, ExecutorLimits, Rows};

use super::CpuExecutor;
use super::step::{Buf, Matrix, Step, allocate_rows};
use super::watch::Watch;
use crate::memory::Memory;
use crate::pool::Worker;

pub(crate) struct ExpertsStep {
    pub(crate) x: Buf,
    weights: Buf,
    out: Buf,
    n_used: usize,
    /// Gate, up and down of each.
    experts: Vec<[Matrix; 3]>,
    act: Activation,
    /// The groups in which what meets gates and ups is rounded, and what meets downs.
    rounds: [Option<usize>; 2],
}

impl ExpertsStep {
    pub(crate) fn new(
        (x, weights, out): (Buf, Buf, Buf),
        n_used: usize,
        experts: Vec<[Matrix; 3]>,
        rounds: [Option<usize>; 2],
        act: Activation,
    ) -> ExpertsStep {
        ExpertsStep { x, weights, out, n_used, experts, act, rounds }
    }

    /// Columns of the widest weight.
    pub(crate) fn max_cols(&self) -> usize {
        self.x.width.max(self.n_ff())
    }

    fn n_experts(&self) -> usize {
        self.experts.len()
    }

    fn n_ff(&self) -> usize {
        self.experts.first().map_or(0, |[.., down]| down.n_cols)
    }
}

/// Memory for the entries of the largest step, shared by all.
pub(crate) struct Gathered {
    /// `(entries, width)`: what goes in.
    x: Buf,
    /// `(entries, n_ff)`.
    h: Buf,
    /// `(entries, width)`: what comes out.
    y: Buf,
    /// The first entry of each expert, and the number of entries.
    starts: Memory,
    /// The row of each entry.
    rows: Memory,
    /// The entries of each row, `(rows, n_used)`, [`NONE`] where there are fewer.
    of_row: Memory,
}

const NONE: u32 = u32::MAX;

impl Gathered {
    /// Enough for every step of the plan; `None` if it has no experts.
    pub(crate) fn new(
        steps: &[Step],
        limits: &ExecutorLimits,
        buffers: &mut Vec<Memory>,
    ) -> Result<Option<Gathered>, BackendError> {
        let steps = || {
            steps.iter().filter_map(|step| match step {
                Step::Experts(step) => Some(step),
                _ => None,
            })
        };
        let most = |size: fn(&ExpertsStep) -> usize| steps().map(size).max();
        let Some(n_used) = most(|step| step.n_used) else { return Ok(None) };
        let n_rows = limits.max_rows.max(limits.max_outputs);
        let n = n_rows * n_used;
        let width = most(|step| step.x.width).unwrap_or(0);
        let (n_ff, n_experts) =
            (most(ExpertsStep::n_ff).unwrap_or(0), most(ExpertsStep::n_experts).unwrap_or(0));
        let rounds_x = steps().any(|step| step.rounds[0].is_some());
        let rounds_h = steps().any(|step| step.rounds[1].is_some());
        let what = "the rows of experts";
        Ok(Some(Gathered {
            x: allocate_rows(n, width, Rows::All, rounds_x, buffers)?,
            h: allocate_rows(n, n_ff, Rows::All, rounds_h, buffers)?,
            y: allocate_rows(n, width, Rows::All, false, buffers)?,
            starts: Memory::of::<u32>(n_experts + 1, what)?,
            rows: Memory::of::<u32>(n, what)?,
            of_row: Memory::of::<u32>(n, what)?,
        }))
    }

    /// Lists the entries of a step. Entries of an expert are in the order of their rows.
    unsafe fn list(&self, step: &ExpertsStep, n_rows: usize) {
        let (n_experts, n_used) = (step.n_experts(), step.n_used);
        // SAFETY: the lists are as long as `new` made them, and no other thread is at them in this phase.
        unsafe {
            let starts = std::slice::from_raw_parts_mut(self.starts.ptr::<u32>(), n_experts + 1);
            let rows = std::slice::from_raw_parts_mut(self.rows.ptr::<u32>(), n_rows * n_used);
            let of_row = std::slice::from_raw_parts_mut(self.of_row.ptr::<u32>(), n_rows * n_used);
            let chosen = |row: usize| {
                let weights = std::slice::from_raw_parts(step.weights.row(row), n_experts);
                let all = weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
                all.map(|(expert, _)| expert).take(n_used)
            };
            starts.fill(0);
            for row in 0..n_rows {
                chosen(row).for_each(|expert| starts[expert + 1] += 1);
            }
            for expert in 0..n_experts {
                starts[expert + 1] += starts[expert];
            }
            of_row.fill(NONE);
            // Each start moves to its end, which is the next one's start: afterwards all are shifted back.
            for row in 0..n_rows {
                for (place, expert) in chosen(row).enumerate() {
                    let entry = starts[expert];
                    starts[expert] += 1;
                    rows[entry as usize] = row as u32;
                    of_row[row * n_used + place] = entry;
                }
            }
            starts.copy_within(..n_experts, 1);
            starts[0] = 0;
        }
    }

    /// The lists that [`list`](Self::list) made: starts, rows of entries, entries of rows.
    unsafe fn lists(&self, step: &ExpertsStep, n_rows: usize) -> (&[u32], &[u32], &[u32]) {
        let n = n_rows * step.n_used;
        // SAFETY: as long as `new` made them; written in a phase before.
        unsafe {
            (
                std::slice::from_raw_parts(self.starts.ptr(), step.n_experts() + 1),
                std::slice::from_raw_parts(self.rows.ptr(), n),
                std::slice::from_raw_parts(self.of_row.ptr(), n),
            )
        }
    }
}

/// The weights of the `n_used` best experts: see [`Op::Route`](whit_base::Op::Route).
pub(crate) fn route(scores: &[f32], n_used: usize, normalize: bool, weights: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |score: f32| (score - max).exp();
    weights.fill(0.0);
    let mut total = 0.0;
    for _ in 0..n_used {
        let left = scores.iter().zip(&*weights).enumerate().filter(|(_, (_, weight))| **weight == 0.0);
        let best = left.reduce(|best, next| if next.1.0 > best.1.0 { next } else { best });
        let Some((expert, (&score, _))) = best else { break };
        // Never 0, which stands for "not chosen".
        weights[expert] = exp(score).max(f32::MIN_POSITIVE);
        total += weights[expert];
    }
    if !normalize {
        total = scores.iter().map(|&score| exp(score)).sum();
    }
    weights.iter_mut().for_each(|weight| *weight /= total);
}

impl CpuExecutor {
    /// Six phases: list the entries, gather their rows, gate and up, round, down, collect. `watch` comes with the step's number.
    pub(crate) unsafe fn experts(
        &self,
        step: &ExpertsStep,
        n_rows: usize,
        watch: Option<(&Watch<'_>, usize)>,
        worker: &Worker<'_>,
    ) {
        // `compile` made the memory for plans that have such steps.
        let Some(gathered) = &self.gathered else { return };
        let kernels = self.kernels;
        // SAFETY: phases are separated by barriers; within one, entries, columns and rows are disjoint between items.
        unsafe {
            if !worker.take(1, 1).is_empty() {
                gathered.list(step, n_rows);
            }
            worker.barrier();
            let (starts, rows, of_row) = gathered.lists(step, n_rows);
            let n_entries = starts[step.n_experts()] as usize;
            let x = gathered.x.view(step.x.width, Rows::All, step.rounds[0]);
            let h = gathered.h.view(step.n_ff(), Rows::All, step.rounds[1]);
            let y = gathered.y.view(step.x.width, Rows::All, None);
            self.for_rows(n_entries, worker, |entry| {
                let from = step.x.row(rows[entry] as usize);
                std::ptr::copy_nonoverlapping(from, x.row(entry), x.width);
                x.round(kernels, entry, 0, x.width);
            });
            worker.barrier();
            if let Some((watch, index)) = watch {
                watch.experts(index, |expert| vec![expert.gate, expert.up], starts, &x, worker);
            }
            self.gated_experts(step, starts, (&x, &h), worker);
            worker.barrier();
            if h.rounded.is_some() {
                self.for_rows(n_entries, worker, |entry| h.round(kernels, entry, 0, h.width));
                worker.barrier();
            }
            if let Some((watch, index)) = watch {
                watch.experts(index, |expert| vec![expert.down], starts, &h, worker);
            }
            self.down_experts(step, starts, (&h, &y), worker);
            worker.barrier();
            self.for_rows(n_rows, worker, |row| {
                let out = step.out.row(row);
                std::ptr::write_bytes(out, 0, step.out.width);
                let weights = std::slice::from_raw_parts(step.weights.row(row), step.n_experts());
                let weights = weights.iter().filter(|weight| **weight != 0.0);
                let entries = of_row[row * step.n_used..][..step.n_used].iter();
                for (&entry, &weight) in entries.take_while(|entry| **entry != NONE).zip(weights) {
                    let given = y.row(entry as usize);
                    (kernels.scale)(given, weight, y.width);
                    (kernels.add)(out, given, out, y.width);
                }
                step.out.round(kernels, row, 0, step.out.width);
            });
        }
    }

    /// Takes the items of a phase: `work` gets an expert, its entries, and some of its `n` weight rows as `(first, n)`.
    fn for_experts(
        &self,
        starts: &[u32],
        n: usize,
        worker: &Worker<'_>,
        mut work: impl FnMut(usize, std::ops::Range<usize>, (usize, usize)),
    ) {
        let entries = |expert: usize| starts[expert] as usize..starts[expert + 1] as usize;
        let experts =
            || (0..starts.len() - 1).map(|expert| (expert, entries(expert))).filter(|(_, e)| !e.is_empty());
        let n_busy = experts().count();
        let most = experts().map(|(_, entries)| entries.len()).max().unwrap_or(0);
        let chunk = self.chunk(most, n * n_busy);
        let n_chunks = n.div_ceil(chunk);
        while let Some(item) = worker.take_own(n_busy * n_chunks) {
            let Some((expert, entries)) = experts().nth(item / n_chunks) else { return };
            let first = item % n_chunks * chunk;
            work(expert, entries, (first, chunk.min(n - first)));
        }
    }

    unsafe fn gated_experts(
        &self,
        step: &ExpertsStep,
        starts: &[u32],
        (x, h): (&Buf, &Buf),
        worker: &Worker<'_>,
    ) {
        let scratch = self.linear_scratch(worker);
        let n_ff = step.n_ff();
        self.for_experts(starts, n_ff, worker, |expert, entries, (r0, n)| {
            // SAFETY: see `experts`; the scratch holds a chunk for as many rows as a batch has.
            unsafe {
                let (x, h) = (x.tail(entries.start), h.tail(entries.start));
                let [gate, up, _] = &step.experts[expert];
                self.product(&x, entries.len(), gate, (r0, n), (h.x.add(r0), h.stride), scratch);
                self.product(&x, entries.len(), up, (r0, n), (scratch.floats, n), scratch);
                for m in 0..entries.len() {
                    let out = h.row(m).add(r0);
                    (self.kernels.glu)(step.act, out, scratch.floats.add(m * n), out, n);
                }
            }
        });
    }

    unsafe fn down_experts(
        &self,
        step: &ExpertsStep,
        starts: &[u32],
        (h, y): (&Buf, &Buf),
        worker: &Worker<'_>,
    ) {
        let scratch = self.linear_scratch(worker);
        let width = step.out.width;
        self.for_experts(starts, width, worker, |expert, entries, (r0, n)| {
            // SAFETY: see `experts`.
            unsafe {
                let (h, y) = (h.tail(entries.start), y.tail(entries.start));
                let [.., down] = &step.experts[expert];
                self.product(&h, entries.len(), down, (r0, n), (y.x.add(r0), y.stride), scratch);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whit_base::reference::ops;

    #[test]
    fn routes_as_the_reference_does() {
        for n in [1usize, 2, 7, 128] {
            for n_used in [1, 2, 8] {
                for normalize in [false, true] {
                    // Ties among them.
                    let scores: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 23) as f32 / 4.0 - 3.0).collect();
                    let (mut got, mut expected) = (vec![9.0; n], vec![9.0; n]);
                    route(&scores, n_used, normalize, &mut got);
                    ops::route(&scores, n_used, normalize, &mut expected);
                    for (got, expected) in got.iter().zip(&expected) {
                        assert!((got - expected).abs() < 1e-6, "{n} {n_used}: {got}, not {expected}");
                    }
                }
            }
        }
    }
}
