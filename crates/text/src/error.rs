//! What can go wrong between text and tokens.

use thiserror::Error;

/// Every error of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The vocabulary names an algorithm that this crate does not have.
    #[error(
        "tokenizer model `{model}` is not supported; supported are gpt2, llama, t5, bert and gemma4. \
         Use a model with one of these, or report the missing one"
    )]
    UnknownModel {
        /// The name in the file, e.g. `tokenizer.ggml.model` of a GGUF.
        model: String,
    },
    /// The vocabulary names a rule for splitting text into words that this crate does not have.
    #[error(
        "pre-tokenizer `{pre}` is not supported; splitting text by another rule would silently give wrong tokens. \
         Report the name, or use another conversion of the model"
    )]
    UnknownPreTokenizer {
        /// The name in the file, e.g. `tokenizer.ggml.pre` of a GGUF.
        pre: String,
    },
    /// The vocabulary cannot be used; the text says where.
    #[error("broken vocabulary: {what}; the model file is damaged or was converted wrongly, fetch it again")]
    BrokenVocabulary {
        /// Which part is wrong, what was expected and what was found.
        what: String,
    },
    /// A `tokenizer.json` or `tokenizer_config.json` that is not what it should be.
    #[error("{file} cannot be read: {what}; the file is damaged or not from a tokenizer, fetch it again")]
    BrokenTokenizerJson {
        /// Which of the two files.
        file: &'static str,
        /// Which part is wrong.
        what: String,
    },
    /// A `tokenizer.json` asks for something that this crate does not have.
    #[error(
        "tokenizer.json has {what} at `{place}`, which is not supported; leaving it out would silently give wrong \
         tokens. Report it, or use a GGUF of the model"
    )]
    UnsupportedTokenizer {
        /// The path in the file.
        place: String,
        /// What stands there.
        what: String,
    },
    /// A tokenizer that no GGUF key describes.
    #[error("a GGUF cannot carry this tokenizer: {what}; keep the model as a folder with its tokenizer.json")]
    NotInGguf {
        /// What is without a name there.
        what: String,
    },
    /// A tokenizer of a GGUF that is not put into the files of a folder.
    #[error("no tokenizer.json is written for this tokenizer: {what}; use the GGUF file as it is")]
    NotInJson {
        /// What keeps it from it.
        what: String,
    },
    /// A token id that the vocabulary does not have.
    #[error(
        "token id {id} is outside of the vocabulary of {n_tokens} tokens; are the ids from another model?"
    )]
    TokenOutOfRange {
        /// The id that was given.
        id: u32,
        /// Size of the vocabulary.
        n_tokens: usize,
    },
    /// A splitting rule gave up on this text (a limit on backtracking).
    #[error(
        "the pre-tokenizer `{pre}` gave up on a piece of {bytes} bytes; break up very long runs of one kind of character"
    )]
    SplitTooHard {
        /// Name of the rule.
        pre: String,
        /// Length of the piece in bytes.
        bytes: usize,
    },
    /// The rules of a `tokenizer.json` write a text far longer than it is.
    #[error(
        "the normalizer or pre-tokenizer of tokenizer.json makes more than {most} bytes of this text; \
         no honest one does, fetch the file again from its first source"
    )]
    GrowsTooLong {
        /// How long the text may become.
        most: usize,
    },
    /// The model file carries no chat template.
    #[error(
        "this model has no chat template: it completes raw text. Give the prompt as plain text, or supply a template"
    )]
    NoChatTemplate,
    /// The chat template is not valid Jinja.
    #[error(
        "the chat template is broken at line {line}: {what}; supply a mended template, or give the prompt as plain text"
    )]
    BrokenTemplate {
        /// 1-based line in the template.
        line: usize,
        /// The template engine's own words.
        what: String,
    },
    /// The chat template failed while it was being rendered.
    #[error("the chat template failed at line {line}: {what}")]
    TemplateFailed {
        /// 1-based line in the template.
        line: usize,
        /// The template engine's own words.
        what: String,
    },
    /// The chat template itself refused the conversation (`raise_exception`).
    #[error("the model's chat template refuses this conversation: {message}")]
    TemplateRefused {
        /// What the template says.
        message: String,
    },
    /// The chat template ran past one of its limits.
    #[error(
        "the chat template went over its limit of {limit}; it loops, or the conversation is far too long for it"
    )]
    TemplateLimit {
        /// Which limit, with its value.
        limit: String,
    },
}
