//! Logits of given tokens: what judging and comparing models needs.

use std::ops::Range;

use whit_base::{Observer, PAGE_TOKENS};

use crate::cache::{KvCache, SequenceCache};
use crate::runner::Piece;
use crate::{Engine, EngineError};

/// A sequence to run, from position 0 on.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    /// Its tokens, at most [`Engine::n_ctx`].
    pub tokens: &'a [u32],
    /// The positions whose logits are wanted.
    pub outputs: Range<usize>,
}

/// What [`Engine::evaluate`] makes of cached prefixes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefixes {
    Ignored,
    Shared,
}

/// A sequence that is being run.
struct Running<'a> {
    index: usize,
    input: &'a Evaluation<'a>,
    cache: SequenceCache,
}

impl Running<'_> {
    fn n_left(&self) -> usize {
        self.input.tokens.len() - self.cache.len()
    }

    /// The outputs among the next `n` tokens, as places among them.
    fn outputs(&self, n: usize) -> Range<usize> {
        let first = self.cache.len();
        let place = |position: usize| position.clamp(first, first + n) - first;
        place(self.input.outputs.start)..place(self.input.outputs.end)
    }

    /// How many of the next tokens fit, given room for so many rows and outputs.
    fn n_fitting(&self, rows: usize, outputs: usize) -> usize {
        let n = self.n_left().min(rows);
        let wanted = self.outputs(n);
        if wanted.len() <= outputs { n } else { wanted.start + outputs }
    }
}

impl Engine {
    /// Runs `inputs`, several at a time if the engine has room for several sequences, and hands each wanted row of logits
    /// to `sink` with the index of its input and its position. Rows of one input come in order. Cached prefixes are
    /// neither used nor left behind.
    ///
    /// # Errors
    /// A model that generates no text, an input longer than the context or with ids beyond the vocabulary, running requests that take all places, and
    /// failures of the backend.
    pub fn evaluate(
        &mut self,
        inputs: &[Evaluation<'_>],
        sink: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.evaluate_with(inputs, Prefixes::Ignored, None, sink)
    }

    /// As [`evaluate`](Self::evaluate), but what is cached of the tokens before the first wanted row does not run again, and
    /// what ran is left behind for later. So of many inputs with the same beginning, this part costs nothing if it ran
    /// once, in a call before.
    ///
    /// # Errors
    /// As for [`evaluate`](Self::evaluate).
    pub fn evaluate_shared(
        &mut self,
        inputs: &[Evaluation<'_>],
        sink: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.evaluate_with(inputs, Prefixes::Shared, None, sink)
    }

    /// As [`evaluate`](Self::evaluate), with `observer` looking at what goes into every product with weights: of each position
    /// once, save that operations behind the last attention run for wanted positions alone.
    ///
    /// # Errors
    /// As for [`evaluate`](Self::evaluate), and a backend that cannot.
    pub fn evaluate_observed(
        &mut self,
        inputs: &[Evaluation<'_>],
        observer: &mut dyn Observer,
        sink: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.evaluate_with(inputs, Prefixes::Ignored, Some(observer), sink)
    }

    fn evaluate_with(
        &mut self,
        inputs: &[Evaluation<'_>],
        prefixes: Prefixes,
        mut observer: Option<&mut dyn Observer>,
        sink: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.intake.check_generates()?;
        for input in inputs {
            self.intake.check_tokens(input.tokens)?;
            if input.tokens.len() > self.n_ctx() {
                return Err(self.intake.too_long(input.tokens.len(), self.n_ctx()));
            }
        }
        let n_places = self.max_sequences() - self.live.len();
        if n_places == 0 {
            return Err(EngineError::Busy { max_sequences: self.max_sequences() });
        }
        let mut coming = inputs.iter().enumerate().peekable();
        let mut running: Vec<Running<'_>> = Vec::new();
        let fits = |cache: &KvCache, running: &[Running<'_>], next: &Evaluation<'_>| {
            let inputs = running.iter().map(|one| one.input).chain([next]);
            let n_positions = inputs.map(|input| input.tokens.len().next_multiple_of(PAGE_TOKENS)).sum();
            running.is_empty() || cache.fits(n_positions)
        };
        let result = loop {
            while running.len() < n_places
                && let Some((index, input)) = coming.next_if(|(_, next)| fits(&self.cache, &running, next))
            {
                let cache = match prefixes {
                    Prefixes::Ignored => self.cache.start_alone(),
                    Prefixes::Shared => {
                        // The token of the first wanted row must run.
                        let wanted = &input.outputs;
                        let end = if wanted.is_empty() { input.tokens.len() } else { wanted.start + 1 };
                        let tokens = input.tokens.get(..end).unwrap_or(input.tokens);
                        self.cache.start(tokens, |copy| self.runner.copy_page(copy))
                    }
                };
                running.push(Running { index, input, cache });
            }
            if running.is_empty() {
                break Ok(());
            }
            if let Err(error) = self.evaluate_step(
                &mut running,
                observer.as_mut().map(|observer| &mut **observer as &mut dyn Observer),
                sink,
            ) {
                break Err(error);
            }
            for at in (0..running.len()).rev() {
                if running[at].n_left() == 0 {
                    let done = running.remove(at);
                    self.cache.release(done.cache, done.input.tokens);
                }
            }
        };
        running.into_iter().for_each(|left| self.cache.release(left.cache, left.input.tokens));
        result
    }

    fn evaluate_step(
        &mut self,
        running: &mut [Running<'_>],
        observer: Option<&mut dyn Observer>,
        sink: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), EngineError> {
        let (mut rows, mut outputs) = (self.runner.max_rows(), self.runner.max_logits());
        let mut n_rows = Vec::with_capacity(running.len());
        for one in running.iter_mut() {
            let n = one.n_fitting(rows, outputs);
            rows -= n;
            outputs -= one.outputs(n).len();
            self.cache.reserve(&mut one.cache, n).map_err(|_| EngineError::OutOfPages)?;
            n_rows.push(n);
        }
        let pieces = || running.iter().zip(&n_rows).filter(|(_, n)| **n > 0);
        let pieces_to_run = pieces().map(|(one, &n)| {
            let first = one.cache.len();
            let tokens = &one.input.tokens[first..first + n];
            let outputs = one.outputs(n);
            Piece { tokens, first, draft: &[], outputs, pool: None, second: None, cache: &one.cache }
        });
        self.runner.run_observed(pieces_to_run, observer)?;
        let mut output = 0;
        for (one, &n) in pieces() {
            for row in one.outputs(n) {
                sink(one.index, one.cache.len() + row, self.runner.logits(output));
                output += 1;
            }
        }
        for (one, n) in running.iter_mut().zip(n_rows) {
            self.cache.commit(&mut one.cache, one.input.tokens, n);
        }
        Ok(())
    }
}
