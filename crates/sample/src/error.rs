//! What can go wrong between logits and a token.

/// An error of this crate. Each names the setting or token at fault and what to do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// A setting outside its range.
    #[error("{name} is {value}, but must be {wanted}")]
    Setting {
        /// The field of [`SamplerConfig`](crate::SamplerConfig).
        name: &'static str,
        /// The value given.
        value: f64,
        /// The range allowed, in words.
        wanted: &'static str,
    },
    /// A logit bias for a token that the model does not have.
    #[error("logit_bias names token {token}, but the vocabulary ends at {}", vocab_size.saturating_sub(1))]
    BiasToken {
        /// The token named.
        token: u32,
        /// Tokens in the vocabulary.
        vocab_size: usize,
    },
    /// A logit bias that is NaN or positive infinity.
    #[error("logit_bias of token {token} is {value}, but must be finite, or -inf to forbid the token")]
    BiasValue {
        /// The token named.
        token: u32,
        /// The value given.
        value: f32,
    },
    /// A vocabulary of no tokens, or of more than a `u32` can count.
    #[error("a vocabulary of {vocab_size} tokens cannot be sampled from")]
    Vocabulary {
        /// Tokens in the vocabulary.
        vocab_size: usize,
    },
    /// A row of logits of the wrong length.
    #[error("expected {expected} logits, one for each token of the vocabulary, but got {got}")]
    LogitCount {
        /// Tokens in the vocabulary.
        expected: usize,
        /// Logits given.
        got: usize,
    },
    /// A mask too short for the vocabulary.
    #[error("expected a mask of at least {expected} words of 32 tokens, but got {got}")]
    MaskLength {
        /// Words needed.
        expected: usize,
        /// Words given.
        got: usize,
    },
    /// A logit that is NaN or positive infinity.
    #[error(
        "the model gave token {token} the logit {value}: its weights are damaged, or the computation overflowed; \
         check the model file's digest, or try a file of higher precision"
    )]
    NotANumber {
        /// The first such token.
        token: u32,
        /// Its logit.
        value: f32,
    },
    /// Every token is forbidden by the mask, by a bias, or by the model itself.
    #[error("no token is allowed here: the mask, the logit biases and the model leave none")]
    NothingAllowed,
    /// A stop string of no characters, which would stop every answer before it begins.
    #[error("stop string number {} is empty; leave it out", index + 1)]
    EmptyStop {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// A JSON schema that is not valid, that nothing meets, or that says what cannot be enforced.
    #[error("the JSON schema cannot be enforced, at {place}: {reason}")]
    Schema {
        /// A JSON pointer, as a reference is written: `#/properties/name`.
        place: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A grammar or regular expression that is not valid, costs too much, or allows nothing.
    #[error("the {kind} cannot be used: {reason}")]
    Grammar {
        /// What it is.
        kind: &'static str,
        /// Why not.
        reason: String,
    },
    /// A grammar beyond its limits.
    #[error("the {kind} has {got} {what}, but at most {most} are allowed; make it simpler")]
    GrammarTooLarge {
        /// What it is.
        kind: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        got: usize,
        /// How much there may be.
        most: usize,
    },
    /// A grammar in which a sequence cannot go on.
    #[error("the answer cannot go on in its grammar after {n_tokens} tokens: {reason}")]
    GrammarStuck {
        /// Tokens that it took.
        n_tokens: usize,
        /// Why not.
        reason: String,
    },
    /// A token of which the vocabulary knows nothing.
    #[error("token {token} is outside of the vocabulary of {vocab_size} that the grammar was made for")]
    GrammarVocabulary {
        /// The token named.
        token: u32,
        /// Tokens in the vocabulary.
        vocab_size: usize,
    },
}
