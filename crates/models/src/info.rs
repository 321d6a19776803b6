//! What a model is, for people and for planning: read from the metadata and the tensor table alone.

use whit_base::DType;

use crate::config::Config;
use crate::tensors::EMBEDDINGS;
use crate::{ENCODERS, ModelError};

/// Facts about a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, where the file has one.
    pub name: Option<String>,
    /// `general.license`, where the file has one.
    pub licence: Option<String>,
    /// The file's own name for its mix of formats, such as `Q4_K_M`.
    pub file_type: Option<String>,
    /// Parameters: the values of all tensors.
    pub n_params: u64,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// How the parameters are stored, the largest share first.
    pub formats: Vec<FormatShare>,
    /// Blocks.
    pub n_layers: usize,
    /// Width.
    pub n_embd: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads (of the first layer that attends).
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Width of the feed-forward part, where the file gives one for all layers.
    pub n_ff: Option<usize>,
    /// Tokens in the context that the model was trained for.
    pub n_ctx_train: usize,
    /// Tokens in the vocabulary: rows of the embedding table.
    pub n_vocab: usize,
    /// Tokens that a sliding-window layer sees, for models that have such layers.
    pub sliding_window: Option<usize>,
    /// Whether the file brings a chat template.
    pub has_chat_template: bool,
    /// Whether the model was made for embeddings: an encoder, or a file that says how states are pooled.
    pub is_embedder: bool,
    /// Whether it is an encoder, which reads a text as a whole and generates none.
    pub is_encoder: bool,
    /// Whether it scores pairs of texts, and gives nothing else.
    pub ranks: bool,
}

/// The part of a model that is stored in one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatShare {
    /// The format.
    pub dtype: DType,
    /// Tensors.
    pub n_tensors: usize,
    /// Values.
    pub n_params: u64,
}

impl ModelInfo {
    pub(crate) fn read(config: &Config<'_>) -> Result<ModelInfo, ModelError> {
        let metadata = config.metadata();
        let attention = config.attention()?;
        let mut formats: Vec<FormatShare> = Vec::new();
        let (mut n_params, mut weight_bytes) = (0u64, 0u64);
        for tensor in config.gguf().tensors() {
            let n = tensor.n_elements() as u64;
            n_params = n_params.saturating_add(n);
            weight_bytes = weight_bytes.saturating_add(tensor.n_bytes() as u64);
            match formats.iter_mut().find(|share| share.dtype == tensor.dtype) {
                Some(share) => {
                    share.n_tensors += 1;
                    share.n_params = share.n_params.saturating_add(n);
                }
                None => formats.push(FormatShare { dtype: tensor.dtype, n_tensors: 1, n_params: n }),
            }
        }
        formats.sort_by_key(|share| (std::cmp::Reverse(share.n_params), share.dtype));
        let text = |key: &str| Ok::<_, ModelError>(metadata.opt_str(key)?.map(str::to_owned));
        let table = config.gguf().tensor(EMBEDDINGS).ok_or_else(|| ModelError::MissingTensor {
            tensor: EMBEDDINGS.to_owned(),
            architecture: config.architecture().to_owned(),
        })?;
        let n_ff = match metadata.get(&config.key("feed_forward_length")) {
            Some(whit_files::Value::Array(_)) => None,
            _ => config.opt_size("feed_forward_length")?,
        };
        let is_encoder = ENCODERS.contains(&config.architecture());
        let ranks = is_encoder && config.ranks();
        Ok(ModelInfo {
            architecture: config.architecture().to_owned(),
            name: text("general.name")?,
            licence: text("general.license")?,
            file_type: metadata.opt_u32("general.file_type")?.map(file_type_name),
            n_params,
            weight_bytes,
            formats,
            n_layers: attention.n_kv_heads.len(),
            n_embd: config.n_embd()?,
            n_heads: attention.n_heads,
            n_kv_heads: attention.n_kv_heads.iter().copied().find(|&n| n > 0).unwrap_or(0),
            head_dim: attention.head_dim,
            n_ff,
            n_ctx_train: config.n_ctx_train()?,
            n_vocab: table.n_rows(),
            sliding_window: config.opt_usize("attention.sliding_window")?.filter(|&window| window > 0),
            has_chat_template: metadata.get("tokenizer.chat_template").is_some(),
            is_embedder: !ranks
                && (is_encoder || config.opt_usize("pooling_type")?.is_some_and(|kind| kind > 0)),
            is_encoder,
            ranks,
        })
    }

    /// What a weight really costs: all bits of all tensors over all parameters, scales and higher-precision tensors
    /// included.
    pub fn bits_per_weight(&self) -> f64 {
        if self.n_params == 0 { 0.0 } else { self.weight_bytes as f64 * 8.0 / self.n_params as f64 }
    }
}

/// The name of a `general.file_type` (numbers of llama.cpp's `llama_ftype`).
fn file_type_name(number: u32) -> String {
    const NAMES: [(u32, &str); 34] = [
        (0, "F32"),
        (1, "F16"),
        (2, "Q4_0"),
        (3, "Q4_1"),
        (7, "Q8_0"),
        (8, "Q5_0"),
        (9, "Q5_1"),
        (10, "Q2_K"),
        (11, "Q3_K_S"),
        (12, "Q3_K_M"),
        (13, "Q3_K_L"),
        (14, "Q4_K_S"),
        (15, "Q4_K_M"),
        (16, "Q5_K_S"),
        (17, "Q5_K_M"),
        (18, "Q6_K"),
        (19, "IQ2_XXS"),
        (20, "IQ2_XS"),
        (21, "Q2_K_S"),
        (22, "IQ3_XS"),
        (23, "IQ3_XXS"),
        (24, "IQ1_S"),
        (25, "IQ4_NL"),
        (26, "IQ3_S"),
        (27, "IQ3_M"),
        (28, "IQ2_S"),
        (29, "IQ2_M"),
        (30, "IQ4_XS"),
        (31, "IQ1_M"),
        (32, "BF16"),
        (36, "TQ1_0"),
        (37, "TQ2_0"),
        (38, "MXFP4_MOE"),
        (39, "NVFP4"),
    ];
    let name = NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("type {number}"))
}
