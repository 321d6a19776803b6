//! Unicode classes of characters, in a table: one load per ASCII byte, two per other character.
//!
//! The sets come from `regex-syntax`, the same tables that the regular expressions use, so that the hand-written
//! splitters and the expressions which they stand for cannot disagree about a character.

use std::sync::LazyLock;

/// `\p{L}`
pub(crate) const LETTER: u8 = 1;
/// `\p{N}`
pub(crate) const NUMBER: u8 = 2;
/// `\s`
pub(crate) const SPACE: u8 = 4;
/// `\p{M}`
pub(crate) const MARK: u8 = 8;
/// `\p{P}`
pub(crate) const PUNCTUATION: u8 = 16;
/// Control, format and private use characters: what `BertNormalizer` takes for control
pub(crate) const CONTROL: u8 = 32;
/// `\p{Mn}`
pub(crate) const NONSPACING: u8 = 64;

const PAGE: usize = 256;
const N_PAGES: usize = 0x11_0000 / PAGE;

/// The bits of every character.
pub(crate) struct Classes {
    /// Which page of `bits` holds each block of 256 characters.
    page_of: Vec<u16>,
    bits: Vec<[u8; PAGE]>,
}

/// The table, made on first use (a few hundred microseconds).
pub(crate) static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::build);

impl Classes {
    fn build() -> Self {
        let mut ranges: Vec<(usize, usize, u8)> = Vec::new();
        for (pattern, bit) in [
            (r"\p{L}", LETTER),
            (r"\p{N}", NUMBER),
            (r"\s", SPACE),
            (r"\p{M}", MARK),
            (r"\p{P}", PUNCTUATION),
            (r"[\p{Cc}\p{Cf}\p{Co}]", CONTROL),
            (r"\p{Mn}", NONSPACING),
        ] {
            let Ok(hir) = regex_syntax::parse(pattern) else { continue };
            if let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) = hir.kind() {
                ranges.extend(
                    class.ranges().iter().map(|range| (range.start() as usize, range.end() as usize, bit)),
                );
            }
        }
        ranges.sort_unstable();
        let mut page_of = Vec::with_capacity(N_PAGES);
        let mut bits: Vec<[u8; PAGE]> = Vec::new();
        // Ranges that may reach into the page at hand: those begun before its end and not yet over.
        let mut open: Vec<(usize, usize, u8)> = Vec::new();
        let mut rest = ranges.into_iter().peekable();
        for page in 0..N_PAGES {
            let (first, last) = (page * PAGE, page * PAGE + PAGE - 1);
            open.retain(|&(_, end, _)| end >= first);
            while let Some(range) = rest.next_if(|&(start, _, _)| start <= last) {
                open.push(range);
            }
            let mut now = [0u8; PAGE];
            for &(start, end, bit) in &open {
                for slot in &mut now[start.max(first) - first..=end.min(last) - first] {
                    *slot |= bit;
                }
            }
            // Neighbours of one kind throughout (most of Han, Hangul, what is unassigned) share a page.
            if bits.last() != Some(&now) {
                bits.push(now);
            }
            page_of.push((bits.len() - 1) as u16);
        }
        Self { page_of, bits }
    }

    /// The bits of a character.
    #[inline]
    pub(crate) fn of(&self, c: char) -> u8 {
        let c = c as usize;
        self.bits[self.page_of[c / PAGE] as usize][c % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters() {
        for (c, bits) in [
            ('a', LETTER),
            ('Ⅷ', NUMBER),
            ('½', NUMBER),
            ('\u{3000}', SPACE),
            ('\u{85}', SPACE | CONTROL),
            ('字', LETTER),
            ('한', LETTER),
            ('\u{301}', MARK | NONSPACING),
            ('\u{903}', MARK),
            ('¿', PUNCTUATION),
            ('$', 0),
            ('\u{200b}', CONTROL),
            ('\u{e000}', CONTROL),
            ('\u{383}', 0),
        ] {
            assert_eq!(CLASSES.of(c), bits, "{c:?}");
        }
    }

    #[test]
    fn every_character_agrees_with_the_standard_library_where_it_can() {
        for c in '\0'..=char::MAX {
            assert_eq!(CLASSES.of(c) & SPACE != 0, c.is_whitespace(), "{c:?}");
        }
        assert!(CLASSES.bits.len() < 400, "{} pages", CLASSES.bits.len());
    }
}
