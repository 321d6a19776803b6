//! WordPiece, the tokenizer of BERT: clean the text, split it at spaces, punctuation and Chinese characters, then take the
//! longest known piece again and again.
//!
//! Pieces that open a word are spelled `▁word` in GGUF files and others bare; in `tokenizer.json` they are bare and
//! others `##piece`. From the BERT paper's `tokenization.py` and the `WordPiece` model of the `tokenizers` library.

use crate::pre::is_punctuation;
use crate::vocab::Vocab;

/// A longer word is unknown as a whole (`max_input_chars_per_word`).
pub(crate) const MAX_WORD_CHARS: usize = 100;

/// Calls `word` with the words of a text that is cleaned already: cut at spaces and around punctuation.
pub(crate) fn split_words(text: &str, mut word: impl FnMut(&str)) {
    for part in text.split_whitespace() {
        let mut start = 0;
        for (at, sign) in part.match_indices(is_punctuation) {
            if at > start {
                word(&part[start..at]);
            }
            word(sign);
            start = at + sign.len();
        }
        if start < part.len() {
            word(&part[start..]);
        }
    }
}

/// The tables.
pub(crate) struct WordPiece {
    /// Before the piece that opens a word.
    head: &'static str,
    /// Before every other piece.
    tail: String,
    max_chars: usize,
    unk: Option<u32>,
    longest: usize,
}

impl WordPiece {
    pub(crate) fn new(
        vocab: &Vocab,
        head: &'static str,
        tail: &str,
        max_chars: usize,
        unk: Option<u32>,
    ) -> Self {
        let longest = (0..vocab.len() as u32).map(|id| vocab.text(id).len()).max().unwrap_or(0);
        Self { head, tail: tail.to_owned(), max_chars, unk, longest }
    }

    /// Appends the tokens of `word`.
    pub(crate) fn encode_word(&self, vocab: &Vocab, word: &str, out: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let before = out.len();
        let known = word.chars().count() <= self.max_chars && self.longest_pieces(vocab, word, out);
        if !known {
            out.truncate(before);
            out.extend(self.unk);
        }
    }

    /// Appends the longest pieces from left to right; false if some part is no piece.
    fn longest_pieces(&self, vocab: &Vocab, word: &str, out: &mut Vec<u32>) -> bool {
        let mut start = 0;
        let mut spelled = Vec::with_capacity(word.len() + 4);
        while start < word.len() {
            let mark = if start == 0 { self.head } else { self.tail.as_str() };
            // Past its head a word has no `▁` but one that the text itself holds. Where that marks heads, a piece for it
            // would be spelled like the head of another word: there is none to be found.
            if start > 0 && !self.head.is_empty() && word[start..].starts_with(self.head) {
                return false;
            }
            spelled.clear();
            spelled.extend_from_slice(mark.as_bytes());
            spelled.extend_from_slice(&word.as_bytes()[start..]);
            let mut end = word.len().min((start + self.longest).saturating_sub(mark.len()));
            let found = loop {
                if end <= start {
                    return false;
                }
                if word.is_char_boundary(end)
                    && let Some(id) = vocab.find_plain(&spelled[..mark.len() + end - start])
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::normalize::Bert;

    #[test]
    fn pieces_words_and_what_is_unknown() {
        let texts = ["[UNK]", "▁un", "aff", "able", "▁,", "▁字", "▁a", "b", "▁"];
        let vocab = Vocab::new(texts.iter().map(|t| t.as_bytes()), vec![], &[]).unwrap();
        let wordpiece = WordPiece::new(&vocab, "▁", "", MAX_WORD_CHARS, Some(0));
        let bert =
            Bert { clean_text: true, handle_chinese_chars: true, strip_accents: true, lowercase: true };
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
            split_words(&bert.apply(text), |word| wordpiece.encode_word(&vocab, word, &mut got));
            assert_eq!(got, expected, "{text}");
        }
    }
}
