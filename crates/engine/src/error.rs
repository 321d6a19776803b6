//! What can go wrong between a file and an answer, each with what to do about it.

use std::path::PathBuf;

use whit_base::BackendError;
use whit_cpu::LevelError;
use whit_files::FileError;
use whit_models::ModelError;
use whit_sample::SampleError;
use whit_text::TextError;

/// Every error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model file is not one that can be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Tokenizing, detokenizing, or the chat template failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A sampling setting is out of range, or the model's logits cannot be sampled from.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The CPU level that was asked for cannot be had.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// The tokenizer has tokens for which the model has no embedding.
    #[error(
        "the tokenizer has {n_tokens} tokens, but the model has embeddings for {n_vocab}: the file was put together \
         wrongly, get the model from elsewhere"
    )]
    VocabularyMismatch {
        /// Tokens of the tokenizer.
        n_tokens: usize,
        /// Rows of the embedding table.
        n_vocab: usize,
    },
    /// A token id beyond the vocabulary.
    #[error("token id {id} is not one of the model's {n_vocab} tokens; are the ids from another model?")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// Nothing to go on from.
    #[error(
        "the prompt is empty, and this model has no token to begin a text with; give it at least one word"
    )]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error(
        "the prompt of {n_tokens} tokens is {} tokens longer than the context of {n_ctx}; use a larger context \
         (--ctx {n_tokens} or more{}), shorten the prompt, or let the oldest text be dropped (--overflow shift)",
        n_tokens - n_ctx, beyond_training(*n_tokens, *n_ctx_train)
    )]
    PromptTooLong {
        /// Tokens in the prompt.
        n_tokens: usize,
        /// Tokens that the context holds.
        n_ctx: usize,
        /// Tokens that the model was trained for.
        n_ctx_train: usize,
    },
    /// A parameter with a value that it cannot have.
    #[error("option \"{name}\" must be of type {kind}")]
    ParameterType {
        /// The parameter.
        name: String,
        /// What it takes.
        kind: &'static str,
    },
    /// The model gives no vectors.
    #[error("this model gives no embeddings")]
    NoEmbeddings,
    /// An encoder was asked for text.
    #[error(
        "this model gives embeddings and does not generate text; use it for embeddings, or choose another model"
    )]
    NoGeneration,
    /// A model that scores pairs was asked for a vector.
    #[error(
        "this model ranks documents for a query and gives no embeddings; use /api/rerank, or choose another model"
    )]
    OnlyRanks,
    /// A pair was given to a model that scores none.
    #[error("this model has no head that scores a document for a query; compare their embeddings instead")]
    DoesNotRank,
    /// A vector holds NaN or infinity.
    #[error("the embedding holds a value that is no number: the model file may be broken")]
    BrokenEmbedding,
    /// All memory for cached keys and values is in use.
    #[error(
        "no cache page is free for this request; let others finish first, or use a smaller context (--ctx)"
    )]
    OutOfPages,
    /// The draft model has other tokens.
    #[error(
        "{} cannot draft for this model: its token {id} is {got}, where this model has {expected}; choose one of the same \
         family (--draft)",
        path.display()
    )]
    DraftVocabulary {
        /// The draft model.
        path: PathBuf,
        /// The first token that differs.
        id: u32,
        /// What it is in the model that is drafted for.
        expected: String,
        /// What it is in the draft model.
        got: String,
    },
    /// The draft model generates no text.
    #[error("{} gives embeddings and does not generate text: it cannot draft (--draft)", path.display())]
    DraftEncoder {
        /// The draft model.
        path: PathBuf,
    },
    /// Scoring was asked for while requests hold all places.
    #[error("all {max_sequences} sequences are in use; let the running requests finish, or allow for more")]
    Busy {
        /// Sequences that the engine was made for.
        max_sequences: usize,
    },
    /// Too many requests wait already.
    #[error("{n_waiting} requests are waiting, and no more than {max_queue} may; try again in a while")]
    QueueFull {
        /// Requests that wait.
        n_waiting: usize,
        /// Requests that may.
        max_queue: usize,
    },
    /// The service takes no more requests.
    #[error("the model is being unloaded; ask again to load it anew")]
    Stopped,
    /// The backend failed, and with it all requests.
    #[error("the model has stopped working and must be loaded again: {0}")]
    Failed(String),
    /// The system gave no thread.
    #[error("no thread could be started for the model: {0}")]
    Thread(std::io::Error),
    /// A setting that makes no sense.
    #[error("{setting} is {got}, but must be {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        got: usize,
        /// What would make sense.
        expected: String,
    },
}

fn beyond_training(n_tokens: usize, n_ctx_train: usize) -> String {
    if n_tokens <= n_ctx_train {
        return String::new();
    }
    format!("; the model was trained for {n_ctx_train}, so answers may suffer")
}
