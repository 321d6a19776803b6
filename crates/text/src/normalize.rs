//! Normalizers of `tokenizer.json`: what is done to a text before it is split into words.
//!
//! Each is the function of the same name in the `tokenizers` library; they run one after another. A text that none of
//! them changes is not copied. Left out: nothing that a published model was seen to use.

use std::borrow::Cow;

use fancy_regex::Regex;
use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{
    IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfd_quick, is_nfkc_quick, is_nfkd_quick,
};

use crate::TextError;
use crate::byte_level::CHAR_OF_BYTE;
use crate::charsmap::Charsmap;
use crate::pre::classes::{CLASSES, CONTROL, NONSPACING};

/// A text may grow to this many times its size and a little more; by Unicode alone it grows 18-fold at most. A file from
/// anywhere could ask for more memory than there is.
const MAX_GROWTH: usize = 64;
const MAX_START: usize = 1 << 16;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Normal {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    /// What neural machine translation wants gone: control characters, and odd spaces made plain.
    Nmt,
    Lowercase,
    /// Drops combining marks.
    StripAccents,
    /// Trims white space.
    Strip {
        left: bool,
        right: bool,
    },
    Replace {
        what: Find,
        with: String,
    },
    /// Puts this before a text that is not empty.
    Prepend(String),
    Bert(Bert),
    Charsmap(Charsmap),
    /// Writes each byte as a character, see [`byte_level`](crate::byte_level).
    ByteLevel,
}

/// What is replaced.
#[derive(Clone, Debug)]
pub(crate) enum Find {
    Literal(String),
    Regex(Regex),
}

/// The settings of `BertNormalizer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bert {
    pub(crate) clean_text: bool,
    /// Spaces around Chinese characters.
    pub(crate) handle_chinese_chars: bool,
    pub(crate) strip_accents: bool,
    pub(crate) lowercase: bool,
}

impl Normal {
    /// All steps on `text`.
    pub(crate) fn apply_all<'t>(steps: &[Self], text: &'t str) -> Result<Cow<'t, str>, TextError> {
        let most = most_bytes(text.len());
        let mut text = Cow::Borrowed(text);
        for step in steps {
            let changed = match step.apply(&text, most)? {
                Cow::Owned(changed) => changed,
                Cow::Borrowed(trimmed) if trimmed.len() < text.len() => trimmed.to_owned(),
                Cow::Borrowed(_) => continue,
            };
            within(changed.len(), most)?;
            text = Cow::Owned(changed);
        }
        Ok(text)
    }

    /// One step, which stops where the text would come to have more than `most` bytes, if one step alone could do that.
    fn apply<'t>(&self, text: &'t str, most: usize) -> Result<Cow<'t, str>, TextError> {
        let same = Cow::Borrowed(text);
        Ok(match self {
            Self::Nfc if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes => same,
            Self::Nfd if text.is_ascii() || is_nfd_quick(text.chars()) == IsNormalized::Yes => same,
            Self::Nfkc if text.is_ascii() || is_nfkc_quick(text.chars()) == IsNormalized::Yes => same,
            Self::Nfkd if text.is_ascii() || is_nfkd_quick(text.chars()) == IsNormalized::Yes => same,
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
            Self::Nmt => text.chars().filter(|&c| !is_nmt_control(c)).map(nmt_space).collect(),
            Self::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Self::StripAccents if text.is_ascii() => same,
            Self::StripAccents => text.chars().filter(|&c| !is_combining_mark(c)).collect(),
            Self::Strip { left, right } => {
                let text = if *left { text.trim_start() } else { text };
                Cow::Borrowed(if *right { text.trim_end() } else { text })
            }
            Self::Replace { what: Find::Literal(what), with } => {
                if !what.is_empty() && text.contains(what.as_str()) {
                    within(text.matches(what.as_str()).count().saturating_mul(with.len()), most)?;
                    Cow::Owned(text.replace(what.as_str(), with))
                } else {
                    same
                }
            }
            Self::Replace { what: Find::Regex(what), with } => replace_all(what, text, with, most)?,
            Self::Prepend(prefix) if !text.is_empty() => Cow::Owned(format!("{prefix}{text}")),
            Self::Prepend(_) => same,
            Self::Bert(bert) => Cow::Owned(bert.apply(text)),
            Self::Charsmap(map) => Cow::Owned(map.by_graphemes(text)),
            Self::ByteLevel => text.bytes().map(|byte| CHAR_OF_BYTE[usize::from(byte)]).collect(),
        })
    }
}

/// How long a text of so many bytes may become.
pub(crate) fn most_bytes(bytes: usize) -> usize {
    bytes.saturating_mul(MAX_GROWTH).saturating_add(MAX_START)
}

/// An error if a text has become too long.
pub(crate) fn within(bytes: usize, most: usize) -> Result<(), TextError> {
    if bytes <= most { Ok(()) } else { Err(TextError::GrowsTooLong { most }) }
}

/// `text` with every match of `what` replaced by `with`, taken literally.
fn replace_all<'t>(what: &Regex, text: &'t str, with: &str, most: usize) -> Result<Cow<'t, str>, TextError> {
    let mut out = String::new();
    let mut done = 0;
    for found in what.find_iter(text) {
        let found = found
            .map_err(|_| TextError::SplitTooHard { pre: what.as_str().to_owned(), bytes: text.len() })?;
        out.push_str(&text[done..found.start()]);
        out.push_str(with);
        within(out.len(), most)?;
        done = found.end();
    }
    if done == 0 && out.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    out.push_str(&text[done..]);
    Ok(Cow::Owned(out))
}

impl Bert {
    /// Cleans `text`.
    pub(crate) fn apply(self, text: &str) -> String {
        if self.clean_text && text.is_ascii() {
            // No accents, nothing Chinese.
            let clean = text.chars().filter(|&c| is_bert_space(c) || !c.is_ascii_control());
            let clean = clean.map(|c| if is_bert_space(c) { ' ' } else { c });
            return clean.map(|c| if self.lowercase { c.to_ascii_lowercase() } else { c }).collect();
        }
        let clean = text.chars().filter(|&c| {
            !self.clean_text || (c != '\0' && c != '\u{fffd}' && (is_bert_space(c) || !is_control(c)))
        });
        let clean = clean.map(|c| if self.clean_text && c.is_whitespace() { ' ' } else { c });
        let spaced = clean.flat_map(|c| {
            let space = (self.handle_chinese_chars && is_chinese(c)).then_some(' ');
            space.into_iter().chain([c]).chain(space)
        });
        let mut out = String::with_capacity(text.len());
        let lower = |c: char, out: &mut String| {
            if self.lowercase {
                out.extend(c.to_lowercase());
            } else {
                out.push(c);
            }
        };
        if self.strip_accents {
            spaced.nfd().filter(|&c| CLASSES.of(c) & NONSPACING == 0).for_each(|c| lower(c, &mut out));
        } else {
            spaced.for_each(|c| lower(c, &mut out));
        }
        out
    }
}

/// The control characters that are spaces to BERT.
fn is_bert_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r')
}

fn is_control(c: char) -> bool {
    CLASSES.of(c) & CONTROL != 0
}

/// The blocks that `BertNormalizer` sets apart. (It starts one block at U+2B920, a slip for U+2B820 that models inherit.)
fn is_chinese(c: char) -> bool {
    matches!(c as u32,
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_b73f | 0x2_b740..=0x2_b81f
        | 0x2_b920..=0x2_ceaf | 0xf900..=0xfaff | 0x2_f800..=0x2_fa1f)
}

fn is_nmt_control(c: char) -> bool {
    matches!(c as u32, 0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0x8f | 0x9f)
}

fn nmt_space(c: char) -> char {
    match c as u32 {
        0x09 | 0x0a | 0x0c | 0x0d | 0x1680 | 0x200b..=0x200f | 0x2028 | 0x2029 | 0x2581 | 0xfeff | 0xfffd => {
            ' '
        }
        _ => c,
    }
}
