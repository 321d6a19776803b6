//! Shows an observer what goes into products, between the steps that make it and those that use it.

use std::sync::{Mutex, PoisonError};

use whit_base::{Expert, Observer, Op, Plan, ProductInput, Weight, WeightId};

use super::CpuExecutor;
use super::step::{Buf, Step};
use crate::pool::Worker;

/// An observer during a pass.
pub(crate) struct Watch<'a> {
    observer: Mutex<&'a mut dyn Observer>,
    /// Fused, as the steps are.
    plan: &'a Plan,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(observer: &'a mut dyn Observer, plan: &'a Plan) -> Watch<'a> {
        Watch { observer: Mutex::new(observer), plan }
    }

    /// Shows the input of the `index`th step, if it is a product. A phase of its own, for all threads.
    pub(crate) unsafe fn step(
        &self,
        executor: &CpuExecutor,
        index: usize,
        n_rows: impl Fn(&Buf) -> usize,
        worker: &Worker<'_>,
    ) {
        let (x, weights) = match (&executor.steps[index], &self.plan.ops[index]) {
            (Step::Linear(step), Op::Linear { parts, .. }) => {
                (&step.x, parts.iter().map(|part| part.weight).collect())
            }
            (Step::Gated(step), Op::GatedLinear { gate, up, .. }) => (&step.x, vec![*gate, *up]),
            (Step::Logits(step), Op::Logits { weight, .. }) => (&step.x, vec![*weight]),
            _ => return,
        };
        if worker.index == 0 {
            // SAFETY: the steps before have written the rows, and no thread writes in this phase.
            unsafe { self.show(&weights, None, x, n_rows(x)) };
        }
        worker.barrier();
    }

    /// Shows what goes into `matrices` of each expert: its entries of `x`, which lie from `starts[expert]` on. A phase likewise.
    pub(crate) unsafe fn experts(
        &self,
        step: usize,
        matrices: impl Fn(&Expert) -> Vec<WeightId>,
        starts: &[u32],
        x: &Buf,
        worker: &Worker<'_>,
    ) {
        if let (0, Op::Experts { experts, .. }) = (worker.index, &self.plan.ops[step]) {
            for (at, (expert, ends)) in experts.iter().zip(starts.windows(2)).enumerate() {
                // SAFETY: as above; the entries of an expert are rows of `x`.
                unsafe {
                    let rows = x.tail(ends[0] as usize);
                    self.show(
                        &matrices(expert),
                        Some((at, experts.len())),
                        &rows,
                        (ends[1] - ends[0]) as usize,
                    );
                }
            }
        }
        worker.barrier();
    }

    unsafe fn show(&self, weights: &[WeightId], expert: Option<(usize, usize)>, x: &Buf, n_rows: usize) {
        if n_rows == 0 {
            return;
        }
        let weights: Vec<&Weight> = weights.iter().map(|id| self.plan.weight(*id)).collect();
        // SAFETY: the caller knows the rows to be written; the last ends with its width.
        let values = unsafe { std::slice::from_raw_parts(x.x, (n_rows - 1) * x.stride + x.width) };
        let input = ProductInput::new(&weights, expert, values, x.stride, x.width);
        self.observer.lock().unwrap_or_else(PoisonError::into_inner).input(input);
    }
}
