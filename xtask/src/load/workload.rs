//! What the clients do, and what is made of what they saw.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::client::{self, Answer, Ask};
use crate::compare::receipt::summary;

/// Words of one token each in most vocabularies.
const WORDS: [&str; 64] = [
    "the", "and", "for", "with", "from", "this", "that", "have", "will", "your", "which", "their", "about",
    "other", "there", "these", "some", "would", "time", "into", "more", "only", "water", "work", "people",
    "first", "right", "world", "house", "number", "part", "place", "small", "large", "light", "night",
    "river", "story", "green", "paper", "music", "money", "table", "point", "horse", "plant", "voice",
    "power", "south", "north", "stone", "bread", "winter", "summer", "letter", "garden", "market", "window",
    "mother", "father", "friend", "school", "street", "corner",
];

/// `n` words that follow from `seed`, so that every engine reads the same.
pub(super) fn words(n: usize, seed: u64) -> String {
    // Knuth's MMIX generator; the high bits are the good ones.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D;
    let mut text = String::with_capacity(n * 6);
    for at in 0..n {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if at > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[(state >> 58) as usize]);
    }
    text
}

/// Clients that each ask, read the answer to its end, and ask again.
pub(super) struct Workload {
    pub(super) n_clients: usize,
    pub(super) n_requests: usize,
    pub(super) n_words: usize,
    pub(super) n_tokens: usize,
    /// What all prompts begin with.
    pub(super) system: Option<String>,
    /// No two workloads of a run have the same prompts.
    pub(super) seed: u64,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) seconds: f64,
    pub(super) n_answered: usize,
    pub(super) n_lost: usize,
    /// Why the first of them was lost.
    pub(super) reason: Option<String>,
    pub(super) n_prompt: usize,
    pub(super) n_cached: usize,
    pub(super) n_generated: usize,
    /// Seconds from the request to the first token.
    pub(super) waits: Vec<f64>,
    /// Seconds between tokens.
    pub(super) gaps: Vec<f64>,
}

impl Workload {
    /// Runs it against a server. Returns when the last answer came.
    pub(super) fn run(&self, address: &str, model: &str) -> Outcome {
        let next = AtomicUsize::new(0);
        let begin = Instant::now();
        let client = || {
            let mut outcome = Outcome::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.n_requests {
                    return outcome;
                }
                let user = words(self.n_words, self.seed + number as u64);
                let ask = Ask { model, system: self.system.as_deref(), user: &user, n_tokens: self.n_tokens };
                let asked = Instant::now();
                outcome.take(asked, self.n_tokens, client::ask(address, &ask));
            }
        };
        let mut outcome = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.n_clients).map(|_| scope.spawn(client)).collect();
            threads.into_iter().fold(Outcome::default(), |whole, thread| match thread.join() {
                Ok(outcome) => whole.and(outcome),
                Err(panic) => std::panic::resume_unwind(panic),
            })
        });
        outcome.seconds = begin.elapsed().as_secs_f64();
        outcome
    }
}

impl Outcome {
    fn take(&mut self, asked: Instant, n_tokens: usize, result: anyhow::Result<Answer>) {
        let short = |answer: &Answer| format!("{} tokens came of {n_tokens}", answer.n_generated);
        let answer = match result {
            Ok(answer) if answer.n_generated == n_tokens => answer,
            Ok(answer) => return self.lose(short(&answer)),
            Err(error) => return self.lose(format!("{error:#}")),
        };
        self.n_answered += 1;
        self.n_prompt += answer.n_prompt;
        self.n_cached += answer.n_cached;
        self.n_generated += answer.n_generated;
        self.waits.extend(answer.stamps.first().map(|first| (*first - asked).as_secs_f64()));
        self.gaps.extend(answer.stamps.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()));
    }

    fn lose(&mut self, reason: String) {
        self.n_lost += 1;
        self.reason.get_or_insert(reason);
    }

    fn and(mut self, other: Outcome) -> Outcome {
        self.n_answered += other.n_answered;
        self.n_lost += other.n_lost;
        self.reason = self.reason.or(other.reason);
        self.n_prompt += other.n_prompt;
        self.n_cached += other.n_cached;
        self.n_generated += other.n_generated;
        self.waits.extend(other.waits);
        self.gaps.extend(other.gaps);
        self
    }

    /// Tokens generated per second, of all clients together.
    pub(super) fn rate(&self) -> f64 {
        self.n_generated as f64 / self.seconds
    }

    /// Tokens of prompts that had to be computed.
    pub(super) fn n_computed(&self) -> usize {
        self.n_prompt.saturating_sub(self.n_cached)
    }

    pub(super) fn json(&self) -> Value {
        let ms = |seconds: f64| (seconds * 1e6).round() / 1e3;
        json!({
            "seconds": (self.seconds * 1e3).round() / 1e3, "answered": self.n_answered, "lost": self.n_lost,
            "prompt_tokens": self.n_prompt, "cached_tokens": self.n_cached, "generated_tokens": self.n_generated,
            "tokens_per_second": (self.rate() * 10.0).round() / 10.0,
            "first_token_ms": {"median": ms(quantile(&self.waits, 0.5)), "p95": ms(quantile(&self.waits, 0.95))},
            "gap_ms": {"median": ms(quantile(&self.gaps, 0.5)), "p95": ms(quantile(&self.gaps, 0.95)),
                "max": ms(quantile(&self.gaps, 1.0))},
        })
    }
}

/// The least sample that a share `q` of all do not exceed; NaN of none.
pub(super) fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The median over rounds of a number in their outcomes.
pub(super) fn median_of(rounds: &[Value], path: &str) -> f64 {
    let numbers: Vec<f64> = rounds.iter().filter_map(|round| round.pointer(path)?.as_f64()).collect();
    if numbers.is_empty() { f64::NAN } else { summary(&numbers).1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        for (q, expected) in [(0.0, 1.0), (0.2, 1.0), (0.5, 3.0), (0.95, 5.0), (1.0, 5.0)] {
            assert_eq!(quantile(&samples, q), expected, "{q}");
        }
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn prompts_differ_and_can_be_repeated() {
        assert_eq!(words(200, 1), words(200, 1));
        assert_eq!(words(200, 1).split(' ').count(), 200);
        assert!(words(8, 1) != words(8, 2) && words(8, 2) != words(8, 3));
    }
}
