//! WordPiece, the tokenizer of BERT: clean the text, split it at spaces, punctuation and Chinese characters, then take the
//! longest known piece again and again.
//!
//! Pieces that open a word are spelled `▁word` here, as GGUF files have them, others bare. From the BERT paper's
//! `tokenization.py` and `BertNormalizer` of the `tokenizers` library.

use unicode_normalization::UnicodeNormalization;

use crate::pre::classes::{CLASSES, NONSPACING, OTHER, PUNCTUATION};
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
            let mut end = word.len().min(start + self.longest);
            let found = loop {
                if end <= start {
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
    !matches!(c, '\t' | '\n' | '\r') && CLASSES.of(c) & OTHER != 0
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
