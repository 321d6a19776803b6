//! One tensor from one format into another, rows on all threads.
//!
//! A thread holds one row of f32 at a time; what is encoded is held for the tensor as a whole, so that it is written in order.

use std::sync::Mutex;

use whit_base::DType;
use whit_base::quant::{decode_row, encode_row};

use crate::ShrinkError;

/// Values that a thread takes at a time: enough that taking costs nothing, few enough that none waits for the last.
const VALUES: usize = 1 << 14;

/// The largest number that f16 holds.
const MAX_F16: f32 = 65504.0;

/// A tensor and what it becomes.
pub(super) struct Job<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) from: DType,
    pub(super) to: DType,
    /// Values in a row: whole blocks of both formats.
    pub(super) n_cols: usize,
    /// What each column counts, for each of the matrices that stand one below the other.
    pub(super) importance: Option<&'a [f32]>,
}

/// The tensor's bytes in its new format.
pub(super) fn encode(job: &Job<'_>, n_threads: usize) -> Result<Vec<u8>, ShrinkError> {
    let row_bytes = |format: DType| format.row_bytes(job.n_cols).unwrap_or(0).max(1);
    let (from, to) = (row_bytes(job.from), row_bytes(job.to));
    let n_rows = job.bytes.len() / from;
    let n_matrices = job.importance.map_or(1, |importance| importance.len() / job.n_cols.max(1)).max(1);
    let rows_per_matrix = (n_rows / n_matrices).max(1);
    let n_taken = (VALUES / job.n_cols.max(1)).max(1);

    let mut out = vec![0; n_rows * to];
    let left = Mutex::new(job.bytes.chunks(n_taken * from).zip(out.chunks_mut(n_taken * to)).enumerate());
    let work = || {
        let mut values = vec![0.0; job.n_cols];
        loop {
            let next = left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
            let Some((at, (rows, encoded))) = next else { return Ok(()) };
            let rows = rows.chunks_exact(from).zip(encoded.chunks_exact_mut(to));
            for (row, (bytes, encoded)) in (at * n_taken..).zip(rows) {
                decode_row(job.from, bytes, &mut values);
                check(job, row, &values)?;
                let matrix = row / rows_per_matrix;
                let importance =
                    job.importance.map(|all| &all[matrix * job.n_cols..(matrix + 1) * job.n_cols]);
                encode_row(job.to, &values, importance, encoded);
            }
        }
    };
    let results: Vec<Result<(), ShrinkError>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined = others.into_iter().map(|thread| thread.join());
        std::iter::once(own)
            .chain(joined.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
            .collect()
    });
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(out)
}

/// Whether the format can hold the values.
fn check(job: &Job<'_>, row: usize, values: &[f32]) -> Result<(), ShrinkError> {
    let most = if job.to == DType::F16 { MAX_F16 } else { f32::MAX };
    // Of a number that is none, no comparison is true.
    if values.iter().all(|value| value.abs() <= most) {
        return Ok(());
    }
    let value = values.iter().copied().find(|value| value.is_nan() || value.abs() > most).unwrap_or(f32::NAN);
    Err(ShrinkError::BadValue { tensor: job.name.to_owned(), row, value, format: job.to })
}
