//! Working memory of one encoding, kept for the next.

use crate::cache::WordCache;
use crate::{bpe, spm, unigram};

pub(crate) struct Work {
    cache: WordCache,
    pub(crate) bpe: bpe::Scratch,
    pub(crate) spm: spm::Scratch,
    pub(crate) unigram: unigram::Scratch,
    pub(crate) symbols: Vec<u32>,
    pub(crate) spelled: Vec<u8>,
}

impl Work {
    pub(crate) fn new() -> Self {
        Self {
            cache: WordCache::new(),
            bpe: bpe::Scratch::default(),
            spm: spm::Scratch::default(),
            unigram: unigram::Scratch::default(),
            symbols: Vec::new(),
            spelled: Vec::new(),
        }
    }

    /// Appends the tokens of a word: from memory, or by `encode`, which appends to the list it is given.
    #[inline]
    pub(crate) fn cached(
        &mut self,
        word: &[u8],
        out: &mut Vec<u32>,
        encode: impl FnOnce(&mut Self, &mut Vec<u32>),
    ) {
        let Some(key) = WordCache::key(word) else {
            encode(self, out);
            return;
        };
        if let Some(ids) = self.cache.get(&key) {
            out.extend_from_slice(ids);
            return;
        }
        let start = out.len();
        encode(self, out);
        self.cache.put(&key, &out[start..]);
    }
}
