//! Products with weights.

use whit_base::quant::WIDE_ACT_GROUP;
use whit_base::{DType, Rows};

use super::CpuExecutor;
use super::step::{Buf, GatedStep, LinearStep, LogitsStep, Matrix, Part};
use crate::kernels::{FEW_ROWS, FloatJob, GEMM_ROWS, GemmJob};
use crate::pool::Worker;

/// Weight rows that one item of a product with few rows may have: bounds the scratch of gated products.
const MAX_CHUNK: usize = 512;

/// Columns of a gated product that are rounded together: a wide group, and what the fastest rounding takes at once.
const ROUND_ROWS: usize = WIDE_ACT_GROUP;

/// Scratch of a thread: a multiplication's tiles, then `(rows, GEMM_ROWS)` or `(MAX_CHUNK)` floats for a second factor.
pub(crate) fn scratch_bytes(tiles: usize, max_rows: usize) -> usize {
    tiles.next_multiple_of(64) + 4 * (max_rows * GEMM_ROWS).max(FEW_ROWS * MAX_CHUNK)
}

/// A thread's scratch during products.
#[derive(Clone, Copy)]
pub(crate) struct LinearScratch {
    tiles: *mut u8,
    pub(crate) floats: *mut f32,
}

impl LinearStep {
    fn n_weight_rows(&self) -> usize {
        self.parts.iter().map(|part| part.weight.n_rows).sum()
    }

    /// Items of `chunk` weight rows; none has rows of two parts.
    fn n_items(&self, chunk: usize) -> usize {
        self.parts.iter().map(|part| part.weight.n_rows.div_ceil(chunk)).sum()
    }

    /// The part of an item, and its first row there.
    fn part(&self, mut item: usize, chunk: usize) -> Option<(&Part, usize)> {
        for part in &self.parts {
            let n = part.weight.n_rows.div_ceil(chunk);
            if item < n {
                return Some((part, item * chunk));
            }
            item -= n;
        }
        None
    }
}

impl CpuExecutor {
    pub(crate) fn linear_scratch(&self, worker: &Worker<'_>) -> LinearScratch {
        let memory = &self.scratch[worker.index].memory;
        let floats = 4 * (self.limits.max_rows * GEMM_ROWS).max(FEW_ROWS * MAX_CHUNK);
        // SAFETY: `scratch_bytes` put the floats at the end of the tiles; the block may be longer for attention.
        unsafe { LinearScratch { tiles: memory.ptr::<u8>().add(floats), floats: memory.ptr() } }
    }

    /// Rows of a buffer in this batch.
    pub(crate) fn n_rows(&self, buf: &Buf, n_tokens: usize, n_outputs: usize) -> usize {
        match buf.rows {
            Rows::All => n_tokens,
            Rows::Outputs => n_outputs,
        }
    }

    /// Weight rows per item: whole groups of 32, several items per thread.
    pub(crate) fn chunk(&self, n_x: usize, total: usize) -> usize {
        if n_x > FEW_ROWS {
            return GEMM_ROWS;
        }
        (total / (8 * self.threads)).next_multiple_of(32).clamp(32, MAX_CHUNK)
    }

    /// `out[m * stride + r] = dot(w row r0 + r, x row m)` for `n` weight rows.
    pub(crate) unsafe fn product(
        &self,
        x: &Buf,
        n_x: usize,
        w: &Matrix,
        (r0, n): (usize, usize),
        (out, out_stride): (*mut f32, usize),
        scratch: LinearScratch,
    ) {
        // SAFETY: the caller's rows exist in x, w and out; the scratch is this thread's.
        unsafe {
            let data = w.data.add(r0 * w.row_bytes);
            if !w.dtype.is_quantized() {
                let job = FloatJob {
                    w: data,
                    n_rows: n,
                    n_cols: w.n_cols,
                    x: x.x,
                    x_stride: x.stride,
                    n_x,
                    out,
                    out_stride,
                };
                match w.dtype {
                    DType::F16 => (self.kernels.float_f16)(&job),
                    DType::BF16 => (self.kernels.float_bf16)(&job),
                    _ => (self.kernels.float_f32)(&job),
                }
                return;
            }
            // `compile` gave every input of a quantized product its 8-bit form.
            let Some(rounded) = x.rounded else { return };
            debug_assert!(n <= GEMM_ROWS || n_x <= FEW_ROWS);
            self.kernels.gemm(w.dtype)(&GemmJob {
                dtype: w.dtype,
                w: data,
                n_rows: n,
                n_cols: w.n_cols,
                x: rounded,
                n_x,
                out,
                out_stride,
                scratch: scratch.tiles,
            });
        }
    }

    /// One phase: all parts, bias, residual and rounding included.
    pub(crate) unsafe fn linear(&self, step: &LinearStep, n_x: usize, worker: &Worker<'_>) {
        let scratch = self.linear_scratch(worker);
        let chunk = self.chunk(n_x, step.n_weight_rows());
        while let Some(item) = worker.take_own(step.n_items(chunk)) {
            let Some((part, r0)) = step.part(item, chunk) else { return };
            let n = chunk.min(part.weight.n_rows - r0);
            // SAFETY: items are disjoint ranges of the parts' columns.
            unsafe {
                let out = part.out.x.add(r0);
                self.product(&step.x, n_x, &part.weight, (r0, n), (out, part.out.stride), scratch);
                for m in 0..n_x {
                    let out = part.out.row(m).add(r0);
                    if let Some(bias) = &part.bias {
                        (self.kernels.add)(out, bias[r0..r0 + n].as_ptr(), out, n);
                    }
                    if let Some(residual) = &step.residual {
                        (self.kernels.add)(out, residual.row(m).add(r0), out, n);
                    }
                    if part.out.rounds_by(chunk) {
                        part.out.round(self.kernels, m, r0, n);
                    }
                }
            }
        }
        let is_late = |part: &&Part| part.out.rounded.is_some() && !part.out.rounds_by(chunk);
        if step.parts.iter().any(|part| is_late(&part)) {
            worker.barrier();
            self.for_rows(n_x, worker, |m| {
                for Part { out, .. } in step.parts.iter().filter(is_late) {
                    // SAFETY: a row belongs to one thread, and all of its columns are there.
                    unsafe { out.round(self.kernels, m, 0, out.width) }
                }
            });
        }
    }

    /// One phase: gate, up, activation and rounding.
    pub(crate) unsafe fn gated(&self, step: &GatedStep, n_x: usize, worker: &Worker<'_>) {
        let scratch = self.linear_scratch(worker);
        let n_ff = step.gate.n_rows;
        let chunk = self.chunk(n_x, n_ff);
        let item_rows = chunk.next_multiple_of(ROUND_ROWS);
        while let Some(item) = worker.take_own(n_ff.div_ceil(item_rows)) {
            let rows = item * item_rows..((item + 1) * item_rows).min(n_ff);
            for r0 in rows.clone().step_by(chunk) {
                let n = chunk.min(rows.end - r0);
                // SAFETY: items are disjoint ranges of the output's columns; the scratch holds n_x rows of a chunk.
                unsafe {
                    let out = step.out.x.add(r0);
                    self.product(&step.x, n_x, &step.gate, (r0, n), (out, step.out.stride), scratch);
                    self.product(&step.x, n_x, &step.up, (r0, n), (scratch.floats, chunk), scratch);
                    for m in 0..n_x {
                        let out = step.out.row(m).add(r0);
                        (self.kernels.glu)(step.act, out, scratch.floats.add(m * chunk), out, n);
                    }
                }
            }
            for m in 0..n_x {
                // SAFETY: as above.
                unsafe { step.out.round(self.kernels, m, rows.start, rows.len()) }
            }
        }
    }

    /// One phase: the vocabulary projection into the caller's memory.
    pub(crate) unsafe fn logits(&self, step: &LogitsStep, n_x: usize, logits: *mut f32, worker: &Worker<'_>) {
        if n_x == 0 {
            return;
        }
        let scratch = self.linear_scratch(worker);
        let n_vocab = step.weight.n_rows;
        let chunk = self.chunk(n_x, n_vocab);
        while let Some(item) = worker.take_own(n_vocab.div_ceil(chunk)) {
            let r0 = item * chunk;
            let n = chunk.min(n_vocab - r0);
            // SAFETY: items are disjoint ranges of the vocabulary; `logits` holds n_x rows of it.
            unsafe {
                self.product(&step.x, n_x, &step.weight, (r0, n), (logits.add(r0), n_vocab), scratch);
                for m in 0..n_x {
                    let out = logits.add(m * n_vocab + r0);
                    if step.scale != 1.0 {
                        (self.kernels.scale)(out, step.scale, n);
                    }
                    if let Some(bias) = &step.bias {
                        (self.kernels.add)(out, bias.as_ptr().add(r0), out, n);
                    }
                    if let Some(cap) = step.softcap {
                        (self.kernels.softcap)(out, cap, n);
                    }
                }
            }
        }
    }
}
