//! The Plan: what a model computes, as a flat list of coarse operations over named buffers.
//!
//! A model file emits a Plan once per loaded model. Nothing in it depends on how many tokens a step carries: every
//! buffer is `(rows, width)` f32, and `rows` is bound when a [`Batch`](crate::Batch) runs. The list is in
//! single-assignment form (each buffer is written by exactly one operation), so a trainer can walk it backwards and a
//! GPU backend can encode it; [`fuse`](crate::fuse) makes the inference form, and
//! [`assign_slots`](crate::assign_slots) maps buffers onto reused memory.
//!
//! Left out on purpose: how anything is computed. The meaning of each operation is its scalar version in
//! [`crate::reference`].

mod builder;
mod fuse;
mod op;
mod slots;

pub use builder::{AttendSpec, ExpertsSpec, LogitsSpec, PlanBuilder, PlanError};
pub use fuse::fuse;
pub use op::{
    Activation, Expert, HeadNorm, LinearPart, NormKind, Op, PoolKind, RopeStyle, Sharpening, Sight,
};
pub use slots::{Slots, assign_slots};

use crate::quant::act_group;
use crate::{Bytes, CacheType, DType};

/// Index of a buffer in [`Plan::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// Index of a weight in [`Plan::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub u32);

/// Index of a layer's key-value cache in [`Plan::caches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheId(pub u32);

/// Index of a history in [`Plan::histories`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HistoryId(pub u32);

/// Index of a rotation in [`Plan::ropes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RopeId(pub u32);

/// Which rows of the batch a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One row per token of the batch.
    All,
    /// One row per row that is wanted at the end, in the order of [`Batch::selected`](crate::Batch::selected).
    Outputs,
}

/// A `(rows, width)` f32 intermediate.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// For traces and errors, e.g. `blk.3.ffn_norm`.
    pub name: String,
    /// Values per row.
    pub width: usize,
    /// Which rows it holds.
    pub rows: Rows,
}

/// A weight matrix or vector in its file's own blocks.
#[derive(Clone, Debug)]
pub struct Weight {
    /// The tensor's name in the file; of a part of a tensor, with `(what part)` behind it.
    pub name: String,
    /// Storage format.
    pub dtype: DType,
    /// Output features (1 for a vector).
    pub n_rows: usize,
    /// Input features: the contiguous dimension.
    pub n_cols: usize,
    /// `n_rows * dtype.row_bytes(n_cols)` bytes, row after row.
    pub data: Bytes,
}

impl Weight {
    /// The name of the tensor that it is, or is a part of.
    pub fn tensor(&self) -> &str {
        self.name.split_once(" (").map_or(&self.name, |(tensor, _)| tensor)
    }
}

/// One layer's key-value cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheLayer {
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Values per head, the same for keys and values.
    pub head_dim: usize,
    /// `Some(w)`: a token sees itself and the `w - 1` tokens before it.
    pub window: Option<usize>,
}

/// Rows of an intermediate that are kept for later batches, in f32, as a cache keeps keys and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Values per row.
    pub width: usize,
    /// A token sees its own row and the `window - 1` before it.
    pub window: usize,
}

impl CacheLayer {
    /// Bytes that one cached token takes.
    pub fn token_bytes(&self, cache_type: CacheType) -> usize {
        2 * self.n_kv_heads * cache_type.vector_bytes(self.head_dim)
    }
}

/// A rotary embedding: the angle of pair `i` at position `p` is `p * inv_freq[i]`.
///
/// All published scalings (linear, Llama 3, YaRN, long) come down to this table and `magnitude`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Radians per position for each rotated pair; `2 * inv_freq.len()` values of each head rotate, the rest pass.
    pub inv_freq: Vec<f32>,
    /// Factor on the sine and cosine (YaRN's and LongRoPE's attention factor; 1 otherwise).
    pub magnitude: f32,
    /// Which values form a pair.
    pub style: RopeStyle,
}

/// Caches and histories that hold the same span of positions and therefore share page tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheGroup {
    /// `None`: every position is kept. `Some(w)`: only the last `w` positions can be read again.
    pub window: Option<usize>,
    /// The caches in this group.
    pub layers: Vec<CacheId>,
    /// The histories in this group.
    pub histories: Vec<HistoryId>,
}

impl CacheGroup {
    fn of(groups: &mut Vec<CacheGroup>, window: Option<usize>) -> &mut CacheGroup {
        let at = groups.iter().position(|group| group.window == window).unwrap_or_else(|| {
            groups.push(CacheGroup { window, layers: vec![], histories: vec![] });
            groups.len() - 1
        });
        &mut groups[at]
    }
}

/// A model's computation. See the module text.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Operations in execution order.
    pub ops: Vec<Op>,
    /// Intermediates.
    pub buffers: Vec<Buffer>,
    /// Weights, memory-mapped or owned.
    pub weights: Vec<Weight>,
    /// Per-layer key-value caches.
    pub caches: Vec<CacheLayer>,
    /// What else is kept of earlier tokens.
    pub histories: Vec<History>,
    /// Rotary tables.
    pub ropes: Vec<Rope>,
    /// The vocabulary size: token ids are below it, and the final projection, if there is one, has as many rows.
    pub n_vocab: usize,
}

/// What a plan's [`Op::Pool`] makes of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOutput {
    /// Which hidden states.
    pub kind: PoolKind,
    /// Values of the vector.
    pub width: usize,
}

impl History {
    /// What one token costs.
    pub fn bytes_per_token(&self) -> usize {
        size_of::<f32>() * self.width
    }
}

impl Plan {
    /// Caches and histories grouped by the span that they keep: the full group first (if any), then by window.
    pub fn cache_groups(&self) -> Vec<CacheGroup> {
        let mut groups: Vec<CacheGroup> = Vec::new();
        for (index, layer) in self.caches.iter().enumerate() {
            CacheGroup::of(&mut groups, layer.window).layers.push(CacheId(index as u32));
        }
        for (index, history) in self.histories.iter().enumerate() {
            let group = CacheGroup::of(&mut groups, Some(history.window));
            group.histories.push(HistoryId(index as u32));
        }
        groups.sort_by_key(|group| group.window);
        groups
    }

    /// The vector that the plan gives for a sequence, if it gives one.
    pub fn pool(&self) -> Option<PoolOutput> {
        self.ops.iter().find_map(|op| match op {
            Op::Pool { x, kind, .. } => Some(PoolOutput { kind: *kind, width: self.buffer(*x).width }),
            _ => None,
        })
    }

    /// Whether some token sees those behind it: sequences must then come whole, each in one segment.
    pub fn reads_whole(&self) -> bool {
        self.ops.iter().any(|op| match op {
            Op::Attend { sight, .. } => *sight != Sight::Before,
            Op::SequenceMean { .. } => true,
            _ => false,
        })
    }

    /// Types of tokens that the plan tells apart: which text of a pair they belong to.
    pub fn n_types(&self) -> usize {
        let types = self.ops.iter().filter_map(|op| match op {
            Op::EmbedType { table, .. } => Some(self.weight(*table).n_rows),
            _ => None,
        });
        types.min().unwrap_or(1)
    }

    /// Floats that a row needs beside its buffers: what goes into its experts and comes out of them.
    pub fn expert_floats(&self) -> usize {
        let floats = |op: &Op| match op {
            Op::Experts { x, n_used, experts, .. } => {
                let n_ff = experts.first().map_or(0, |expert| self.weight(expert.down).n_cols);
                n_used * (2 * self.buffer(*x).width + n_ff)
            }
            _ => 0,
        };
        self.ops.iter().map(floats).max().unwrap_or(0)
    }

    /// The groups in which an input of these weights is rounded, if any of them is quantized.
    pub fn act_group(&self, weights: impl IntoIterator<Item = WeightId>) -> Option<usize> {
        let dtypes = weights.into_iter().map(|id| self.weight(id).dtype);
        dtypes.filter(|dtype| dtype.is_quantized()).map(act_group).max()
    }

    /// For each buffer, the groups in which it is rounded for the quantized products that read it, if any does. Experts
    /// round their inputs by themselves.
    pub fn act_groups(&self) -> Vec<Option<usize>> {
        let mut groups = vec![None; self.buffers.len()];
        for op in &self.ops {
            let (x, group) = match op {
                Op::Linear { x, parts, .. } => (*x, self.act_group(parts.iter().map(|part| part.weight))),
                Op::GatedLinear { x, gate, up, .. } => (*x, self.act_group([*gate, *up])),
                Op::Logits { x, weight, .. } => (*x, self.act_group([*weight])),
                _ => continue,
            };
            let widest = &mut groups[x.0 as usize];
            *widest = group.max(*widest);
        }
        groups
    }

    /// Whether the plan ends with a vocabulary projection.
    pub fn has_logits(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Logits { .. }))
    }

    /// The weight behind `id`.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0 as usize]
    }

    /// The buffer behind `id`.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.0 as usize]
    }

    /// The rotation behind `id`.
    pub fn rope(&self, id: RopeId) -> &Rope {
        &self.ropes[id.0 as usize]
    }

    /// The history behind `id`.
    pub fn history(&self, id: HistoryId) -> &History {
        &self.histories[id.0 as usize]
    }

    /// The cache layer behind `id`.
    pub fn cache(&self, id: CacheId) -> &CacheLayer {
        &self.caches[id.0 as usize]
    }
}
