//! BPE whose first symbols are characters: with bytes for those that the vocabulary lacks, or an unknown token.
//!
//! The `BPE` model of the `tokenizers` library in full, but for dropout, which is for training.

use crate::bpe::{Merges, Scratch};
use crate::spm;
use crate::vocab::Vocab;

/// The tables.
pub(crate) struct CharBpe {
    merges: Merges,
    /// Tokens of single bytes, if characters may fall back to them.
    byte_ids: Option<Box<[Option<u32>; 256]>>,
    unk: Option<u32>,
    /// Unknown characters in a row are one token.
    fuse_unk: bool,
    /// A word that is a token is taken whole, before any merging.
    ignore_merges: bool,
    /// Put before each character of a word but the first.
    prefix: String,
    /// Put after the last character of a word.
    suffix: String,
    /// Where a text may be cut into words; see [`spm::bytes_before_space`].
    pub(crate) joined: Box<[bool; 256]>,
}

impl CharBpe {
    /// With `byte_fallback`, characters that are no token become bytes. The affixes are what goes before each character of
    /// a word but the first, and after its last.
    pub(crate) fn new(
        vocab: &Vocab,
        merges: Merges,
        unk: Option<u32>,
        fuse_unk: bool,
        byte_fallback: bool,
        ignore_merges: bool,
        (prefix, suffix): (String, String),
    ) -> Self {
        let byte_ids = byte_fallback.then(|| vocab.byte_tokens());
        // A text may be cut before a `▁` unless unknown characters would be fused across the cut, or something depends
        // on a word's ends or on the whole of it.
        let all_bytes = byte_ids.as_ref().is_some_and(|ids| ids.iter().all(Option::is_some));
        let cuts = all_bytes && prefix.is_empty() && suffix.is_empty() && !ignore_merges;
        let joined = if cuts { spm::bytes_before_space(vocab) } else { Box::new([true; 256]) };
        Self { merges, byte_ids, unk, fuse_unk, ignore_merges, prefix, suffix, joined }
    }

    /// Appends the tokens of `word`; `symbols` is working memory.
    pub(crate) fn encode(
        &self,
        vocab: &Vocab,
        word: &str,
        symbols: &mut Vec<u32>,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        if self.ignore_merges
            && let Some(id) = vocab.find_plain(word.as_bytes())
        {
            out.push(id);
            return;
        }
        self.first_symbols(vocab, word, symbols);
        self.merges.apply(symbols, scratch);
        out.extend_from_slice(symbols);
    }

    /// The characters of `word` as tokens; a character that is none as its bytes, or as unknown.
    fn first_symbols(&self, vocab: &Vocab, word: &str, symbols: &mut Vec<u32>) {
        symbols.clear();
        let mut unknown = false;
        let mut buffer = [0u8; 4];
        let mut spelled = String::new();
        for (at, c) in word.char_indices() {
            let prefix = if at > 0 { self.prefix.as_str() } else { "" };
            let suffix = if at + c.len_utf8() == word.len() { self.suffix.as_str() } else { "" };
            let bytes = if prefix.is_empty() && suffix.is_empty() {
                c.encode_utf8(&mut buffer).as_bytes()
            } else {
                spelled.clear();
                spelled.push_str(prefix);
                spelled.push(c);
                spelled.push_str(suffix);
                spelled.as_bytes()
            };
            if let Some(id) = vocab.find_plain(bytes) {
                symbols.push(id);
                unknown = false;
                continue;
            }
            if let Some(ids) = &self.byte_ids
                && bytes.iter().all(|&byte| ids[usize::from(byte)].is_some())
            {
                symbols.extend(bytes.iter().filter_map(|&byte| ids[usize::from(byte)]));
                unknown = false;
                continue;
            }
            if !(unknown && self.fuse_unk) {
                symbols.extend(self.unk);
            }
            unknown = true;
        }
    }
}
