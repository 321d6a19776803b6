//! What can keep a model from being judged.

use whit_engine::EngineError;

/// Every error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The model failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Not enough text for one chunk.
    #[error(
        "the text has {n_tokens} tokens, but one chunk needs {n_needed}; give a longer text, or a smaller --ctx"
    )]
    TextTooShort {
        /// Tokens in the text.
        n_tokens: usize,
        /// Tokens in a chunk.
        n_needed: usize,
    },
    /// A chunk length that cannot be scored.
    #[error(
        "chunks of {ctx} tokens cannot be scored: choose from 4 to {n_ctx}, the context that the model was loaded with"
    )]
    BadContext {
        /// Tokens asked for.
        ctx: usize,
        /// Tokens that the engine holds.
        n_ctx: usize,
    },
    /// The model gave something that is no number.
    #[error(
        "the model's prediction at token {position} of chunk {chunk} is not a number: its weights are damaged, or the \
         computation overflowed; check the model file's digest"
    )]
    NotANumber {
        /// The chunk, from 0.
        chunk: usize,
        /// The position in it.
        position: usize,
    },
}
