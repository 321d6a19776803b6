//! How often drafts of one kind are accepted, and how many of their tokens are worth the rows that verify them. Learnt from
//! counts alone, never from times: what a step computes must not depend on how busy the machine is.

/// Trials that the first guess counts for.
const PRIOR_TRIALS: f32 = 2.0;
/// What the trials before count for after one more: some ten are remembered.
const MEMORY: f32 = 0.9;
/// Chances passed over after a kind has stopped to pay; twice as many after each trial in vain.
const FIRST_PAUSE: u32 = 4;
const LONGEST_PAUSE: u32 = 128;

/// How one kind of drafts fares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    prior: f32,
    accepted: f32,
    tried: f32,
    /// Chances to pass over before the next trial of what does not pay.
    rest: u32,
    pause: u32,
}

/// What to draft.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) n_tokens: usize,
    /// Tokens that are expected, over those in the same time without drafts.
    pub(super) speed: f32,
}

impl Plan {
    pub(super) const NOTHING: Plan = Plan { n_tokens: 0, speed: 1.0 };
}

impl Rate {
    /// `prior`: the probability that a token is accepted, before anything is known.
    pub(super) fn new(prior: f32) -> Rate {
        Rate { prior, accepted: 0.0, tried: 0.0, rest: 0, pause: FIRST_PAUSE }
    }

    /// The probability that a token is accepted where those before it were.
    fn probability(&self) -> f32 {
        (PRIOR_TRIALS * self.prior + self.accepted) / (PRIOR_TRIALS + self.tried)
    }

    /// How many tokens, at most `most`, promise the most where each costs `cost` of a step without drafts. What does not pay
    /// is tried again once in a while, with one token.
    pub(super) fn plan(&mut self, cost: f32, most: usize) -> Plan {
        let p = self.probability();
        let (mut best, mut expected, mut chance) = (Plan::NOTHING, 1.0, 1.0);
        for n_tokens in 1..=most {
            chance *= p;
            expected += chance;
            let speed = expected / (1.0 + cost * n_tokens as f32);
            if speed > best.speed {
                best = Plan { n_tokens, speed };
            }
        }
        if best.n_tokens > 0 {
            return best;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return Plan::NOTHING;
        }
        Plan { n_tokens: most.min(1), speed: 1.0 }
    }

    /// Takes in a draft of which so many tokens were `accepted`, and, if it `missed`, one was not. What came after that
    /// was no trial.
    pub(super) fn learn(&mut self, accepted: usize, missed: bool) {
        for trial in 0..accepted + usize::from(missed) {
            self.accepted = self.accepted * MEMORY + f32::from(u8::from(trial < accepted));
            self.tried = self.tried * MEMORY + 1.0;
        }
        if accepted > 0 {
            (self.rest, self.pause) = (0, FIRST_PAUSE);
        } else if missed {
            (self.rest, self.pause) = (self.pause, (2 * self.pause).min(LONGEST_PAUSE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: f32 = 0.2;

    /// Drafts `n` times where each token is accepted by `accepts(draft, place)`; gives tokens drafted and accepted.
    fn run(rate: &mut Rate, n: usize, mut accepts: impl FnMut(usize, usize) -> bool) -> (usize, usize) {
        let (mut drafted, mut accepted) = (0, 0);
        for draft in 0..n {
            let plan = rate.plan(COST, 7);
            let n_good = (0..plan.n_tokens).take_while(|&place| accepts(draft, place)).count();
            rate.learn(n_good, n_good < plan.n_tokens);
            drafted += plan.n_tokens;
            accepted += n_good;
        }
        (drafted, accepted)
    }

    #[test]
    fn what_pays_is_drafted() {
        // (probability, tokens to draft): the largest of (1 + p + .. + p^n) / (1 + 0.2 n), worked out by hand.
        for (p, expected) in [(0.1, 0), (0.15, 0), (0.3, 1), (0.6, 2), (0.8, 4), (1.0, 7)] {
            let mut rate = Rate::new(p);
            rate.rest = 1;
            assert_eq!(rate.plan(COST, 7).n_tokens, expected, "{p}");
        }
        assert_eq!(Rate::new(1.0).plan(COST, 3).n_tokens, 3);
    }

    #[test]
    fn what_never_pays_is_hardly_tried() {
        let mut rate = Rate::new(0.8);
        let (drafted, accepted) = run(&mut rate, 100, |_, _| false);
        assert!(accepted == 0 && drafted < 40, "{drafted}");
        let (drafted, _) = run(&mut rate, 10_000, |_, _| false);
        assert!(drafted < 100, "{drafted}");
    }

    #[test]
    fn what_begins_to_pay_is_found_out() {
        let mut rate = Rate::new(0.3);
        run(&mut rate, 1000, |_, _| false);
        let (drafted, accepted) = run(&mut rate, LONGEST_PAUSE as usize + 50, |_, _| true);
        assert_eq!(drafted, accepted);
        assert!(drafted > 7 * 30, "{drafted}");
    }
}
