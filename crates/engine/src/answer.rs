//! The answer to a request for text: its sampler, and the text that comes of its tokens.

use whit_sample::{GrammarState, Sampled, Sampler, StopMatcher, StopStatus};
use whit_text::{DecodeOptions, StreamDecoder, Tokenizer};

use crate::speculate::{Drafter, Speculation};
use crate::{EngineError, Event, FinishReason, Overflow, PromptToken, Request};

/// What a request is expected to generate at least, when room is sought for it: enough that it seldom must wait again.
const SOON: usize = 128;

/// What is to come of a prompt, and what has come so far.
pub(crate) struct Answer {
    sampler: Sampler,
    grammar: Option<GrammarState>,
    decoder: StreamDecoder,
    stops: StopMatcher,
    /// The text of the current token, before stop texts are looked for.
    piece: String,
    max_tokens: usize,
    pub(crate) overflow: Overflow,
    pub(crate) n_keep: usize,
    ignore_eos: bool,
    pub(crate) scores: Option<Scores>,
    pub(crate) drafter: Drafter,
}

/// The log-probabilities of a prompt.
pub(crate) struct Scores {
    /// How many of the likeliest tokens are told of.
    n_top: usize,
    /// The first token of the prompt that nothing has been said of.
    pub(crate) next: usize,
}

impl Answer {
    pub(crate) fn new(
        request: Request,
        tokens: &[u32],
        n_vocab: usize,
        bos: Option<u32>,
        grammar: Option<GrammarState>,
        speculation: Speculation,
    ) -> Result<Answer, EngineError> {
        let mut sampler = Sampler::new(request.sampling, n_vocab)?;
        tokens.iter().for_each(|&token| sampler.accept(token));
        let stops = StopMatcher::new(&request.stop)?;
        let begins = tokens.first().is_some_and(|&first| Some(first) == bos);
        Ok(Answer {
            sampler,
            grammar,
            decoder: StreamDecoder::new(DecodeOptions::CONTINUATION),
            stops,
            piece: String::new(),
            max_tokens: request.max_tokens.unwrap_or(usize::MAX),
            overflow: request.overflow,
            n_keep: request.n_keep.unwrap_or(usize::from(begins)),
            ignore_eos: request.ignore_eos,
            scores: request.prompt_logprobs.map(|n_top| Scores { n_top, next: 0 }),
            drafter: Drafter::new(speculation),
        })
    }

    /// Whether anything is to be generated.
    pub(crate) fn generates(&self) -> bool {
        self.max_tokens > 0
    }

    /// Tokens that it will grow by before long, after `n_generated`.
    pub(crate) fn n_soon(&self, n_generated: usize) -> usize {
        self.n_left(n_generated).min(SOON)
    }

    /// Tokens that it may still have, after `n_generated`.
    pub(crate) fn n_left(&self, n_generated: usize) -> usize {
        self.max_tokens.saturating_sub(n_generated)
    }

    /// Scores the tokens of the prompt that follow the rows from `first` on, of which `logits` gives each.
    pub(crate) fn score<'a>(
        &mut self,
        prompt: &[u32],
        first: usize,
        logits: impl Iterator<Item = &'a [f32]>,
    ) -> Result<Option<Event>, EngineError> {
        let Some(scores) = &mut self.scores else { return Ok(None) };
        let mut scored = Vec::new();
        if scores.next == 0 {
            scored.push(PromptToken { id: prompt[0], logprob: None, top: Vec::new() });
            scores.next = 1;
        }
        for (&id, logits) in prompt[first + 1..].iter().zip(logits) {
            let Sampled { id, logprob, top } = self.sampler.score(logits, id, scores.n_top)?;
            scored.push(PromptToken { id, logprob, top });
            scores.next += 1;
        }
        Ok((!scored.is_empty()).then_some(Event::Prompt(scored)))
    }

    /// Chooses the next token, the `n`th that is generated, and puts it behind `tokens`. Gives the event, and the reason if
    /// the answer ends with it.
    pub(crate) fn choose(
        &mut self,
        logits: &[f32],
        tokenizer: &Tokenizer,
        n: usize,
        is_full: impl FnOnce() -> bool,
    ) -> Result<(u32, Event, Option<FinishReason>), EngineError> {
        let sampled = match &mut self.grammar {
            Some(grammar) => self.sampler.sample_masked(logits, grammar.mask()?)?,
            None => self.sampler.sample(logits)?,
        };
        let id = sampled.id;
        self.sampler.accept(id);

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
        if reason.is_none() && is_complete {
            reason = Some(FinishReason::Eos);
        }
        if reason.is_none() && n >= self.max_tokens {
            reason = Some(FinishReason::Length);
        }
        if reason.is_none() && self.overflow == Overflow::Error && is_full() {
            reason = Some(FinishReason::ContextFull);
        }
        if let Some(reason) = reason
            && !matches!(reason, FinishReason::Stop(_))
            && let Some(index) = self.release_text(&mut text)
        {
            // What was held back of the last characters completed a stop text.
            return Ok((id, token_event(sampled, text), Some(FinishReason::Stop(index))));
        }
        Ok((id, token_event(sampled, text), reason))
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
}

fn token_event(sampled: Sampled, text: String) -> Event {
    Event::Token { id: sampled.id, text, logprob: sampled.logprob, top: sampled.top }
}
