//! One pass: the steps in order, phase by phase, on all threads.

use whit_base::quant::decode_row;
use whit_base::{Batch, NormKind};

use super::CpuExecutor;
use super::experts::route;
use super::step::{Buf, Matrix, Step, Vector};
use super::watch::Watch;
use crate::kernels::rows::set_rope_pair;
use crate::pool::{Pool, Worker};

/// The caller's memory, as threads share it.
#[derive(Clone, Copy)]
struct Results {
    logits: *mut f32,
    pooled: *mut f32,
}

// SAFETY: threads write disjoint columns of the logits, and disjoint vectors.
unsafe impl Send for Results {}
// SAFETY: as above.
unsafe impl Sync for Results {}

/// Runs the batch, which `validate` has checked.
pub(super) fn run(
    executor: &CpuExecutor,
    pool: &mut Pool,
    batch: &Batch<'_>,
    logits: &mut [f32],
    pooled: &mut [f32],
    watch: Option<&Watch<'_>>,
) {
    let results = Results { logits: logits.as_mut_ptr(), pooled: pooled.as_mut_ptr() };
    pool.run(&|worker| {
        // SAFETY: `validate` checked the batch; phases are separated by barriers.
        unsafe {
            executor.rope_tables(batch, worker);
            worker.barrier();
            for index in 0..executor.steps.len() {
                if let Some(watch) = watch {
                    let n_rows = |buf: &Buf| match executor.steps[index] {
                        Step::Logits(_) => batch.outputs.len(),
                        _ => executor.n_rows(buf, batch.tokens.len(), executor.selected.len()),
                    };
                    watch.step(executor, index, n_rows, worker);
                }
                executor.step(index, batch, &results, watch, worker);
                worker.barrier();
            }
        }
    });
}

/// The position of a row in its sequence.
fn position(batch: &Batch<'_>, row: usize) -> usize {
    let segment = batch.segments.iter().find(|segment| segment.rows.contains(&row));
    segment.map_or(0, |segment| segment.first_position + row - segment.rows.start)
}

/// Rows of row-wise operations that one item covers.
const ROWS_PER_ITEM: usize = 4;

impl CpuExecutor {
    /// Sines and cosines of every row's position, for every rotation.
    unsafe fn rope_tables(&self, batch: &Batch<'_>, worker: &Worker<'_>) {
        self.for_rows(batch.tokens.len(), worker, |row| {
            let position = position(batch, row) as f64;
            for table in &self.ropes {
                // SAFETY: rows are disjoint between items.
                let (cos, sin) = unsafe { table.row(row) };
                for (i, &inv_freq) in table.inv_freq.iter().enumerate() {
                    let (s, c) = (position * f64::from(inv_freq)).sin_cos();
                    let magnitude = f64::from(table.magnitude);
                    let pair = ((c * magnitude) as f32, (s * magnitude) as f32);
                    // SAFETY: the row's table has this pair.
                    unsafe { set_rope_pair(table.style, cos, sin, i, pair) };
                }
            }
        });
    }

    pub(crate) fn for_rows(&self, n: usize, worker: &Worker<'_>, mut f: impl FnMut(usize)) {
        loop {
            let rows = worker.take(n, ROWS_PER_ITEM);
            if rows.is_empty() {
                return;
            }
            rows.for_each(&mut f);
        }
    }

    unsafe fn step(
        &self,
        index: usize,
        batch: &Batch<'_>,
        results: &Results,
        watch: Option<&Watch<'_>>,
        worker: &Worker<'_>,
    ) {
        let n_rows = |buf: &Buf| self.n_rows(buf, batch.tokens.len(), self.selected.len());
        let kernels = self.kernels;
        // SAFETY: rows and columns are disjoint between the items of a phase; shapes were checked when the plan was
        // built and compiled.
        unsafe {
            match &self.steps[index] {
                Step::Embed { table, scale, out } => {
                    self.for_rows(n_rows(out), worker, |m| {
                        let token = batch.tokens[m] as usize;
                        self.embed(table, *scale, out, if token < table.n_rows { token } else { 0 }, m)
                    });
                }
                Step::EmbedPosition { table, out } => self.for_rows(n_rows(out), worker, |m| {
                    self.embed(table, 1.0, out, position(batch, m), m);
                }),
                Step::EmbedType { table, out } => self.for_rows(n_rows(out), worker, |m| {
                    self.embed(table, 1.0, out, batch.types.get(m).map_or(0, |&kind| usize::from(kind)), m);
                }),
                Step::Norm { x, kind, weight, bias, span, out } => {
                    self.for_rows(n_rows(out), worker, |m| self.norm(x, *kind, weight, bias, *span, out, m));
                }
                Step::Linear(linear) => self.linear(linear, n_rows(&linear.x), worker),
                Step::Gated(gated) => self.gated(gated, n_rows(&gated.x), worker),
                Step::Rope { x, rope, head_dim, out } => self.for_rows(n_rows(out), worker, |m| {
                    let to = out.row(m);
                    std::ptr::copy_nonoverlapping(x.row(m), to, x.width);
                    let table = &self.ropes[*rope];
                    let (cos, sin) = table.row(m);
                    for head in 0..x.width / head_dim {
                        let at = to.add(head * head_dim);
                        (kernels.rope)(table.style, at, cos, sin, table.inv_freq.len());
                    }
                    out.round(kernels, m, 0, out.width);
                }),
                Step::Attend(attend) => {
                    self.attend_prepare(attend, batch, worker);
                    worker.barrier();
                    self.attend_visit(attend, batch, worker);
                    if attend.out.rounded.is_some() && !attend.out.rounds_by(attend.head_dim) {
                        worker.barrier();
                        let out = &attend.out;
                        self.for_rows(n_rows(out), worker, |m| out.round(kernels, m, 0, out.width));
                    }
                }
                Step::Glu { gate, up, act, out } => self.for_rows(n_rows(out), worker, |m| {
                    (kernels.glu)(*act, gate.row(m), up.row(m), out.row(m), out.width);
                    out.round(kernels, m, 0, out.width);
                }),
                Step::Act { x, act, out } => self.for_rows(n_rows(out), worker, |m| {
                    (kernels.act)(*act, x.row(m), out.row(m), out.width);
                    out.round(kernels, m, 0, out.width);
                }),
                Step::Scale { x, factor, out } => self.for_rows(n_rows(out), worker, |m| {
                    std::ptr::copy_nonoverlapping(x.row(m), out.row(m), out.width);
                    (kernels.scale)(out.row(m), *factor, out.width);
                    out.round(kernels, m, 0, out.width);
                }),
                Step::Convolve(step) => self.convolve(step, batch, worker),
                Step::Mix(step) => self.mix(step, n_rows(&step.out), worker),
                Step::Match { x, like, least, out } => {
                    self.match_size((x, like, out), *least, n_rows(out), worker);
                }
                Step::Outliers { x, deviations, out } => {
                    self.outliers((x, out), *deviations, n_rows(out), worker);
                }
                Step::Multiply { x, weight, out } => self.multiply((x, out), weight, n_rows(out), worker),
                Step::Columns { x, first, out } => self.for_rows(n_rows(out), worker, |m| {
                    std::ptr::copy_nonoverlapping(x.row(m).add(*first), out.row(m), out.width);
                    out.round(kernels, m, 0, out.width);
                }),
                Step::Add { x, y, out } => self.for_rows(n_rows(out), worker, |m| {
                    (kernels.add)(x.row(m), y.row(m), out.row(m), out.width);
                    out.round(kernels, m, 0, out.width);
                }),
                Step::Route { x, n_used, normalize, out } => self.for_rows(n_rows(out), worker, |m| {
                    let scores = std::slice::from_raw_parts(x.row(m), x.width);
                    let weights = std::slice::from_raw_parts_mut(out.row(m), out.width);
                    route(scores, *n_used, *normalize, weights);
                }),
                Step::Experts(step) => {
                    self.experts(step, n_rows(&step.x), watch.map(|watch| (watch, index)), worker);
                }
                Step::SequenceMean { x, out } => self.sequence_mean(x, out, batch, worker),
                Step::Select { x, out } => self.for_rows(n_rows(out), worker, |m| {
                    std::ptr::copy_nonoverlapping(x.row(self.selected[m]), out.row(m), out.width);
                    out.round(kernels, m, 0, out.width);
                }),
                Step::Pool(step) => self.pool_sequences(step, batch, results.pooled, worker),
                Step::Logits(step) => self.logits(step, batch.outputs.len(), results.logits, worker),
            }
        }
    }

    unsafe fn embed(&self, table: &Matrix, scale: f32, out: &Buf, index: usize, m: usize) {
        // SAFETY: `validate` checked tokens and positions; the row is this item's.
        unsafe {
            let bytes = std::slice::from_raw_parts(table.data.add(index * table.row_bytes), table.row_bytes);
            let row = std::slice::from_raw_parts_mut(out.row(m), out.width);
            decode_row(table.dtype, bytes, row);
            if scale != 1.0 {
                (self.kernels.scale)(row.as_mut_ptr(), scale, out.width);
            }
            out.round(self.kernels, m, 0, out.width);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the operation's own fields")]
    unsafe fn norm(
        &self,
        x: &Buf,
        kind: NormKind,
        weight: &Option<Vector>,
        bias: &Option<Vector>,
        span: usize,
        out: &Buf,
        m: usize,
    ) {
        // One for all spans of the row, or one for each.
        let pointer = |vector: &Option<Vector>, at: usize| {
            let own = |v: &Vector| v[if v.len() == span { 0 } else { at }..].as_ptr();
            vector.as_ref().map_or(std::ptr::null(), own)
        };
        // SAFETY: rows are as wide as the plan says, and the vectors as long as the span, or as the row.
        unsafe {
            for at in (0..x.width).step_by(span) {
                let (weight, bias) = (pointer(weight, at), pointer(bias, at));
                let (x, out) = (x.row(m).add(at), out.row(m).add(at));
                match kind {
                    NormKind::Rms { eps } => {
                        (self.kernels.rms_norm)(x, weight, eps, out, span);
                        if !bias.is_null() {
                            (self.kernels.add)(out, bias, out, span);
                        }
                    }
                    NormKind::Layer { eps } => (self.kernels.layer_norm)(x, weight, bias, eps, out, span),
                }
            }
            out.round(self.kernels, m, 0, out.width);
        }
    }
}
