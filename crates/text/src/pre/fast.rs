//! Hand-written splitters for the rules that most models use, each equal to its regular expression.
//!
//! The expressions stand beside the splitters as [`PATTERN`](Words::patterns); a property test holds each pair together.
//! They walk the text once and never backtrack: the regular-expression engine needs several hundred nanoseconds a word,
//! these some ten.

use super::classes::{CLASSES, Classes, LETTER, MARK, NUMBER, SPACE};

/// How a text falls into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// GPT-2: contractions, letters, digits and signs, each with the space before it.
    Gpt2,
    /// GPT-2 after every digit was set apart (SmolLM, StarCoder, Command R).
    Gpt2Digits,
    /// The cl100k form with digits in threes (Llama 3).
    Cl100k3,
    /// The cl100k form with single digits (Qwen2).
    Cl100k1,
    /// The same, with combining marks among the letters (Qwen3.5).
    Cl100k1Marks,
}

impl Words {
    pub(crate) const ALL: [Self; 5] =
        [Self::Gpt2, Self::Gpt2Digits, Self::Cl100k3, Self::Cl100k1, Self::Cl100k1Marks];

    /// The regular expressions that this splitter stands for.
    pub(crate) fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &[super::GPT2],
            Self::Gpt2Digits => &[super::DIGIT, super::GPT2],
            Self::Cl100k3 => &[super::LLAMA3],
            Self::Cl100k1 => &[super::QWEN2],
            Self::Cl100k1Marks => &[super::QWEN35],
        }
    }

    /// Calls `word` with each word of `text`, in order; together they are the text.
    #[inline]
    pub(crate) fn split(self, text: &str, word: impl FnMut(&str)) {
        let cursor = Cursor { text, classes: &CLASSES };
        match self {
            Self::Gpt2 => gpt2::<false>(cursor, word),
            Self::Gpt2Digits => gpt2::<true>(cursor, word),
            Self::Cl100k3 => cl100k::<3, false>(cursor, word),
            Self::Cl100k1 => cl100k::<1, false>(cursor, word),
            Self::Cl100k1Marks => cl100k::<1, true>(cursor, word),
        }
    }
}

#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a str,
    classes: &'static Classes,
}

/// Class of what stands at a place: the bits of the character, or none of them at the end of the text.
#[derive(Clone, Copy)]
struct At {
    bits: u8,
    /// Length of the character in bytes; 0 at the end.
    len: usize,
}

impl Cursor<'_> {
    #[inline]
    fn at(self, at: usize) -> At {
        match self.text.as_bytes().get(at) {
            None => At { bits: 0, len: 0 },
            Some(&byte) if byte < 0x80 => At { bits: self.classes.of(byte as char), len: 1 },
            Some(_) => match self.text[at..].chars().next() {
                Some(c) => At { bits: self.classes.of(c), len: c.len_utf8() },
                None => At { bits: 0, len: 0 },
            },
        }
    }

    /// End of the run of characters from `at` with any of `any`.
    #[inline]
    fn run(self, mut at: usize, any: u8) -> usize {
        loop {
            let next = self.at(at);
            if next.len == 0 || next.bits & any == 0 {
                return at;
            }
            at += next.len;
        }
    }

    /// End of the run of characters from `at` with none of `none`.
    #[inline]
    fn run_without(self, mut at: usize, none: u8) -> usize {
        loop {
            let next = self.at(at);
            if next.len == 0 || next.bits & none != 0 {
                return at;
            }
            at += next.len;
        }
    }

    /// Start of the last character before `end`.
    fn before(self, end: usize) -> usize {
        self.text[..end].char_indices().next_back().map_or(0, |(at, _)| at)
    }
}

/// Length of `'s 't 're 've 'm 'll 'd` at the head of `bytes`, which begins with the apostrophe.
#[inline]
fn contraction(bytes: &[u8], fold: bool) -> usize {
    let lower = |byte: u8| if fold { byte.to_ascii_lowercase() } else { byte };
    let (Some(&first), second) = (bytes.get(1), bytes.get(2)) else { return 0 };
    match (lower(first), second.map(|&byte| lower(byte))) {
        (b's' | b't' | b'm' | b'd', _) => 2,
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => 3,
        // U+017F, the long s, folds to s.
        (0xc5, Some(0xbf)) if fold => 3,
        _ => 0,
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, after `\p{N}` if `DIGITS`.
#[inline]
fn gpt2<const DIGITS: bool>(cursor: Cursor<'_>, mut word: impl FnMut(&str)) {
    let text = cursor.text;
    let bytes = text.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        if bytes[start] == b'\'' {
            let len = contraction(&bytes[start..], false);
            if len > 0 {
                word(&text[start..start + len]);
                start += len;
                continue;
            }
        }
        let mut from = start;
        let mut here = cursor.at(start);
        if bytes[start] == b' ' {
            let next = cursor.at(start + 1);
            let joins = next.len > 0 && next.bits & SPACE == 0 && !(DIGITS && next.bits & NUMBER != 0);
            if joins {
                from = start + 1;
                here = next;
            }
        }
        let end = if here.bits & LETTER != 0 {
            cursor.run(from, LETTER)
        } else if here.bits & NUMBER != 0 {
            if DIGITS { from + here.len } else { cursor.run(from, NUMBER) }
        } else if here.bits & SPACE == 0 {
            cursor.run_without(from, LETTER | NUMBER | SPACE)
        } else {
            let end = cursor.run(start, SPACE);
            let next = cursor.at(end);
            let closes = next.len == 0 || (DIGITS && next.bits & NUMBER != 0);
            spaces_before_word(cursor, start, end, closes)
        };
        word(&text[start..end]);
        start = end;
    }
}

/// `\s+(?!\S)|\s+` on the spaces `start..end`: all of them where nothing follows, else all but the last, if there are two.
#[inline]
fn spaces_before_word(cursor: Cursor<'_>, start: usize, end: usize, closes: bool) -> usize {
    if closes {
        return end;
    }
    let last = cursor.before(end);
    if last > start { last } else { end }
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
/// with `\p{M}` beside `\p{L}` if `MARKS`.
#[inline]
fn cl100k<const DIGITS: usize, const MARKS: bool>(cursor: Cursor<'_>, mut word: impl FnMut(&str)) {
    let letter = if MARKS { LETTER | MARK } else { LETTER };
    let text = cursor.text;
    let bytes = text.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let byte = bytes[start];
        if byte == b'\'' {
            let len = contraction(&bytes[start..], true);
            if len > 0 {
                word(&text[start..start + len]);
                start += len;
                continue;
            }
        }
        let here = cursor.at(start);
        let end = if here.bits & letter != 0 {
            cursor.run(start, letter)
        } else if here.bits & NUMBER != 0 {
            let mut end = start + here.len;
            for _ in 1..DIGITS {
                let next = cursor.at(end);
                if next.bits & NUMBER == 0 {
                    break;
                }
                end += next.len;
            }
            end
        } else {
            let next = cursor.at(start + here.len);
            if next.bits & letter != 0 && byte != b'\r' && byte != b'\n' {
                cursor.run(start + here.len, letter)
            } else if here.bits & SPACE == 0 {
                signs(cursor, start, letter)
            } else if byte == b' ' && next.len > 0 && next.bits & (SPACE | letter | NUMBER) == 0 {
                signs(cursor, start + 1, letter)
            } else {
                let end = cursor.run(start, SPACE);
                match bytes[start..end].iter().rposition(|&byte| byte == b'\r' || byte == b'\n') {
                    Some(newline) => start + newline + 1,
                    None => spaces_before_word(cursor, start, end, cursor.at(end).len == 0),
                }
            }
        };
        word(&text[start..end]);
        start = end;
    }
}

/// `[^\s\p{L}\p{N}]+[\r\n]*`
#[inline]
fn signs(cursor: Cursor<'_>, from: usize, letter: u8) -> usize {
    let bytes = cursor.text.as_bytes();
    let mut end = cursor.run_without(from, letter | NUMBER | SPACE);
    while matches!(bytes.get(end), Some(b'\r' | b'\n')) {
        end += 1;
    }
    end
}
