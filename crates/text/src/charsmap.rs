//! The character map of a SentencePiece model: which stretches of text are written in another way before tokenizing.
//!
//! The bytes are those of `precompiled_charsmap`: the size of a double-array trie in bytes, the trie, and a block of
//! texts that end in NUL. Layout: `normalizer.cc` of sentencepiece, and Darts-clone for the units of the trie. Every
//! index out of the bytes is checked; a walk ends where one leads nowhere.

use std::sync::Arc;

use unicode_segmentation::UnicodeSegmentation as _;

use crate::TextError;
use crate::vocab::broken;

/// Longer graphemes are looked up character by character, as the `tokenizers` library does.
const LONGEST_GRAPHEME: usize = 5;

/// No text of an entry is longer; those of published maps have up to 33 bytes.
const LONGEST_TEXT: usize = 64;

/// A map, shared by its copies.
#[derive(Clone, Debug)]
pub(crate) struct Charsmap {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    trie: Vec<u32>,
    texts: Vec<u8>,
}

impl Charsmap {
    /// Reads the bytes of `precompiled_charsmap`.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, TextError> {
        let damaged = || broken("its precompiled_charsmap is cut short");
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let size = u32::from_le_bytes(*size) as usize;
        if !size.is_multiple_of(4) || size > rest.len() {
            return Err(damaged());
        }
        let (trie, texts) = rest.split_at(size);
        let trie = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { inner: Arc::new(Inner { trie, texts: texts.to_vec() }) })
    }

    /// The bytes that it was read from.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Inner { trie, texts } = &*self.inner;
        let size = (trie.len() * 4) as u32;
        let trie = trie.iter().flat_map(|unit| unit.to_le_bytes());
        size.to_le_bytes().into_iter().chain(trie).chain(texts.iter().copied()).collect()
    }

    /// Rewrites `text` as the `tokenizers` library does: whole graphemes first, by their shortest entry.
    pub(crate) fn by_graphemes(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for grapheme in text.graphemes(true) {
            if grapheme.len() <= LONGEST_GRAPHEME
                && let Some(with) = self.shortest(grapheme)
            {
                out.push_str(with);
                continue;
            }
            for (at, c) in grapheme.char_indices() {
                match self.shortest(&grapheme[at..at + c.len_utf8()]) {
                    Some(with) => out.push_str(with),
                    None => out.push(c),
                }
            }
        }
        out
    }

    /// Rewrites `text` as sentencepiece itself does: at every place by the longest entry.
    pub(crate) fn by_longest(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let mut longest = None;
            self.walk(rest.as_bytes(), |len, at| {
                longest = Some((len, at));
                true
            });
            let found = longest.and_then(|(len, at)| Some((self.text(at)?, rest.get(len..)?)));
            match found {
                Some((with, after)) => {
                    out.push_str(with);
                    rest = after;
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }

    /// What the shortest entry that opens `key` says.
    fn shortest(&self, key: &str) -> Option<&str> {
        let mut found = None;
        self.walk(key.as_bytes(), |_, at| {
            found = Some(at);
            false
        });
        self.text(found?)
    }

    /// Calls `found` with length and place of the text of each entry that opens `key`, shortest first, until it says no.
    fn walk(&self, key: &[u8], mut found: impl FnMut(usize, usize) -> bool) {
        let unit = |node: usize| self.inner.trie.get(node).copied();
        let Some(root) = unit(0) else { return };
        let mut node = offset(root);
        for (i, &byte) in key.iter().enumerate() {
            if byte == 0 {
                return;
            }
            node ^= usize::from(byte);
            let Some(here) = unit(node) else { return };
            if here & (1 << 31 | 0xff) != u32::from(byte) {
                return;
            }
            node ^= offset(here);
            let has_leaf = here >> 8 & 1 == 1;
            if has_leaf {
                let Some(leaf) = unit(node) else { return };
                if !found(i + 1, (leaf & !(1 << 31)) as usize) {
                    return;
                }
            }
        }
    }

    /// The text at this place of the block, if it ends.
    fn text(&self, at: usize) -> Option<&str> {
        let bytes = self.inner.texts.get(at..)?;
        let end = bytes.iter().take(LONGEST_TEXT).position(|&byte| byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

/// How far the children of a unit of the trie are.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}
