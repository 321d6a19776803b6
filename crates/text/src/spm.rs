//! SentencePiece's form of byte-pair encoding: of all adjacent pieces whose join is a token, the join with the best score
//! merges first, the leftmost of equals; what is no token in the end falls back to bytes.
//!
//! Works on text in which spaces are already written `▁`. Left out: sampling, and the unigram model. From Kudo &
//! Richardson 2018, arXiv 1808.06226, and `bpe_model.cc` of sentencepiece.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::spec::TokenKind;
use crate::vocab::Vocab;

/// U+2581, the visible space of SentencePiece.
pub(crate) const SPACE: &str = "▁";
/// Words up to this many characters merge by scanning, longer ones with a heap.
const SCAN_MAX: usize = 32;
const NONE: u32 = u32::MAX;

/// The tables for encoding.
pub(crate) struct Spm {
    byte_tokens: Box<[Option<u32>; 256]>,
    unk: Option<u32>,
    longest: usize,
}

/// A piece of text: byte offsets.
#[derive(Clone, Copy)]
struct Piece {
    start: u32,
    end: u32,
    prev: u32,
    next: u32,
}

/// A join that could be made.
#[derive(Clone, Copy)]
struct Join {
    score: f32,
    left: u32,
    right: u32,
    /// Bytes of the joined piece: an older join, since one side has grown, has another length.
    bytes: u32,
}

impl PartialEq for Join {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Join {}
impl PartialOrd for Join {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Join {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

/// Working memory, kept between words.
#[derive(Default)]
pub(crate) struct Scratch {
    pieces: Vec<Piece>,
    joins: Vec<Option<f32>>,
    heap: BinaryHeap<Join>,
}

impl Spm {
    pub(crate) fn new(vocab: &Vocab, unk: Option<u32>) -> Self {
        let longest = (0..vocab.len() as u32).map(|id| vocab.text(id).len()).max().unwrap_or(0);
        Self { byte_tokens: vocab.byte_tokens(), unk, longest }
    }

    /// Score of the join of adjacent text, if it is a token. -0.0 becomes 0.0: the total order must not tell them apart.
    #[inline]
    fn score(&self, vocab: &Vocab, joined: &[u8]) -> Option<f32> {
        if joined.len() > self.longest {
            return None;
        }
        vocab.find_plain(joined).map(|id| vocab.score(id) + 0.0).filter(|score| !score.is_nan())
    }

    /// Appends the tokens of `word`.
    pub(crate) fn encode(&self, vocab: &Vocab, word: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let text = word.as_bytes();
        // A word that is a token need not be made from parts only if its parts would make it; they may not. So: merge.
        let pieces = &mut scratch.pieces;
        pieces.clear();
        for (at, c) in word.char_indices() {
            let index = pieces.len() as u32;
            pieces.push(Piece {
                start: at as u32,
                end: (at + c.len_utf8()) as u32,
                prev: index.wrapping_sub(1),
                next: index + 1,
            });
        }
        let Some(last) = pieces.last_mut() else { return };
        last.next = NONE;
        if pieces.len() <= SCAN_MAX {
            self.merge_by_scan(vocab, text, scratch);
            for at in 0..scratch.pieces.len() {
                let piece = scratch.pieces[at];
                self.emit(vocab, &text[piece.start as usize..piece.end as usize], out);
            }
        } else {
            self.merge_by_heap(vocab, text, scratch);
            let mut at = 0;
            while at != NONE {
                let piece = scratch.pieces[at as usize];
                self.emit(vocab, &text[piece.start as usize..piece.end as usize], out);
                at = piece.next;
            }
        }
    }

    fn emit(&self, vocab: &Vocab, piece: &[u8], out: &mut Vec<u32>) {
        if let Some(id) = vocab.find_plain(piece) {
            out.push(id);
        } else if piece.iter().all(|&byte| self.byte_tokens[byte as usize].is_some()) {
            out.extend(piece.iter().filter_map(|&byte| self.byte_tokens[byte as usize]));
        } else {
            out.extend(self.unk);
        }
    }

    fn merge_by_scan(&self, vocab: &Vocab, text: &[u8], scratch: &mut Scratch) {
        let Scratch { pieces, joins, .. } = scratch;
        let score =
            |left: &Piece, right: &Piece| self.score(vocab, &text[left.start as usize..right.end as usize]);
        joins.clear();
        joins.extend(pieces.windows(2).map(|pair| score(&pair[0], &pair[1])));
        loop {
            let mut best: Option<(f32, usize)> = None;
            for (at, join) in joins.iter().enumerate() {
                if let Some(join) = *join
                    && best.is_none_or(|(score, _)| join > score)
                {
                    best = Some((join, at));
                }
            }
            let Some((_, at)) = best else { return };
            pieces[at].end = pieces[at + 1].end;
            pieces.remove(at + 1);
            joins.remove(at);
            if at > 0 {
                joins[at - 1] = score(&pieces[at - 1], &pieces[at]);
            }
            if at < joins.len() {
                joins[at] = score(&pieces[at], &pieces[at + 1]);
            }
        }
    }

    fn merge_by_heap(&self, vocab: &Vocab, text: &[u8], scratch: &mut Scratch) {
        let Scratch { pieces, heap, .. } = scratch;
        heap.clear();
        let offer = |pieces: &[Piece], heap: &mut BinaryHeap<Join>, left: u32, right: u32| {
            if left == NONE || right == NONE {
                return;
            }
            let (start, end) = (pieces[left as usize].start, pieces[right as usize].end);
            if let Some(score) = self.score(vocab, &text[start as usize..end as usize]) {
                heap.push(Join { score, left, right, bytes: end - start });
            }
        };
        for at in 1..pieces.len() as u32 {
            offer(pieces, heap, at - 1, at);
        }
        while let Some(Join { left, right, bytes, .. }) = heap.pop() {
            let (l, r) = (pieces[left as usize], pieces[right as usize]);
            // A piece that was swallowed is empty; one that grew makes the join longer than it was.
            if l.start == l.end || r.start == r.end || r.end - l.start != bytes || l.next != right {
                continue;
            }
            pieces[left as usize].end = r.end;
            pieces[left as usize].next = r.next;
            pieces[right as usize].end = r.start;
            if r.next != NONE {
                pieces[r.next as usize].prev = left;
            }
            offer(pieces, heap, l.prev, left);
            offer(pieces, heap, left, r.next);
        }
    }
}

/// For each byte, whether some token holds it right before a `▁`.
///
/// Where no token does, no merge can ever cross from that byte to the `▁` after it, and text may be cut there into words
/// that are encoded, and remembered, one by one. The result is exactly that of the whole text.
pub(crate) fn bytes_before_space(vocab: &Vocab) -> Box<[bool; 256]> {
    let mut joined = Box::new([false; 256]);
    let space = SPACE.as_bytes();
    for id in 0..vocab.len() as u32 {
        if matches!(vocab.kind(id), TokenKind::Normal | TokenKind::UserDefined) {
            let text = vocab.text(id);
            for at in 1..text.len().saturating_sub(space.len() - 1) {
                if text[at] == space[0] && text[at..].starts_with(space) {
                    joined[text[at - 1] as usize] = true;
                }
            }
        }
    }
    joined
}

/// Calls `word` with each independently encodable part of `text`, see [`bytes_before_space`].
pub(crate) fn split_words<'t>(text: &'t str, joined: &[bool; 256], mut word: impl FnMut(&'t str)) {
    let mut start = 0;
    for (at, _) in text.match_indices('▁') {
        if at > start && !joined[text.as_bytes()[at - 1] as usize] {
            word(&text[start..at]);
            start = at;
        }
    }
    if start < text.len() {
        word(&text[start..]);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn tables() -> (Vocab, Spm) {
        // Scores fall in this order; joins cross from b to a space, but not from a.
        let texts = ["<unk>", "ab", "▁a", "aa", "b▁", "▁▁", "aab", "b▁a", "▁aab", "▁", "a", "b", "é"];
        let scores = (0..texts.len()).map(|i| -(i as f32)).collect();
        let vocab = Vocab::new(texts.iter().map(|t| t.as_bytes()), scores, &[2]).err();
        assert!(vocab.is_some(), "one kind for 13 tokens");
        let kinds: Vec<i32> = (0..texts.len()).map(|i| if i == 0 { 2 } else { 1 }).collect();
        let scores = (0..texts.len()).map(|i| -(i as f32)).collect();
        let vocab = Vocab::new(texts.iter().map(|t| t.as_bytes()), scores, &kinds).unwrap();
        let spm = Spm::new(&vocab, Some(0));
        (vocab, spm)
    }

    fn encode(tables: &(Vocab, Spm), text: &str) -> Vec<u32> {
        let mut out = Vec::new();
        tables.1.encode(&tables.0, text, &mut Scratch::default(), &mut out);
        out
    }

    #[test]
    fn best_score_first_then_leftmost() {
        let tables = tables();
        // Worked by hand from the scores above.
        for (text, expected) in [
            ("aab", vec!["aab"]),
            ("▁aa", vec!["▁a", "a"]),
            ("aaa", vec!["aa", "a"]),
            ("b▁a", vec!["b▁a"]),
            ("b▁b", vec!["b▁", "b"]),
            ("xé", vec!["<unk>", "é"]),
        ] {
            let got: Vec<&str> = encode(&tables, text)
                .iter()
                .map(|&id| std::str::from_utf8(tables.0.text(id)).unwrap())
                .collect();
            assert_eq!(got, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn heap_equals_scan_and_words_equal_the_whole(text in "[ab▁é]{0,80}") {
            let tables = tables();
            let (vocab, spm) = &tables;
            // Encoding by words: a cut before a space wherever no token joins across.
            let joined = bytes_before_space(vocab);
            let mut by_words = Vec::new();
            split_words(&text, &joined, |word| by_words.extend(encode(&tables, word)));
            prop_assert_eq!(&by_words, &encode(&tables, &text));

            let pieces = |by: &dyn Fn(&mut Scratch)| {
                let n = text.chars().count() as u32;
                let pieces = text.char_indices().zip(0..).map(|((at, c), i): (_, u32)| Piece {
                    start: at as u32,
                    end: (at + c.len_utf8()) as u32,
                    prev: i.wrapping_sub(1),
                    next: if i + 1 == n { NONE } else { i + 1 },
                }).collect();
                let mut scratch = Scratch { pieces, ..Scratch::default() };
                by(&mut scratch);
                scratch.pieces.iter().filter(|p| p.start < p.end).map(|p| (p.start, p.end)).collect::<Vec<_>>()
            };
            let scan = pieces(&|scratch| spm.merge_by_scan(vocab, text.as_bytes(), scratch));
            let heap = pieces(&|scratch| spm.merge_by_heap(vocab, text.as_bytes(), scratch));
            prop_assert_eq!(scan, heap);
        }
    }
}
