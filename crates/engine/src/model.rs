//! An opened model file: what it is and how it reads and writes text. Weights are mapped and not touched.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use whit_files::Gguf;
use whit_models::ModelInfo;
use whit_text::{EncodeOptions, Tokenizer};

use crate::memory::Sizing;
use crate::{EngineError, EngineOptions, MemoryEstimate, Prompt};

/// A model file, opened. Cloning shares.
#[derive(Clone, Debug)]
pub struct Model {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    gguf: Gguf,
    info: ModelInfo,
    tokenizer: OnceLock<Tokenizer>,
}

/// A prompt as the model gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Messages were given, but the model has no chat template: their text goes in as it is, and the model will
    /// continue it rather than answer.
    pub raw: bool,
}

impl Model {
    /// Opens a GGUF file (of a split one, any part).
    ///
    /// # Errors
    /// A file that cannot be read, and an architecture that is not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, EngineError> {
        Model::from_gguf(Gguf::open(path)?)
    }

    /// As [`open`](Self::open), for a file that is open already.
    ///
    /// # Errors
    /// An architecture that is not supported.
    pub fn from_gguf(gguf: Gguf) -> Result<Model, EngineError> {
        let info = whit_models::describe(&gguf)?;
        let inner = Inner { gguf, info, tokenizer: OnceLock::new() };
        Ok(Model { inner: Arc::new(inner) })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// The file: metadata and tensors.
    pub fn gguf(&self) -> &Gguf {
        &self.inner.gguf
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        self.inner.gguf.path()
    }

    /// The tokenizer, built on first use.
    ///
    /// # Errors
    /// A file without a vocabulary, or with one that is broken or of an unknown kind.
    pub fn tokenizer(&self) -> Result<&Tokenizer, EngineError> {
        if let Some(tokenizer) = self.inner.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = whit_models::vocab::tokenizer(self.gguf())?;
        let (n_tokens, n_vocab) = (tokenizer.n_tokens(), self.info().n_vocab);
        if n_vocab < n_tokens {
            return Err(EngineError::VocabularyMismatch { n_tokens, n_vocab });
        }
        Ok(self.inner.tokenizer.get_or_init(|| tokenizer))
    }
}

impl Model {
    /// Turns a prompt into tokens.
    ///
    /// # Errors
    /// Whatever the tokenizer or the chat template has to say.
    pub fn prepare(&self, prompt: &Prompt) -> Result<Prepared, EngineError> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(Prepared { tokens: tokens.clone(), raw: false }),
            Prompt::Text(text) => {
                let tokens = self.tokenizer()?.encode(text, EncodeOptions::TEXT)?;
                Ok(Prepared { tokens, raw: false })
            }
        }
    }

    /// What the model needs in memory with these options.
    ///
    /// # Errors
    /// As for loading it.
    pub fn estimate(&self, options: &EngineOptions) -> Result<MemoryEstimate, EngineError> {
        options.validate()?;
        let n_ctx = options.n_ctx(self.info().n_ctx_train);
        let built = whit_models::build(self.gguf(), n_ctx)?;
        Ok(Sizing::new(&built.plan, n_ctx, options).memory)
    }
}
