//! One request on its way: its tokens, what is to come of them, and its times.

use std::ops::Range;
use std::time::Instant;

use whit_text::Tokenizer;

use crate::answer::Answer;
use crate::cache::SequenceCache;
use crate::runner::{PoolPiece, Runner};
use crate::speculate::{Draft, Drafter};
use crate::{CancelToken, Done, EngineError, Event, FinishReason, RequestId, Timings, Usage};

/// A request that waits, or runs.
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    /// Prompt and answer, less what was dropped. The last may not be in the cache yet.
    pub(crate) tokens: Vec<u32>,
    task: Task,
    n_ctx: usize,
    cancel: Option<CancelToken>,
    usage: Usage,
    submitted: Instant,
    started: Option<Instant>,
    /// When the prompt had been read.
    read: Option<Instant>,
}

/// What is to come of the tokens.
pub(crate) enum Task {
    /// More tokens, or what the model thinks of these.
    Generate(Box<Answer>),
    /// Their vector, or the score of a pair.
    Embed {
        /// As far as it has come.
        vector: Vec<f32>,
        /// Where the second text of a pair begins, for models that want to know.
        second: Option<usize>,
    },
}

/// A [`Sequence`] with a place in the cache.
pub(crate) struct Live {
    pub(crate) sequence: Sequence,
    pub(crate) cache: SequenceCache,
    /// Whether it has looked for a cached prefix. Until then it holds no page.
    pub(crate) begun: bool,
    /// What may follow.
    pub(crate) draft: Draft,
    /// Its place in the cache of the draft model, which knows no more of it than is there.
    pub(crate) drafted: Option<SequenceCache>,
}

/// What a step gave for one sequence: which of the runner's rows of logits, and which of its vectors.
pub(crate) struct Given<'d> {
    /// Rows of its own tokens. Those of the draft follow.
    pub(crate) logits: Range<usize>,
    pub(crate) draft: &'d Draft,
    pub(crate) vector: Option<usize>,
}

impl Live {
    /// It has not begun.
    pub(crate) fn new(sequence: Sequence, cache: SequenceCache) -> Live {
        Live { sequence, cache, begun: false, draft: Draft::default(), drafted: None }
    }

    /// Tokens that must run before the next can be chosen.
    pub(crate) fn n_pending(&self) -> usize {
        self.sequence.tokens.len() - self.cache.len()
    }

    /// Whether its prompt is being read.
    pub(crate) fn is_reading(&self) -> bool {
        self.begun && !self.is_generating() && self.n_pending() > 0
    }

    /// Whether its next token is due with each step.
    pub(crate) fn is_generating(&self) -> bool {
        self.begun && self.sequence.generates() && self.n_pending() == 1
    }
}

impl Sequence {
    pub(crate) fn new(
        id: RequestId,
        tokens: Vec<u32>,
        n_ctx: usize,
        task: Task,
        cancel: Option<CancelToken>,
    ) -> Sequence {
        Sequence {
            id,
            task,
            n_ctx,
            cancel,
            usage: Usage { prompt_tokens: tokens.len(), ..Usage::default() },
            submitted: Instant::now(),
            started: None,
            read: None,
            tokens,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelToken::is_cancelled)
    }

    fn generates(&self) -> bool {
        matches!(&self.task, Task::Generate(answer) if answer.generates())
    }

    /// Whether each row of its prompt may need logits.
    pub(crate) fn is_scored(&self) -> bool {
        matches!(&self.task, Task::Generate(answer) if answer.scores.is_some())
    }

    /// Whether it takes over what is cached of its tokens, and leaves its own behind. A sequence whose every state counts
    /// must run whole; and the vector of a text shall not depend on what was asked before.
    pub(crate) fn shares_cache(&self) -> bool {
        matches!(&self.task, Task::Generate(answer) if answer.scores.is_none())
    }

    /// Records the start, with `n_cached` tokens of the prompt found in the cache.
    /// Gives its usage the first time, nothing when it goes on after waiting again.
    pub(crate) fn start(&mut self, n_cached: usize) -> Option<Usage> {
        if self.started.is_some() {
            return None;
        }
        self.started = Some(Instant::now());
        self.usage.cached_tokens = n_cached;
        Some(self.usage)
    }

    /// Whether the next token would have no place in the context.
    pub(crate) fn is_over(&self) -> bool {
        self.tokens.len() > self.n_ctx
    }

    /// Tokens that it will hold before long.
    pub(crate) fn n_expected(&self) -> usize {
        let n_more = match &self.task {
            Task::Generate(answer) => answer.n_soon(self.usage.generated_tokens),
            Task::Embed { .. } => 0,
        };
        (self.tokens.len() + n_more).min(self.n_ctx)
    }

    /// Tokens that may be drafted: no more than the answer may still have after the one that comes in any case, and none
    /// beyond the context.
    pub(crate) fn n_draftable(&self) -> usize {
        match &self.task {
            Task::Generate(answer) => {
                let n_left = answer.n_left(self.usage.generated_tokens).saturating_sub(1);
                n_left.min(self.n_ctx.saturating_sub(self.tokens.len()))
            }
            Task::Embed { .. } => 0,
        }
    }

    /// What drafts for it, and the tokens so far.
    pub(crate) fn drafter(&mut self) -> Option<(&mut Drafter, &[u32])> {
        match &mut self.task {
            Task::Generate(answer) => Some((&mut answer.drafter, &self.tokens)),
            Task::Embed { .. } => None,
        }
    }

    /// Drops old tokens until the rest fits into the context: see [`Overflow::Shift`](crate::Overflow::Shift).
    pub(crate) fn shift(&mut self) -> Event {
        let n_keep = match &self.task {
            Task::Generate(answer) => answer.n_keep,
            Task::Embed { .. } => 0,
        };
        let n_kept = n_keep.min(self.n_ctx / 2).min(self.tokens.len());
        let mut n_dropped = 0;
        while self.tokens.len() - n_dropped > self.n_ctx {
            let rest = self.tokens.len() - n_dropped - n_kept;
            n_dropped += rest.div_ceil(2);
        }
        self.tokens.drain(n_kept..n_kept + n_dropped);
        Event::Shifted { n_kept, n_dropped }
    }

    /// The rows of the tokens `first..first + n` whose logits are wanted, counted from `first`.
    pub(crate) fn outputs(&self, first: usize, n: usize) -> Range<usize> {
        let Task::Generate(answer) = &self.task else { return 0..0 };
        let end = first + n;
        let is_last = end == self.tokens.len() && answer.generates();
        match &answer.scores {
            // A row scores the token after it; the last one chooses.
            Some(scores) if scores.next < self.usage.prompt_tokens => {
                let from = first.max(scores.next.saturating_sub(1));
                let to = end.min(self.usage.prompt_tokens - 1) + usize::from(is_last);
                from.min(to) - first.min(to)..to - first.min(to)
            }
            _ if is_last => n - 1..n,
            _ => 0..0,
        }
    }

    /// The vector that the tokens before `end` go into.
    pub(crate) fn pool(&self, end: usize) -> Option<PoolPiece<'_>> {
        match &self.task {
            Task::Embed { vector, .. } => Some(PoolPiece { state: vector, ends: end == self.tokens.len() }),
            Task::Generate(_) => None,
        }
    }

    /// Where the second text of a pair begins.
    pub(crate) fn second(&self) -> Option<usize> {
        match self.task {
            Task::Embed { second, .. } => second,
            Task::Generate(_) => None,
        }
    }

    /// Takes in what a step gave, which ran the tokens `first..end`. Events go to `sink`; gives the reason if it is over.
    pub(crate) fn advance(
        &mut self,
        (first, end): (usize, usize),
        given: Given<'_>,
        runner: &Runner,
        tokenizer: &Tokenizer,
        sink: &mut dyn FnMut(Event),
    ) -> Result<Option<FinishReason>, EngineError> {
        let is_read = end == self.tokens.len();
        if is_read {
            self.read.get_or_insert_with(Instant::now);
        }
        let answer = match &mut self.task {
            Task::Generate(answer) => answer,
            Task::Embed { vector, .. } => {
                if let Some(index) = given.vector {
                    vector.copy_from_slice(runner.vector(index));
                }
                if !is_read {
                    return Ok(None);
                }
                if vector.iter().any(|value| !value.is_finite()) {
                    return Err(EngineError::BrokenEmbedding);
                }
                sink(Event::Embedding(std::mem::take(vector)));
                return Ok(Some(FinishReason::Length));
            }
        };
        let chooses = is_read && answer.generates();
        let scoring = given.logits.start..given.logits.end - usize::from(chooses);
        if answer.scores.as_ref().is_some_and(|scores| scores.next < self.usage.prompt_tokens) {
            let from = first.max(answer.scores.as_ref().map_or(0, |scores| scores.next.saturating_sub(1)));
            let rows = scoring.map(|row| runner.logits(row));
            if let Some(event) = answer.score(&self.tokens[..self.usage.prompt_tokens], from, rows)? {
                sink(event);
            }
        }
        if !is_read {
            return Ok(None);
        }
        if !chooses {
            return Ok(Some(FinishReason::Length));
        }
        let draft = given.draft;
        let mut n_accepted = 0;
        loop {
            self.usage.generated_tokens += 1;
            let (n, n_ctx, n_tokens) = (self.usage.generated_tokens, self.n_ctx, self.tokens.len() + 1);
            let logits = runner.logits(given.logits.end - 1 + n_accepted);
            let (id, event, reason) = answer.choose(logits, tokenizer, n, || n_tokens > n_ctx)?;
            self.tokens.push(id);
            sink(event);
            let drafted = draft.tokens.get(n_accepted);
            if reason.is_none() && drafted == Some(&id) {
                n_accepted += 1;
                continue;
            }
            answer.drafter.learn(draft.source, n_accepted, drafted.is_some_and(|&drafted| drafted != id));
            self.usage.drafted_tokens += draft.tokens.len();
            self.usage.accepted_tokens += n_accepted;
            return Ok(reason);
        }
    }

    /// The end.
    pub(crate) fn done(&self, reason: FinishReason) -> Event {
        let now = Instant::now();
        let started = self.started.unwrap_or(now);
        let read = self.read.unwrap_or(now);
        let timings =
            Timings { waiting: started - self.submitted, prompt: read - started, generation: now - read };
        Event::Done(Done { reason, usage: self.usage, timings })
    }
}
