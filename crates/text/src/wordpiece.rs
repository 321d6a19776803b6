//! WordPiece, the tokenizer of BERT: clean the text, split it at spaces, punctuation and Chinese characters, then take the
//! longest known piece again and again.
//!
//! Pieces that open a word are spelled `▁word` here, as GGUF files have them, others bare. From the BERT paper's
//! `tokenization.py` and `BertNormalizer` of the `tokenizers` library.

use unicode_normalization::UnicodeNormalization;

use crate::pre::classes::{CLASSES, CONTROL, NONSPACING, PUNCTUATION};
use crate::vocab::Vocab;

/// A longer word is unknown as a whole (`max_input_chars_per_word`).
const MAX_WORD_CHARS: usize = 100;

/// The settings of the normalizer.
pub(crate) struct WordPiece {
    pub(crate) lowercase: bool,
    pub(crate) strip_accents: bool,
    pub(crate) unk: Option<u32>,
    longest: usize,
}

impl WordPiece {
    pub(crate) fn new(vocab: &Vocab, lowercase: bool, strip_accents: bool, unk: Option<u32>) -> Self {
        let longest = (0..vocab.len() as u32).map(|id| vocab.text(id).len()).max().unwrap_or(0);
        Self { lowercase, strip_accents, unk, longest }
    }

    /// Appends the tokens of `text`.
    pub(crate) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) {
        let mut word = String::new();
        let clean = self.normalize(text);
        for c in clean.chars() {
            if c.is_whitespace() {
                self.encode_word(vocab, &mut word, out);
            } else if is_punctuation(c) || is_chinese(c) {
                self.encode_word(vocab, &mut word, out);
                word.push(c);
                self.encode_word(vocab, &mut word, out);
            } else {
                word.push(c);
            }
        }
        self.encode_word(vocab, &mut word, out);
    }

    fn normalize(&self, text: &str) -> String {
        let clean = text.chars().filter(|&c| c != '\0' && c != '\u{fffd}' && !is_control(c));
        let mut out = String::with_capacity(text.len());
        let lower = |c: char, out: &mut String| {
            if self.lowercase {
                out.extend(c.to_lowercase());
            } else {
                out.push(c);
            }
        };
        if self.strip_accents {
            for c in clean.nfd().filter(|&c| CLASSES.of(c) & NONSPACING == 0) {
                lower(c, &mut out);
            }
        } else {
            for c in clean {
                lower(c, &mut out);
            }
        }
        out
    }

    /// Encodes and empties `word`.
    fn encode_word(&self, vocab: &Vocab, word: &mut String, out: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let before = out.len();
        let known = word.chars().count() <= MAX_WORD_CHARS && {
            word.insert(0, '▁');
            self.longest_pieces(vocab, word, out)
        };
        if !known {
            out.truncate(before);
            out.extend(self.unk);
        }
        word.clear();
    }

    /// Appends the longest pieces from left to right; false if some part is no piece.
    fn longest_pieces(&self, vocab: &Vocab, word: &str, out: &mut Vec<u32>) -> bool {
        let mut start = 0;
        while start < word.len() {
            // Past its head a word has no `▁` but one that the text itself holds. A piece for it would be spelled like the
            // head of another word: there is none to be found.
            if start > 0 && word[start..].starts_with('▁') {
                return false;
            }
            let least = if start == 0 { '▁'.len_utf8() } else { start };
            let mut end = word.len().min(start + self.longest);
            let found = loop {
                if end <= least {
                    return false;
                }
                if word.is_char_boundary(end)
                    && let Some(id) = vocab.find_plain(&word.as_bytes()[start..end])
                {
                    break id;
                }
                end -= 1;
            };
            out.push(found);
            start = end;
        }
        true
    }
}

fn is_control(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r') && CLASSES.of(c) & CONTROL != 0
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || CLASSES.of(c) & PUNCTUATION != 0
}

/// The blocks that `BertNormalizer` sets apart. (It starts one block at U+2B920, a slip for U+2B820 that models inherit.)
fn is_chinese(c: char) -> bool {
    matches!(c as u32,
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_b73f | 0x2_b740..=0x2_b81f
        | 0x2_b920..=0x2_ceaf | 0xf900..=0xfaff | 0x2_f800..=0x2_fa1f)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn pieces_words_and_what_is_unknown() {
        let texts = ["[UNK]", "▁un", "aff", "able", "▁,", "▁字", "▁a", "b", "▁"];
        let vocab = Vocab::new(texts.iter().map(|t| t.as_bytes()), vec![], &[]).unwrap();
        let wordpiece = WordPiece::new(&vocab, true, true, Some(0));
        let long = "a".to_owned() + &"b".repeat(100);
        for (text, expected) in [
            ("Unaffable, UN", vec![1, 2, 3, 4, 1]),
            ("unaffablex un", vec![0, 1]),
            ("字字a", vec![5, 5, 6]),
            ("\u{200b}ä\u{301}b\0", vec![6, 7]),
            // Past a word's head a literal ▁ is no head of another word, and a head alone is no piece.
            ("a▁ab un", vec![0, 1]),
            ("b", vec![0]),
            // The published limit is 100 characters.
            (&long[..100], [vec![6], vec![7; 99]].concat()),
            (&long, vec![0]),
        ] {
            let mut got = Vec::new();
            wordpiece.encode(&vocab, text, &mut got);
            assert_eq!(got, expected, "{text}");
        }
    }
}
