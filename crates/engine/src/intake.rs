//! What stands before an engine: turns a request into a sequence, or says what is wrong with it. Needs no engine, so that
//! any thread can do it while a batch runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::answer::Answer;
use crate::runner::RunnerSizes;
use crate::sequence::{Sequence, Task};
use crate::{EmbedRequest, EngineError, Model, Overflow, PromptReport, Request, RequestId, Speculation};

/// The facts of an engine that requests are checked against. Clones give out ids of one series.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) model: Model,
    /// Tokens of context of a request that asks for no other number.
    pub(crate) n_ctx: usize,
    /// The most that a request may ask for.
    pub(crate) longest_ctx: usize,
    pub(crate) n_vocab: usize,
    /// Width of a text's vector, 0 where the model gives none.
    pub(crate) n_embd: usize,
    /// Whether it wants to know which text of a pair a token belongs to.
    knows_pairs: bool,
    /// For a request that says nothing of it.
    pub(crate) speculation: Speculation,
    next_id: Arc<AtomicU64>,
}

impl Intake {
    pub(crate) fn new(
        model: Model,
        (n_ctx, longest_ctx): (usize, usize),
        RunnerSizes { n_vocab, n_embd, .. }: RunnerSizes,
        knows_pairs: bool,
        speculation: Speculation,
    ) -> Intake {
        let next_id = Arc::default();
        Intake { model, n_ctx, longest_ctx, n_vocab, n_embd, knows_pairs, speculation, next_id }
    }

    /// Tokenizes and checks a request.
    pub(crate) fn accept(&self, mut request: Request) -> Result<(Sequence, PromptReport), EngineError> {
        self.check_generates()?;
        let prepared = self.model.prepare_with(&request.prompt, &request.variables)?;
        let n_ctx = self.n_ctx_of(request.ctx)?;
        if request.prompt_logprobs.is_some() {
            request.overflow = Overflow::Error;
        }
        if request.overflow == Overflow::Shift && request.n_keep.is_none() {
            let n_system = self.model.n_system_tokens(&request, &prepared)?;
            request.n_keep = Some(n_system).filter(|&n| n > 0);
        }
        let report = PromptReport { n_tokens: prepared.tokens.len(), raw: prepared.raw };
        self.check_prompt(&prepared.tokens)?;
        if report.n_tokens > n_ctx && request.overflow == Overflow::Error {
            return Err(self.too_long(report.n_tokens, n_ctx));
        }
        let grammar = match &request.grammar {
            Some(grammar) => Some(self.model.grammar_vocabulary()?.start(grammar)?),
            None => None,
        };
        let bos = self.model.tokenizer()?.special_ids().bos;
        let cancel = request.cancel.take();
        let speculation = request.speculation.unwrap_or(self.speculation);
        let answer = Answer::new(request, &prepared.tokens, self.n_vocab, bos, grammar, speculation)?;
        let task = Task::Generate(Box::new(answer));
        Ok((Sequence::new(self.next_id(), prepared.tokens, n_ctx, task, cancel), report))
    }

    /// Tokenizes and checks a request for a vector.
    pub(crate) fn accept_embedding(
        &self,
        request: EmbedRequest,
    ) -> Result<(Sequence, PromptReport), EngineError> {
        if self.n_embd == 0 {
            return Err(EngineError::NoEmbeddings);
        }
        match (self.model.info().ranks, &request.document) {
            (true, None) => return Err(EngineError::OnlyRanks),
            (false, Some(_)) => return Err(EngineError::DoesNotRank),
            _ => {}
        }
        let n_ctx = self.n_ctx_of(request.ctx)?;
        let (tokens, second) = match &request.document {
            None => (self.model.prepare_embedding(&request.input, request.truncate, n_ctx)?, None),
            Some(document) => {
                let (tokens, second) =
                    self.model.prepare_pair(&request.input, document, request.truncate, n_ctx)?;
                (tokens, second.filter(|_| self.knows_pairs))
            }
        };
        self.check_prompt(&tokens)?;
        if tokens.len() > n_ctx {
            return Err(self.too_long(tokens.len(), n_ctx));
        }
        let report = PromptReport { n_tokens: tokens.len(), raw: false };
        let task = Task::Embed { vector: vec![0.0; self.n_embd], second };
        Ok((Sequence::new(self.next_id(), tokens, n_ctx, task, request.cancel), report))
    }

    pub(crate) fn check_generates(&self) -> Result<(), EngineError> {
        if self.model.info().is_encoder { Err(EngineError::NoGeneration) } else { Ok(()) }
    }

    fn next_id(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn n_ctx_of(&self, asked: Option<usize>) -> Result<usize, EngineError> {
        match asked {
            Some(0) => {
                let expected = format!("from 1 to {}", self.longest_ctx);
                Err(EngineError::Setting { setting: "the context of the request", got: 0, expected })
            }
            asked => Ok(asked.map_or(self.n_ctx, |n_ctx| n_ctx.min(self.longest_ctx))),
        }
    }

    fn check_prompt(&self, tokens: &[u32]) -> Result<(), EngineError> {
        self.check_tokens(tokens)?;
        if tokens.is_empty() { Err(EngineError::EmptyPrompt) } else { Ok(()) }
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
