//! What stands before an engine: turns a request into a sequence, or says what is wrong with it. Needs no engine, so that
//! any thread can do it while a batch runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sequence::Sequence;
use crate::{EngineError, Model, Overflow, PromptReport, Request, RequestId};

/// The facts of an engine that requests are checked against. Clones give out ids of one series.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) model: Model,
    /// Tokens of context of a request that asks for no other number.
    pub(crate) n_ctx: usize,
    /// The most that a request may ask for.
    pub(crate) longest_ctx: usize,
    pub(crate) n_vocab: usize,
    next_id: Arc<AtomicU64>,
}

impl Intake {
    pub(crate) fn new(model: Model, n_ctx: usize, longest_ctx: usize, n_vocab: usize) -> Intake {
        Intake { model, n_ctx, longest_ctx, n_vocab, next_id: Arc::default() }
    }

    /// Tokenizes and checks a request.
    pub(crate) fn accept(&self, mut request: Request) -> Result<(Sequence, PromptReport), EngineError> {
        let prepared = self.model.prepare(&request.prompt)?;
        let n_ctx = match request.ctx {
            Some(0) => {
                let expected = format!("from 1 to {}", self.longest_ctx);
                return Err(EngineError::Setting { setting: "the context of the request", got: 0, expected });
            }
            ctx => ctx.map_or(self.n_ctx, |ctx| ctx.min(self.longest_ctx)),
        };
        if request.overflow == Overflow::Shift && request.n_keep.is_none() {
            let n_system = self.model.n_system_tokens(&request.prompt, &prepared)?;
            request.n_keep = Some(n_system).filter(|&n| n > 0);
        }
        let report = PromptReport { n_tokens: prepared.tokens.len(), raw: prepared.raw };
        self.check_tokens(&prepared.tokens)?;
        if prepared.tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if report.n_tokens > n_ctx && request.overflow == Overflow::Error {
            return Err(self.too_long(report.n_tokens, n_ctx));
        }
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let grammar = match &request.grammar {
            Some(grammar) => Some(self.model.grammar_vocabulary()?.start(grammar)?),
            None => None,
        };
        let bos = self.model.tokenizer()?.special_ids().bos;
        let sequence = Sequence::new(id, request, prepared.tokens, n_ctx, self.n_vocab, bos, grammar)?;
        Ok((sequence, report))
    }

    pub(crate) fn too_long(&self, n_tokens: usize, n_ctx: usize) -> EngineError {
        EngineError::PromptTooLong { n_tokens, n_ctx, n_ctx_train: self.model.info().n_ctx_train }
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), EngineError> {
        match tokens.iter().find(|&&id| id as usize >= self.n_vocab) {
            Some(&id) => Err(EngineError::TokenOutOfRange { id, n_vocab: self.n_vocab }),
            None => Ok(()),
        }
    }
}
