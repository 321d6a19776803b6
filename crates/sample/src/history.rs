//! The tokens that the penalties look at, and the logits that they and the biases replace.
//!
//! Penalties are llama.cpp's: a repeated token's positive logit is divided, its negative one multiplied, by the repeat
//! penalty (Keskar et al. 2019, arXiv:1909.05858); then presence and frequency are subtracted as OpenAI defines them.

use std::collections::VecDeque;

use crate::SamplerConfig;

/// The last tokens accepted, and how often each occurs among them.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Oldest first. Empty when the window has no end, since then nothing ever leaves it.
    window: VecDeque<u32>,
    /// Ascending by token.
    counts: Vec<(u32, u32)>,
}

impl History {
    /// Takes in a token; the one that is now more than `last_n` back (-1: none) leaves.
    pub(crate) fn push(&mut self, token: u32, last_n: i32) {
        if let Ok(last_n) = usize::try_from(last_n) {
            if last_n == 0 {
                return;
            }
            if self.window.len() >= last_n
                && let Some(oldest) = self.window.pop_front()
                && let Ok(at) = self.counts.binary_search_by_key(&oldest, |entry| entry.0)
            {
                self.counts[at].1 -= 1;
                if self.counts[at].1 == 0 {
                    self.counts.remove(at);
                }
            }
            self.window.push_back(token);
        }
        match self.counts.binary_search_by_key(&token, |entry| entry.0) {
            Ok(at) => self.counts[at].1 = self.counts[at].1.saturating_add(1),
            Err(at) => self.counts.insert(at, (token, 1)),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.window.clear();
        self.counts.clear();
    }

    /// Replaces `patches` by the biased and penalised logits, ascending by token. `biases` is ascending by token.
    pub(crate) fn patch(
        &self,
        config: &SamplerConfig,
        biases: &[(u32, f32)],
        logits: &[f32],
        patches: &mut Vec<(u32, f32)>,
    ) {
        patches.clear();
        let mut seen = if config.penalizes() { self.counts.as_slice() } else { &[] }.iter().peekable();
        let mut biases = biases.iter().peekable();
        loop {
            let token = match (seen.peek(), biases.peek()) {
                (None, None) => return,
                (Some(&&(token, _)), None) | (None, Some(&&(token, _))) => token,
                (Some(&&(a, _)), Some(&&(b, _))) => a.min(b),
            };
            let bias = biases.next_if(|entry| entry.0 == token).map_or(0.0, |entry| entry.1);
            let count = seen.next_if(|entry| entry.0 == token).map_or(0, |entry| entry.1);
            // A token accepted from outside may lie beyond the vocabulary; it has no logit to penalise.
            let Some(&raw) = logits.get(token as usize) else { continue };
            let mut logit = raw + bias;
            if count > 0 {
                let r = config.repeat_penalty;
                logit = if logit <= 0.0 { logit * r } else { logit / r };
                let penalty = count as f32 * config.frequency_penalty + config.presence_penalty;
                logit -= penalty.clamp(f32::MIN, f32::MAX);
                // A penalty may ban a token, but not make of its logit what a broken model would give.
                if raw.is_finite() {
                    logit = logit.min(f32::MAX);
                }
            }
            patches.push((token, logit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(last_n: i32, tokens: &[u32], expected: &[(u32, u32)]) {
        let mut history = History::default();
        for &token in tokens {
            history.push(token, last_n);
        }
        assert_eq!(history.counts, expected, "last_n {last_n}, tokens {tokens:?}");
    }

    #[test]
    fn penalties_leave_numbers() {
        let (ban, most) = (f32::NEG_INFINITY, f32::MAX);
        for (repeat, presence, frequency, logit, expected) in [
            (2.0, 0.0, 0.0, 4.0, 2.0),
            (2.0, 0.5, 0.25, -4.0, -9.0),
            (1e-45, 0.0, 0.0, 5.0, most),
            (3e38, 0.0, 0.0, -5.0, ban),
            (1.0, -3e38, -3e38, 5.0, most),
            (1.0, 3e38, 3e38, ban, ban),
            (1.0, -3e38, -3e38, ban, ban),
            (1e-45, 0.0, 0.0, f32::INFINITY, f32::INFINITY),
        ] {
            let mut history = History::default();
            history.push(0, -1);
            history.push(0, -1);
            let config = SamplerConfig {
                repeat_last_n: -1,
                repeat_penalty: repeat,
                presence_penalty: presence,
                frequency_penalty: frequency,
                ..SamplerConfig::default()
            };
            let mut patches = Vec::new();
            history.patch(&config, &[], &[logit], &mut patches);
            assert_eq!(patches, [(0, expected)], "{repeat} {presence} {frequency} {logit}");
        }
    }

    #[test]
    fn windows() {
        check(0, &[1, 2, 3], &[]);
        check(1, &[1, 2, 3], &[(3, 1)]);
        check(3, &[5, 5, 2, 5], &[(2, 1), (5, 2)]);
        check(3, &[9, 9, 9, 1, 1, 1], &[(1, 3)]);
        check(64, &[7, 3, 7], &[(3, 1), (7, 2)]);
        check(-1, &[4, 4, 2, 4, 0], &[(0, 1), (2, 1), (4, 3)]);
    }
}
