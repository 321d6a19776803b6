//! Who runs in a step, and how much of each: admission, the order of prompts, and what happens when the cache is full.
//!
//! Requests are admitted in the order in which they came, as soon as there is a place and room in the cache. Every
//! sequence that generates gets its token in every step. Prompts share the rows that are left, as many as the pace
//! allows, in equal parts. When the cache is full, the sequence admitted last gives its pages up and waits at the head
//! of the line; it goes on exactly where it was, so nothing but time is lost. One sequence alone always has room.

use whit_base::PAGE_TOKENS;

use crate::engine::Item;
use crate::sequence::{Live, Sequence};
use crate::{Engine, EngineError, FinishReason, RequestId};

impl Engine {
    pub(crate) fn drop_cancelled(&mut self, sink: &mut dyn FnMut(RequestId, Item)) {
        self.waiting.retain(|sequence| {
            let cancelled = sequence.is_cancelled();
            if cancelled {
                sink(sequence.id, Ok(sequence.done(FinishReason::Cancelled)));
            }
            !cancelled
        });
        for index in (0..self.live.len()).rev() {
            if self.live[index].sequence.is_cancelled() {
                let sequence = self.retire(index);
                sink(sequence.id, Ok(sequence.done(FinishReason::Cancelled)));
            }
        }
    }

    /// Shifts what has outgrown its context, and gives free places to those who wait.
    pub(crate) fn admit(&mut self, sink: &mut dyn FnMut(RequestId, Item)) {
        for index in 0..self.live.len() {
            if self.live[index].sequence.is_over() {
                let mut sequence = self.retire(index);
                sink(sequence.id, Ok(sequence.shift()));
                let live = self.place(sequence);
                self.live.insert(index, live);
            }
        }
        while self.live.len() < self.max_sequences
            && let Some(mut next) = self.waiting.pop_front()
        {
            if next.is_over() {
                sink(next.id, Ok(next.shift()));
            }
            if !self.has_room(&next) {
                self.waiting.push_front(next);
                break;
            }
            let live = self.place(next);
            self.live.push(live);
        }
    }

    fn has_room(&self, next: &Sequence) -> bool {
        let live = self.live.iter().map(|live| (&live.cache, live.sequence.n_expected()));
        let shared = if next.shares_cache() { &next.tokens[..] } else { &[] };
        self.live.is_empty() || self.cache.has_room(live, shared, next.n_expected())
    }

    fn place(&self, sequence: Sequence) -> Live {
        Live::new(sequence, self.cache.start_alone())
    }

    /// Gives the sequences that have not begun what is cached of their tokens.
    pub(crate) fn begin(&mut self) {
        for index in 0..self.live.len() {
            if self.live[index].begun || self.is_being_read(index) {
                continue;
            }
            let (live, runner) = (&mut self.live[index], &mut self.runner);
            if live.sequence.shares_cache() {
                live.cache = self.cache.start(&live.sequence.tokens, |copy| runner.copy_page(copy));
            }
            live.begun = true;
            if let Some(usage) = live.sequence.start(live.cache.len()) {
                self.stats.prompt_tokens += usage.prompt_tokens as u64;
                self.stats.cached_tokens += usage.cached_tokens as u64;
            }
        }
    }

    /// Whether another sequence is just reading pages that this one, which has not begun, also begins with. Waiting for
    /// them is faster than reading them twice.
    fn is_being_read(&self, index: usize) -> bool {
        if !self.live[index].sequence.shares_cache() {
            return false;
        }
        let tokens = &self.live[index].sequence.tokens;
        let tokens = &tokens[..tokens.len().saturating_sub(1)];
        let mut n_cached = None;
        let others = self.live.iter().filter(|other| other.is_reading() && other.sequence.shares_cache());
        others.into_iter().any(|other| {
            let common = tokens.iter().zip(&other.sequence.tokens).take_while(|(a, b)| a == b).count();
            let whole = common / PAGE_TOKENS * PAGE_TOKENS;
            whole > other.cache.len() && whole > *n_cached.get_or_insert_with(|| self.cache.n_cached(tokens))
        })
    }

    /// Chooses what runs in this step: `(live sequence, tokens)`, in the order of the live ones, with pages for it.
    pub(crate) fn pack(&mut self, pieces: &mut Vec<(usize, usize)>, sink: &mut dyn FnMut(RequestId, Item)) {
        self.share_rows(pieces);
        let mut index = 0;
        while index < self.live.len() {
            let Live { cache, draft, .. } = &mut self.live[index];
            if self.cache.reserve(cache, pieces[index].1 + draft.tokens.len()).is_ok() {
                index += 1;
                continue;
            }
            if !draft.tokens.is_empty() {
                // It is not worth another's place.
                draft.tokens.clear();
                continue;
            }
            let last = self.live.len() - 1;
            let sequence = self.retire(last);
            pieces.pop();
            if last == 0 {
                sink(sequence.id, Err(EngineError::OutOfPages));
            } else {
                self.stats.preemptions += 1;
                self.waiting.push_front(sequence);
            }
        }
        pieces.retain(|&(_, n)| n > 0);
    }

    /// One row for each sequence that generates; the rest in equal parts for those whose prompt is being read.
    fn share_rows(&self, pieces: &mut Vec<(usize, usize)>) {
        let live = &self.live;
        pieces.clear();
        pieces
            .extend(live.iter().enumerate().map(|(index, live)| (index, usize::from(live.is_generating()))));
        let n_generating: usize = pieces.iter().map(|piece| piece.1).sum();
        let n_reading = live.iter().filter(|live| live.is_reading()).count();
        if n_reading == 0 {
            return;
        }
        let mut left = self.runner.max_rows() - n_generating;
        if self.runner.reads_whole() {
            // The longest waiting first, so that each comes to its turn; shorter ones fill what is left.
            for (piece, live) in pieces.iter_mut().zip(live) {
                let n = live.n_pending();
                if live.is_reading() && n <= left {
                    piece.1 = n;
                    left -= n;
                }
            }
            return;
        }
        if n_generating > 0 {
            left = left.min(self.pace.rows());
        }
        // Each sequence may have one row of logits; those that score their prompt share the rest.
        let mut spare = self.runner.max_logits().saturating_sub(live.len());
        // Where there are fewer rows than prompts, others begin the next time.
        let first = self.stats.steps as usize % live.len();
        let part = (left / n_reading).max(1);
        for part in [part, left] {
            for index in (first..live.len()).chain(0..first).filter(|&index| live[index].is_reading()) {
                let mut n = (live[index].n_pending() - pieces[index].1).min(part).min(left);
                if live[index].sequence.is_scored() {
                    let own = usize::from(pieces[index].1 == 0);
                    n = n.min(own + spare);
                    spare -= n.saturating_sub(own);
                }
                pieces[index].1 += n;
                left -= n;
            }
        }
    }
}
