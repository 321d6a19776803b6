//! Finding special tokens spelled out in text.
//!
//! Leftmost first, the longest where several begin at one place, as the `tokenizers` library has it. A token is looked for
//! only where its first byte stands, by the lengths that tokens with this first byte have, in the vocabulary's own table:
//! nothing is built but 256 short lists. Control and unknown tokens are matched only on request, so that a user's text
//! cannot smuggle them in; user-defined ones always.

use crate::chat::MARK;
use crate::spec::TokenKind;
use crate::vocab::Vocab;

/// The lists, and which tokens swallow white space.
pub(crate) struct Special {
    /// Lengths of user-defined tokens, longest first, by first byte.
    user_defined: Vec<Vec<u32>>,
    /// Lengths of all special tokens, longest first, by first byte.
    all: Vec<Vec<u32>>,
    /// Sorted ids.
    strips_left: Vec<u32>,
    strips_right: Vec<u32>,
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
        let mut user_defined = vec![Vec::new(); 256];
        let mut all = vec![Vec::new(); 256];
        for id in 0..vocab.len() as u32 {
            let kind = vocab.kind(id);
            if !is_special(kind, true) {
                continue;
            }
            let text = vocab.text(id);
            let Some(&first) = text.first() else { continue };
            let len = text.len() as u32;
            let add = |lists: &mut Vec<Vec<u32>>| {
                let list = &mut lists[first as usize];
                if let Err(at) = list.binary_search_by(|known| len.cmp(known)) {
                    list.insert(at, len);
                }
            };
            add(&mut all);
            if is_special(kind, false) {
                add(&mut user_defined);
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
        let lists = if parse_special { &self.all } else { &self.user_defined };
        let bytes = text.as_bytes();
        for (offset, &first) in bytes[from..].iter().enumerate() {
            let start = from + offset;
            for &len in &lists[first as usize] {
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
        let control = |&(at, first): &(usize, u8)| {
            self.all[first as usize].iter().any(|&len| {
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
