//! One request on its way: its tokens, its sampler, and the text that comes of them.

use std::time::Instant;

use whit_sample::{GrammarState, Sampler, StopMatcher, StopStatus};
use whit_text::{DecodeOptions, StreamDecoder, Tokenizer};

use crate::cache::SequenceCache;
use crate::{
    CancelToken, Done, EngineError, Event, FinishReason, Overflow, Request, RequestId, Timings, Usage,
};

/// What a request is expected to generate at least, when room is sought for it: enough that it seldom must wait again.
const SOON: usize = 128;

/// A request that waits, or runs.
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    /// Prompt and answer, less what was dropped. The last may not be in the cache yet.
    pub(crate) tokens: Vec<u32>,
    sampler: Sampler,
    grammar: Option<GrammarState>,
    decoder: StreamDecoder,
    stops: StopMatcher,
    /// The text of the current token, before stop texts are looked for.
    piece: String,
    max_tokens: usize,
    n_ctx: usize,
    overflow: Overflow,
    n_keep: usize,
    ignore_eos: bool,
    cancel: Option<CancelToken>,
    usage: Usage,
    submitted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
}

/// A [`Sequence`] with a place in the cache.
pub(crate) struct Live {
    pub(crate) sequence: Sequence,
    pub(crate) cache: SequenceCache,
    /// Whether it has looked for a cached prefix. Until then it holds no page.
    pub(crate) begun: bool,
}

impl Live {
    /// Tokens that must run before the next can be chosen.
    pub(crate) fn n_pending(&self) -> usize {
        self.sequence.tokens.len() - self.cache.len()
    }

    /// Whether its prompt is being read.
    pub(crate) fn is_reading(&self) -> bool {
        self.begun && self.n_pending() > 1
    }

    /// Whether its next token is due with each step.
    pub(crate) fn is_generating(&self) -> bool {
        self.begun && self.n_pending() == 1
    }
}

impl Sequence {
    pub(crate) fn new(
        id: RequestId,
        request: Request,
        tokens: Vec<u32>,
        n_ctx: usize,
        n_vocab: usize,
        bos: Option<u32>,
        grammar: Option<GrammarState>,
    ) -> Result<Sequence, EngineError> {
        let mut sampler = Sampler::new(request.sampling, n_vocab)?;
        tokens.iter().for_each(|&token| sampler.accept(token));
        let stops = StopMatcher::new(&request.stop)?;
        let begins = tokens.first().is_some_and(|&first| Some(first) == bos);
        Ok(Sequence {
            id,
            sampler,
            grammar,
            decoder: StreamDecoder::new(DecodeOptions::CONTINUATION),
            stops,
            piece: String::new(),
            max_tokens: request.max_tokens.unwrap_or(usize::MAX),
            n_ctx,
            overflow: request.overflow,
            n_keep: request.n_keep.unwrap_or(usize::from(begins)),
            ignore_eos: request.ignore_eos,
            cancel: request.cancel,
            usage: Usage { prompt_tokens: tokens.len(), ..Usage::default() },
            submitted: Instant::now(),
            started: None,
            first_token: None,
            tokens,
        })
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(CancelToken::is_cancelled)
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
        let n_more = (self.max_tokens - self.usage.generated_tokens.min(self.max_tokens)).min(SOON);
        (self.tokens.len() + n_more).min(self.n_ctx)
    }

    /// Drops old tokens until the rest fits into the context: see [`Overflow::Shift`].
    pub(crate) fn shift(&mut self) -> Event {
        let n_kept = self.n_keep.min(self.n_ctx / 2).min(self.tokens.len());
        let mut n_dropped = 0;
        while self.tokens.len() - n_dropped > self.n_ctx {
            let rest = self.tokens.len() - n_dropped - n_kept;
            n_dropped += rest.div_ceil(2);
        }
        self.tokens.drain(n_kept..n_kept + n_dropped);
        Event::Shifted { n_kept, n_dropped }
    }

    /// Chooses the next token. Gives the event, and the reason if the answer ends with it.
    pub(crate) fn advance(
        &mut self,
        logits: &[f32],
        tokenizer: &Tokenizer,
    ) -> Result<(Event, Option<FinishReason>), EngineError> {
        let sampled = match &mut self.grammar {
            Some(grammar) => self.sampler.sample_masked(logits, grammar.mask()?)?,
            None => self.sampler.sample(logits)?,
        };
        let id = sampled.id;
        self.first_token.get_or_insert_with(Instant::now);
        self.sampler.accept(id);
        self.usage.generated_tokens += 1;

        let mut is_complete = false;
        if let Some(grammar) = &mut self.grammar {
            grammar.accept(id)?;
            is_complete = grammar.is_complete();
        }
        // A grammar allows them only where it ends.
        let ends = (!self.ignore_eos || is_complete) && tokenizer.is_end_of_generation(id);
        let mut text = String::new();
        let mut reason = ends.then_some(FinishReason::Eos);
        // The vocabulary of the model may be padded beyond the tokenizer's: such a token has no text.
        if tokenizer.is_control(id) && reason.is_none() {
            // It is no text, and neither a character nor a stop text reaches across it: what is held back comes before it.
            reason = self.release_text(&mut text).map(FinishReason::Stop);
        } else if !ends && (id as usize) < tokenizer.n_tokens() {
            self.piece.clear();
            self.decoder.push(tokenizer, id, &mut self.piece)?;
            if let StopStatus::Stopped(index) = self.stops.push(&self.piece, &mut text) {
                reason = Some(FinishReason::Stop(index));
            }
        }
        self.tokens.push(id);
        if reason.is_none() && is_complete {
            reason = Some(FinishReason::Eos);
        }
        if reason.is_none() && self.usage.generated_tokens >= self.max_tokens {
            reason = Some(FinishReason::Length);
        }
        if reason.is_none() && self.overflow == Overflow::Error && self.is_over() {
            reason = Some(FinishReason::ContextFull);
        }
        if let Some(reason) = reason
            && !matches!(reason, FinishReason::Stop(_))
            && let Some(index) = self.release_text(&mut text)
        {
            // What was held back of the last characters completed a stop text.
            return Ok((token_event(sampled, text), Some(FinishReason::Stop(index))));
        }
        Ok((token_event(sampled, text), reason))
    }

    /// Appends all text that is held back. Gives the index of a stop text that it completes.
    fn release_text(&mut self, text: &mut String) -> Option<usize> {
        let mut rest = String::new();
        self.decoder.finish(&mut rest);
        if let StopStatus::Stopped(index) = self.stops.push(&rest, text) {
            return Some(index);
        }
        self.stops.finish(text);
        None
    }

    /// The end.
    pub(crate) fn done(&self, reason: FinishReason) -> Event {
        let now = Instant::now();
        let started = self.started.unwrap_or(now);
        let first_token = self.first_token.unwrap_or(now);
        let timings = Timings {
            waiting: started - self.submitted,
            prompt: first_token - started,
            generation: now - first_token,
        };
        Event::Done(Done { reason, usage: self.usage, timings })
    }
}

fn token_event(sampled: whit_sample::Sampled, text: String) -> Event {
    Event::Token { id: sampled.id, text, logprob: sampled.logprob, top: sampled.top }
}
