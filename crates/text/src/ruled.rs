//! Encoding by the [`Rules`] of a `tokenizer.json`: normalize, match the tokens that are looked for in normalized text, cut
//! into words, encode each word.
//!
//! Where the steps that cut are expressions before a byte-level model, as nearly all decoders have them, the text is walked
//! without a copy by [`PreTokenizer`]; other steps make a list of pieces.

use std::borrow::Cow;

use crate::TextError;
use crate::bpe::Merges;
use crate::byte_bpe::ByteBpe;
use crate::char_bpe::CharBpe;
use crate::normalize::Normal;
use crate::pre::PreTokenizer;
use crate::pre::steps::{Piece, Step};
use crate::rules::{ModelRules, Rules};
use crate::special::{Fragment, Special};
use crate::spm;
use crate::unigram::Unigram;
use crate::vocab::Vocab;
use crate::wordpiece::WordPiece;
use crate::work::Work;

/// The tables.
pub(crate) struct Ruled {
    normal: Vec<Normal>,
    /// Tokens that are looked for in normalized text.
    inner: Option<Special>,
    splitter: Splitter,
    words: WordModel,
}

enum Splitter {
    Words(PreTokenizer),
    Steps(Vec<Step>),
}

enum WordModel {
    Bytes(ByteBpe),
    Chars(CharBpe),
    Unigram(Unigram),
    WordPiece(WordPiece),
    /// Every word is a token, or unknown.
    WordLevel(Option<u32>),
}

impl Ruled {
    pub(crate) fn new<'a>(
        rules: &Rules,
        vocab: &Vocab,
        merges: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        (strips_left, strips_right): (&[u32], &[u32]),
    ) -> Result<Self, TextError> {
        let inner = Special::in_normalized(vocab, rules, strips_left, strips_right)?;
        let mut splitter = Splitter::Steps(rules.steps.clone());
        let unk = rules.unk;
        let words = match &rules.model {
            ModelRules::Bpe { byte_fallback, fuse_unk, ignore_merges, prefix, suffix } => {
                let bytes =
                    vocab.has_all_bytes() && !*byte_fallback && prefix.is_empty() && suffix.is_empty();
                match PreTokenizer::of_steps(&rules.steps).filter(|_| bytes) {
                    Some(pre) => {
                        splitter = Splitter::Words(pre);
                        WordModel::Bytes(ByteBpe::new(vocab, merges, *ignore_merges)?)
                    }
                    None => WordModel::Chars(CharBpe::new(
                        vocab,
                        Merges::new(vocab, merges, prefix.len())?,
                        unk,
                        *fuse_unk,
                        *byte_fallback,
                        *ignore_merges,
                        (prefix.clone(), suffix.clone()),
                    )),
                }
            }
            ModelRules::Unigram { byte_fallback } => {
                WordModel::Unigram(Unigram::new(vocab, unk, *byte_fallback))
            }
            ModelRules::WordPiece { prefix, max_chars } => {
                WordModel::WordPiece(WordPiece::new(vocab, "", prefix, *max_chars, unk))
            }
            ModelRules::WordLevel => WordModel::WordLevel(unk),
        };
        Ok(Self { normal: rules.normal.clone(), inner, splitter, words })
    }

    /// Appends the tokens of a text; `at_start` if the whole text begins with it.
    pub(crate) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        at_start: bool,
        work: &mut Work,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let text = Normal::apply_all(&self.normal, text)?;
        let Some(inner) = &self.inner else {
            return self.encode_normal(vocab, &text, at_start, work, out);
        };
        let mut at_start = at_start;
        inner.split(vocab, &text, true, |fragment| {
            let at_start = std::mem::take(&mut at_start);
            match fragment {
                Fragment::Token(id) => {
                    out.push(id);
                    Ok(())
                }
                Fragment::Text(part) => self.encode_normal(vocab, part, at_start, work, out),
            }
        })
    }

    fn encode_normal(
        &self,
        vocab: &Vocab,
        text: &str,
        at_start: bool,
        work: &mut Work,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        match &self.splitter {
            Splitter::Words(pre) => pre.split(text, |word| self.encode_word(vocab, word, work, out)),
            Splitter::Steps(steps) => {
                let piece = Piece { text: Cow::Borrowed(text), at_start };
                for piece in Step::apply_all(steps, piece)? {
                    self.encode_word(vocab, &piece.text, work, out);
                }
                Ok(())
            }
        }
    }

    fn encode_word(&self, vocab: &Vocab, word: &str, work: &mut Work, out: &mut Vec<u32>) {
        match &self.words {
            WordModel::Bytes(bytes) => work.cached(word.as_bytes(), out, |work, out| {
                let Work { symbols, spelled, bpe, .. } = work;
                bytes.encode(vocab, word, (symbols, spelled), bpe, out);
            }),
            WordModel::Chars(chars) => spm::split_words(word, &chars.joined, |word| {
                work.cached(word.as_bytes(), out, |work, out| {
                    chars.encode(vocab, word, &mut work.symbols, &mut work.bpe, out);
                });
            }),
            WordModel::Unigram(unigram) => work.cached(word.as_bytes(), out, |work, out| {
                unigram.encode(vocab, word, &mut work.unigram, out);
            }),
            WordModel::WordPiece(wordpiece) => work.cached(word.as_bytes(), out, |_, out| {
                wordpiece.encode_word(vocab, word, out);
            }),
            WordModel::WordLevel(unk) => out.extend(vocab.find_plain(word.as_bytes()).or(*unk)),
        }
    }
}
