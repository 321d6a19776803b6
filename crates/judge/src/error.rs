//! What can keep a model from being judged.

use std::path::PathBuf;

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
    /// Windows that would leave tokens out, or never move on.
    #[error(
        "windows of {ctx} tokens cannot begin {stride} tokens after each other; choose a smaller --stride, at least 1"
    )]
    BadStride {
        /// Tokens from the beginning of one window to that of the next.
        stride: usize,
        /// Tokens in a window.
        ctx: usize,
    },
    /// Reference predictions by another protocol than the one that their file is for.
    #[error("reference predictions are of the second half of each chunk; leave out --stride and --full")]
    BaseProtocol,
    /// Reference predictions of another vocabulary.
    #[error(
        "the reference has a vocabulary of {base} tokens and the model one of {own}; only models with the same vocabulary \
         can be compared so"
    )]
    OtherVocabulary {
        /// Of the reference.
        base: usize,
        /// Of the model.
        own: usize,
    },
    /// A file of reference predictions that is none.
    #[error("{}: this is no file of reference predictions: {problem}; save one with `whit perplexity --kl-base`", path.display())]
    BadBase {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{}: cannot {doing} the file: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
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
    /// A prediction of an answer that is no number.
    #[error(
        "the model's prediction of an answer is not a number: its weights are damaged, or the computation overflowed; check \
         the model file's digest"
    )]
    NoScore,
    /// No file with the documents of a task.
    #[error(
        "{}: no documents of {task}; put them there as `{}`, or let them be fetched without --data",
        folder.display(),
        tried.first().map_or("", |name| name)
    )]
    NoData {
        /// The task.
        task: String,
        /// Where they were looked for.
        folder: PathBuf,
        /// Names that were looked for.
        tried: Vec<String>,
    },
    /// A file of documents that cannot be read.
    #[error("{}: cannot read the documents: {problem}", path.display())]
    BadData {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A document that is none of the task.
    #[error(
        "document {index} of {task} is none of that task: {problem}; check where the documents come from"
    )]
    BadDocument {
        /// The task.
        task: String,
        /// The document, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing to ask.
    #[error("{task} has no documents to ask; check its file, or --limit")]
    NoDocuments {
        /// The task.
        task: String,
    },
    /// Examples are wanted and there are too few.
    #[error(
        "{task} has fewer than {wanted} examples to show; put its `{}` documents beside the others, or ask for fewer with \
         --num-fewshot",
        split.unwrap_or("training")
    )]
    TooFewExamples {
        /// The task.
        task: String,
        /// How many are wanted.
        wanted: usize,
        /// Where they come from.
        split: Option<&'static str>,
    },
    /// A log of another run.
    #[error(
        "{}: this is the log of another run, of another model or with other settings; choose another folder for --samples, \
         or remove it",
        path.display()
    )]
    OtherRun {
        /// The log.
        path: PathBuf,
    },
    /// A conversation for a model that knows none.
    #[error("the model has no chat template; leave out --apply-chat-template")]
    NoTemplate,
    /// Results that cannot be compared.
    #[error(
        "the two results of {task} are of different tasks, or of tasks run differently; run both in the same way"
    )]
    OtherTask {
        /// The task of the first.
        task: String,
    },
    /// Results of different documents.
    #[error("the two results of {task} have no document in common; run both on the same documents")]
    NothingInCommon {
        /// The task.
        task: String,
    },
}
