//! Byte-pair encoding by merge ranks: of all adjacent pairs the one with the lowest rank merges first, the leftmost of equals.
//!
//! Works on token ids: a table maps a pair of ids to its rank and to the id of the merged token. Splitting text into words
//! and turning characters into first symbols happen elsewhere. Algorithm: Sennrich et al. 2016, arXiv 1508.07909, in the
//! form of the `tokenizers` library.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::TextError;
use crate::hash::{MAX_PROBES, hash_u64};
use crate::vocab::{Probe, Vocab, broken};

/// No merge.
const NONE: u32 = u32::MAX;
/// Words up to this many symbols merge by scanning, longer ones with a heap. Scanning costs n² but no bookkeeping.
const SCAN_MAX: usize = 48;

#[derive(Clone, Copy)]
struct Slot {
    pair: u64,
    rank: u32,
    merged: u32,
}

/// Merges looked up together, so that their waits for memory overlap.
const GROUP: usize = 16;

/// The merges of a vocabulary.
pub(crate) struct Merges {
    slots: Vec<Slot>,
    mask: usize,
}

/// Working memory of [`Merges::apply`], kept between words.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Rank and merged id of the pair that begins at each symbol.
    pairs: Vec<(u32, u32)>,
    prev: Vec<u32>,
    next: Vec<u32>,
    heap: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

#[inline]
fn pair_key(left: u32, right: u32) -> u64 {
    (u64::from(left) << 32) | u64::from(right)
}

impl Merges {
    /// Reads merges, best first, as texts. A merge of which a part or the product is no token can never apply to ids and is
    /// left out; its rank is still counted. `prefix` bytes that stand before every right part are no part of the product.
    pub(crate) fn new<'a>(
        vocab: &Vocab,
        merges: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        prefix: usize,
    ) -> Result<Self, TextError> {
        let mut found: Vec<(u64, u32, u32)> = Vec::with_capacity(merges.size_hint().0.min(vocab.len() * 2));
        let mut joined: Vec<u8> = Vec::new();
        let mut group: Vec<(Probe<'a>, Probe<'a>)> = Vec::with_capacity(GROUP);
        let mut merges = merges;
        let mut rank = 0u32;
        loop {
            group.clear();
            group.extend(
                merges.by_ref().take(GROUP).map(|(left, right)| (Probe::new(left), Probe::new(right))),
            );
            if group.is_empty() {
                break;
            }
            joined.clear();
            for (left, right) in &group {
                joined.extend_from_slice(left.text());
                joined.extend_from_slice(right.text().get(prefix..).unwrap_or_default());
            }
            let mut rest = joined.as_slice();
            let mut products = [Probe::new(&[]); GROUP];
            for (product, (left, right)) in products.iter_mut().zip(&group) {
                let (text, after) =
                    rest.split_at(left.text().len() + right.text().len().saturating_sub(prefix));
                rest = after;
                *product = Probe::new(text);
                for probe in [product, left, right] {
                    vocab.touch(probe);
                }
            }
            for (product, (left, right)) in products.iter().zip(&group) {
                let merged = vocab.find_probe(product).filter(|&id| vocab.is_plain(id));
                if let (Some(merged), Some(left), Some(right)) =
                    (merged, vocab.find_probe(left), vocab.find_probe(right))
                {
                    found.push((pair_key(left, right), rank, merged));
                }
                rank = rank
                    .checked_add(1)
                    .filter(|&rank| rank < NONE)
                    .ok_or_else(|| broken("too many merges"))?;
            }
        }
        let capacity = (found.len() * 2).next_power_of_two().max(2);
        let mut table =
            Self { slots: vec![Slot { pair: 0, rank: NONE, merged: NONE }; capacity], mask: capacity - 1 };
        for (pair, rank, merged) in found {
            let mut at = hash_u64(pair) as usize & table.mask;
            let mut probes = 0;
            // A pair listed twice keeps its first, better rank.
            while table.slots[at].rank != NONE && table.slots[at].pair != pair {
                at = (at + 1) & table.mask;
                probes += 1;
                if probes > MAX_PROBES {
                    return Err(broken("its merges were chosen to collide"));
                }
            }
            if table.slots[at].rank == NONE {
                table.slots[at] = Slot { pair, rank, merged };
            }
        }
        Ok(table)
    }

    /// Rank and merged id of a pair; rank `NONE` where it does not merge.
    #[inline]
    fn get(&self, left: u32, right: u32) -> (u32, u32) {
        let pair = pair_key(left, right);
        let mut at = hash_u64(pair) as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot.rank == NONE || slot.pair == pair {
                return (slot.rank, slot.merged);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Merges `symbols` in place as far as merges go.
    pub(crate) fn apply(&self, symbols: &mut Vec<u32>, scratch: &mut Scratch) {
        if symbols.len() <= SCAN_MAX {
            self.apply_by_scan(symbols, &mut scratch.pairs);
        } else {
            self.apply_by_heap(symbols, scratch);
        }
    }

    fn apply_by_scan(&self, symbols: &mut Vec<u32>, pairs: &mut Vec<(u32, u32)>) {
        pairs.clear();
        pairs.extend(symbols.windows(2).map(|pair| self.get(pair[0], pair[1])));
        loop {
            let mut best = (NONE, 0);
            for (at, &(rank, _)) in pairs.iter().enumerate() {
                if rank < best.0 {
                    best = (rank, at);
                }
            }
            let (rank, at) = best;
            if rank == NONE {
                return;
            }
            symbols[at] = pairs[at].1;
            symbols.remove(at + 1);
            pairs.remove(at);
            if at > 0 {
                pairs[at - 1] = self.get(symbols[at - 1], symbols[at]);
            }
            if at < pairs.len() {
                pairs[at] = self.get(symbols[at], symbols[at + 1]);
            }
        }
    }

    fn apply_by_heap(&self, symbols: &mut Vec<u32>, scratch: &mut Scratch) {
        let n = symbols.len();
        let Scratch { prev, next, heap, .. } = scratch;
        prev.clear();
        next.clear();
        heap.clear();
        prev.extend((0..n).map(|i| if i == 0 { NONE } else { i as u32 - 1 }));
        next.extend((0..n).map(|i| if i + 1 == n { NONE } else { i as u32 + 1 }));
        for at in 0..n - 1 {
            let (rank, _) = self.get(symbols[at], symbols[at + 1]);
            if rank != NONE {
                heap.push(Reverse((rank, at as u32, symbols[at], symbols[at + 1])));
            }
        }
        while let Some(Reverse((_, at, left, right))) = heap.pop() {
            let at_index = at as usize;
            let right_at = next[at_index];
            // Either side may have merged with another since; a dead symbol is NONE and equals nothing queued.
            if right_at == NONE || symbols[at_index] != left || symbols[right_at as usize] != right {
                continue;
            }
            let (_, merged) = self.get(left, right);
            symbols[at_index] = merged;
            symbols[right_at as usize] = NONE;
            let after = next[right_at as usize];
            next[at_index] = after;
            if after != NONE {
                prev[after as usize] = at;
                let (rank, _) = self.get(merged, symbols[after as usize]);
                if rank != NONE {
                    heap.push(Reverse((rank, at, merged, symbols[after as usize])));
                }
            }
            let before = prev[at_index];
            if before != NONE {
                let (rank, _) = self.get(symbols[before as usize], merged);
                if rank != NONE {
                    heap.push(Reverse((rank, before, symbols[before as usize], merged)));
                }
            }
        }
        symbols.retain(|&symbol| symbol != NONE);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn letters() -> (Vocab, Merges) {
        let texts = ["a", "b", "c", "ab", "bc", "abc", "aa", "aaaa", "ca", "cab"];
        let vocab = Vocab::new(texts.iter().map(|t| t.as_bytes()), vec![], &[]).unwrap();
        let merges: [(&str, &str); 7] =
            [("b", "c"), ("a", "b"), ("a", "a"), ("ab", "c"), ("aa", "aa"), ("c", "a"), ("c", "ab")];
        let merges =
            Merges::new(&vocab, merges.iter().map(|(l, r)| (l.as_bytes(), r.as_bytes())), 0).unwrap();
        (vocab, merges)
    }

    fn merged(text: &str, by: impl Fn(&Merges, &mut Vec<u32>, &mut Scratch)) -> Vec<String> {
        let (vocab, merges) = letters();
        let mut symbols: Vec<u32> = text.bytes().map(|b| vocab.find(&[b]).unwrap()).collect();
        by(&merges, &mut symbols, &mut Scratch::default());
        symbols.iter().map(|&id| String::from_utf8(vocab.text(id).to_vec()).unwrap()).collect()
    }

    fn scan(m: &Merges, s: &mut Vec<u32>, x: &mut Scratch) {
        m.apply_by_scan(s, &mut x.pairs);
    }

    #[test]
    fn lowest_rank_first_then_leftmost() {
        // Worked by hand from the ranks above.
        for (text, expected) in [
            ("abc", vec!["a", "bc"]),
            ("aab", vec!["a", "ab"]),
            ("aaa", vec!["aa", "a"]),
            ("aaaaa", vec!["aaaa", "a"]),
            ("cab", vec!["cab"]),
        ] {
            assert_eq!(merged(text, scan), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn heap_equals_scan(text in "[abc]{2,90}") {
            prop_assert_eq!(merged(&text, scan), merged(&text, Merges::apply_by_heap));
        }
    }
}
