//! Names of tensors: what `transformers` calls a module, what GGUF calls it, and what it needs on the way.

/// A module under its two names, with `{}` for the number of its layer, and of its expert or head. Its tensors are `<module>.weight` and `.bias`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// Without what stands before all names of a model, such as `model.`.
    pub(super) module: &'static str,
    pub(super) gguf: &'static str,
    pub(super) role: Role,
}

/// What is to be known of a module's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    /// Rows belong to rotated heads, as many as there are queries.
    Queries,
    /// The same, as many as there are keys.
    Keys,
    /// In some families told as its distance from 1.
    Norm,
    /// `(n_in, n_out)` rather than `(n_out, n_in)`.
    Transposed,
    /// Learned positions, in some families behind rows that no token stands at.
    Positions,
    /// Of use to a classifier behind it alone.
    Head,
    /// `(n, 1, k)`, of whose middle GGUF says nothing.
    Squeezed,
    /// A tensor that is no part of a module of `torch`: its name has no `.weight` behind it.
    Bare,
    /// Two tensors of GGUF's, one below the other: the second has this name.
    GateAndUp(&'static str),
}

pub(super) const fn name(module: &'static str, gguf: &'static str) -> Name {
    Name { module, gguf, role: Role::Plain }
}

pub(super) const fn norm(module: &'static str, gguf: &'static str) -> Name {
    Name { module, gguf, role: Role::Norm }
}

pub(super) const fn transposed(module: &'static str, gguf: &'static str) -> Name {
    Name { module, gguf, role: Role::Transposed }
}

pub(super) const fn head(module: &'static str, gguf: &'static str) -> Name {
    Name { module, gguf, role: Role::Head }
}

pub(super) const fn positions(module: &'static str, gguf: &'static str) -> Name {
    Name { module, gguf, role: Role::Positions }
}

pub(super) const fn bare(module: &'static str, gguf: &'static str) -> Name {
    Name { module, gguf, role: Role::Bare }
}

/// Embeddings, the last norm and the projection onto the vocabulary, as most families have them.
pub(super) const ENDS: &[Name] =
    &[name("embed_tokens", "token_embd"), norm("norm", "output_norm"), name("lm_head", "output")];

/// Attention with four projections.
pub(super) const ATTENTION: &[Name] = &[
    Name { module: "layers.{}.self_attn.q_proj", gguf: "blk.{}.attn_q", role: Role::Queries },
    Name { module: "layers.{}.self_attn.k_proj", gguf: "blk.{}.attn_k", role: Role::Keys },
    name("layers.{}.self_attn.v_proj", "blk.{}.attn_v"),
    name("layers.{}.self_attn.o_proj", "blk.{}.attn_output"),
];

/// Norms over q and k.
pub(super) const QK_NORMS: &[Name] = &[
    norm("layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"),
    norm("layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"),
];

/// A gated feed-forward part.
pub(super) const GATED: &[Name] = &[
    name("layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"),
    name("layers.{}.mlp.up_proj", "blk.{}.ffn_up"),
    name("layers.{}.mlp.down_proj", "blk.{}.ffn_down"),
];

/// A gated feed-forward part of experts, each with tensors of its own, and their choice.
pub(super) const EXPERTS: &[Name] = &[
    name("layers.{}.mlp.gate", "blk.{}.ffn_gate_inp"),
    name("layers.{}.mlp.experts.{}.gate_proj", "blk.{}.ffn_gate.{}"),
    name("layers.{}.mlp.experts.{}.up_proj", "blk.{}.ffn_up.{}"),
    name("layers.{}.mlp.experts.{}.down_proj", "blk.{}.ffn_down.{}"),
];

/// A norm before each half of a block.
pub(super) const NORMS_BEFORE: &[Name] = &[
    norm("layers.{}.input_layernorm", "blk.{}.attn_norm"),
    norm("layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"),
];

/// A norm behind each half of a block.
pub(super) const NORMS_BEHIND: &[Name] = &[
    norm("layers.{}.post_attention_layernorm", "blk.{}.post_attention_norm"),
    norm("layers.{}.post_feedforward_layernorm", "blk.{}.post_ffw_norm"),
];

/// What may stand before every name of a model.
const PREFIXES: [&str; 8] = [
    "model.language_model.",
    "language_model.model.",
    "language_model.",
    "model.",
    "transformer.",
    "bert.",
    "roberta.",
    "mpnet.",
];

/// Tensors that hold nothing learned.
const MADE: [&str; 4] = [".rotary_emb.inv_freq", ".masked_bias", ".attn.bias", "embeddings.position_ids"];

/// Parts of models of more than text.
const NOT_TEXT: [&str; 9] = [
    "vision_tower.",
    "vision_model.",
    "visual.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "model.embed_vision.",
    "model.audio_tower.",
    "model.embed_audio.",
];

/// What a tensor's name comes to.
pub(super) enum Place<'a> {
    /// Nothing that is needed.
    Nowhere,
    /// A module's `weight` or `bias`.
    Here {
        name: &'a Name,
        gguf: String,
        /// The name of what stands below it in the same tensor.
        second: Option<String>,
    },
    Unknown,
}

/// Finds a tensor's place in the tables.
pub(super) fn place<'a>(tables: &[&'a [Name]], tensor: &str) -> Place<'a> {
    if MADE.iter().any(|ending| tensor.ends_with(ending))
        || NOT_TEXT.iter().any(|part| tensor.starts_with(part))
    {
        return Place::Nowhere;
    }
    let short = PREFIXES.iter().find_map(|prefix| tensor.strip_prefix(prefix)).unwrap_or(tensor);
    let Some((module, what)) = short.rsplit_once('.') else { return Place::Unknown };
    // A few are no part of a module of `torch`, and called like one.
    let (module, what) = if matches!(what, "weight" | "bias") { (module, what) } else { (short, "weight") };
    let (pattern, numbers) = pattern(module);
    let found = tables.iter().flat_map(|table| table.iter()).find(|name| name.module == pattern);
    match found {
        Some(name) => {
            let gguf = format!("{}.{what}", filled(name.gguf, &numbers));
            let second = match name.role {
                Role::GateAndUp(second) => Some(format!("{}.{what}", filled(second, &numbers))),
                _ => None,
            };
            Place::Here { name, gguf, second }
        }
        None => Place::Unknown,
    }
}

/// The way back: a GGUF tensor's entry in the tables, and its name in a folder without what stands before all names.
pub(super) fn back_place<'a>(tables: &[&'a [Name]], tensor: &str) -> Option<(&'a Name, String)> {
    let (stem, what) = tensor.rsplit_once('.')?;
    let (pattern, numbers) = pattern(stem);
    let name = tables.iter().flat_map(|table| table.iter()).find(|name| name.gguf == pattern)?;
    let module = filled(name.module, &numbers);
    Some((name, if name.role == Role::Bare { module } else { format!("{module}.{what}") }))
}

/// A pattern with numbers in the places of its `{}`.
fn filled(pattern: &str, numbers: &[&str]) -> String {
    numbers.iter().fold(pattern.to_owned(), |name, number| name.replacen("{}", number, 1))
}

/// A module with `{}` in place of the numbers in it, and these.
fn pattern(module: &str) -> (String, Vec<&str>) {
    let mut numbers = Vec::new();
    let parts: Vec<&str> = module
        .split('.')
        .map(|part| {
            let is_number = part.len() <= 6 && !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if is_number {
                numbers.push(part);
                "{}"
            } else {
                part
            }
        })
        .collect();
    (parts.join("."), numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_place() {
        let tables = [ENDS, ATTENTION, NORMS_BEFORE, EXPERTS];
        for (tensor, expected) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("language_model.lm_head.weight", "output.weight"),
            ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"),
            ("layers.11.self_attn.k_proj.bias", "blk.11.attn_k.bias"),
            ("language_model.model.layers.3.input_layernorm.weight", "blk.3.attn_norm.weight"),
            ("model.language_model.norm.weight", "output_norm.weight"),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", "nowhere"),
            ("model.layers.7.mlp.experts.12.up_proj.weight", "blk.7.ffn_up.12.weight"),
            ("vision_tower.encoder.layers.0.self_attn.q_proj.weight", "nowhere"),
            ("model.layers.0.self_attn.q_proj.weight_scale", "unknown"),
            ("model.layers.0.mlp.up_proj.weight", "unknown"),
            ("model.layers.x.self_attn.q_proj.weight", "unknown"),
            ("weight", "unknown"),
            ("", "unknown"),
        ] {
            let got = match place(&tables, tensor) {
                Place::Nowhere => "nowhere".to_owned(),
                Place::Here { gguf, .. } => gguf,
                Place::Unknown => "unknown".to_owned(),
            };
            assert_eq!(got, expected, "{tensor}");
        }
    }
}
