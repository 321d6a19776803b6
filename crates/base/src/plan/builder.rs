//! Building a Plan: what a model file calls. Shapes are checked here, once, so that executors can rely on them.

use super::{
    Activation, Buffer, BufferId, CacheId, CacheLayer, Expert, History, HistoryId, LinearPart, NormKind, Op,
    Plan, PoolKind, Rope, RopeId, Rows, Sharpening, Sight, Weight, WeightId,
};

/// A shape that does not fit, found while a plan is built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// A weight's shape is not what the operation needs.
    #[error("tensor `{tensor}` has shape {got_rows} x {got_cols}, but {what} needs {want}")]
    WeightShape {
        /// The tensor.
        tensor: String,
        /// Its rows.
        got_rows: usize,
        /// Its columns.
        got_cols: usize,
        /// The operation.
        what: &'static str,
        /// The shape that would fit.
        want: String,
    },
    /// A buffer's width is not what the operation needs.
    #[error("buffer `{buffer}` is {got} wide, but {what} needs {want}")]
    BufferWidth {
        /// The buffer.
        buffer: String,
        /// Its width.
        got: usize,
        /// The operation.
        what: &'static str,
        /// The width that would fit.
        want: usize,
    },
}

type Result<T> = std::result::Result<T, PlanError>;

/// What [`PlanBuilder::attend`] needs beside its buffers.
#[derive(Clone, Copy, Debug)]
pub struct AttendSpec {
    /// The layer's cache.
    pub cache: CacheId,
    /// Query heads.
    pub n_heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// A further one, by the position of the query.
    pub sharpening: Option<Sharpening>,
    /// `c * tanh(score / c)`.
    pub softcap: Option<f32>,
    /// Which tokens a token sees.
    pub sight: Sight,
    /// Added to the scores, see [`Op::Attend`].
    pub bias: Option<WeightId>,
}

/// What [`PlanBuilder::experts`] needs beside its rows: see [`Op::Experts`].
#[derive(Clone, Debug)]
pub struct ExpertsSpec {
    /// Experts that a row goes through.
    pub n_used: usize,
    /// All of them.
    pub experts: Vec<Expert>,
    /// On the gate.
    pub act: Activation,
}

/// What [`PlanBuilder::logits`] needs beside its rows.
#[derive(Clone, Copy, Debug)]
pub struct LogitsSpec {
    /// `(n_vocab, width)`.
    pub weight: WeightId,
    /// `(n_vocab)`.
    pub bias: Option<WeightId>,
    /// Factor on the logits.
    pub scale: f32,
    /// `c * tanh(logit / c)`.
    pub softcap: Option<f32>,
}

impl LogitsSpec {
    /// The plain projection by `weight`.
    pub fn new(weight: WeightId) -> LogitsSpec {
        LogitsSpec { weight, bias: None, scale: 1.0, softcap: None }
    }
}

/// Builds a [`Plan`] in single-assignment form.
#[derive(Debug, Default)]
pub struct PlanBuilder {
    ops: Vec<Op>,
    buffers: Vec<Buffer>,
    weights: Vec<Weight>,
    caches: Vec<CacheLayer>,
    histories: Vec<History>,
    ropes: Vec<Rope>,
}

impl PlanBuilder {
    /// An empty plan.
    pub fn new() -> PlanBuilder {
        PlanBuilder::default()
    }

    /// Adds a weight. Its data must hold `n_rows` rows of `n_cols` values.
    pub fn weight(&mut self, weight: Weight) -> WeightId {
        self.weights.push(weight);
        WeightId(self.weights.len() as u32 - 1)
    }

    /// Adds a layer's cache.
    pub fn cache(&mut self, layer: CacheLayer) -> CacheId {
        self.caches.push(layer);
        CacheId(self.caches.len() as u32 - 1)
    }

    /// Adds a rotation; equal ones are shared.
    pub fn rope_table(&mut self, rope: Rope) -> RopeId {
        if let Some(index) = self.ropes.iter().position(|known| *known == rope) {
            return RopeId(index as u32);
        }
        self.ropes.push(rope);
        RopeId(self.ropes.len() as u32 - 1)
    }

    fn buffer(&mut self, name: &str, width: usize, rows: Rows) -> BufferId {
        self.buffers.push(Buffer { name: name.to_owned(), width, rows });
        BufferId(self.buffers.len() as u32 - 1)
    }

    fn width(&self, id: BufferId) -> usize {
        self.buffers[id.0 as usize].width
    }

    fn rows(&self, id: BufferId) -> Rows {
        self.buffers[id.0 as usize].rows
    }

    fn get(&self, id: WeightId) -> &Weight {
        &self.weights[id.0 as usize]
    }

    fn check_weight(&self, id: WeightId, what: &'static str, rows: Option<usize>, cols: usize) -> Result<()> {
        let weight = self.get(id);
        if weight.n_cols == cols && rows.is_none_or(|rows| rows == weight.n_rows) {
            return Ok(());
        }
        let want = match rows {
            Some(rows) => format!("{rows} x {cols}"),
            None => format!("{cols} columns"),
        };
        Err(PlanError::WeightShape {
            tensor: weight.name.clone(),
            got_rows: weight.n_rows,
            got_cols: weight.n_cols,
            what,
            want,
        })
    }

    fn check_width(&self, id: BufferId, what: &'static str, want: usize) -> Result<()> {
        let got = self.width(id);
        if got == want {
            return Ok(());
        }
        Err(PlanError::BufferWidth { buffer: self.buffers[id.0 as usize].name.clone(), got, what, want })
    }

    /// Token embeddings, scaled.
    pub fn embed(&mut self, name: &str, table: WeightId, scale: f32) -> BufferId {
        let out = self.buffer(name, self.get(table).n_cols, Rows::All);
        self.ops.push(Op::Embed { table, scale, out });
        out
    }

    /// Learned positions: row `p` of the table for the token at position `p`.
    pub fn embed_position(&mut self, name: &str, table: WeightId) -> BufferId {
        let out = self.buffer(name, self.get(table).n_cols, Rows::All);
        self.ops.push(Op::EmbedPosition { table, out });
        out
    }

    /// Row `t` of the table for a token of type `t`. There must be a row for every type that batches will have.
    pub fn embed_type(&mut self, name: &str, table: WeightId) -> BufferId {
        let out = self.buffer(name, self.get(table).n_cols, Rows::All);
        self.ops.push(Op::EmbedType { table, out });
        out
    }

    /// RMS norm over each row.
    pub fn rms_norm(&mut self, name: &str, x: BufferId, weight: WeightId, eps: f32) -> Result<BufferId> {
        self.norm(name, x, NormKind::Rms { eps }, Some(weight), None, None)
    }

    /// Any norm; `head_dim` normalizes each run of that many values on its own, with one weight for all of them or one
    /// for each.
    pub fn norm(
        &mut self,
        name: &str,
        x: BufferId,
        kind: NormKind,
        weight: Option<WeightId>,
        bias: Option<WeightId>,
        head_dim: Option<usize>,
    ) -> Result<BufferId> {
        let width = self.width(x);
        let span = head_dim.unwrap_or(width);
        if span == 0 || !width.is_multiple_of(span) {
            self.check_width(x, "a norm per head", span)?;
        }
        for vector in [weight, bias].into_iter().flatten() {
            let is_for_each = self.get(vector).n_rows == width / span;
            self.check_weight(vector, "norm", Some(if is_for_each { width / span } else { 1 }), span)?;
        }
        let out = self.buffer(name, width, self.rows(x));
        self.ops.push(Op::Norm { x, kind, weight, bias, head_dim, out });
        Ok(out)
    }

    /// `x W^T (+ bias)`.
    pub fn linear(
        &mut self,
        name: &str,
        x: BufferId,
        weight: WeightId,
        bias: Option<WeightId>,
    ) -> Result<BufferId> {
        self.check_weight(weight, "linear", None, self.width(x))?;
        let n_out = self.get(weight).n_rows;
        if let Some(bias) = bias {
            self.check_weight(bias, "linear's bias", Some(1), n_out)?;
        }
        let out = self.buffer(name, n_out, self.rows(x));
        self.ops.push(Op::Linear { x, parts: vec![LinearPart { weight, bias, out }], residual: None });
        Ok(out)
    }

    /// Rotates the heads of `x`.
    pub fn rope(&mut self, name: &str, x: BufferId, rope: RopeId, head_dim: usize) -> Result<BufferId> {
        let width = self.width(x);
        if head_dim == 0
            || !width.is_multiple_of(head_dim)
            || 2 * self.ropes[rope.0 as usize].inv_freq.len() > head_dim
        {
            self.check_width(x, "rope", head_dim)?;
        }
        let out = self.buffer(name, width, self.rows(x));
        self.ops.push(Op::Rope { x, rope, head_dim, out });
        Ok(out)
    }

    /// Cached attention. Without `kv` it sees what an attention before it has put into the cache.
    pub fn attend(
        &mut self,
        name: &str,
        q: BufferId,
        kv: Option<(BufferId, BufferId)>,
        spec: AttendSpec,
    ) -> Result<BufferId> {
        let layer = self.caches[spec.cache.0 as usize].clone();
        self.check_width(q, "attention's queries", spec.n_heads * layer.head_dim)?;
        if let Some((k, v)) = kv {
            self.check_width(k, "attention's keys", layer.n_kv_heads * layer.head_dim)?;
            self.check_width(v, "attention's values", layer.n_kv_heads * layer.head_dim)?;
        }
        if layer.n_kv_heads == 0 || !spec.n_heads.is_multiple_of(layer.n_kv_heads) {
            self.check_width(
                q,
                "grouped attention (query heads in whole groups)",
                layer.n_kv_heads * layer.head_dim,
            )?;
        }
        if let Some(bias) = spec.bias {
            self.check_weight(bias, "attention's bias", Some(spec.n_heads), self.get(bias).n_cols | 1)?;
        }
        let out = self.buffer(name, spec.n_heads * layer.head_dim, Rows::All);
        self.ops.push(Op::Attend {
            q,
            kv,
            cache: spec.cache,
            n_heads: spec.n_heads,
            scale: spec.scale,
            sharpening: spec.sharpening,
            softcap: spec.softcap,
            sight: spec.sight,
            bias: spec.bias,
            q_norm: None,
            k_norm: None,
            rope: None,
            out,
        });
        Ok(out)
    }

    /// `act(gate) * up`.
    pub fn glu(&mut self, name: &str, gate: BufferId, up: BufferId, act: Activation) -> Result<BufferId> {
        let width = self.width(gate);
        self.check_width(up, "glu", width)?;
        let out = self.buffer(name, width, self.rows(gate));
        self.ops.push(Op::Glu { gate, up, act, out });
        Ok(out)
    }

    /// `act(x)`.
    pub fn act(&mut self, name: &str, x: BufferId, act: Activation) -> BufferId {
        let out = self.buffer(name, self.width(x), self.rows(x));
        self.ops.push(Op::Act { x, act, out });
        out
    }

    /// `factor * x`; `x` itself where the factor is 1.
    pub fn scale(&mut self, name: &str, x: BufferId, factor: f32) -> BufferId {
        if factor == 1.0 {
            return x;
        }
        let out = self.buffer(name, self.width(x), self.rows(x));
        self.ops.push(Op::Scale { x, factor, out });
        out
    }

    /// A short convolution of each column of `x` with its row of `weight`.
    pub fn convolve(
        &mut self,
        name: &str,
        x: BufferId,
        weight: WeightId,
        bias: Option<WeightId>,
    ) -> Result<BufferId> {
        let width = self.width(x);
        let window = self.get(weight).n_cols;
        self.check_weight(weight, "a convolution", Some(width), window.max(1))?;
        if let Some(bias) = bias {
            self.check_weight(bias, "a convolution's bias", Some(1), width)?;
        }
        self.histories.push(History { width, window });
        let history = HistoryId(self.histories.len() as u32 - 1);
        let out = self.buffer(name, width, self.rows(x));
        self.ops.push(Op::Convolve { x, history, weight, bias, out });
        Ok(out)
    }

    /// `x`, and of each of `parts` as much as a column of `coefficients` says, from `first` on.
    pub fn mix(
        &mut self,
        name: &str,
        x: BufferId,
        parts: Vec<BufferId>,
        coefficients: BufferId,
        first: usize,
    ) -> Result<BufferId> {
        let width = self.width(x);
        for &part in &parts {
            self.check_width(part, "a mixture of streams", width)?;
        }
        if first.checked_add(parts.len()).is_none_or(|end| end > self.width(coefficients)) {
            self.check_width(coefficients, "the parts of a mixture", first.saturating_add(parts.len()))?;
        }
        let out = self.buffer(name, width, self.rows(x));
        self.ops.push(Op::Mix { x, parts, coefficients, first, out });
        Ok(out)
    }

    /// `x` with the root mean square of `like`.
    pub fn match_size(&mut self, name: &str, x: BufferId, like: BufferId, least: f32) -> BufferId {
        let out = self.buffer(name, self.width(x), self.rows(x));
        self.ops.push(Op::Match { x, like, least, out });
        out
    }

    /// What of `x` stands out by so many standard deviations.
    pub fn outliers(&mut self, name: &str, x: BufferId, deviations: f32) -> BufferId {
        let out = self.buffer(name, self.width(x), self.rows(x));
        self.ops.push(Op::Outliers { x, deviations, out });
        out
    }

    /// `x * weight`, column by column.
    pub fn multiply(&mut self, name: &str, x: BufferId, weight: WeightId) -> Result<BufferId> {
        let width = self.width(x);
        self.check_weight(weight, "a factor for each column", Some(1), width)?;
        let out = self.buffer(name, width, self.rows(x));
        self.ops.push(Op::Multiply { x, weight, out });
        Ok(out)
    }

    /// `n` neighbouring columns of `x`.
    pub fn columns(&mut self, name: &str, x: BufferId, first: usize, n: usize) -> Result<BufferId> {
        if first.checked_add(n).is_none_or(|end| end > self.width(x)) {
            self.check_width(x, "a part of its columns", first.saturating_add(n))?;
        }
        let out = self.buffer(name, n, self.rows(x));
        self.ops.push(Op::Columns { x, first, out });
        Ok(out)
    }

    /// `x + y`.
    pub fn add(&mut self, name: &str, x: BufferId, y: BufferId) -> Result<BufferId> {
        let width = self.width(x);
        self.check_width(y, "add", width)?;
        let out = self.buffer(name, width, self.rows(x));
        self.ops.push(Op::Add { x, y, out });
        Ok(out)
    }

    /// The weights of the `n_used` best of each row's experts, given their scores.
    pub fn route(&mut self, name: &str, x: BufferId, n_used: usize, normalize: bool) -> Result<BufferId> {
        let n_experts = self.width(x);
        if !(1..=n_experts).contains(&n_used) {
            self.check_width(x, "a choice of experts", n_used)?;
        }
        let out = self.buffer(name, n_experts, self.rows(x));
        self.ops.push(Op::Route { x, n_used, normalize, out });
        Ok(out)
    }

    /// The feed-forward parts of the experts that `weights` names.
    pub fn experts(
        &mut self,
        name: &str,
        x: BufferId,
        weights: BufferId,
        spec: ExpertsSpec,
    ) -> Result<BufferId> {
        let ExpertsSpec { n_used, experts, act } = spec;
        let width = self.width(x);
        self.check_width(weights, "the weights of experts", experts.len())?;
        let n_ff = experts.first().map_or(0, |expert| self.get(expert.down).n_cols);
        for expert in &experts {
            self.check_weight(expert.gate, "an expert", Some(n_ff), width)?;
            self.check_weight(expert.up, "an expert", Some(n_ff), width)?;
            self.check_weight(expert.down, "an expert", Some(width), n_ff)?;
        }
        let out = self.buffer(name, width, self.rows(x));
        self.ops.push(Op::Experts { x, weights, n_used, experts, act, out });
        Ok(out)
    }

    /// The mean of each row's whole sequence.
    pub fn sequence_mean(&mut self, name: &str, x: BufferId) -> BufferId {
        let out = self.buffer(name, self.width(x), self.rows(x));
        self.ops.push(Op::SequenceMean { x, out });
        out
    }

    /// Keeps only the rows whose outputs are wanted.
    pub fn select(&mut self, name: &str, x: BufferId) -> BufferId {
        let out = self.buffer(name, self.width(x), Rows::Outputs);
        self.ops.push(Op::Select { x, out });
        out
    }

    /// A vector for each pooled sequence, of the selected rows.
    pub fn pool(&mut self, x: BufferId, kind: PoolKind, normalize: bool) {
        self.ops.push(Op::Pool { x, kind, normalize });
    }

    /// Ends a plan that has no vocabulary projection; token ids are rows of `table`.
    pub fn finish(self, table: WeightId) -> Plan {
        let n_vocab = self.get(table).n_rows;
        self.end(n_vocab)
    }

    /// Ends the plan with the vocabulary projection of the selected rows.
    pub fn logits(mut self, x: BufferId, spec: LogitsSpec) -> Result<Plan> {
        let LogitsSpec { weight, bias, scale, softcap } = spec;
        self.check_weight(weight, "logits", None, self.width(x))?;
        let n_vocab = self.get(weight).n_rows;
        if let Some(bias) = bias {
            self.check_weight(bias, "logits' bias", Some(1), n_vocab)?;
        }
        self.ops.push(Op::Logits { x, weight, bias, scale, softcap });
        Ok(self.end(n_vocab))
    }

    fn end(self, n_vocab: usize) -> Plan {
        Plan {
            ops: self.ops,
            buffers: self.buffers,
            weights: self.weights,
            caches: self.caches,
            histories: self.histories,
            ropes: self.ropes,
            n_vocab,
        }
    }
}
