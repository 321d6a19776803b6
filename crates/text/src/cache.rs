//! A fixed-size, direct-mapped memory of words already encoded.
//!
//! Natural text repeats its words: nine of ten are found here, at one load instead of a round of merging. A new word
//! overwrites whatever shared its slot, so that the memory never grows. Words over 23 bytes or 5 tokens are not kept.

use crate::hash::hash_bytes;

const N_SLOTS: usize = 1 << 14;
const KEY_BYTES: usize = 24;
const MAX_IDS: usize = 5;

#[derive(Clone, Copy)]
struct Slot {
    /// The word, zero-padded; the last byte is its length (0: the slot is free).
    key: [u64; 3],
    n: u32,
    ids: [u32; MAX_IDS],
}

pub(crate) struct WordCache {
    /// Empty until the first word is kept: a short prompt does not pay for the table.
    slots: Vec<Slot>,
}

/// A word small enough to be kept.
pub(crate) struct Key {
    key: [u64; 3],
    at: usize,
}

impl WordCache {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// The key of a word, or none if it is too long or empty.
    #[inline]
    pub(crate) fn key(word: &[u8]) -> Option<Key> {
        let n = word.len();
        if n == 0 || n >= KEY_BYTES {
            return None;
        }
        let mut bytes = [0u8; KEY_BYTES];
        bytes[..n].copy_from_slice(word);
        bytes[KEY_BYTES - 1] = n as u8;
        let mut key = [0u64; 3];
        for (part, chunk) in key.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut eight = [0u8; 8];
            eight.copy_from_slice(chunk);
            *part = u64::from_le_bytes(eight);
        }
        Some(Key { key, at: (hash_bytes(word) >> 20) as usize % N_SLOTS })
    }

    /// The word's tokens, if it is known.
    #[inline]
    pub(crate) fn get(&self, key: &Key) -> Option<&[u32]> {
        let slot = self.slots.get(key.at)?;
        (slot.key == key.key).then(|| &slot.ids[..slot.n as usize])
    }

    /// Keeps the word's tokens, if they are few enough.
    pub(crate) fn put(&mut self, key: &Key, tokens: &[u32]) {
        if tokens.len() > MAX_IDS {
            return;
        }
        if self.slots.is_empty() {
            self.slots = vec![Slot { key: [0; 3], n: 0, ids: [0; MAX_IDS] }; N_SLOTS];
        }
        let slot = &mut self.slots[key.at];
        slot.key = key.key;
        slot.n = tokens.len() as u32;
        slot.ids[..tokens.len()].copy_from_slice(tokens);
    }
}
