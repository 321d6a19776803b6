//! Keeps users from writing control tokens.
//!
//! A template mixes the messages into its own text, and afterwards nobody can say whether `<|im_end|>` came from the
//! template or from a user who typed it. So before rendering, every place in a message that spells a control token gets
//! a mark after its first character. The mark is a noncharacter: templates do not trim, split or print it. While
//! encoding, a marked spelling is no token, and the marks are lifted from plain text. A mark that the user typed is doubled.

use std::borrow::Cow;

use crate::tokenizer::Tokenizer;

/// U+FDD0, which Unicode reserves for use inside programs.
pub(crate) const MARK: char = '\u{fdd0}';

/// `text` with every spelling of a control token marked.
pub(super) fn lower(tokenizer: &Tokenizer, text: String) -> String {
    let places = tokenizer.special().control_starts(tokenizer.vocab(), &text);
    if places.is_empty() && !text.contains(MARK) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut places = places.into_iter().peekable();
    for (at, c) in text.char_indices() {
        out.push(c);
        if c == MARK {
            out.push(MARK);
        }
        if places.next_if_eq(&at).is_some() {
            out.push(MARK);
        }
    }
    out
}

/// `text` without the marks of [`lower`].
pub(super) fn lift(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != MARK {
            out.push(c);
        } else if let Some(next) = chars.next() {
            // Two marks are one that the user typed; a mark and anything else is that alone.
            out.push(next);
        }
    }
    Cow::Owned(out)
}
