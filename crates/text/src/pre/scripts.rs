//! The scripts of characters, for the pre-tokenizer `UnicodeScripts`: which stretch of a text is Latin, which Cyrillic.
//!
//! The `tokenizers` library took the scripts from SentencePiece, as Unicode 9.0 has them. Here they come from `regex-syntax`,
//! like all classes: of each script, what Unicode had assigned then, and the few characters that it has moved since.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// The scripts of Unicode 9.0, by their codes of ISO 15924. The first three write Japanese, and count as one.
const NAMES: &str = "Hani Hira Kana Adlm Aghb Ahom Arab Armi Armn Avst Bali Bamu Bass Batk Beng Bhks Bopo Brah Brai Bugi \
    Buhd Cakm Cans Cari Cham Cher Copt Cprt Cyrl Deva Dsrt Dupl Egyp Elba Ethi Geor Glag Goth Gran Grek Gujr Guru Hang \
    Hano Hatr Hebr Hluw Hmng Hung Ital Java Kali Khar Khmr Khoj Knda Kthi Lana Laoo Latn Lepc Limb Lina Linb Lisu Lyci \
    Lydi Mahj Mand Mani Marc Mend Merc Mero Mlym Modi Mong Mroo Mtei Mult Mymr Narb Nbat Newa Nkoo Ogam Olck Orkh Orya \
    Osge Osma Palm Pauc Perm Phag Phli Phlp Phnx Plrd Prti Rjng Runr Samr Sarb Saur Sgnw Shaw Shrd Sidd Sind Sinh Sora \
    Sund Sylo Syrc Tagb Takr Tale Talu Taml Tang Tavt Telu Tfng Tglg Thaa Thai Tibt Tirh Ugar Vaii Wara Xpeo Xsux Yiii \
    Zinh Zyyy";
/// What Unicode had assigned.
const THEN: &str = r"\p{Age=9.0}";
/// Characters that were of this script then. The sign for a long vowel is common to two scripts in Unicode, and part of
/// Japanese in the library.
const MOVED: [(char, char, &str); 4] = [
    ('\u{589}', '\u{589}', "Zyyy"),
    ('\u{61c}', '\u{61c}', "Zyyy"),
    ('\u{953}', '\u{954}', "Deva"),
    ('ー', 'ー', "Hani"),
];

/// First and last character, and the number of their script; in order.
static RANGES: LazyLock<Vec<(char, char, u8)>> = LazyLock::new(|| {
    let then = class(THEN);
    let moved = |of: &dyn Fn(&str) -> bool| {
        let moved = MOVED.iter().filter(|(.., name)| of(name));
        ClassUnicode::new(moved.map(|&(first, last, _)| ClassUnicodeRange::new(first, last)))
    };
    let mut ranges = Vec::new();
    for (name, number) in NAMES.split(' ').zip(0u8..) {
        let mut script = class(&format!(r"\p{{Script={name}}}"));
        script.intersect(&then);
        script.difference(&moved(&|_| true));
        script.union(&moved(&|other| other == name));
        ranges.extend(
            script.ranges().iter().map(|range| (range.start(), range.end(), number.saturating_sub(2))),
        );
    }
    ranges.sort_unstable();
    ranges
});

fn class(pattern: &str) -> ClassUnicode {
    match regex_syntax::parse(pattern).map(|hir| hir.into_kind()) {
        Ok(HirKind::Class(Class::Unicode(class))) => class,
        _ => ClassUnicode::empty(),
    }
}

/// The script of a character; none for a space, which goes with any, and for what was not assigned.
fn script_of(c: char) -> Option<u8> {
    let after = RANGES.partition_point(|&(first, ..)| first <= c);
    let &(_, last, script) = RANGES.get(after.checked_sub(1)?)?;
    (c <= last && c != ' ').then_some(script)
}

/// Where stretches of one script begin. What stands before the first belongs to none, and is dropped by the library.
pub(crate) fn starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut now = None;
    for (at, c) in text.char_indices() {
        let script = script_of(c);
        if script.is_some() && script != now {
            starts.push(at);
            now = script;
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tokenizers::pre_tokenizers::unicode_scripts::UnicodeScripts;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    #[track_caller]
    fn check(text: &str) {
        let mut theirs = PreTokenizedString::from(text);
        UnicodeScripts.pre_tokenize(&mut theirs).unwrap();
        let splits = theirs.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let starts_of_theirs: Vec<usize> = splits.iter().map(|(_, offsets, _)| offsets.0).collect();
        assert_eq!(starts(text), starts_of_theirs, "{text:?}");
    }

    /// One character of each script.
    fn of_each() -> Vec<char> {
        let mut of_each: Vec<(u8, char)> = RANGES.iter().map(|&(first, _, script)| (script, first)).collect();
        of_each.sort_unstable();
        of_each.dedup_by_key(|(script, _)| *script);
        of_each.into_iter().map(|(_, c)| c).collect()
    }

    #[test]
    fn scripts_are_told_apart() {
        let of_each = of_each();
        // Of Unicode 9.0's 137, less the three that are one.
        assert_eq!(of_each.len(), 135);
        for &one in &of_each {
            check(&of_each.iter().flat_map(|&other| [one, other]).collect::<String>());
        }
    }

    /// Between a character of another script and one of its own: cut before where it has this script, behind where it has
    /// another, and at one of the two where it has none.
    #[test]
    fn every_character_has_the_script_of_the_library() {
        let of_each = of_each();
        let all: Vec<char> = ('\0'..=char::MAX).collect();
        for block in all.chunks(512) {
            let mut text = String::new();
            for &c in block {
                let own = script_of(c).map_or('a', |script| of_each[usize::from(script)]);
                text.extend([if script_of(own) == script_of('α') { 'a' } else { 'α' }, c, own]);
            }
            check(&text);
        }
    }

    #[test]
    fn texts() {
        for text in
            ["", " ", " \u{378}a", "どこで生れ。Yes", "Apples are りんご 林檎", "カー", "a\u{378} b", "1ー"]
        {
            check(text);
        }
    }
}
