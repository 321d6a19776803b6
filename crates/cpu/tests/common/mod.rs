//! What the tests of this crate share.

use whit_base::quant::encode_row;
use whit_base::{Bytes, DType, PlanBuilder, Weight, WeightId};
use whit_cpu::{CpuBackend, CpuConfig, Level};

/// A small generator, so that failures repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// From -1 to 1.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A random weight in this format.
pub(crate) fn weight(
    plan: &mut PlanBuilder,
    random: &mut Random,
    dtype: DType,
    n_rows: usize,
    n_cols: usize,
) -> WeightId {
    let row_bytes = dtype.row_bytes(n_cols).unwrap();
    let mut data = vec![0u8; n_rows * row_bytes];
    let scale = if n_rows == 1 { 1.0 } else { 1.7 / (n_cols as f32).sqrt() };
    for row in data.chunks_mut(row_bytes) {
        let values: Vec<f32> = (0..n_cols).map(|_| random.next() * scale).collect();
        encode_row(dtype, &values, None, row);
    }
    plan.weight(Weight {
        name: format!("{n_rows}x{n_cols}"),
        dtype,
        n_rows,
        n_cols,
        data: Bytes::from_vec(data),
    })
}

/// Every level of this host, on one thread and on three.
pub(crate) fn backends() -> Vec<CpuBackend> {
    let levels = Level::ALL.into_iter().filter(|level| level.is_supported());
    levels
        .flat_map(|level| [1, 3].map(|threads| CpuConfig { threads: Some(threads), level: Some(level) }))
        .map(|config| CpuBackend::new(config).unwrap())
        .collect()
}
