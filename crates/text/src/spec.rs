//! The plain description of a vocabulary from which a [`Tokenizer`](crate::Tokenizer) is built.
//!
//! File formats live in other crates; whoever reads one fills this in. Values that a file leaves out stay `None`, and the
//! defaults of the named algorithm apply (they follow llama.cpp's loader, `llama-vocab.cpp`, and the Hugging Face
//! configurations that it was checked against).

use std::borrow::Cow;

use crate::rules::Rules;

/// What a token is for. The numbers are those of `tokenizer.ggml.token_type` in a GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// Ordinary text.
    Normal = 1,
    /// Stands for what the vocabulary cannot express.
    Unknown = 2,
    /// Steers the model (`<|im_end|>`); never produced from a user's text.
    Control = 3,
    /// Added after training; matched in text before anything else, and shown as text.
    UserDefined = 4,
    /// Reserved, never produced.
    Unused = 5,
    /// One raw byte, spelled `<0x0A>`.
    Byte = 6,
}

impl TokenKind {
    /// The kind with this GGUF number; a number that means nothing is ordinary text, as files without kinds are.
    pub fn from_gguf(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// Ids of the tokens with a part to play.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Opens a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn of a conversation.
    pub eot: Option<u32>,
    /// Ends a message, more to follow (tool calls).
    pub eom: Option<u32>,
    /// For what the vocabulary lacks.
    pub unk: Option<u32>,
    /// Separates, and closes an encoder's input.
    pub sep: Option<u32>,
    /// Fills up a batch.
    pub pad: Option<u32>,
    /// The blank of a masked language model.
    pub mask: Option<u32>,
    /// More tokens at which generation ends.
    pub end_of_generation: Vec<u32>,
}

impl SpecialIds {
    /// Fills in the ids that hold where a file names none: those of the first models of each kind.
    pub(crate) fn set_usual(&mut self, model: &str) {
        let (bos, eos, unk, sep, pad, mask) = match model {
            "llama" => (Some(1), Some(2), Some(0), None, None, None),
            "t5" => (None, Some(1), Some(2), None, Some(0), None),
            "bert" => (Some(101), None, Some(100), Some(102), Some(0), Some(103)),
            _ => return,
        };
        self.bos = self.bos.or(bos);
        self.eos = self.eos.or(eos);
        self.unk = self.unk.or(unk);
        self.sep = self.sep.or(sep);
        self.pad = self.pad.or(pad);
        self.mask = self.mask.or(mask);
    }
}

/// A vocabulary as a file gives it. Strings are borrowed and walked once.
pub struct VocabSpec<'a> {
    /// The algorithm: `gpt2` (byte-level BPE), `llama` (SentencePiece BPE), `t5` (SentencePiece unigram), `bert` (WordPiece)
    /// or `gemma4` (BPE over characters with byte fallback).
    pub model: &'a str,
    /// The rule that splits text into words before byte-level BPE (`smollm`, `qwen2`, ..).
    pub pre: Option<&'a str>,
    /// Token texts in the order of their ids, spelled as in the file.
    pub tokens: Box<dyn Iterator<Item = &'a [u8]> + 'a>,
    /// One score per token (SentencePiece), or none.
    pub scores: Vec<f32>,
    /// One kind per token (GGUF numbers, see [`TokenKind`]), or none.
    pub kinds: Vec<i32>,
    /// Left and right part of each merge, best first (BPE).
    pub merges: Box<dyn Iterator<Item = (&'a [u8], &'a [u8])> + 'a>,
    /// Ids of the special tokens.
    pub special: SpecialIds,
    /// Put BOS before a text.
    pub add_bos: Option<bool>,
    /// Put EOS after a text.
    pub add_eos: Option<bool>,
    /// Put SEP after a text.
    pub add_sep: Option<bool>,
    /// Put a space before a text (SentencePiece).
    pub add_space_prefix: Option<bool>,
    /// Collapse runs of spaces and trim (SentencePiece).
    pub remove_extra_whitespaces: Option<bool>,
    /// Lowercase first (WordPiece).
    pub lowercase: Option<bool>,
    /// Strip accents first (WordPiece); follows `lowercase` where not given.
    pub strip_accents: Option<bool>,
    /// Use a word that is a token as it is, without merging; follows `pre` where not given.
    pub ignore_merges: Option<bool>,
    /// Special tokens that swallow the white space before them.
    pub strips_left: Vec<u32>,
    /// Special tokens that swallow the white space after them.
    pub strips_right: Vec<u32>,
    /// What rewrites characters before all else (`t5`): the bytes of SentencePiece's `precompiled_charsmap`.
    pub charsmap: Option<Cow<'a, [u8]>>,
    /// What a `tokenizer.json` says. Where given, it holds, and `model`, `pre` and the flags only name what comes nearest.
    pub rules: Option<&'a Rules>,
}

impl<'a> VocabSpec<'a> {
    /// A spec with this algorithm and these tokens, all else left to the defaults.
    pub fn new(model: &'a str, tokens: impl Iterator<Item = &'a [u8]> + 'a) -> Self {
        Self {
            model,
            pre: None,
            tokens: Box::new(tokens),
            scores: Vec::new(),
            kinds: Vec::new(),
            merges: Box::new(std::iter::empty()),
            special: SpecialIds::default(),
            add_bos: None,
            add_eos: None,
            add_sep: None,
            add_space_prefix: None,
            remove_extra_whitespaces: None,
            lowercase: None,
            strip_accents: None,
            ignore_merges: None,
            strips_left: Vec::new(),
            strips_right: Vec::new(),
            charsmap: None,
            rules: None,
        }
    }
}
