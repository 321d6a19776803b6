//! The operations of a Plan. Each one's meaning is its scalar version in [`crate::reference`].

use std::ops::Range;

use super::{BufferId, CacheId, HistoryId, RopeId, WeightId};
use crate::Segment;

/// How rows are normalized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    Rms {
        /// Added to the mean square.
        eps: f32,
    },
    /// `(x - mean) / sqrt(var + eps) * weight + bias`.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
}

/// The nonlinearity of a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// GELU by the error function.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    ReluSquared,
    /// `tanh(x)`.
    Tanh,
    /// `x`.
    Identity,
}

/// Which two values of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(x[2i], x[2i + 1])`: Llama files in GGUF.
    Interleaved,
    /// `(x[i], x[i + n_rot / 2])`: NeoX, Qwen2, Gemma, Phi-3.
    Halves,
}

/// A per-head RMS norm with its own weight (QK norm).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadNorm {
    /// `(head_dim)` weight.
    pub weight: WeightId,
    /// Added to the mean square.
    pub eps: f32,
}

/// Which tokens of its own sequence a token sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// Itself and those before it, within the cache's window.
    #[default]
    Before,
    /// All of them. Every segment must be a whole sequence; its keys and values are of no use after the operation, so one
    /// cache does for all layers.
    All,
    /// Those at most so many places before or behind it. As for [`All`](Sight::All).
    Near(usize),
}

/// How scores grow with the position of the query: by `1 + by * ln(1 + floor(position / every))`. It keeps attention over a long
/// context from flattening.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sharpening {
    /// Of the logarithm.
    pub by: f32,
    /// Positions until it grows, and from one step to the next. At least 1.
    pub every: usize,
}

impl Sharpening {
    /// The factor on the scores of a query at this position.
    pub fn factor(self, position: usize) -> f32 {
        1.0 + self.by * ((1 + position / self.every) as f32).ln()
    }
}

/// Which hidden states of a sequence become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Their mean, over all tokens. The sequence must run from its first token on.
    Mean,
    /// That of the first token (BERT's `[CLS]`). The sequence must run from its first token on.
    First,
    /// That of the last token.
    Last,
}

impl PoolKind {
    /// The rows of a segment that are pooled; `ends`: it is the sequence's last.
    pub fn rows(self, segment: &Segment<'_>, ends: bool) -> Range<usize> {
        let Range { start, end } = segment.rows;
        match self {
            PoolKind::Mean => start..end,
            PoolKind::First if segment.first_position == 0 => start..end.min(start + 1),
            PoolKind::Last if ends => start.max(end.saturating_sub(1))..end,
            PoolKind::First | PoolKind::Last => start..start,
        }
    }
}

/// One output of a [`Op::Linear`].
#[derive(Clone, Debug, PartialEq)]
pub struct LinearPart {
    /// `(n_out, n_in)`.
    pub weight: WeightId,
    /// `(n_out)`, added to every row.
    pub bias: Option<WeightId>,
    /// `(rows, n_out)`.
    pub out: BufferId,
}

/// One of the feed-forward parts of [`Op::Experts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expert {
    /// `(n_ff, width)`.
    pub gate: WeightId,
    /// `(n_ff, width)`.
    pub up: WeightId,
    /// `(width, n_ff)`.
    pub down: WeightId,
}

/// One operation. Buffers named `x` are read; `out` is written and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `out[r] = table[token[r]] * scale`; row 0 for a token that the table has no row for.
    Embed {
        /// `(n_vocab, width)`.
        table: WeightId,
        /// Factor on every value.
        scale: f32,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// `out[r] = table[position[r]]`: learned positions. Batches must stay below `n_positions`.
    EmbedPosition {
        /// `(n_positions, width)`.
        table: WeightId,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// `out[r] = table[type[r]]`: which text of a pair a token belongs to, see [`Batch::types`](crate::Batch::types).
    EmbedType {
        /// `(n_types, width)`.
        table: WeightId,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// Normalizes each row, or each `head_dim` slice of each row.
    Norm {
        /// Input.
        x: BufferId,
        /// Kind and epsilon.
        kind: NormKind,
        /// `(width)`, or with `head_dim` also `(head_dim)` for all slices alike; `None` multiplies by one.
        weight: Option<WeightId>,
        /// Same length as `weight`.
        bias: Option<WeightId>,
        /// `Some(d)`: every run of `d` values is normalized on its own.
        head_dim: Option<usize>,
        /// Output, as wide as `x`.
        out: BufferId,
    },
    /// `part.out = x W^T + bias (+ residual)` for each part. Models emit one part and no residual; fusing gathers the
    /// linears that share an input, and folds a following addition in.
    Linear {
        /// `(rows, n_in)`.
        x: BufferId,
        /// Outputs.
        parts: Vec<LinearPart>,
        /// Added to the only part's output.
        residual: Option<BufferId>,
    },
    /// Fused form of a gate, an up projection and their [`Op::Glu`]: `out = act(x Wg^T) * (x Wu^T)`.
    GatedLinear {
        /// `(rows, n_in)`.
        x: BufferId,
        /// `(n_ff, n_in)`.
        gate: WeightId,
        /// `(n_ff, n_in)`.
        up: WeightId,
        /// On the gate.
        act: Activation,
        /// `(rows, n_ff)`.
        out: BufferId,
    },
    /// Rotates each head by its row's position.
    Rope {
        /// `(rows, n_heads * head_dim)`.
        x: BufferId,
        /// Angles.
        rope: RopeId,
        /// Values per head.
        head_dim: usize,
        /// As wide as `x`.
        out: BufferId,
    },
    /// Appends the keys and values of `kv` to the cache, then `out[h] = softmax(scale * q[h] k^T + bias + mask) v`, heads grouped by key-value
    /// head. The mask lets a row see what `sight` says of its own sequence.
    Attend {
        /// `(rows, n_heads * head_dim)`.
        q: BufferId,
        /// Keys and values, `(rows, n_kv_heads * head_dim)` each; `None`: an operation before this one has appended them.
        kv: Option<(BufferId, BufferId)>,
        /// The layer's cache.
        cache: CacheId,
        /// Query heads.
        n_heads: usize,
        /// Factor on the scores, usually `1 / sqrt(head_dim)`.
        scale: f32,
        /// A further factor, by the position of the query.
        sharpening: Option<Sharpening>,
        /// `Some(c)`: scores become `c * tanh(score / c)`.
        softcap: Option<f32>,
        /// Which tokens a token sees.
        sight: Sight,
        /// `(n_heads, 2 n + 1)`, added to the scores by distance: column `n + d` for a key `d` places behind the query,
        /// where distances beyond `n` count as `n`.
        bias: Option<WeightId>,
        /// Fused: applied to `q` before the rotation.
        q_norm: Option<HeadNorm>,
        /// Fused: applied to `k` before the rotation.
        k_norm: Option<HeadNorm>,
        /// Fused: applied to `q` and `k`.
        rope: Option<RopeId>,
        /// `(rows, n_heads * head_dim)`.
        out: BufferId,
    },
    /// `out = act(gate) * up`.
    Glu {
        /// `(rows, width)`.
        gate: BufferId,
        /// `(rows, width)`.
        up: BufferId,
        /// On the gate.
        act: Activation,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// `out = act(x)`.
    Act {
        /// `(rows, width)`.
        x: BufferId,
        /// The nonlinearity.
        act: Activation,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// `out = factor * x`.
    Scale {
        /// `(rows, width)`.
        x: BufferId,
        /// On every value.
        factor: f32,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// A short causal convolution of each column with its own kernel: `out[r][c] = sum over j < n of
    /// weight[c][j] * x[p - n + 1 + j][c] (+ bias[c])`, where `p` is the position of row `r`, `x` at a position before the first
    /// is 0, and rows of earlier batches come from the history, to which those of this one are appended.
    Convolve {
        /// `(rows, width)`.
        x: BufferId,
        /// What is kept of `x`, at least `n` positions of it.
        history: HistoryId,
        /// `(width, n)`.
        weight: WeightId,
        /// `(width)`.
        bias: Option<WeightId>,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// `out[r] = x[r] + sum over j of coefficients[r][first + j] * parts[j][r]`: what each token makes of several streams.
    Mix {
        /// `(rows, width)`.
        x: BufferId,
        /// `(rows, width)` each.
        parts: Vec<BufferId>,
        /// `(rows, at least first + as many as there are parts)`.
        coefficients: BufferId,
        /// The first that counts.
        first: usize,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// Gives each row of `x` the root mean square of the same row of `like`: `out = x * sqrt(mean(like^2)) /
    /// sqrt(max(mean(x^2), least))`.
    Match {
        /// `(rows, width)`.
        x: BufferId,
        /// `(rows, any width)`.
        like: BufferId,
        /// Keeps the divisor away from 0.
        least: f32,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// Keeps of each row what stands out: `out = max(x - (mean(x) + deviations * sqrt(variance(x))), 0)`.
    Outliers {
        /// `(rows, width)`.
        x: BufferId,
        /// How many standard deviations above the mean it begins.
        deviations: f32,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// `out[r] = x[r] * weight`, column by column.
    Multiply {
        /// `(rows, width)`.
        x: BufferId,
        /// `(width)`.
        weight: WeightId,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// Some neighbouring columns: `out[r][i] = x[r][first + i]`.
    Columns {
        /// `(rows, width)`.
        x: BufferId,
        /// The first of them.
        first: usize,
        /// `(rows, as many as there are)`.
        out: BufferId,
    },
    /// `out = x + y`.
    Add {
        /// `(rows, width)`.
        x: BufferId,
        /// `(rows, width)`.
        y: BufferId,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// Turns each row of scores into the weights of a mixture: the softmax of all, of which the `n_used` largest stay (of
    /// equal ones those with lower numbers) and the rest become 0.
    Route {
        /// `(rows, n_experts)`.
        x: BufferId,
        /// Weights that stay.
        n_used: usize,
        /// Bring those that stay to a sum of 1.
        normalize: bool,
        /// `(rows, n_experts)`.
        out: BufferId,
    },
    /// `out = sum over e of weights[e] * (act(x gate[e]^T) * (x up[e]^T)) down[e]^T`, experts of weight 0 left out.
    Experts {
        /// `(rows, width)`.
        x: BufferId,
        /// `(rows, n_experts)`, as [`Op::Route`] gives it.
        weights: BufferId,
        /// Weights of a row that are not 0, at most.
        n_used: usize,
        /// As many as `weights` has columns.
        experts: Vec<Expert>,
        /// On the gate.
        act: Activation,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// `out[r]` is the mean of the rows of `x` that belong to the sequence of row `r`. Every segment must be a whole
    /// sequence.
    SequenceMean {
        /// `(rows, width)`.
        x: BufferId,
        /// `(rows, width)`.
        out: BufferId,
    },
    /// Keeps only the rows that are wanted for logits or for pooling: `out[i] = x[selected[i]]`, see
    /// [`Batch::selected`](crate::Batch::selected).
    Select {
        /// `(rows, width)`.
        x: BufferId,
        /// `(selected, width)`.
        out: BufferId,
    },
    /// One vector for each sequence that is pooled, of its hidden states (chosen by `kind`), written to the caller's
    /// memory. Until the sequence ends, a mean is a sum; at the end it is divided and, if asked for, brought to length 1.
    Pool {
        /// `(selected, width)`.
        x: BufferId,
        /// Which states.
        kind: PoolKind,
        /// Divide the vector by its Euclidean length; a vector of zeros stays as it is.
        normalize: bool,
    },
    /// The last operation of a plan with a vocabulary projection: `logits = softcap(scale * x W^T + bias)`, of the rows of
    /// [`Batch::outputs`](crate::Batch::outputs), which are the first of the selected; written to the caller's memory.
    Logits {
        /// `(selected, width)`.
        x: BufferId,
        /// `(n_vocab, width)`.
        weight: WeightId,
        /// `(n_vocab)`.
        bias: Option<WeightId>,
        /// Factor on the logits.
        scale: f32,
        /// `Some(c)`: `c * tanh(logit / c)`.
        softcap: Option<f32>,
    },
}

impl Op {
    /// The buffers that the operation reads.
    pub fn reads(&self) -> Vec<BufferId> {
        match self {
            Op::Embed { .. } | Op::EmbedPosition { .. } | Op::EmbedType { .. } => vec![],
            Op::Norm { x, .. }
            | Op::GatedLinear { x, .. }
            | Op::Rope { x, .. }
            | Op::Act { x, .. }
            | Op::Scale { x, .. }
            | Op::Outliers { x, .. }
            | Op::Multiply { x, .. }
            | Op::Columns { x, .. }
            | Op::Convolve { x, .. }
            | Op::Route { x, .. }
            | Op::SequenceMean { x, .. }
            | Op::Select { x, .. }
            | Op::Pool { x, .. }
            | Op::Logits { x, .. } => vec![*x],
            Op::Linear { x, residual, .. } => std::iter::once(*x).chain(*residual).collect(),
            Op::Attend { q, kv, .. } => {
                std::iter::once(*q).chain(kv.iter().flat_map(|(k, v)| [*k, *v])).collect()
            }
            Op::Glu { gate, up, .. } => vec![*gate, *up],
            Op::Add { x, y, .. } => vec![*x, *y],
            Op::Match { x, like, .. } => vec![*x, *like],
            Op::Mix { x, parts, coefficients, .. } => [&[*x, *coefficients], &parts[..]].concat(),
            Op::Experts { x, weights, .. } => vec![*x, *weights],
        }
    }

    /// The buffers that the operation writes.
    pub fn writes(&self) -> Vec<BufferId> {
        match self {
            Op::Logits { .. } | Op::Pool { .. } => vec![],
            Op::Linear { parts, .. } => parts.iter().map(|part| part.out).collect(),
            Op::Embed { out, .. }
            | Op::EmbedPosition { out, .. }
            | Op::EmbedType { out, .. }
            | Op::Act { out, .. }
            | Op::Scale { out, .. }
            | Op::Mix { out, .. }
            | Op::Match { out, .. }
            | Op::Outliers { out, .. }
            | Op::Multiply { out, .. }
            | Op::Columns { out, .. }
            | Op::Convolve { out, .. }
            | Op::Norm { out, .. }
            | Op::GatedLinear { out, .. }
            | Op::Rope { out, .. }
            | Op::Attend { out, .. }
            | Op::Glu { out, .. }
            | Op::Add { out, .. }
            | Op::Route { out, .. }
            | Op::Experts { out, .. }
            | Op::SequenceMean { out, .. }
            | Op::Select { out, .. } => vec![*out],
        }
    }

    /// Whether each output row depends on the same input row alone.
    pub fn is_row_wise(&self) -> bool {
        !matches!(
            self,
            Op::Embed { .. }
                | Op::EmbedPosition { .. }
                | Op::EmbedType { .. }
                | Op::Attend { .. }
                | Op::Convolve { .. }
                | Op::SequenceMean { .. }
                | Op::Select { .. }
                | Op::Pool { .. }
                | Op::Logits { .. }
                | Op::Rope { .. }
        )
    }

    /// Replaces each buffer that the operation reads.
    pub fn map_reads(&mut self, mut f: impl FnMut(BufferId) -> BufferId) {
        match self {
            Op::Embed { .. } | Op::EmbedPosition { .. } | Op::EmbedType { .. } => {}
            Op::Norm { x, .. }
            | Op::GatedLinear { x, .. }
            | Op::Rope { x, .. }
            | Op::Act { x, .. }
            | Op::Scale { x, .. }
            | Op::Outliers { x, .. }
            | Op::Multiply { x, .. }
            | Op::Columns { x, .. }
            | Op::Convolve { x, .. }
            | Op::Route { x, .. }
            | Op::SequenceMean { x, .. }
            | Op::Select { x, .. }
            | Op::Pool { x, .. }
            | Op::Logits { x, .. } => *x = f(*x),
            Op::Linear { x, residual, .. } => {
                *x = f(*x);
                if let Some(residual) = residual {
                    *residual = f(*residual);
                }
            }
            Op::Attend { q, kv, .. } => {
                *q = f(*q);
                if let Some((k, v)) = kv {
                    *k = f(*k);
                    *v = f(*v);
                }
            }
            Op::Glu { gate, up, .. } => {
                *gate = f(*gate);
                *up = f(*up);
            }
            Op::Add { x, y, .. } => {
                *x = f(*x);
                *y = f(*y);
            }
            Op::Match { x, like, .. } => {
                *x = f(*x);
                *like = f(*like);
            }
            Op::Mix { x, parts, coefficients, .. } => {
                *x = f(*x);
                *coefficients = f(*coefficients);
                parts.iter_mut().for_each(|part| *part = f(*part));
            }
            Op::Experts { x, weights, .. } => {
                *x = f(*x);
                *weights = f(*weights);
            }
        }
    }
}
