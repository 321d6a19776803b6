//! Looking up weights by name, once each, and telling what was left over.

use std::collections::HashSet;
use std::ops::Range;

use whit_base::quant::decode_row;
use whit_base::{Bytes, DType, PlanBuilder, PlanError, Weight, WeightId};
use whit_files::{Gguf, TensorInfo};

use crate::ModelError;

/// Tensors that may stand in a file beside those that the architecture uses: tables that can be recomputed, and
/// factors for another context length. (Names as in the converters of llama.cpp.)
const IGNORED: &[&str] = &["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
const IGNORED_ENDINGS: &[&str] = &[".attn_rot_embd", ".attn.rotary_emb.inv_freq", ".rope_freqs.weight"];

/// Whether a tensor is such a table, which is made of settings.
pub(crate) fn is_made(name: &str) -> bool {
    IGNORED.contains(&name) || IGNORED_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

pub(crate) const EMBEDDINGS: &str = "token_embd.weight";

pub(crate) fn shape_error(info: &TensorInfo, what: &'static str, want: String) -> ModelError {
    ModelError::Plan(PlanError::WeightShape {
        tensor: info.name.to_string(),
        got_rows: info.n_rows(),
        got_cols: info.n_cols(),
        what,
        want,
    })
}

/// The weights of a file, on their way into a plan.
pub(crate) struct Tensors<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
    used: HashSet<&'a str>,
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(gguf: &'a Gguf) -> Tensors<'a> {
        let architecture = gguf.metadata().opt_str("general.architecture").ok().flatten().unwrap_or_default();
        Tensors { gguf, architecture, used: HashSet::with_capacity(gguf.tensors().len()) }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// Rows of a tensor that must be there.
    pub(crate) fn n_rows(&mut self, name: &str) -> Result<usize, ModelError> {
        Ok(self.find(name)?.n_rows())
    }

    /// The error for a tensor that is there in another shape than is needed.
    pub(crate) fn misshapen(&self, name: &str, what: &'static str, want: String) -> ModelError {
        match self.gguf.tensor(name) {
            Some(info) => shape_error(info, what, want),
            None => self.missing(name),
        }
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::MissingTensor { tensor: name.to_owned(), architecture: self.architecture.to_owned() }
    }

    fn find(&mut self, name: &str) -> Result<&'a TensorInfo, ModelError> {
        let info = self.gguf.tensor(name).ok_or_else(|| self.missing(name))?;
        self.used.insert(&info.name);
        Ok(info)
    }

    fn weight(&self, info: &TensorInfo) -> Weight {
        Weight {
            name: info.name.to_string(),
            dtype: info.dtype,
            n_rows: info.n_rows(),
            n_cols: info.n_cols(),
            data: self.gguf.tensor_bytes(info),
        }
    }

    /// Some rows of a tensor in which several matrices, or vectors, stand one below the other.
    fn rows(&self, info: &TensorInfo, part: &'static str, rows: Range<usize>) -> Result<Weight, ModelError> {
        let (n_rows, n_cols) = (info.n_rows(), info.n_cols());
        let whole = self.gguf.tensor_bytes(info);
        let row_bytes = whole.len() / n_rows.max(1);
        match whole.slice(rows.start * row_bytes..rows.end * row_bytes) {
            Some(data) if rows.end <= n_rows => Ok(Weight {
                name: format!("{} ({part})", info.name),
                dtype: info.dtype,
                n_rows: rows.len(),
                n_cols,
                data,
            }),
            _ => Err(shape_error(info, "a fused projection", format!("{} rows", rows.end))),
        }
    }

    /// The parts of `<name>.weight`, and of `<name>.bias` where the file has one: a fused projection, cut into pieces of
    /// these heights, which must be all of it.
    pub(crate) fn fused<const N: usize>(
        &mut self,
        plan: &mut PlanBuilder,
        name: &str,
        parts: [(&'static str, usize); N],
    ) -> Result<Vec<(WeightId, Option<WeightId>)>, ModelError> {
        let info = self.find(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) {
            Some((self.find(&bias)?, self.table(&bias)?.unwrap_or_default()))
        } else {
            None
        };
        let n: usize = parts.iter().map(|(_, n)| n).sum();
        if info.n_rows() != n {
            return Err(shape_error(info, "a fused projection", format!("{n} rows")));
        }
        let mut from = 0;
        let part = |(part, n): (&'static str, usize)| {
            let rows = from..from + n;
            from += n;
            let weight = plan.weight(self.rows(info, part, rows.clone())?);
            let bias = bias.as_ref().map(|(info, values)| {
                let values =
                    values.get(rows).ok_or_else(|| shape_error(info, "a bias", format!("{n} values")))?;
                let data = Bytes::from_vec(values.iter().flat_map(|value| value.to_le_bytes()).collect());
                let name = format!("{} ({part})", info.name);
                Ok::<_, ModelError>(plan.weight(Weight {
                    name,
                    dtype: DType::F32,
                    n_rows: 1,
                    n_cols: n,
                    data,
                }))
            });
            Ok((weight, bias.transpose()?))
        };
        parts.into_iter().map(part).collect()
    }

    /// The `n` matrices of equal height that stand one below the other in a tensor.
    pub(crate) fn stacked(
        &mut self,
        plan: &mut PlanBuilder,
        name: &str,
        n: usize,
    ) -> Result<Vec<WeightId>, ModelError> {
        let info = self.find(name)?;
        let height = info.n_rows() / n.max(1);
        if height == 0 || height * n != info.n_rows() {
            return Err(shape_error(info, "experts", format!("rows for each of {n}")));
        }
        let part = |i: usize| {
            let rows = self.rows(info, "one of several", i * height..(i + 1) * height)?;
            Ok(plan.weight(rows))
        };
        (0..n).map(part).collect()
    }

    /// The vectors `<name>.0.weight` to `<name>.<n - 1>.weight`, one below the other.
    pub(crate) fn joined(
        &mut self,
        plan: &mut PlanBuilder,
        name: &str,
        n: usize,
    ) -> Result<WeightId, ModelError> {
        let (mut data, mut n_cols) = (Vec::new(), 0);
        for i in 0..n {
            let info = self.find(&format!("{name}.{i}.weight"))?;
            let values = self.values(info)?;
            if i > 0 && values.len() != n_cols {
                return Err(shape_error(info, "a norm per head", format!("{n_cols} columns")));
            }
            n_cols = values.len();
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        let (name, data) = (format!("{name}.weight"), Bytes::from_vec(data));
        Ok(plan.weight(Weight { name, dtype: DType::F32, n_rows: n, n_cols, data }))
    }

    /// A weight matrix. Its shape is checked by the operation that takes it.
    pub(crate) fn matrix(&mut self, plan: &mut PlanBuilder, name: &str) -> Result<WeightId, ModelError> {
        let info = self.find(name)?;
        Ok(plan.weight(self.weight(info)))
    }

    /// The table of token embeddings, `(n_vocab, n_embd)`.
    pub(crate) fn embeddings(
        &mut self,
        plan: &mut PlanBuilder,
        n_embd: usize,
    ) -> Result<WeightId, ModelError> {
        let info = self.find(EMBEDDINGS)?;
        if info.n_cols() != n_embd {
            return Err(shape_error(info, "the embedding table", format!("{n_embd} columns")));
        }
        Ok(plan.weight(self.weight(info)))
    }

    /// The projection onto the vocabulary: `output.weight`, or the embeddings where the file has none.
    pub(crate) fn output(
        &mut self,
        plan: &mut PlanBuilder,
        embeddings: WeightId,
    ) -> Result<WeightId, ModelError> {
        if !self.has("output.weight") {
            return Ok(embeddings);
        }
        let n_vocab = self.find(EMBEDDINGS)?.n_rows();
        let info = self.find("output.weight")?;
        if info.n_rows() != n_vocab {
            return Err(shape_error(
                info,
                "the output projection",
                format!("{n_vocab} rows, one per embedding"),
            ));
        }
        Ok(plan.weight(self.weight(info)))
    }

    /// A norm or a bias: small, so that all of it is checked to be finite.
    pub(crate) fn vector(&mut self, plan: &mut PlanBuilder, name: &str) -> Result<WeightId, ModelError> {
        let info = self.find(name)?;
        self.values(info)?;
        Ok(plan.weight(self.weight(info)))
    }

    /// As [`vector`](Self::vector), where the tensor may be absent.
    pub(crate) fn opt_vector(
        &mut self,
        plan: &mut PlanBuilder,
        name: &str,
    ) -> Result<Option<WeightId>, ModelError> {
        if self.has(name) { self.vector(plan, name).map(Some) } else { Ok(None) }
    }

    /// The values of a small table, `None` where it is absent.
    pub(crate) fn table(&mut self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        if !self.has(name) {
            return Ok(None);
        }
        let info = self.find(name)?;
        self.values(info).map(Some)
    }

    /// All values of a tensor, checked to be finite.
    fn values(&self, info: &TensorInfo) -> Result<Vec<f32>, ModelError> {
        let data = self.gguf.tensor_bytes(info);
        let n_cols = info.n_cols();
        let row_bytes = data.len() / info.n_rows().max(1);
        let mut values = vec![0.0; info.n_elements()];
        if row_bytes > 0 && n_cols > 0 {
            for (bytes, row) in data.chunks_exact(row_bytes).zip(values.chunks_exact_mut(n_cols)) {
                decode_row(info.dtype, bytes, row);
            }
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                Err(ModelError::NotFinite { tensor: info.name.to_string(), index, value: values[index] })
            }
            None => Ok(values),
        }
    }

    /// Knows of a tensor that may be there and is of no use.
    pub(crate) fn pass_over(&mut self, name: &str) {
        if let Some(info) = self.gguf.tensor(name) {
            self.used.insert(&info.name);
        }
    }

    /// The number in a tensor of one, `None` where it is absent.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f32>, ModelError> {
        match self.table(name)?.as_deref() {
            None => Ok(None),
            Some([number]) => Ok(Some(*number)),
            Some(_) => Err(self.misshapen(name, "a factor", "1 x 1".to_owned())),
        }
    }

    /// Fails when the file holds tensors that nobody asked for.
    pub(crate) fn check_all_used(&self) -> Result<(), ModelError> {
        let unused: Vec<&TensorInfo> = self
            .gguf
            .tensors()
            .iter()
            .filter(|info| !self.used.contains(&*info.name) && !is_made(&info.name))
            .collect();
        match unused.first() {
            Some(first) => Err(ModelError::UnusedTensors { n: unused.len(), first: first.name.to_string() }),
            None => Ok(()),
        }
    }
}
