//! Which format each tensor of a model gets: the mix, what the user says otherwise, and what fits the rows.

use std::collections::BTreeMap;

use fancy_regex::Regex;
use whit_base::DType;
use whit_files::Metadata;

use super::mix::{Facts, Mix, Place, Role, choose, fitting};
use super::source::Tensor;
use crate::ShrinkError;

/// Tensors of this name, or a part of it, get a format of their own.
#[derive(Clone, Debug)]
pub struct TensorRule {
    pattern: Regex,
    format: DType,
}

impl TensorRule {
    /// `pattern` is a regular expression that is looked for anywhere in a tensor's name.
    ///
    /// # Errors
    /// A pattern that is none.
    pub fn new(pattern: &str, format: DType) -> Result<TensorRule, ShrinkError> {
        let pattern = Regex::new(pattern).map_err(|error| ShrinkError::Pattern {
            pattern: pattern.to_owned(),
            problem: error.to_string(),
        })?;
        Ok(TensorRule { pattern, format })
    }

    fn applies(&self, name: &str) -> bool {
        // What the pattern cannot be decided for within its limits of work does not match.
        self.pattern.is_match(name).unwrap_or(false)
    }
}

/// What is to become of a model.
#[derive(Clone, Debug)]
pub struct Formats {
    /// The mix.
    pub mix: Mix,
    /// No exceptions: every matrix gets the mix's own format.
    pub pure: bool,
    /// In place of what the mix says: the first rule that applies.
    pub rules: Vec<TensorRule>,
    /// What single tensors get, by their names, if no rule applies: see [`fit_budget`](crate::fit_budget).
    pub chosen: BTreeMap<String, DType>,
    /// For the output projection, which in many models is the embedding table.
    pub output: Option<DType>,
    /// For the embedding table.
    pub embedding: Option<DType>,
}

impl Formats {
    /// A mix as the field has it.
    pub fn of(mix: Mix) -> Formats {
        Formats { mix, pure: false, rules: vec![], chosen: BTreeMap::new(), output: None, embedding: None }
    }
}

/// The format that a tensor gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The tensor's name.
    pub tensor: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// As it is.
    pub from: DType,
    /// As it will be.
    pub to: DType,
    /// What it would have been, had its rows whole blocks of that.
    pub wanted: DType,
}

impl Choice {
    /// Values in a row.
    pub(super) fn n_cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Values in all.
    pub fn n_values(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// Bytes as it will be.
    pub fn n_bytes(&self) -> u64 {
        let blocks = self.n_values() / self.to.block_len() as u64;
        blocks * self.to.block_bytes() as u64
    }
}

/// Whether a tensor is a matrix that may be stored in fewer bits. The rest is small, and computed with as it is.
pub(super) fn is_quantizable(name: &str, shape: &[usize]) -> bool {
    const KEPT: [&str; 12] = [
        "_norm.weight",
        "ffn_gate_inp.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "attn_rel_b.weight",
        "time_mix_",
        ".position_embd",
        ".patch_embd",
        ".rel_pos",
    ];
    // ggml counts dimensions up to the last that is not 1.
    let n_dims = shape.len() - shape.iter().take_while(|n| **n == 1).count();
    n_dims >= 2
        && name.ends_with("weight")
        && !["position_embd.weight", "token_types.weight"].contains(&name)
        && !KEPT.iter().any(|part| name.contains(part))
}

/// Chooses the format of every tensor, in their order.
///
/// # Errors
/// Metadata that make no sense.
pub(super) fn plan(
    metadata: &Metadata,
    tensors: &[Tensor],
    formats: &Formats,
    has_importance: bool,
) -> Result<Vec<Choice>, ShrinkError> {
    let facts = facts(metadata, tensors, has_importance)?;
    let n_layers = metadata.opt_usize(&key(metadata, "block_count")?)?.unwrap_or(0);
    let places = places(tensors, n_layers, facts.n_experts > 1);
    let choices = tensors.iter().zip(places).map(|(tensor, place)| {
        let (name, n_cols) = (tensor.name(), place.n_cols);
        let wanted = if is_quantizable(name, tensor.shape()) {
            wanted(name, &place, formats, &facts)
        } else {
            tensor.dtype()
        };
        let to = if wanted == tensor.dtype() { wanted } else { fitting(wanted, n_cols) };
        Choice { tensor: name.to_owned(), shape: tensor.shape().to_vec(), from: tensor.dtype(), to, wanted }
    });
    Ok(choices.collect())
}

fn wanted(name: &str, place: &Place, formats: &Formats, facts: &Facts) -> DType {
    let rule = formats.rules.iter().find(|rule| rule.applies(name)).map(|rule| rule.format);
    let output = formats.output.filter(|_| {
        place.role == Role::Output
            || place.role == Role::Embedding && facts.is_tied && formats.embedding.is_none()
    });
    let embedding = formats.embedding.filter(|_| place.role == Role::Embedding);
    let own = || if formats.pure { formats.mix.format() } else { choose(formats.mix, place, facts) };
    let chosen = formats.chosen.get(name).copied();
    rule.or(output).or(embedding).or(chosen).unwrap_or_else(own)
}

fn key(metadata: &Metadata, name: &str) -> Result<String, ShrinkError> {
    Ok(format!("{}.{name}", metadata.str("general.architecture")?))
}

fn facts(metadata: &Metadata, tensors: &[Tensor], has_importance: bool) -> Result<Facts, ShrinkError> {
    // One number for all layers, or one for each, of which the first counts.
    let first = |name: &str| {
        let key = key(metadata, name)?;
        Ok::<_, ShrinkError>(match metadata.get(&key) {
            Some(whit_files::Value::Array(_)) => {
                let all = metadata.opt_integers(&key)?;
                all.and_then(|mut all| all.next()).and_then(|n| usize::try_from(n).ok())
            }
            _ => metadata.opt_usize(&key)?,
        })
    };
    let n_heads = first("attention.head_count")?.unwrap_or(0);
    let n_kv_heads = first("attention.head_count_kv")?.unwrap_or(n_heads);
    Ok(Facts {
        n_gqa: n_heads.checked_div(n_kv_heads).unwrap_or(0),
        n_experts: metadata.opt_usize(&key(metadata, "expert_count")?)?.unwrap_or(0),
        is_tied: !tensors.iter().any(|tensor| tensor.name() == "output.weight"),
        has_importance,
    })
}

/// The layer that a tensor belongs to: `3` of `blk.3.attn_q.weight`.
pub(super) fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// Where each tensor stands among those of its kind, which are counted in the order of layers, whatever the file's.
fn places(tensors: &[Tensor], n_layers: usize, has_experts: bool) -> Vec<Place> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (layer(tensors[i].name()), tensors[i].name()));
    let kind = |role: Role| if role.is_value() { Role::Value as usize } else { role as usize };
    let counted = |i: &usize| is_quantizable(tensors[*i].name(), tensors[*i].shape());
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut index = vec![0; tensors.len()];
    for i in order.into_iter().filter(counted) {
        let next = seen.entry(kind(Role::of(tensors[i].name()))).or_default();
        index[i] = *next;
        *next += 1;
    }
    let place = |(i, tensor): (usize, &Tensor)| {
        let role = Role::of(tensor.name());
        let of_kind = seen.get(&kind(role)).copied().unwrap_or(0);
        let (index, n) = match role {
            // Those of experts may be many in a layer.
            Role::Down | Role::Up | Role::Gate if has_experts => {
                (layer(tensor.name()).unwrap_or(index[i]), n_layers)
            }
            Role::Down | Role::Up | Role::Gate => (index[i], n_layers),
            _ => (index[i], of_kind),
        };
        let n_cols = tensor.shape().last().copied().unwrap_or(1);
        Place { role, index, n, n_cols, is_of_experts: tensor.shape().len() > 2 }
    };
    tensors.iter().enumerate().map(place).collect()
}
