//! Quantized products in plain Rust: the scalar level, and the fallback of a format that a level has no kernel for.

use whit_base::DType;
use whit_base::quant::decode_row;

use super::GemmJob;
use super::rows::QuantRow;

/// Longest block of any format.
const MAX_BLOCK: usize = 256;

/// One weight row against one activation row.
unsafe fn dot(dtype: DType, w: *const u8, n_cols: usize, x: QuantRow) -> f32 {
    let (len, bytes) = (dtype.block_len(), dtype.block_bytes());
    let mut values = [0f32; MAX_BLOCK];
    let mut total = 0f32;
    for block in 0..n_cols / len {
        // SAFETY: the caller vouches for n_cols values behind both pointers.
        let (w, q) = unsafe {
            let w = std::slice::from_raw_parts(w.add(block * bytes), bytes);
            (w, std::slice::from_raw_parts(x.q.add(block * len), len))
        };
        decode_row(dtype, w, &mut values[..len]);
        for group in 0..len / 32 {
            let span = group * 32..group * 32 + 32;
            let sum: f32 = values[span.clone()].iter().zip(&q[span]).map(|(w, &q)| w * f32::from(q)).sum();
            // SAFETY: one scale per 32 values.
            total += sum * unsafe { *x.d.add(block * len / 32 + group) };
        }
    }
    total
}

pub(super) unsafe fn gemm(job: &GemmJob) {
    let row_bytes = job.n_cols / job.dtype.block_len() * job.dtype.block_bytes();
    for row in 0..job.n_rows {
        for m in 0..job.n_x {
            // SAFETY: the caller vouches for the job's rows.
            unsafe {
                let x = job.x.row(m);
                *job.out.add(m * job.out_stride + row) =
                    dot(job.dtype, job.w.add(row * row_bytes), job.n_cols, x);
            }
        }
    }
}
