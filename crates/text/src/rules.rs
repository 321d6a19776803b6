//! What a `tokenizer.json` says that a vocabulary's names and flags do not.
//!
//! Made by [`TokenizerJson`](crate::TokenizerJson), carried by a [`VocabSpec`](crate::VocabSpec), and turned into tables by
//! [`Ruled`](crate::ruled::Ruled).

use crate::normalize::Normal;
use crate::pre::steps::Step;
use crate::template::Template;

/// The rules of a `tokenizer.json`, for [`VocabSpec::rules`](crate::VocabSpec::rules).
#[derive(Clone, Debug)]
pub struct Rules {
    pub(crate) normal: Vec<Normal>,
    pub(crate) steps: Vec<Step>,
    pub(crate) model: ModelRules,
    /// The model's own token for what it lacks.
    pub(crate) unk: Option<u32>,
    pub(crate) template: Option<Template>,
    pub(crate) added: Vec<Added>,
    pub(crate) spelling: Spelling,
    /// A text's first token carries a space that is not the text's own.
    pub(crate) space_prefix: bool,
}

/// The algorithm for a word, with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelRules {
    Bpe { byte_fallback: bool, fuse_unk: bool, ignore_merges: bool, prefix: String, suffix: String },
    Unigram { byte_fallback: bool },
    WordPiece { prefix: String, max_chars: usize },
    WordLevel,
}

/// A token that is matched in text before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) id: u32,
    /// Looked for in normalized text, and in its normalized form.
    pub(crate) normalized: bool,
    /// Matched only between what are no letters or digits.
    pub(crate) single_word: bool,
}

/// How tokens spell text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Bytes as characters, see [`byte_level`](crate::byte_level).
    Bytes,
    /// Spaces as `▁`.
    Spaces,
    /// Every token opens a word, but those with this before them, where it is not empty.
    Words(String),
    /// Tokens with this after them close a word.
    Suffix(String),
    /// A token for each moment of a sound (CTC): the same ones in a row are one, and a blank, which parts them, is nothing.
    Aligned {
        blank: String,
        /// A space, where the text is cleaned.
        delimiter: String,
        /// Also bring what English writes closer together where it belongs.
        cleans: bool,
    },
}
