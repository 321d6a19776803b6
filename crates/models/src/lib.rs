//! Whit: models. One file per architecture: configuration keys and tensor names in, a [`Plan`] out.
//!
//! A model file describes; it computes nothing and knows no backend. What it emits is the plain single-assignment form
//! that training walks; [`whit_base::fuse`] makes the inference form of it.
//!
//! To add an architecture: write `<family>.rs` with a `build` function, and add a line to the list below; for its folders, a
//! family in `hf/families`.
#![forbid(unsafe_code)]

mod arcee;
mod bert;
mod block;
mod cohere2;
mod config;
mod decoder;
mod encoder;
mod ernie45;
mod error;
mod exaone4;
mod gemma;
mod gemma3;
mod gemma3n;
mod gemma4;
mod glm4;
mod gpt2;
mod granite;
pub mod hf;
mod hunyuan;
mod info;
mod lfm2;
mod llama;
mod mistral3;
mod modern_bert;
mod olmo2;
mod olmoe;
mod phi2;
mod phi3;
mod qwen2;
mod qwen3;
mod rope;
mod smollm3;
mod stablelm;
mod starcoder2;
mod tensors;
pub mod vocab;

use std::path::Path;

use whit_base::Plan;
use whit_files::Gguf;

pub use error::ModelError;
pub use info::{FormatShare, ModelInfo};

use config::Config;
use tensors::Tensors;

/// A model, described: what it is, and what it computes.
#[derive(Clone, Debug)]
pub struct Model {
    /// Facts for people and for planning memory.
    pub info: ModelInfo,
    /// The computation, unfused.
    pub plan: Plan,
}

type Build = fn(&Config<'_>, &mut Tensors<'_>) -> Result<Plan, ModelError>;

macro_rules! architectures {
    ($($name:literal => $build:path),* $(,)?) => {
        /// The values of `general.architecture` that are supported.
        pub const ARCHITECTURES: &[&str] = &[$($name),*];

        fn build_function(architecture: &str) -> Option<Build> {
            match architecture {
                $($name => Some($build),)*
                _ => None,
            }
        }
    };
}

architectures! {
    "llama" => llama::build,
    "mistral3" => mistral3::build,
    "qwen2" => qwen2::build,
    "qwen3" => qwen3::build,
    "qwen3moe" => qwen3::build,
    "gemma" => gemma::build,
    "gemma2" => gemma3::build_gemma2,
    "gemma3" => gemma3::build,
    "gemma3n" => gemma3n::build,
    "gemma4" => gemma4::build,
    "phi2" => phi2::build,
    "phi3" => phi3::build,
    "smollm3" => smollm3::build,
    "granite" => granite::build,
    "granitemoe" => granite::build,
    "olmo2" => olmo2::build,
    "olmoe" => olmoe::build,
    "stablelm" => stablelm::build,
    "arcee" => arcee::build,
    "cohere2" => cohere2::build,
    "ernie4_5" => ernie45::build,
    "exaone4" => exaone4::build,
    "glm4" => glm4::build,
    "hunyuan-dense" => hunyuan::build,
    "lfm2" => lfm2::build,
    "starcoder2" => starcoder2::build,
    "gpt2" => gpt2::build,
    "bert" => bert::build,
    "nomic-bert" => bert::build_nomic,
    "mpnet" => bert::build_mpnet,
    "modern-bert" => modern_bert::build,
}

/// Those of them that read a text as a whole and generate none.
pub const ENCODERS: &[&str] = &["bert", "nomic-bert", "mpnet", "modern-bert"];

/// Opens a model: a GGUF file (of a split one, any part), or a folder as the Hugging Face Hub keeps models, which is then used
/// where it lies (see [`hf`]).
///
/// # Errors
/// What cannot be read, and folders that are no model, or one that is not supported.
pub fn open(path: impl AsRef<Path>) -> Result<Gguf, ModelError> {
    let path = path.as_ref();
    if path.is_dir() { hf::open(path) } else { Ok(Gguf::open(path)?) }
}

/// The facts about the model in `gguf`, without building its plan.
///
/// # Errors
/// An architecture that is not supported, and keys that are missing or make no sense.
pub fn describe(gguf: &Gguf) -> Result<ModelInfo, ModelError> {
    let config = Config::new(gguf)?;
    build_function(config.architecture()).ok_or_else(|| config.unknown_architecture())?;
    ModelInfo::read(&config)
}

/// Builds the plan of the model in `gguf` for contexts of `n_ctx` tokens (some models rotate by other frequencies in
/// long contexts). Weights are shared with the file; norms and biases are checked to be finite.
///
/// # Errors
/// As for [`describe`], and tensors that are missing, left over, of the wrong shape, or hold NaN or infinity.
pub fn build(gguf: &Gguf, n_ctx: usize) -> Result<Model, ModelError> {
    let config = Config::new(gguf)?.with_context(n_ctx);
    let build = build_function(config.architecture()).ok_or_else(|| config.unknown_architecture())?;
    let info = ModelInfo::read(&config)?;
    let mut tensors = Tensors::new(gguf);
    let plan = build(&config, &mut tensors)?;
    tensors.check_all_used()?;
    Ok(Model { info, plan })
}
