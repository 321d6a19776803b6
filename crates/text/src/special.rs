//! Finding special tokens spelled out in text.
//!
//! Leftmost first, the longest where several begin at one place, as the `tokenizers` library has it. A token is looked for
//! only where its first two bytes stand, by the lengths that tokens with this first byte have, in the vocabulary's own
//! table: nothing is built but short lists and a bit set. Control and unknown tokens are matched only on request, so that a user's text
//! cannot smuggle them in; user-defined ones always.

use crate::chat::MARK;
use crate::spec::TokenKind;
use crate::vocab::Vocab;

/// Where to look for special tokens, and which of them swallow white space.
pub(crate) struct Special {
    user_defined: Openings,
    all: Openings,
    /// Sorted ids.
    strips_left: Vec<u32>,
    strips_right: Vec<u32>,
}

/// How the tokens of a set begin.
struct Openings {
    /// Lengths of tokens, longest first, by first byte.
    lengths: Vec<Vec<u32>>,
    /// One bit for each first and second byte.
    pairs: Vec<u64>,
}

impl Openings {
    fn new() -> Self {
        Self { lengths: vec![Vec::new(); 256], pairs: vec![0; 65_536 / 64] }
    }

    fn add(&mut self, text: &[u8]) {
        let Some(&first) = text.first() else { return };
        let len = text.len() as u32;
        let list = &mut self.lengths[first as usize];
        if let Err(at) = list.binary_search_by(|known| len.cmp(known)) {
            list.insert(at, len);
        }
        match text.get(1) {
            Some(&second) => self.set(first, second),
            None => (0..=255).for_each(|second| self.set(first, second)),
        }
    }

    fn set(&mut self, first: u8, second: u8) {
        let bit = usize::from(first) << 8 | usize::from(second);
        self.pairs[bit / 64] |= 1 << (bit % 64);
    }

    /// Lengths of the tokens that may stand at the head of `bytes`.
    #[inline]
    fn at(&self, bytes: &[u8]) -> &[u32] {
        let &[first, ..] = bytes else { return &[] };
        // At the end of a text only tokens of one byte are left, and those have the bits of every second byte.
        let second = bytes.get(1).copied().unwrap_or(0);
        let bit = usize::from(first) << 8 | usize::from(second);
        if self.pairs[bit / 64] >> (bit % 64) & 1 == 0 { &[] } else { &self.lengths[first as usize] }
    }
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// Bytes of the character that begins with `first`.
fn char_len(first: u8) -> usize {
    match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xff => 4,
    }
}

fn is_special(kind: TokenKind, parse_special: bool) -> bool {
    match kind {
        TokenKind::UserDefined => true,
        TokenKind::Control | TokenKind::Unknown => parse_special,
        TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => false,
    }
}

impl Special {
    pub(crate) fn new(vocab: &Vocab, mut strips_left: Vec<u32>, mut strips_right: Vec<u32>) -> Self {
        let (mut user_defined, mut all) = (Openings::new(), Openings::new());
        for id in 0..vocab.len() as u32 {
            if is_special(vocab.kind(id), true) {
                all.add(vocab.text(id));
            }
            if is_special(vocab.kind(id), false) {
                user_defined.add(vocab.text(id));
            }
        }
        strips_left.sort_unstable();
        strips_right.sort_unstable();
        Self { user_defined, all, strips_left, strips_right }
    }

    /// The first special token at or after `from`: its id and where it stands.
    fn next(
        &self,
        vocab: &Vocab,
        text: &str,
        from: usize,
        parse_special: bool,
    ) -> Option<(u32, usize, usize)> {
        let openings = if parse_special { &self.all } else { &self.user_defined };
        let bytes = text.as_bytes();
        for (offset, &first) in bytes[from..].iter().enumerate() {
            let start = from + offset;
            for &len in openings.at(&bytes[from + offset..]) {
                let end = start + len as usize;
                // A mark within a longer spelling parts it anyway; after a single character it must be looked for.
                // The boundary checks keep texts that are no UTF-8 (in a damaged file) from cutting a character.
                if end <= bytes.len()
                    && text.is_char_boundary(start)
                    && text.is_char_boundary(end)
                    && let Some(id) = vocab.find(&bytes[start..end])
                    && is_special(vocab.kind(id), parse_special)
                    && !(len as usize == char_len(first) && text[end..].starts_with(MARK))
                {
                    return Some((id, start, end));
                }
            }
        }
        None
    }

    /// Calls `part` with the text between special tokens and with the tokens, in order.
    pub(crate) fn split<'t, E>(
        &self,
        vocab: &Vocab,
        text: &'t str,
        parse_special: bool,
        mut part: impl FnMut(Fragment<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut done = 0;
        while let Some((id, start, end)) = self.next(vocab, text, done, parse_special) {
            let mut before = &text[done..start];
            if self.strips_left.binary_search(&id).is_ok() {
                before = before.trim_end();
            }
            if !before.is_empty() {
                part(Fragment::Text(before))?;
            }
            part(Fragment::Token(id))?;
            done = end;
            if self.strips_right.binary_search(&id).is_ok() {
                done = text.len() - text[end..].trim_start().len();
            }
        }
        if done < text.len() {
            part(Fragment::Text(&text[done..]))?;
        }
        Ok(())
    }

    /// Every place in `text` where a control or unknown token is spelled out, overlapping ones too.
    pub(crate) fn control_starts(&self, vocab: &Vocab, text: &str) -> Vec<usize> {
        let control = |&(at, _): &(usize, u8)| {
            self.all.at(&text.as_bytes()[at..]).iter().any(|&len| {
                text.as_bytes()
                    .get(at..at + len as usize)
                    .and_then(|spelled| vocab.find(spelled))
                    .is_some_and(|id| matches!(vocab.kind(id), TokenKind::Control | TokenKind::Unknown))
            })
        };
        let places = text.bytes().enumerate().filter(|&(at, _)| text.is_char_boundary(at));
        places.filter(control).map(|(at, _)| at).collect()
    }
}
