//! Typed reading of an architecture's configuration keys, with limits that keep later arithmetic from overflowing.
//!
//! Key names follow the GGUF specification (ggml, `docs/gguf.md`): most begin with the architecture's name.

use whit_base::PoolKind;
use whit_files::{Gguf, Metadata, Value};

use crate::{ARCHITECTURES, ModelError, encoder, hf, tensors};

/// The largest width, head count or layer count taken from a file. Products of two stay far from overflow.
const MAX_SIZE: usize = 1 << 24;

/// The configuration of a model.
#[derive(Clone, Copy)]
pub(crate) struct Config<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
    n_ctx: Option<usize>,
}

/// What the attention of every layer has in common.
pub(crate) struct Attention {
    pub(crate) n_heads: usize,
    /// Per layer; 0 where one does not attend.
    pub(crate) n_kv_heads: Vec<usize>,
    pub(crate) head_dim: usize,
    /// Of layers that see a window alone, which in some families have their own.
    pub(crate) local_head_dim: usize,
}

impl<'a> Config<'a> {
    pub(crate) fn new(gguf: &'a Gguf) -> Result<Config<'a>, ModelError> {
        Ok(Config { gguf, architecture: gguf.metadata().str("general.architecture")?, n_ctx: None })
    }

    pub(crate) fn with_context(self, n_ctx: usize) -> Config<'a> {
        Config { n_ctx: Some(n_ctx), ..self }
    }

    pub(crate) fn gguf(&self) -> &'a Gguf {
        self.gguf
    }

    pub(crate) fn metadata(&self) -> &'a Metadata {
        self.gguf.metadata()
    }

    pub(crate) fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// Tokens of the context that the plan is for; the trained length where none is given.
    pub(crate) fn n_ctx(&self) -> Result<usize, ModelError> {
        self.n_ctx.map_or_else(|| self.n_ctx_train(), Ok)
    }

    pub(crate) fn n_ctx_train(&self) -> Result<usize, ModelError> {
        let n = self.metadata().usize(&self.key("context_length"))?;
        if n == 0 { Err(self.bad("context_length", n, "at least 1")) } else { Ok(n) }
    }

    /// `<architecture>.<name>`.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    pub(crate) fn bad(&self, name: &str, got: impl ToString, expected: impl Into<String>) -> ModelError {
        ModelError::BadValue { key: self.key(name), got: got.to_string(), expected: expected.into() }
    }

    pub(crate) fn unsupported(&self, feature: impl Into<String>) -> ModelError {
        ModelError::Unsupported { architecture: self.architecture.to_owned(), feature: feature.into() }
    }

    pub(crate) fn unknown_architecture(&self) -> ModelError {
        ModelError::UnknownArchitecture {
            architecture: self.architecture.to_owned(),
            supported: ARCHITECTURES.join(", "),
        }
    }

    fn sized(&self, name: &str, value: usize) -> Result<usize, ModelError> {
        if (1..=MAX_SIZE).contains(&value) {
            Ok(value)
        } else {
            Err(self.bad(name, value, format!("from 1 to {MAX_SIZE}")))
        }
    }

    /// A width or count that must be there, from 1 to [`MAX_SIZE`].
    pub(crate) fn size(&self, name: &str) -> Result<usize, ModelError> {
        self.sized(name, self.metadata().usize(&self.key(name))?)
    }

    /// As [`size`](Self::size), where the key may be absent.
    pub(crate) fn opt_size(&self, name: &str) -> Result<Option<usize>, ModelError> {
        self.metadata().opt_usize(&self.key(name))?.map(|value| self.sized(name, value)).transpose()
    }

    pub(crate) fn opt_usize(&self, name: &str) -> Result<Option<usize>, ModelError> {
        Ok(self.metadata().opt_usize(&self.key(name))?)
    }

    /// A finite float, or `None` when the key is absent.
    pub(crate) fn opt_float(&self, name: &str) -> Result<Option<f32>, ModelError> {
        match self.metadata().opt_f32(&self.key(name))? {
            Some(value) if !value.is_finite() => Err(self.bad(name, value, "a finite number")),
            value => Ok(value),
        }
    }

    /// A finite float above zero, or `None` when the key is absent.
    pub(crate) fn opt_positive(&self, name: &str) -> Result<Option<f32>, ModelError> {
        match self.opt_float(name)? {
            Some(value) if value <= 0.0 => Err(self.bad(name, value, "above 0")),
            value => Ok(value),
        }
    }

    /// A soft cap: 0 is what some converters write for none.
    pub(crate) fn softcap(&self, name: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.opt_float(name)?.filter(|&cap| cap > 0.0))
    }

    pub(crate) fn rms_eps(&self) -> Result<f32, ModelError> {
        self.eps("attention.layer_norm_rms_epsilon")
    }

    pub(crate) fn layer_eps(&self) -> Result<f32, ModelError> {
        self.eps("attention.layer_norm_epsilon")
    }

    fn eps(&self, name: &str) -> Result<f32, ModelError> {
        let eps = self.opt_float(name)?.ok_or_else(|| self.metadata().missing(&self.key(name)))?;
        if eps < 0.0 { Err(self.bad(name, eps, "0 or more")) } else { Ok(eps) }
    }

    /// Which hidden states become the vector of a text, in models that generate: the last, unless the file says otherwise.
    /// (The numbers are llama.cpp's `llama_pooling_type`. It pools nothing where a file says nothing; what callers of such
    /// models took was the last state, for it alone has seen the whole text.)
    pub(crate) fn pooling(&self) -> Result<PoolKind, ModelError> {
        match self.opt_usize("pooling_type")? {
            None | Some(0 | 3) => Ok(PoolKind::Last),
            Some(1) => Ok(PoolKind::Mean),
            Some(2) => Ok(PoolKind::First),
            Some(4) => Err(self.unsupported("a head that ranks texts")),
            Some(other) => Err(self.bad("pooling_type", other, "from 0 to 4")),
        }
    }

    /// As [`pooling`](Self::pooling), in encoders: the mean, unless the file says otherwise.
    pub(crate) fn encoder_pooling(&self) -> Result<PoolKind, ModelError> {
        match self.opt_usize("pooling_type")? {
            None | Some(0) => Ok(PoolKind::Mean),
            _ => self.pooling(),
        }
    }

    /// Whether the file has a head that ranks pairs of texts. (`pooling_type` says so in some files and not in others; the
    /// tensors do in all.)
    pub(crate) fn ranks(&self) -> bool {
        [encoder::HEAD, encoder::HEAD_OUTPUT].iter().any(|name| self.gguf.tensor(name).is_some())
    }

    /// Which state goes into that head: the first, or the mean of all, which ModernBERT takes where its file says nothing.
    pub(crate) fn head_pooling(&self) -> Result<PoolKind, ModelError> {
        let name = "classifier.pooling_type";
        match self.opt_usize(name)? {
            None if self.architecture == "modern-bert" => Ok(PoolKind::Mean),
            None | Some(2) => Ok(PoolKind::First),
            Some(1) => Ok(PoolKind::Mean),
            Some(other) => Err(self.bad(name, other, "1 (mean) or 2 (the first)")),
        }
    }

    /// Whether heads are rotated in halves, whatever the architecture's own way is.
    pub(crate) fn rope_in_halves(&self) -> Result<bool, ModelError> {
        Ok(self.metadata().opt_bool(hf::ROPE_IN_HALVES)?.unwrap_or(false))
    }

    /// Which layers see a window alone. The key holds a period (its last layer is global; 0 means none is), or a flag for
    /// each layer; `default` is the period where there is no key.
    pub(crate) fn local_layers(&self, n_layers: usize, default: usize) -> Result<Vec<bool>, ModelError> {
        let name = "attention.sliding_window_pattern";
        if let Some(Value::Array(array)) = self.metadata().get(&self.key(name)) {
            let flags: Option<Vec<bool>> = match array.bools() {
                Some(flags) => Some(flags.collect()),
                None => array.integers().map(|flags| flags.map(|flag| flag != 0).collect()),
            };
            let flags = flags.filter(|flags| flags.len() == n_layers);
            return flags.ok_or_else(|| {
                self.bad(name, Value::Array(array), format!("a flag for each of the {n_layers} layers"))
            });
        }
        let period = self.opt_usize(name)?.unwrap_or(default);
        Ok((0..n_layers).map(|layer| period == 0 || layer % period < period - 1).collect())
    }

    pub(crate) fn n_embd(&self) -> Result<usize, ModelError> {
        self.size("embedding_length")
    }

    /// Layers. No more than the file has tensors, so that a lying count costs nothing.
    pub(crate) fn n_layers(&self) -> Result<usize, ModelError> {
        let n = self.size("block_count")?;
        let n_tensors = self.gguf.tensors().len();
        if n > n_tensors {
            return Err(self.bad("block_count", n, format!("at most {n_tensors}, the number of tensors")));
        }
        Ok(n)
    }

    /// A count that a file gives once, or once per layer; there it may be 0.
    pub(crate) fn per_layer(&self, name: &str, n_layers: usize) -> Result<Option<Vec<usize>>, ModelError> {
        let key = self.key(name);
        match self.metadata().get(&key) {
            None => Ok(None),
            Some(Value::Array(array)) => {
                let expected = || format!("a whole number for each of the {n_layers} layers");
                let integers = array.integers().filter(|values| values.len() == n_layers);
                let integers = integers.ok_or_else(|| self.bad(name, Value::Array(array), expected()))?;
                let count = |value: i64| {
                    let value = usize::try_from(value).map_err(|_| self.bad(name, value, expected()))?;
                    if value == 0 { Ok(0) } else { self.sized(name, value) }
                };
                Ok(Some(integers.map(count).collect::<Result<_, _>>()?))
            }
            Some(_) => Ok(Some(vec![self.size(name)?; n_layers])),
        }
    }

    /// Head counts and widths, checked to go together.
    pub(crate) fn attention(&self) -> Result<Attention, ModelError> {
        let n_layers = self.n_layers()?;
        let n_embd = self.n_embd()?;
        let heads = self.per_layer("attention.head_count", n_layers)?;
        let heads = heads.ok_or_else(|| self.metadata().missing(&self.key("attention.head_count")))?;
        let n_heads = heads.first().copied().unwrap_or(1);
        if n_heads == 0 {
            return Err(self.bad("attention.head_count", n_heads, "at least 1"));
        }
        if heads.iter().any(|&n| n != n_heads) {
            return Err(self.unsupported("a different number of heads in each layer"));
        }
        let n_kv_heads = self.per_layer("attention.head_count_kv", n_layers)?.unwrap_or(heads);
        if let Some(n) = n_kv_heads.iter().find(|&&n| n > 0 && !n_heads.is_multiple_of(n)) {
            return Err(self.bad("attention.head_count_kv", n, format!("a divisor of the {n_heads} heads")));
        }
        let head_dim = match self.opt_size("attention.key_length")? {
            Some(dim) => dim,
            None if n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
            None => {
                return Err(self.bad(
                    "attention.head_count",
                    n_heads,
                    format!("a divisor of the width {n_embd}"),
                ));
            }
        };
        let local_head_dim = self.opt_size("attention.key_length_swa")?.unwrap_or(head_dim);
        // Before anything is sized by these numbers: do they fit the weights?
        if let Some(q) = self.gguf.tensor("blk.0.attn_q.weight")
            && ![n_heads * head_dim, n_heads * local_head_dim].contains(&q.n_rows())
        {
            let want = format!("{n_heads} x {head_dim} rows");
            return Err(tensors::shape_error(q, "the queries of every head", want));
        }
        for (name, keys) in
            [("attention.value_length", head_dim), ("attention.value_length_swa", local_head_dim)]
        {
            if let Some(values) = self.opt_size(name)?.filter(|&values| values != keys) {
                return Err(
                    self.unsupported(format!("keys of {keys} and values of {values} numbers per head"))
                );
            }
        }
        Ok(Attention { n_heads, n_kv_heads, head_dim, local_head_dim })
    }
}
