//! One measurement: sequences of random tokens through an engine, and the time that they take.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use whit_engine::{Engine, Event, FinishReason, Prompt, Request, SamplerConfig, Speculation};
use whit_sample::Rng;

/// Tokens of the uncounted run of `generate`.
const WARM_UP: usize = 16;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prompt,
    Generate,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Prompt => "prompt",
            Kind::Generate => "generate",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) kind: Kind,
    /// Tokens that are counted, of each sequence.
    pub(crate) n: usize,
    /// Tokens of each sequence that are in the cache before.
    pub(crate) depth: usize,
    /// Sequences at once.
    pub(crate) parallel: usize,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Test { kind, n, depth, parallel } = self;
        write!(f, "{} {n} at depth {depth}", kind.name())?;
        if *parallel > 1 { write!(f, ", {parallel} sequences") } else { Ok(()) }
    }
}

impl Test {
    /// Context of each sequence. The first token generated comes with the prompt; and a page of what the cache keeps cannot
    /// be shared when it is only partly filled.
    pub(crate) fn n_ctx(&self) -> usize {
        self.depth.saturating_add(self.n).saturating_add(2 + 2 * whit_base::PAGE_TOKENS)
    }

    /// A run that is not counted: it brings the weights in, and wakes the cores.
    pub(crate) fn warm_up(&self, engine: &mut Engine) -> Result<()> {
        let n = if self.kind == Kind::Generate { self.n.min(WARM_UP) } else { self.n };
        Test { n, ..*self }.measure(engine).map(|_| ())
    }

    /// Tokens per second of one run, of all sequences together.
    pub(crate) fn measure(&self, engine: &mut Engine) -> Result<f64> {
        let Test { kind, n, depth, parallel } = *self;
        engine.clear_prefixes();
        let n_vocab = engine.n_vocab();
        let sequences = |n| (0..parallel).map(|number| random_tokens(n_vocab, n, number)).collect();
        if depth > 0 {
            generate(engine, sequences(depth), 1)?;
        }
        let n_counted = (n * parallel) as f64;
        let (n_prompt, n_generated) = match kind {
            Kind::Prompt => (depth + n, 1),
            // One token at least must be read for the first to come; `n` more are made one by one.
            Kind::Generate => (depth.max(1), n + 1),
        };
        let times = generate(engine, sequences(n_prompt), n_generated)?;
        // One sequence alone may read its beginning anew before it generates, for that is not counted; several would not begin
        // to generate together.
        let n_fresh = match kind {
            Kind::Prompt => n * parallel,
            Kind::Generate if parallel > 1 => parallel,
            Kind::Generate => usize::MAX,
        };
        if times.n_read > n_fresh {
            bail!("the cache did not keep the {depth} tokens that were to stand before the others");
        }
        let time = match kind {
            Kind::Prompt => times.reading,
            Kind::Generate => times.generating,
        };
        Ok(n_counted / time.as_secs_f64())
    }
}

/// How long sequences took that began together.
struct Times {
    /// Until the last of them had its first token.
    reading: Duration,
    /// From then until the last of them ended.
    generating: Duration,
    /// Tokens of their prompts that were computed.
    n_read: usize,
}

/// Runs the sequences together until each has `n` tokens more.
fn generate(engine: &mut Engine, sequences: Vec<Vec<u32>>, n: usize) -> Result<Times> {
    let n_sequences = sequences.len();
    let start = Instant::now();
    for tokens in sequences {
        engine.submit(Request {
            sampling: SamplerConfig::greedy(),
            max_tokens: Some(n),
            ignore_eos: true,
            // One token a step, as the peers'.
            speculation: Some(Speculation::OFF),
            ..Request::new(Prompt::Tokens(tokens))
        })?;
    }
    let mut begun = HashSet::new();
    let mut read = None;
    let (mut n_read, mut n_done) = (0, 0);
    let mut failure = None;
    while !engine.is_idle() {
        engine.step(&mut |id, item| match item {
            Ok(Event::Token { .. }) => {
                if read.is_none() {
                    begun.insert(id);
                }
            }
            Ok(Event::Done(done)) if done.reason == FinishReason::Length => {
                n_done += 1;
                n_read += done.usage.prompt_tokens - done.usage.cached_tokens;
            }
            Ok(Event::Done(done)) => {
                failure = Some(anyhow::anyhow!(
                    "only {} of {n} tokens were generated ({:?})",
                    done.usage.generated_tokens,
                    done.reason
                ));
            }
            Ok(_) => {}
            Err(error) => failure = Some(error.into()),
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        if read.is_none() && begun.len() == n_sequences {
            read = Some(Instant::now());
        }
    }
    match read {
        Some(read) if n_done == n_sequences => {
            Ok(Times { reading: read - start, generating: read.elapsed(), n_read })
        }
        _ => bail!("the generation broke off without an end"),
    }
}

/// The same tokens each time for a sequence of this number, spread over the vocabulary; more of them begin with the fewer.
fn random_tokens(n_vocab: usize, n: usize, number: usize) -> Vec<u32> {
    let mut rng = Rng::new(number as u64);
    (0..n).map(|_| (rng.next_f64() * n_vocab as f64) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_differ_and_grow() {
        let (short, long) = (random_tokens(1000, 20, 3), random_tokens(1000, 40, 3));
        assert_eq!(short, long[..20]);
        assert_ne!(short, random_tokens(1000, 20, 4));
        assert!(long.iter().all(|&token| token < 1000));
    }
}
