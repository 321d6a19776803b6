//! BPE whose first symbols are bytes, each spelled as one character.

use crate::TextError;
use crate::bpe::{Merges, Scratch};
use crate::byte_level;
use crate::vocab::Vocab;

/// The tables.
pub(crate) struct ByteBpe {
    merges: Merges,
    byte_ids: Box<[Option<u32>; 256]>,
    ignore_merges: bool,
}

impl ByteBpe {
    /// With `ignore_merges` a word that is a token is taken whole, before any merging.
    pub(crate) fn new<'a>(
        vocab: &Vocab,
        merges: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        ignore_merges: bool,
    ) -> Result<Self, TextError> {
        let mut byte_ids = Box::new([None; 256]);
        let mut spelled = Vec::new();
        for byte in 0..=255u8 {
            spelled.clear();
            byte_level::encode_into(&[byte], &mut spelled);
            byte_ids[usize::from(byte)] = vocab.find_plain(&spelled);
        }
        Ok(Self { merges: Merges::new(vocab, merges, 0)?, byte_ids, ignore_merges })
    }

    /// Appends the tokens of `word`; `symbols` and `spelled` are working memory.
    pub(crate) fn encode(
        &self,
        vocab: &Vocab,
        word: &str,
        (symbols, spelled): (&mut Vec<u32>, &mut Vec<u8>),
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        if self.ignore_merges {
            spelled.clear();
            byte_level::encode_into(word.as_bytes(), spelled);
            if let Some(id) = vocab.find_plain(spelled) {
                out.push(id);
                return;
            }
        }
        symbols.clear();
        // A byte without a token is dropped, as byte-level models have no unknown token of their own: where a file names
        // one it is a control token (SmolLM2), and text must not turn into that.
        symbols.extend(word.bytes().filter_map(|byte| self.byte_ids[usize::from(byte)]));
        self.merges.apply(symbols, scratch);
        out.extend_from_slice(symbols);
    }
}
