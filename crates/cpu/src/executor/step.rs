//! Operations resolved to pointers and sizes.

use whit_base::quant::{ACT_GROUP, decode_row};
use whit_base::{
    Activation, BackendError, BufferId, CacheType, DType, ExecutorLimits, HeadNorm, NormKind, Op, Plan, Rope,
    RopeStyle, Rows, Sharpening, Sight, Weight, WeightId,
};

use super::convolve::ConvolveStep;
use super::experts::ExpertsStep;
use super::pooling::PoolStep;
use super::streams::MixStep;
use crate::kernels::attention::{bias_row, padded_head_dim};
use crate::kernels::rows::{SUMS_OF_16, rope_table_len};
use crate::kernels::{Kernels, QuantMatrix};
use crate::memory::Memory;

/// A buffer's memory: `(rows, width)` f32, and its 8-bit form where a quantized product reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buf {
    pub(crate) x: *mut f32,
    /// Elements between rows.
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) rows: Rows,
    pub(crate) rounded: Option<QuantMatrix>,
}

// SAFETY: a `Buf` is an address; the executor's phases decide who may use it.
unsafe impl Send for Buf {}
// SAFETY: as above.
unsafe impl Sync for Buf {}

impl Buf {
    /// Row `m`, which the caller knows to exist.
    pub(crate) unsafe fn row(&self, m: usize) -> *mut f32 {
        // SAFETY: the row exists.
        unsafe { self.x.add(m * self.stride) }
    }

    /// Refreshes the 8-bit form of `n` values from `n0` on (multiples of its groups) of row `m`.
    pub(crate) unsafe fn round(&self, kernels: &Kernels, m: usize, n0: usize, n: usize) {
        if let Some(matrix) = self.rounded {
            debug_assert!(n0.is_multiple_of(matrix.group) && n.is_multiple_of(matrix.group));
            // SAFETY: the row and its groups exist; rows are padded by 16 groups.
            unsafe {
                let row = matrix.row(m);
                (kernels.quantize)(self.row(m).add(n0), row, n0, n);
                if n0 + n == self.width && !self.width.is_multiple_of(256) {
                    // Kernels read scales in whole spans of 256 values; the slot's last tenant may have been wider.
                    let groups = self.width / 32;
                    let missing = groups.next_multiple_of(8) - groups;
                    std::ptr::write_bytes(row.d.add(groups), 0, missing);
                    std::ptr::write_bytes(row.sum32.add(groups), 0, missing);
                }
            }
        }
    }

    /// The rows from `m` on.
    pub(crate) unsafe fn tail(&self, m: usize) -> Buf {
        // SAFETY: the caller knows row `m` to exist.
        unsafe {
            let rounded = self.rounded.map(|matrix| matrix.from(m));
            Buf { x: self.row(m), rounded, ..*self }
        }
    }

    /// The same memory as a buffer of another width, rounded in such groups or not at all.
    pub(crate) fn view(&self, width: usize, rows: Rows, group: Option<usize>) -> Buf {
        let rounded = self.rounded.zip(group).map(|(matrix, group)| QuantMatrix { group, ..matrix });
        Buf { width, rows, rounded, ..*self }
    }

    /// Whether there is an 8-bit form, and `n` values at a time can be put into it.
    pub(crate) fn rounds_by(&self, n: usize) -> bool {
        self.rounded.is_some_and(|matrix| n.is_multiple_of(matrix.group))
    }
}

/// A weight matrix as the kernels take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) data: *const u8,
    pub(crate) dtype: DType,
    pub(crate) n_rows: usize,
    pub(crate) n_cols: usize,
    pub(crate) row_bytes: usize,
}

// SAFETY: read-only memory that the plan keeps alive.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

/// A small weight as f32.
pub(crate) type Vector = Vec<f32>;

pub(crate) struct Part {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vector>,
    pub(crate) out: Buf,
}

pub(crate) struct LinearStep {
    pub(crate) x: Buf,
    pub(crate) parts: Vec<Part>,
    pub(crate) residual: Option<Buf>,
}

pub(crate) struct GatedStep {
    pub(crate) x: Buf,
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) act: Activation,
    pub(crate) out: Buf,
}

pub(crate) struct AttendStep {
    pub(crate) q: Buf,
    /// What goes into the cache before.
    pub(crate) kv: Option<(Buf, Buf)>,
    pub(crate) out: Buf,
    pub(crate) cache: usize,
    pub(crate) window: Option<usize>,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
    /// What a head takes room for in the cache and beside it.
    pub(crate) padded: usize,
    pub(crate) scale: f32,
    pub(crate) sharpening: Option<Sharpening>,
    pub(crate) softcap: Option<f32>,
    pub(crate) sight: Sight,
    /// Which of the executor's lists of items is this step's.
    pub(crate) items: usize,
    pub(crate) bias: Option<BiasTable>,
    pub(crate) q_norm: Option<(Vector, f32)>,
    pub(crate) k_norm: Option<(Vector, f32)>,
    pub(crate) rope: Option<usize>,
}

/// A [`bias_row`] per head.
pub(crate) struct BiasTable {
    pub(crate) rows: Vector,
    pub(crate) stride: usize,
    pub(crate) reach: usize,
}

impl BiasTable {
    fn new(weight: &Weight) -> BiasTable {
        let by_distance = vector(weight);
        let rows: Vector = by_distance.chunks_exact(weight.n_cols).flat_map(bias_row).collect();
        BiasTable { stride: rows.len() / weight.n_rows, rows, reach: weight.n_cols / 2 }
    }
}

pub(crate) struct LogitsStep {
    pub(crate) x: Buf,
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Vector>,
    pub(crate) scale: f32,
    pub(crate) softcap: Option<f32>,
}

pub(crate) enum Step {
    Embed { table: Matrix, scale: f32, out: Buf },
    EmbedPosition { table: Matrix, out: Buf },
    EmbedType { table: Matrix, out: Buf },
    Norm { x: Buf, kind: NormKind, weight: Option<Vector>, bias: Option<Vector>, span: usize, out: Buf },
    Linear(LinearStep),
    Gated(GatedStep),
    Rope { x: Buf, rope: usize, head_dim: usize, out: Buf },
    Attend(Box<AttendStep>),
    Glu { gate: Buf, up: Buf, act: Activation, out: Buf },
    Act { x: Buf, act: Activation, out: Buf },
    Scale { x: Buf, factor: f32, out: Buf },
    Convolve(ConvolveStep),
    Mix(MixStep),
    Match { x: Buf, like: Buf, least: f32, out: Buf },
    Outliers { x: Buf, deviations: f32, out: Buf },
    Multiply { x: Buf, weight: Vector, out: Buf },
    Columns { x: Buf, first: usize, out: Buf },
    Add { x: Buf, y: Buf, out: Buf },
    Route { x: Buf, n_used: usize, normalize: bool, out: Buf },
    Experts(ExpertsStep),
    SequenceMean { x: Buf, out: Buf },
    Select { x: Buf, out: Buf },
    Pool(PoolStep),
    Logits(LogitsStep),
}

/// Sines and cosines of the batch's rows for one rotation, in the layout of `kernels::rows::rope`.
pub(crate) struct RopeTable {
    pub(crate) inv_freq: Vec<f32>,
    pub(crate) magnitude: f32,
    pub(crate) style: RopeStyle,
    cos: Memory,
    sin: Memory,
}

impl RopeTable {
    pub(crate) fn new(rope: &Rope, max_rows: usize) -> Result<RopeTable, BackendError> {
        let n = max_rows * rope_table_len(rope.style, rope.inv_freq.len());
        Ok(RopeTable {
            inv_freq: rope.inv_freq.clone(),
            magnitude: rope.magnitude,
            style: rope.style,
            cos: Memory::of::<f32>(n, "rotary tables")?,
            sin: Memory::of::<f32>(n, "rotary tables")?,
        })
    }

    /// Cosines and sines of row `m`.
    pub(crate) unsafe fn row(&self, m: usize) -> (*mut f32, *mut f32) {
        let at = m * rope_table_len(self.style, self.inv_freq.len());
        // SAFETY: the caller's row is below max_rows.
        unsafe { (self.cos.ptr::<f32>().add(at), self.sin.ptr::<f32>().add(at)) }
    }
}

/// Memory for a slot of the given width.
pub(crate) fn allocate_slot(
    width: usize,
    rows: Rows,
    rounded: bool,
    limits: &ExecutorLimits,
    buffers: &mut Vec<Memory>,
) -> Result<Buf, BackendError> {
    let n_rows = match rows {
        Rows::All => limits.max_rows,
        Rows::Outputs => limits.max_outputs.max(1),
    };
    allocate_rows(n_rows, width, rows, rounded, buffers)
}

/// Memory for so many rows.
pub(crate) fn allocate_rows(
    n_rows: usize,
    width: usize,
    rows: Rows,
    rounded: bool,
    buffers: &mut Vec<Memory>,
) -> Result<Buf, BackendError> {
    let what = "activations";
    let stride = width.next_multiple_of(16);
    let x = Memory::of::<f32>(n_rows * stride, what)?;
    // `QuantRow` promises 64 bytes and 16 scales of zeros past a row.
    let (q_stride, d_stride) =
        (width.next_multiple_of(64) + 64, width.div_ceil(32).next_multiple_of(16) + 16);
    let sum16_stride = width.div_ceil(16).next_multiple_of(16) + 16;
    let matrix = if rounded {
        let q = Memory::of::<i8>(n_rows * q_stride, what)?;
        let d = Memory::of::<f32>(n_rows * d_stride, what)?;
        let sum32 = Memory::of::<f32>(n_rows * d_stride, what)?;
        let sum16 = Memory::of::<f32>(if SUMS_OF_16 { n_rows * sum16_stride } else { 0 }, what)?;
        let total32 = Memory::of::<i16>(n_rows * d_stride, what)?;
        let total16 = Memory::of::<i16>(n_rows * sum16_stride, what)?;
        let matrix = QuantMatrix {
            q: q.ptr(),
            d: d.ptr(),
            sum32: sum32.ptr(),
            sum16: sum16.ptr(),
            total32: total32.ptr(),
            total16: total16.ptr(),
            group: ACT_GROUP,
            q_stride,
            d_stride,
            sum16_stride,
        };
        buffers.extend([q, d, sum32, sum16, total32, total16]);
        Some(matrix)
    } else {
        None
    };
    let buf = Buf { x: x.ptr(), stride, width, rows, rounded: matrix };
    buffers.push(x);
    Ok(buf)
}

fn vector(weight: &Weight) -> Vector {
    let mut out = vec![0.0; weight.n_rows * weight.n_cols];
    decode_row(weight.dtype, &weight.data, &mut out);
    out
}

/// Resolves the plan's operations. Errors name what this backend cannot run.
pub(crate) fn compile(
    plan: &Plan,
    bufs: &[Option<Buf>],
    kernels: &Kernels,
    cache_type: CacheType,
) -> Result<Vec<Step>, String> {
    let buf = |id: BufferId| {
        bufs[id.0 as usize]
            .ok_or_else(|| format!("buffer `{}` is read but never written", plan.buffer(id).name))
    };
    let matrix = |id: WeightId| {
        let weight = plan.weight(id);
        let row_bytes = weight.dtype.row_bytes(weight.n_cols);
        let row_bytes = row_bytes.filter(|bytes| bytes.checked_mul(weight.n_rows) == Some(weight.data.len()));
        let Some(row_bytes) = row_bytes else {
            return Err(format!("tensor `{}` has {} bytes for its shape", weight.name, weight.data.len()));
        };
        Ok(Matrix {
            data: weight.data.as_ptr(),
            dtype: weight.dtype,
            n_rows: weight.n_rows,
            n_cols: weight.n_cols,
            row_bytes,
        })
    };
    let optional = |id: Option<WeightId>| id.map(|id| vector(plan.weight(id)));
    let head_norm = |norm: Option<HeadNorm>| norm.map(|norm| (vector(plan.weight(norm.weight)), norm.eps));
    debug_assert!(kernels.level.is_supported());
    let mut steps = Vec::with_capacity(plan.ops.len());
    for op in &plan.ops {
        steps.push(match op {
            Op::Embed { table, scale, out } => {
                Step::Embed { table: matrix(*table)?, scale: *scale, out: buf(*out)? }
            }
            Op::EmbedPosition { table, out } => {
                Step::EmbedPosition { table: matrix(*table)?, out: buf(*out)? }
            }
            Op::EmbedType { table, out } => Step::EmbedType { table: matrix(*table)?, out: buf(*out)? },
            Op::Norm { x, kind, weight, bias, head_dim, out } => {
                let x = buf(*x)?;
                Step::Norm {
                    x,
                    kind: *kind,
                    weight: optional(*weight),
                    bias: optional(*bias),
                    span: head_dim.unwrap_or(x.width),
                    out: buf(*out)?,
                }
            }
            Op::Linear { x, parts, residual } => Step::Linear(LinearStep {
                x: buf(*x)?,
                parts: parts
                    .iter()
                    .map(|part| {
                        Ok(Part {
                            weight: matrix(part.weight)?,
                            bias: optional(part.bias),
                            out: buf(part.out)?,
                        })
                    })
                    .collect::<Result<Vec<_>, String>>()?,
                residual: residual.map(buf).transpose()?,
            }),
            Op::GatedLinear { x, gate, up, act, out } => Step::Gated(GatedStep {
                x: buf(*x)?,
                gate: matrix(*gate)?,
                up: matrix(*up)?,
                act: *act,
                out: buf(*out)?,
            }),
            Op::Rope { x, rope, head_dim, out } => {
                Step::Rope { x: buf(*x)?, rope: rope.0 as usize, head_dim: *head_dim, out: buf(*out)? }
            }
            Op::Attend {
                q,
                kv,
                cache,
                n_heads,
                scale,
                sharpening,
                softcap,
                sight,
                bias,
                q_norm,
                k_norm,
                rope,
                out,
            } => {
                let layer = plan.cache(*cache);
                Step::Attend(Box::new(AttendStep {
                    q: buf(*q)?,
                    kv: kv.map(|(k, v)| Ok::<_, String>((buf(k)?, buf(v)?))).transpose()?,
                    out: buf(*out)?,
                    cache: cache.0 as usize,
                    window: layer.window,
                    n_heads: *n_heads,
                    n_kv_heads: layer.n_kv_heads,
                    head_dim: layer.head_dim,
                    padded: padded_head_dim(cache_type, layer.head_dim),
                    scale: *scale,
                    sharpening: *sharpening,
                    softcap: *softcap,
                    sight: *sight,
                    items: 0,
                    bias: bias.map(|id| BiasTable::new(plan.weight(id))),
                    q_norm: head_norm(*q_norm),
                    k_norm: head_norm(*k_norm),
                    rope: rope.map(|rope| rope.0 as usize),
                }))
            }
            Op::Glu { gate, up, act, out } => {
                Step::Glu { gate: buf(*gate)?, up: buf(*up)?, act: *act, out: buf(*out)? }
            }
            Op::Act { x, act, out } => Step::Act { x: buf(*x)?, act: *act, out: buf(*out)? },
            Op::Scale { x, factor, out } => Step::Scale { x: buf(*x)?, factor: *factor, out: buf(*out)? },
            Op::Convolve { x, history, weight, bias, out } => {
                let kernels = vector(plan.weight(*weight));
                let n = plan.weight(*weight).n_cols;
                let taps =
                    (0..n).flat_map(|tap| kernels.chunks_exact(n).map(move |kernel| kernel[tap])).collect();
                let (bias, history) = (optional(*bias), history.0 as usize);
                Step::Convolve(ConvolveStep { x: buf(*x)?, history, taps, bias, out: buf(*out)? })
            }
            Op::Mix { x, parts, coefficients, first, out } => Step::Mix(MixStep {
                x: buf(*x)?,
                parts: parts.iter().map(|&part| buf(part)).collect::<Result<_, _>>()?,
                coefficients: buf(*coefficients)?,
                first: *first,
                out: buf(*out)?,
            }),
            Op::Match { x, like, least, out } => {
                Step::Match { x: buf(*x)?, like: buf(*like)?, least: *least, out: buf(*out)? }
            }
            Op::Outliers { x, deviations, out } => {
                Step::Outliers { x: buf(*x)?, deviations: *deviations, out: buf(*out)? }
            }
            Op::Multiply { x, weight, out } => {
                Step::Multiply { x: buf(*x)?, weight: vector(plan.weight(*weight)), out: buf(*out)? }
            }
            Op::Columns { x, first, out } => Step::Columns { x: buf(*x)?, first: *first, out: buf(*out)? },
            Op::Add { x, y, out } => Step::Add { x: buf(*x)?, y: buf(*y)?, out: buf(*out)? },
            Op::Route { x, n_used, normalize, out } => {
                Step::Route { x: buf(*x)?, n_used: *n_used, normalize: *normalize, out: buf(*out)? }
            }
            Op::Experts { x, weights, n_used, experts, act, out } => Step::Experts(ExpertsStep::new(
                (buf(*x)?, buf(*weights)?, buf(*out)?),
                *n_used,
                experts
                    .iter()
                    .map(|one| Ok([matrix(one.gate)?, matrix(one.up)?, matrix(one.down)?]))
                    .collect::<Result<_, String>>()?,
                [
                    plan.act_group(experts.iter().flat_map(|one| [one.gate, one.up])),
                    plan.act_group(experts.iter().map(|one| one.down)),
                ],
                *act,
            )),
            Op::SequenceMean { x, out } => Step::SequenceMean { x: buf(*x)?, out: buf(*out)? },
            Op::Select { x, out } => Step::Select { x: buf(*x)?, out: buf(*out)? },
            Op::Pool { x, kind, normalize } => {
                let x = buf(*x)?;
                if x.rows != Rows::Outputs {
                    return Err("pooling of rows that were not selected".to_owned());
                }
                Step::Pool(PoolStep { x, kind: *kind, normalize: *normalize })
            }
            Op::Logits { x, weight, bias, scale, softcap } => Step::Logits(LogitsStep {
                x: buf(*x)?,
                weight: matrix(*weight)?,
                bias: optional(*bias),
                scale: *scale,
                softcap: *softcap,
            }),
        });
    }
    Ok(steps)
}
