//! The cache against a model of memory that remembers which token was written where.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::collections::HashMap;

use super::*;

/// What a backend would hold: the tokens (with all that precede them) at each slot of each page.
#[derive(Default)]
struct Memory {
    slots: HashMap<(usize, u32, usize), Vec<u32>>,
}

impl Memory {
    fn copy(&mut self, copy: PageCopy) {
        for slot in 0..copy.n_tokens {
            let value = self.slots[&(copy.group, copy.from, slot)].clone();
            self.slots.insert((copy.group, copy.to, slot), value);
        }
    }
}

struct Bench {
    cache: KvCache,
    memory: Memory,
    windows: Vec<Option<usize>>,
    /// Pages written while they had another owner, which must not happen.
    live: Vec<(SequenceCache, Vec<u32>)>,
}

impl Bench {
    fn new(groups: &[(Option<usize>, usize)]) -> Bench {
        Bench {
            cache: KvCache::new(groups.iter().copied()),
            memory: Memory::default(),
            windows: groups.iter().map(|group| group.0).collect(),
            live: Vec::new(),
        }
    }

    /// Starts a sequence and says how many of its tokens were cached.
    fn start(&mut self, tokens: &[u32]) -> usize {
        let memory = &mut self.memory;
        let sequence = self.cache.start(tokens, |copy| memory.copy(copy));
        let n = sequence.len();
        assert!(n < tokens.len(), "the last token must run");
        self.live.push((sequence, tokens.to_vec()));
        n
    }

    /// "Runs" the next `n` tokens of a live sequence: checks what each sees, and writes.
    fn run(&mut self, index: usize, n: usize) -> Result<(), OutOfPages> {
        let (sequence, tokens) = &mut self.live[index];
        self.cache.reserve(sequence, n)?;
        for position in sequence.len()..sequence.len() + n {
            for (group, table) in sequence.tables().into_iter().enumerate() {
                let page = table[position / PAGE_TOKENS];
                let owners = self.cache.groups[group].pool.n_owners(page);
                assert_eq!(owners, 1, "writing a shared page");
                let key = (group, page, position % PAGE_TOKENS);
                self.memory.slots.insert(key, tokens[..=position].to_vec());
                let first = self.windows[group].map_or(0, |window| (position + 1).saturating_sub(window));
                for seen in first..=position {
                    let key = (group, table[seen / PAGE_TOKENS], seen % PAGE_TOKENS);
                    assert_eq!(
                        self.memory.slots.get(&key).map(Vec::as_slice),
                        Some(&tokens[..=seen]),
                        "group {group}: position {position} must see {seen}"
                    );
                }
            }
        }
        self.cache.commit(sequence, tokens, n);
        Ok(())
    }

    fn finish(&mut self, index: usize) {
        let (sequence, tokens) = self.live.swap_remove(index);
        self.cache.release(sequence, &tokens);
    }

    /// Runs `tokens` as one sequence to the end; gives how many were cached.
    fn whole(&mut self, tokens: &[u32]) -> usize {
        let n = self.start(tokens);
        let index = self.live.len() - 1;
        self.run(index, tokens.len() - n).unwrap();
        self.finish(index);
        n
    }

    fn assert_no_leak(&mut self) {
        assert!(self.live.is_empty());
        self.cache.clear();
        assert_eq!(self.cache.tree.len(), 0);
        for group in &self.cache.groups {
            assert_eq!(group.pool.n_free(), group.pool.n_pages());
        }
    }
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).collect()
}

/// `n` tokens, of which the first `same` are those of [`tokens`].
fn variant(same: usize, n: usize) -> Vec<u32> {
    (0..n).map(|i| if i < same { i as u32 } else { 1000 + i as u32 }).collect()
}

#[test]
fn longest_prefix_is_taken_over() {
    // (cached before, asked for, expected to be cached)
    let cases: &[(usize, Vec<u32>, usize)] = &[
        (100, tokens(100), 99),      // all but the last, which must run
        (100, tokens(200), 100),     // a conversation that goes on, across the partly filled page
        (100, variant(50, 100), 50), // a shared beginning, up to the middle of a page
        (100, variant(64, 100), 64), // up to the end of a page
        (100, variant(1, 100), 1),
        (100, variant(0, 100), 0),
        (96, tokens(96), 95),
        (96, tokens(97), 96),
        (5, tokens(33), 5),
        (1, tokens(1), 0),
    ];
    for (n, asked, expected) in cases {
        for groups in [&[(None, 20)][..], &[(None, 20), (Some(40), 20)], &[(Some(8), 20)], &[(Some(1), 20)]] {
            let mut bench = Bench::new(groups);
            assert_eq!(bench.whole(&tokens(*n)), 0);
            assert_eq!(bench.whole(asked), *expected, "{n} cached, {} asked, {groups:?}", asked.len());
            bench.assert_no_leak();
        }
    }
}

#[test]
fn live_sequences_share_pages() {
    let mut bench = Bench::new(&[(None, 8)]);
    bench.start(&tokens(97));
    bench.run(0, 97).unwrap();
    // 4 pages; three more sequences of that beginning need one each, 16 without sharing.
    for _ in 0..3 {
        assert_eq!(bench.start(&tokens(97)), 96);
    }
    for index in 1..4 {
        bench.run(index, 1).unwrap();
    }
    assert_eq!(bench.cache.n_free(), [1]);
    for _ in 0..4 {
        bench.finish(0);
    }
    bench.assert_no_leak();
}

#[test]
fn windowed_groups_keep_only_their_window() {
    // A window of 40 never needs more than 3 pages while single tokens run; the full group needs all 32.
    let mut bench = Bench::new(&[(None, 32), (Some(40), 3)]);
    bench.start(&tokens(1024));
    for _ in 0..1024 {
        bench.run(0, 1).unwrap();
    }
    assert_eq!(bench.live[0].0.tables[1].iter().filter(|&&page| page != NO_PAGE).count(), 2);
    bench.finish(0);
    bench.assert_no_leak();
}

#[test]
fn a_prefix_whose_window_was_given_up_is_not_used() {
    let mut bench = Bench::new(&[(None, 64), (Some(64), 6)]);
    bench.whole(&tokens(160)); // its window's pages at 128 and before may go
    bench.whole(&variant(0, 180));
    // The windowed pages of the first are gone; whatever is taken over must be complete (`run` checks).
    bench.whole(&tokens(161));
    bench.whole(&tokens(161));
    bench.assert_no_leak();
}

#[test]
fn longest_unused_goes_first() {
    let mut bench = Bench::new(&[(None, 4)]);
    let (a, b, c) = (variant(0, 33), tokens(33), [vec![7], variant(0, 32)].concat());
    bench.whole(&a);
    bench.whole(&b);
    bench.whole(&a);
    bench.whole(&c); // takes the room of b
    assert_eq!(bench.whole(&a), 32);
    assert_eq!(bench.whole(&b), 0);
    bench.assert_no_leak();
}

#[test]
fn live_sequences_are_never_evicted() {
    let mut bench = Bench::new(&[(None, 3)]);
    bench.start(&tokens(70));
    bench.run(0, 70).unwrap();
    bench.start(&variant(0, 10));
    assert_eq!(bench.run(1, 10), Err(OutOfPages));
    bench.finish(1);
    bench.finish(0);
    assert_eq!(bench.whole(&variant(0, 10)), 0);
    bench.assert_no_leak();
}

#[test]
fn a_window_is_whole_where_no_page_is_left_to_copy_to() {
    let mut bench = Bench::new(&[(None, 4), (Some(20), 8)]);
    bench.whole(&tokens(96));
    bench.start(&variant(0, 10));
    bench.run(0, 10).unwrap(); // the last page
    assert_eq!(bench.start(&tokens(97)), 96);
    // After 84 tokens the window begins in the third page; after the 64 that need no page, in the second.
    let n = bench.start(&variant(84, 97));
    assert!(n <= 64);
    bench.finish(0);
    bench.finish(1);
    bench.run(0, 97 - n).unwrap();
    bench.finish(0);
    bench.assert_no_leak();
}

#[test]
fn sequences_alone_leave_nothing_behind() {
    let mut bench = Bench::new(&[(None, 4), (Some(8), 4)]);
    let sequence = bench.cache.start_alone();
    bench.live.push((sequence, tokens(100)));
    bench.run(0, 100).unwrap();
    bench.finish(0);
    assert_eq!(bench.cache.tree.len(), 0);
    bench.assert_no_leak();
}

/// Random traffic over few tokens (so that prefixes collide) and few pages (so that evictions happen). `Bench::run` checks
/// every read and every write.
#[test]
fn random_traffic() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % n
    };
    let pools = [
        &[(None, 24)][..],
        &[(None, 24), (Some(40), 18)],
        &[(Some(20), 16), (Some(70), 24)],
        &[(None, 9), (Some(20), 18)], // too few for all who are live
    ];
    for groups in pools {
        let mut bench = Bench::new(groups);
        let mut n_cached = 0;
        for _ in 0..3000 {
            match random(4) {
                0 if bench.live.len() < 3 => {
                    let n = 1 + random(200);
                    let (at, other) = (random(n), random(3) as u32);
                    let wanted: Vec<u32> = (0..n).map(|i| if i < at { 0 } else { other }).collect();
                    n_cached += bench.start(&wanted);
                }
                1 if !bench.live.is_empty() => bench.finish(random(bench.live.len())),
                _ if !bench.live.is_empty() => {
                    let index = random(bench.live.len());
                    let (sequence, tokens) = &bench.live[index];
                    let left = tokens.len() - sequence.len();
                    if left > 0 && bench.run(index, 1 + random(left.min(40))).is_err() {
                        bench.finish(random(bench.live.len()));
                    }
                }
                _ => {}
            }
        }
        assert!(n_cached > 1000, "the traffic must hit the cache, {n_cached}");
        while !bench.live.is_empty() {
            bench.finish(0);
        }
        bench.assert_no_leak();
    }
}
