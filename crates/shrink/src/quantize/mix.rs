//! The mixes that the field calls file types: which format each tensor gets, by what it does and where it stands.
//!
//! Truth: `llama_tensor_get_type_impl` of llama.cpp (`src/llama-quant.cpp`, 2026), whose choices the tests compare tensor by
//! tensor. Two things are ours: rows that hold no whole 256-value blocks get the better of the formats of equal size (IQ4_NL, where
//! llama.cpp takes Q4_0), and `mxfp4` is a mix for models without experts too. Left out: what concerns only models of 70B, and
//! Falcon.

use std::fmt;
use std::str::FromStr;

use whit_base::DType;

/// A file type: a format, and the exceptions from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the field's own names")]
#[allow(non_camel_case_types)]
pub enum Mix {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K_M,
    Q5_K_S,
    Q5_1,
    Q5_0,
    Q4_K_M,
    Q4_K_S,
    Q4_1,
    Q4_0,
    IQ4_NL,
    IQ4_XS,
    Q3_K_L,
    Q3_K_M,
    Q3_K_S,
    Q2_K,
    Q2_K_S,
    IQ3_M,
    IQ3_S,
    IQ3_XS,
    IQ3_XXS,
    IQ2_M,
    IQ2_S,
    IQ2_XS,
    IQ2_XXS,
    IQ1_M,
    IQ1_S,
    TQ2_0,
    TQ1_0,
    MXFP4,
    NVFP4,
}

/// Mix, name, number of `llama_ftype`, and the format of what is no exception.
const MIXES: [(Mix, &str, u32, DType); 34] = [
    (Mix::F32, "F32", 0, DType::F32),
    (Mix::F16, "F16", 1, DType::F16),
    (Mix::BF16, "BF16", 32, DType::BF16),
    (Mix::Q8_0, "Q8_0", 7, DType::Q8_0),
    (Mix::Q6_K, "Q6_K", 18, DType::Q6_K),
    (Mix::Q5_K_M, "Q5_K_M", 17, DType::Q5_K),
    (Mix::Q5_K_S, "Q5_K_S", 16, DType::Q5_K),
    (Mix::Q5_1, "Q5_1", 9, DType::Q5_1),
    (Mix::Q5_0, "Q5_0", 8, DType::Q5_0),
    (Mix::Q4_K_M, "Q4_K_M", 15, DType::Q4_K),
    (Mix::Q4_K_S, "Q4_K_S", 14, DType::Q4_K),
    (Mix::Q4_1, "Q4_1", 3, DType::Q4_1),
    (Mix::Q4_0, "Q4_0", 2, DType::Q4_0),
    (Mix::IQ4_NL, "IQ4_NL", 25, DType::IQ4_NL),
    (Mix::IQ4_XS, "IQ4_XS", 30, DType::IQ4_XS),
    (Mix::Q3_K_L, "Q3_K_L", 13, DType::Q3_K),
    (Mix::Q3_K_M, "Q3_K_M", 12, DType::Q3_K),
    (Mix::Q3_K_S, "Q3_K_S", 11, DType::Q3_K),
    (Mix::Q2_K, "Q2_K", 10, DType::Q2_K),
    (Mix::Q2_K_S, "Q2_K_S", 21, DType::Q2_K),
    (Mix::IQ3_M, "IQ3_M", 27, DType::IQ3_S),
    (Mix::IQ3_S, "IQ3_S", 26, DType::IQ3_S),
    (Mix::IQ3_XS, "IQ3_XS", 22, DType::IQ3_S),
    (Mix::IQ3_XXS, "IQ3_XXS", 23, DType::IQ3_XXS),
    (Mix::IQ2_M, "IQ2_M", 29, DType::IQ2_S),
    (Mix::IQ2_S, "IQ2_S", 28, DType::IQ2_XS),
    (Mix::IQ2_XS, "IQ2_XS", 20, DType::IQ2_XS),
    (Mix::IQ2_XXS, "IQ2_XXS", 19, DType::IQ2_XXS),
    (Mix::IQ1_M, "IQ1_M", 31, DType::IQ1_M),
    (Mix::IQ1_S, "IQ1_S", 24, DType::IQ1_S),
    (Mix::TQ2_0, "TQ2_0", 37, DType::TQ2_0),
    (Mix::TQ1_0, "TQ1_0", 36, DType::TQ1_0),
    (Mix::MXFP4, "MXFP4", 38, DType::MXFP4),
    (Mix::NVFP4, "NVFP4", 39, DType::NVFP4),
];

/// What people write for one of several.
const ALIASES: [(&str, Mix); 4] =
    [("Q3_K", Mix::Q3_K_M), ("Q4_K", Mix::Q4_K_M), ("Q5_K", Mix::Q5_K_M), ("MXFP4_MOE", Mix::MXFP4)];

impl Mix {
    /// Every mix, the largest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Mix> {
        MIXES.iter().map(|(mix, ..)| *mix)
    }

    fn row(self) -> (Mix, &'static str, u32, DType) {
        MIXES.into_iter().find(|(mix, ..)| *mix == self).unwrap_or(MIXES[0])
    }

    /// The field's name, e.g. `Q4_K_M`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The number under `general.file_type`.
    pub fn file_type(self) -> u32 {
        self.row().2
    }

    /// The format of what is no exception.
    pub fn format(self) -> DType {
        self.row().3
    }

    /// Of two bits and less.
    fn is_tiny(self) -> bool {
        matches!(self, Mix::IQ2_M | Mix::IQ2_S | Mix::IQ2_XS | Mix::IQ2_XXS | Mix::IQ1_M | Mix::IQ1_S)
    }

    /// Whether a matrix of this mix becomes useless in this format, unless it is known which of its columns count.
    pub(super) fn needs_importance(self, format: DType) -> bool {
        match format {
            DType::IQ3_XXS | DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S | DType::IQ1_M | DType::IQ1_S => {
                true
            }
            DType::Q2_K => self == Mix::Q2_K_S,
            _ => false,
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let known = MIXES.iter().map(|(mix, name, ..)| (*name, *mix)).chain(ALIASES);
        super::names::find(text, known)
    }
}

/// What a tensor does in its model, as far as mixes tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Output,
    Embedding,
    Qkv,
    Value,
    Key,
    Query,
    AttentionOutput,
    Down,
    Up,
    Gate,
    Other,
}

impl Role {
    pub(super) fn of(name: &str) -> Role {
        const PARTS: [(&str, Role); 9] = [
            ("attn_qkv.weight", Role::Qkv),
            ("attn_kv_b.weight", Role::Value),
            ("attn_v.weight", Role::Value),
            ("attn_k.weight", Role::Key),
            ("attn_q.weight", Role::Query),
            ("attn_output.weight", Role::AttentionOutput),
            ("ffn_down", Role::Down),
            ("ffn_up", Role::Up),
            ("ffn_gate", Role::Gate),
        ];
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Role::Embedding,
            _ => PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |(_, role)| *role),
        }
    }

    /// Whether errors in it go straight into what attention gives.
    pub(super) fn is_value(self) -> bool {
        matches!(self, Role::Value | Role::Qkv)
    }
}

/// Where a tensor stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) role: Role,
    /// Which of its kind it is, from the first layer on.
    pub(super) index: usize,
    /// How many of its kind there are.
    pub(super) n: usize,
    pub(super) n_cols: usize,
    /// Whether it is the matrices of several experts.
    pub(super) is_of_experts: bool,
}

/// What a mix depends on beside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Query heads that share keys and values.
    pub(super) n_gqa: usize,
    pub(super) n_experts: usize,
    /// The output projection is the embedding table.
    pub(super) is_tied: bool,
    pub(super) has_importance: bool,
}

/// The format of a tensor, whatever its shape.
pub(super) fn choose(mix: Mix, place: &Place, facts: &Facts) -> DType {
    let format = mix.format();
    if !format.is_quantized() {
        return format;
    }
    if matches!(mix, Mix::MXFP4 | Mix::NVFP4) {
        return float_blocks(format, place, facts);
    }
    let exception = match place.role {
        Role::Output => output(mix, place.n_cols),
        Role::Embedding if facts.is_tied => output(mix, place.n_cols),
        Role::Embedding => embedding(mix),
        _ if mix.is_tiny() => tiny(mix, place, facts),
        Role::Value | Role::Qkv => value(mix, place, facts),
        Role::Key | Role::Query => match (place.role, mix) {
            (Role::Key, _) if facts.n_experts == 8 => Some(DType::Q8_0),
            (_, Mix::IQ3_XS) => Some(DType::IQ3_XXS),
            (_, Mix::IQ3_XXS) => Some(DType::IQ2_S),
            _ => None,
        },
        Role::Down => down(mix, place, facts),
        Role::Up | Role::Gate => {
            let is_outer = place.index < place.n / 8 || place.index >= 7 * place.n / 8;
            (mix == Mix::IQ3_XS && !is_outer).then_some(DType::IQ3_XXS)
        }
        Role::AttentionOutput => attention_output(mix, facts),
        Role::Other => None,
    };
    exception.unwrap_or(format)
}

/// Floats of four bits, for experts; where there are none, for all but the embeddings.
fn float_blocks(format: DType, place: &Place, facts: &Facts) -> DType {
    let is_table = matches!(place.role, Role::Output | Role::Embedding);
    let gets_it = if facts.n_experts > 0 { place.is_of_experts } else { !is_table };
    if gets_it { format } else { DType::Q8_0 }
}

fn output(mix: Mix, n_cols: usize) -> Option<DType> {
    let format = mix.format();
    if !n_cols.is_multiple_of(format.block_len()) {
        return Some(DType::Q8_0);
    }
    if mix.is_tiny() || mix == Mix::IQ3_XXS {
        return Some(DType::Q5_K);
    }
    (format != DType::Q8_0).then_some(DType::Q6_K)
}

fn embedding(mix: Mix) -> Option<DType> {
    match mix {
        Mix::IQ2_XXS | Mix::IQ2_XS | Mix::IQ1_S | Mix::IQ1_M => Some(DType::Q2_K),
        Mix::IQ2_S | Mix::IQ2_M | Mix::IQ3_XXS => Some(DType::IQ3_S),
        Mix::TQ1_0 | Mix::TQ2_0 => Some(DType::Q4_K),
        _ => None,
    }
}

/// Of mixes of two bits and less.
fn tiny(mix: Mix, place: &Place, facts: &Facts) -> Option<DType> {
    let has_more = matches!(mix, Mix::IQ2_S | Mix::IQ2_M);
    let better = if has_more { DType::IQ3_S } else { DType::Q2_K };
    match place.role {
        Role::Value | Role::Qkv if facts.n_gqa >= 4 || facts.n_experts >= 4 => Some(DType::Q4_K),
        Role::Value | Role::Qkv => Some(better),
        Role::Key if facts.n_experts == 8 => Some(DType::Q4_K),
        Role::Down if place.index < place.n / 8 => Some(better),
        Role::AttentionOutput if facts.n_experts == 8 => Some(DType::Q5_K),
        Role::AttentionOutput if has_more => Some(DType::IQ3_S),
        Role::AttentionOutput if matches!(mix, Mix::IQ1_S | Mix::IQ1_M) => Some(DType::IQ2_XXS),
        _ => None,
    }
}

/// The first and last eighths, and every third between.
fn gets_more(index: usize, n: usize) -> bool {
    let eighth = n / 8;
    index < eighth || index >= 7 * n / 8 || (index - eighth) % 3 == 2
}

fn value(mix: Mix, place: &Place, facts: &Facts) -> Option<DType> {
    let (index, shares) = (place.index, facts.n_gqa >= 4);
    if facts.n_experts == 8 {
        return Some(DType::Q8_0);
    }
    match mix {
        Mix::Q2_K => Some(if shares { DType::Q4_K } else { DType::Q3_K }),
        Mix::Q2_K_S | Mix::IQ3_XS | Mix::IQ3_S | Mix::IQ3_XXS if shares => Some(DType::Q4_K),
        Mix::IQ3_XXS if !facts.has_importance => Some(DType::IQ3_S),
        Mix::IQ3_M => Some(DType::Q4_K),
        Mix::Q3_K_M => Some(if index < 2 { DType::Q5_K } else { DType::Q4_K }),
        Mix::Q3_K_L => Some(DType::Q5_K),
        Mix::IQ4_NL | Mix::IQ4_XS if shares => Some(DType::Q5_K),
        Mix::Q4_K_S if index < 4 => Some(DType::Q5_K),
        Mix::Q4_K_M | Mix::Q5_K_M if gets_more(index, place.n) => Some(DType::Q6_K),
        _ => None,
    }
}

fn down(mix: Mix, place: &Place, facts: &Facts) -> Option<DType> {
    let (index, n) = (place.index, place.n);
    let is_early = index < n / 8;
    match mix {
        Mix::Q2_K => Some(DType::Q3_K),
        Mix::Q2_K_S if is_early => Some(DType::Q4_K),
        Mix::Q3_K_M => Some(if index < n / 16 { DType::Q5_K } else { DType::Q4_K }),
        Mix::Q3_K_L => Some(DType::Q5_K),
        Mix::Q4_K_M | Mix::Q5_K_M if gets_more(index, n) => Some(DType::Q6_K),
        Mix::Q4_K_S if is_early => Some(DType::Q5_K),
        Mix::IQ3_XXS if !facts.has_importance => Some(if is_early { DType::Q4_K } else { DType::Q3_K }),
        Mix::IQ3_M if is_early || facts.n_experts == 8 && gets_more(index, n) => Some(DType::Q4_K),
        Mix::IQ4_NL | Mix::IQ4_XS if is_early && !facts.has_importance => Some(DType::Q5_K),
        Mix::Q4_0 if is_early && facts.has_importance => Some(DType::Q4_1),
        Mix::Q5_0 if is_early && facts.has_importance => Some(DType::Q5_1),
        _ => None,
    }
}

fn attention_output(mix: Mix, facts: &Facts) -> Option<DType> {
    if facts.n_experts == 8 {
        let is_small = matches!(
            mix,
            Mix::Q2_K
                | Mix::Q3_K_S
                | Mix::Q3_K_M
                | Mix::Q4_K_S
                | Mix::Q4_K_M
                | Mix::IQ4_NL
                | Mix::IQ4_XS
                | Mix::IQ3_XXS
                | Mix::IQ3_XS
                | Mix::IQ3_S
                | Mix::IQ3_M
        );
        return is_small.then_some(DType::Q5_K);
    }
    match mix {
        Mix::Q2_K => Some(DType::Q3_K),
        Mix::IQ3_XXS => Some(DType::IQ3_S),
        Mix::Q3_K_M | Mix::IQ3_M => Some(DType::Q4_K),
        Mix::Q3_K_L => Some(DType::Q5_K),
        _ => None,
    }
}

/// The format that stands for `format` where rows have `n_cols` values, which may be no whole number of its blocks.
pub(super) fn fitting(format: DType, n_cols: usize) -> DType {
    let fits = |format: DType| n_cols.is_multiple_of(format.block_len());
    if fits(format) {
        return format;
    }
    let smaller = match format {
        DType::IQ1_S | DType::IQ1_M | DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => DType::IQ4_NL,
        DType::IQ3_XXS | DType::IQ3_S | DType::Q2_K | DType::Q3_K | DType::IQ4_XS => DType::IQ4_NL,
        // Its levels have -1, 0 and 1 among them.
        DType::TQ1_0 | DType::TQ2_0 => DType::Q4_0,
        DType::NVFP4 => DType::MXFP4,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        // Of blocks of 32 values.
        other => other,
    };
    if fits(smaller) { smaller } else { DType::F16 }
}
