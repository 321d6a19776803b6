//! The unigram language model: of all ways to cut a word into tokens, the one with the best sum of scores.
//!
//! Kudo 2018, arXiv 1804.10959; the walk is that of `encode_optimized` in sentencepiece's `unigram_model.cc`, with the
//! `tokenizers` library's rules for what is unknown. Left out: sampling, n-best lists.

use crate::spec::TokenKind;
use crate::vocab::Vocab;

/// An unknown character costs this more than the worst token (`kUnkPenalty`).
const UNKNOWN_PENALTY: f64 = 10.0;
/// A longer token is never found: published ones have up to 16 characters, and every length costs a look at every place.
const LONGEST: usize = 256;

/// The tables.
pub(crate) struct Unigram {
    unk: Option<u32>,
    unknown_score: f64,
    /// Tokens of single bytes, for characters that are unknown.
    byte_ids: Option<Box<[Option<u32>; 256]>>,
    /// Bytes of the longest token, by its first byte.
    longest: Box<[usize; 256]>,
}

/// The best way to a place in the word.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    start: usize,
    id: Option<u32>,
}

/// Working memory, kept between words: for each byte the best way that ends there.
#[derive(Default)]
pub(crate) struct Scratch {
    best: Vec<Option<Best>>,
    /// The way taken, from its end: token, and the part of the word that it stands for.
    path: Vec<(Option<u32>, usize, usize)>,
}

impl Unigram {
    pub(crate) fn new(vocab: &Vocab, unk: Option<u32>, byte_fallback: bool) -> Self {
        let mut longest = Box::new([0; 256]);
        let mut worst = f32::INFINITY;
        for id in 0..vocab.len() as u32 {
            let text = vocab.text(id);
            if vocab.kind(id) != TokenKind::Unused && !vocab.score(id).is_nan() {
                worst = worst.min(vocab.score(id));
            }
            if let Some(&first) = text.first()
                && vocab.is_plain(id)
            {
                let known = &mut longest[usize::from(first)];
                *known = text.len().min(LONGEST).max(*known);
            }
        }
        let worst = if worst.is_finite() { f64::from(worst) } else { 0.0 };
        let byte_ids = byte_fallback.then(|| vocab.byte_tokens());
        Self { unk, unknown_score: worst - UNKNOWN_PENALTY, byte_ids, longest }
    }

    /// Appends the tokens of `word`.
    pub(crate) fn encode(&self, vocab: &Vocab, word: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        self.walk(vocab, word, &mut scratch.best);
        let path = &mut scratch.path;
        path.clear();
        let mut end = word.len();
        while let Some(best) = scratch.best.get(end).copied().flatten().filter(|_| end > 0) {
            match path.last_mut() {
                // Unknown characters in a row are one token.
                Some(last) if last.0.is_none() && best.id.is_none() => last.1 = best.start,
                _ => path.push((best.id, best.start, end)),
            }
            end = best.start;
        }
        for &(id, start, end) in path.iter().rev() {
            match id {
                Some(id) => out.push(id),
                None => self.unknown(vocab, &word.as_bytes()[start..end], out),
            }
        }
    }

    fn unknown(&self, vocab: &Vocab, bytes: &[u8], out: &mut Vec<u32>) {
        if let Some(id) = vocab.find_plain(bytes) {
            out.push(id);
        } else if let Some(ids) = &self.byte_ids
            && bytes.iter().all(|&byte| ids[usize::from(byte)].is_some())
        {
            out.extend(bytes.iter().filter_map(|&byte| ids[usize::from(byte)]));
        } else {
            out.extend(self.unk);
        }
    }

    /// Fills in the best way to each place.
    fn walk(&self, vocab: &Vocab, word: &str, best: &mut Vec<Option<Best>>) {
        let text = word.as_bytes();
        best.clear();
        best.resize(text.len() + 1, None);
        for (start, c) in word.char_indices() {
            let so_far = if start == 0 { 0.0 } else { best[start].map_or(0.0, |best| best.score) };
            let mut offer = |end: usize, score: f64, id: Option<u32>| {
                let score = so_far + score;
                if best[end].is_none_or(|known| score > known.score) {
                    best[end] = Some(Best { score, start, id });
                }
            };
            let most = text.len().min(start + self.longest[usize::from(text[start])]);
            for end in start + 1..=most {
                if word.is_char_boundary(end)
                    && let Some(id) = vocab.find_plain(&text[start..end])
                    && !vocab.score(id).is_nan()
                {
                    // Tokens that were added by hand have no score of the training's.
                    let score = if vocab.kind(id) == TokenKind::UserDefined { 0.0 } else { vocab.score(id) };
                    // Some files take ordinary text for unknown; it is fused with what is.
                    offer(end, f64::from(score), Some(id).filter(|_| self.unk != Some(id)));
                }
            }
            let next = start + c.len_utf8();
            if vocab.find_plain(&text[start..next]).is_none() {
                offer(next, self.unknown_score, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn best_sum_and_what_is_unknown() {
        let texts = ["<unk>", "a", "b", "ab", "abc", "c", "cd", "<0xC3>", "<0xA9>"];
        let scores = vec![0.0, -3.0, -3.0, -1.0, -4.0, -1.5, -9.0, 0.0, 0.0];
        let kinds = [2, 1, 1, 1, 1, 1, 1, 6, 6];
        let vocab = Vocab::new(texts.iter().map(|t| t.as_bytes()), scores, &kinds).unwrap();
        // Worked by hand. "abc": ab+c = -2.5 beats abc = -4. "d" is unknown: -9 - 10, so cd = -9 beats c+d.
        for (text, bytes, expected) in [
            ("abc", false, vec![3, 5]),
            ("abcd", false, vec![3, 6]),
            ("ddab", false, vec![0, 3]),
            ("éa", false, vec![0, 1]),
            ("éa", true, vec![7, 8, 1]),
            ("éda", true, vec![0, 1]),
            ("", false, vec![]),
        ] {
            let unigram = Unigram::new(&vocab, Some(0), bytes);
            let mut got = Vec::new();
            unigram.encode(&vocab, text, &mut Scratch::default(), &mut got);
            assert_eq!(got, expected, "{text}");
        }
    }
}
