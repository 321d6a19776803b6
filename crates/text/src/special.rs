//! Finding special tokens spelled out in text.
//!
//! Leftmost first, the longest where several begin at one place, as the `tokenizers` library has it. A token is looked for
//! only where its first two bytes stand, by the lengths that tokens with this first byte have, in the vocabulary's own
//! table: nothing is built but short lists and a bit set. Control and unknown tokens are matched only on request, so that a user's text
//! cannot smuggle them in; user-defined ones always.

use std::collections::HashMap;

use crate::TextError;
use crate::chat::MARK;
use crate::normalize::Normal;
use crate::rules::Rules;
use crate::spec::TokenKind;
use crate::vocab::Vocab;

/// Where to look for special tokens, and which of them swallow white space.
pub(crate) struct Special {
    user_defined: Openings,
    all: Openings,
    /// Ids by spelling, where that is not the vocabulary's.
    spelled: Option<HashMap<Vec<u8>, u32>>,
    /// Sorted ids.
    strips_left: Vec<u32>,
    strips_right: Vec<u32>,
    /// Tokens that are matched only between what are no letters or digits.
    single_word: Vec<u32>,
}

/// A longer spelling is never found: published ones have some dozens of bytes, and every length costs a look.
const LONGEST: usize = 1024;

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
        let Some(&first) = text.first().filter(|_| text.len() <= LONGEST) else { return };
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
    /// Every token of the vocabulary that is special by its kind.
    pub(crate) fn new(vocab: &Vocab, strips_left: &[u32], strips_right: &[u32]) -> Self {
        let mut special = Self::empty(strips_left, strips_right);
        for id in 0..vocab.len() as u32 {
            special.add(vocab, id, vocab.text(id));
        }
        special
    }

    /// The added tokens that are looked for in a text as it is. A control token is one of them whatever its rule says:
    /// in normalized text nobody could say any more who wrote it.
    pub(crate) fn in_text(vocab: &Vocab, rules: &Rules, strips_left: &[u32], strips_right: &[u32]) -> Self {
        let mut special = Self::empty(strips_left, strips_right);
        for added in &rules.added {
            if !added.normalized || vocab.kind(added.id) != TokenKind::UserDefined {
                special.add(vocab, added.id, vocab.text(added.id));
                special.single_word.extend(Some(added.id).filter(|_| added.single_word));
            }
        }
        special.single_word.sort_unstable();
        special
    }

    /// The added tokens that are looked for in normalized text, in their normalized form; none if there are none.
    pub(crate) fn in_normalized(
        vocab: &Vocab,
        rules: &Rules,
        strips_left: &[u32],
        strips_right: &[u32],
    ) -> Result<Option<Self>, TextError> {
        let mut special = Self::empty(strips_left, strips_right);
        let mut spelled = HashMap::new();
        for added in &rules.added {
            if !added.normalized || vocab.kind(added.id) != TokenKind::UserDefined {
                continue;
            }
            let text = String::from_utf8_lossy(vocab.text(added.id));
            let text = Normal::apply_all(&rules.normal, &text)?;
            special.add(vocab, added.id, text.as_bytes());
            special.single_word.extend(Some(added.id).filter(|_| added.single_word));
            spelled.insert(text.into_owned().into_bytes(), added.id);
        }
        special.single_word.sort_unstable();
        let any = !spelled.is_empty();
        special.spelled = Some(spelled);
        Ok(any.then_some(special))
    }

    fn empty(strips_left: &[u32], strips_right: &[u32]) -> Self {
        let sorted = |ids: &[u32]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        Self {
            user_defined: Openings::new(),
            all: Openings::new(),
            spelled: None,
            strips_left: sorted(strips_left),
            strips_right: sorted(strips_right),
            single_word: Vec::new(),
        }
    }

    fn add(&mut self, vocab: &Vocab, id: u32, text: &[u8]) {
        if is_special(vocab.kind(id), true) {
            self.all.add(text);
        }
        if is_special(vocab.kind(id), false) {
            self.user_defined.add(text);
        }
    }

    fn find(&self, vocab: &Vocab, text: &[u8]) -> Option<u32> {
        match &self.spelled {
            Some(spelled) => spelled.get(text).copied(),
            None => vocab.find(text),
        }
    }

    /// The special token at `start`: its id and its end.
    fn token_at(&self, vocab: &Vocab, text: &str, start: usize, parse_special: bool) -> Option<(u32, usize)> {
        let openings = if parse_special { &self.all } else { &self.user_defined };
        let bytes = text.as_bytes();
        openings.at(&bytes[start..]).iter().find_map(|&len| {
            let end = start + len as usize;
            // A mark within a longer spelling parts it anyway; after a single character it must be looked for.
            // The boundary checks keep texts that are no UTF-8 (in a damaged file) from cutting a character.
            let id = (end <= bytes.len() && text.is_char_boundary(start) && text.is_char_boundary(end))
                .then(|| self.find(vocab, &bytes[start..end]))??;
            let parted = len as usize == char_len(bytes[start]) && text[end..].starts_with(MARK);
            (is_special(vocab.kind(id), parse_special) && !parted).then_some((id, end))
        })
    }

    /// The first special token at or after `from`: its id and where it stands.
    fn next(
        &self,
        vocab: &Vocab,
        text: &str,
        from: usize,
        parse_special: bool,
    ) -> Option<(u32, usize, usize)> {
        let mut start = from;
        while start < text.len() {
            match self.token_at(vocab, text, start, parse_special) {
                Some((id, end)) if self.stands_free(id, text, start, end) => return Some((id, start, end)),
                // What is no word of its own is passed over whole.
                Some((_, end)) => start = end,
                None => start += 1,
            }
        }
        None
    }

    /// Whether the token may be matched here: always, unless it must be a word of its own.
    fn stands_free(&self, id: u32, text: &str, start: usize, end: usize) -> bool {
        let is_word = |c: char| regex_syntax::try_is_word_character(c).unwrap_or(false);
        self.single_word.binary_search(&id).is_err()
            || !(text[..start].chars().next_back().is_some_and(is_word)
                || text[end..].chars().next().is_some_and(is_word))
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
                    .and_then(|spelled| self.find(vocab, spelled))
                    .is_some_and(|id| matches!(vocab.kind(id), TokenKind::Control | TokenKind::Unknown))
            })
        };
        let places = text.bytes().enumerate().filter(|&(at, _)| text.is_char_boundary(at));
        places.filter(control).map(|(at, _)| at).collect()
    }
}
