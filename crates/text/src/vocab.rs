//! Token texts, kinds and scores, and the way back from a text to its id.
//!
//! One arena holds all texts and one open-addressing table the ids: no allocation per token, so that 262,144 entries load
//! in milliseconds. Knows nothing of algorithms or of the spelling of bytes inside texts.

use crate::TextError;
use crate::byte_level::CHAR_OF_BYTE;
use crate::hash::{MAX_PROBES, hash_bytes};
use crate::spec::TokenKind;

/// No token here.
const EMPTY: u32 = u32::MAX;

/// A slot says all about a text of up to 8 bytes, which most tokens are: no look into the arena is needed to tell it apart.
#[derive(Clone, Copy)]
struct Slot {
    /// The first 8 bytes, zero-padded.
    head: u64,
    /// Length and upper bits of the hash.
    tag: u32,
    id: u32,
}

/// A text, ready to be looked up.
#[derive(Clone, Copy)]
pub(crate) struct Probe<'t> {
    text: &'t [u8],
    head: u64,
    tag: u32,
    hash: u64,
}

impl<'t> Probe<'t> {
    #[inline]
    pub(crate) fn text(&self) -> &'t [u8] {
        self.text
    }

    #[inline]
    pub(crate) fn new(text: &'t [u8]) -> Self {
        let mut head = [0u8; 8];
        let n = text.len().min(8);
        head[..n].copy_from_slice(&text[..n]);
        let hash = hash_bytes(text);
        // Lengths of 255 and more share a number; such texts are compared whole in any case.
        let tag = ((hash >> 40) as u32) << 8 | text.len().min(255) as u32;
        Self { text, head: u64::from_le_bytes(head), tag, hash }
    }
}

/// The texts of a vocabulary.
pub(crate) struct Vocab {
    arena: Vec<u8>,
    /// `ends[id]` closes the text of `id` in the arena; it opens where the text before it closes.
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    scores: Vec<f32>,
    slots: Vec<Slot>,
    mask: usize,
}

impl Vocab {
    pub(crate) fn new<'a>(
        tokens: impl Iterator<Item = &'a [u8]>,
        scores: Vec<f32>,
        kinds: &[i32],
    ) -> Result<Self, TextError> {
        let expected = tokens.size_hint().0;
        let mut arena: Vec<u8> = Vec::with_capacity(expected.saturating_mul(8));
        let mut ends: Vec<u32> = Vec::with_capacity(expected);
        for text in tokens {
            arena.extend_from_slice(text);
            let end =
                u32::try_from(arena.len()).map_err(|_| broken("token texts are over 4 GiB together"))?;
            ends.push(end);
        }
        let n = ends.len();
        if n == 0 || n >= EMPTY as usize / 4 {
            return Err(broken(&format!("it has {n} tokens")));
        }
        for (what, len) in [("scores", scores.len()), ("token types", kinds.len())] {
            if len != 0 && len < n {
                return Err(broken(&format!("{n} tokens but {len} {what}")));
            }
        }
        let kinds = if kinds.is_empty() {
            vec![TokenKind::Normal; n]
        } else {
            kinds[..n].iter().map(|&kind| TokenKind::from_gguf(kind)).collect()
        };
        let capacity = (n * 2).next_power_of_two();
        let mut vocab = Self {
            arena,
            ends,
            kinds,
            scores,
            slots: vec![Slot { head: 0, tag: 0, id: EMPTY }; capacity],
            mask: capacity - 1,
        };
        vocab.index()?;
        Ok(vocab)
    }

    /// Fills the table. Of equal texts the first id stays; an empty text cannot be found.
    fn index(&mut self) -> Result<(), TextError> {
        for id in 0..self.ends.len() as u32 {
            let text = self.text(id);
            if text.is_empty() {
                continue;
            }
            let probe = Probe::new(text);
            let mut at = probe.hash as usize & self.mask;
            let slot = Slot { head: probe.head, tag: probe.tag, id };
            let mut probes = 0;
            while self.slots[at].id != EMPTY && !self.matches(self.slots[at], &probe) {
                at = (at + 1) & self.mask;
                probes += 1;
                if probes > MAX_PROBES {
                    return Err(broken("its texts were chosen to collide"));
                }
            }
            if self.slots[at].id == EMPTY {
                self.slots[at] = slot;
            }
        }
        Ok(())
    }

    #[inline]
    fn matches(&self, slot: Slot, probe: &Probe<'_>) -> bool {
        slot.tag == probe.tag
            && slot.head == probe.head
            && (probe.text.len() <= 8 || self.text(slot.id) == probe.text)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text as the file spells it. `id` must be in range.
    #[inline]
    pub(crate) fn text(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        &self.arena[start..self.ends[id] as usize]
    }

    #[inline]
    pub(crate) fn kind(&self, id: u32) -> TokenKind {
        self.kinds[id as usize]
    }

    pub(crate) fn set_kind(&mut self, id: u32, kind: TokenKind) {
        self.kinds[id as usize] = kind;
    }

    #[inline]
    pub(crate) fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    /// The id with exactly this text.
    #[inline]
    pub(crate) fn find(&self, text: &[u8]) -> Option<u32> {
        self.find_probe(&Probe::new(text))
    }

    #[inline]
    pub(crate) fn find_probe(&self, probe: &Probe<'_>) -> Option<u32> {
        let mut at = probe.hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot.id == EMPTY {
                return None;
            }
            if self.matches(slot, probe) {
                return Some(slot.id);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Asks memory for what [`Vocab::find_probe`] will read. Lookups in a row wait for memory one after another, touches
    /// do not.
    #[inline]
    pub(crate) fn touch(&self, probe: &Probe<'_>) {
        std::hint::black_box(self.slots[probe.hash as usize & self.mask].tag);
    }

    /// The id with exactly this text, if the token may be made from ordinary text: a word of a user's must never turn into
    /// a control token.
    #[inline]
    pub(crate) fn find_plain(&self, text: &[u8]) -> Option<u32> {
        self.find(text).filter(|&id| self.is_plain(id))
    }

    #[inline]
    pub(crate) fn is_plain(&self, id: u32) -> bool {
        matches!(self.kind(id), TokenKind::Normal | TokenKind::UserDefined)
    }

    /// Ids of the 256 tokens `<0x00>` .. `<0xFF>`, where the vocabulary has them.
    pub(crate) fn byte_tokens(&self) -> Box<[Option<u32>; 256]> {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let mut ids = Box::new([None; 256]);
        for (byte, id) in ids.iter_mut().enumerate() {
            *id = self.find(&[b'<', b'0', b'x', HEX[byte >> 4], HEX[byte & 15], b'>']);
        }
        ids
    }

    /// Whether every byte, spelled as GPT-2 does, is a token.
    pub(crate) fn has_all_bytes(&self) -> bool {
        let mut buffer = [0u8; 4];
        CHAR_OF_BYTE.iter().all(|c| self.find_plain(c.encode_utf8(&mut buffer).as_bytes()).is_some())
    }

    /// The byte for which a token of kind `Byte` stands.
    pub(crate) fn byte_of(&self, id: u32) -> Option<u8> {
        let text = self.text(id);
        let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
        if digits.len() != 2 {
            return None;
        }
        u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

pub(crate) fn broken(what: &str) -> TextError {
    TextError::BrokenVocabulary { what: what.to_owned() }
}
