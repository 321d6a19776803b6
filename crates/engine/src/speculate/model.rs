//! Drafts by a small model with the same vocabulary, one token after another, for all sequences that ask at once.
//!
//! It has a cache of its own, in which each sequence goes on from where it last was asked. A long stretch that it has not read, a
//! prompt above all, is read in pieces, beside steps that generate without it. What it drafts are its likeliest tokens, until it is
//! too unsure of them.

use std::path::Path;

use whit_base::{Backend, BackendError};
use whit_sample::{Sampler, SamplerConfig};
use whit_text::TokenKind;

use super::{ROW_COST, Source};
use crate::cache::KvCache;
use crate::load::Loaded;
use crate::runner::{Piece, Runner};
use crate::sequence::Live;
use crate::{EngineError, EngineOptions, MemoryEstimate, Model};

/// A loaded draft model.
pub(crate) struct DraftModel {
    pub(crate) runner: Runner,
    pub(crate) cache: KvCache,
    chooser: Sampler,
    /// What drafting a token costs, in steps of the model that it drafts for: both wait for their weights above all.
    cost: f32,
    /// Tokens that both models know.
    n_tokens: usize,
    n_ctx: usize,
    /// Kept for its memory.
    round: Vec<Drafting>,
}

/// A sequence that is being drafted for.
struct Drafting {
    index: usize,
    n_asked: usize,
    /// Tokens to read first; not always all that are pending.
    n_rows: usize,
    is_read: bool,
    /// The probability that all tokens drafted are right, as the draft model sees it.
    chance: f32,
}

impl DraftModel {
    /// Loads the model at `path` to draft for `target`, whose weights take `target_bytes`.
    pub(crate) fn load(
        path: &Path,
        (target, target_bytes): (&Model, usize),
        backend: &dyn Backend,
        options: &EngineOptions,
    ) -> Result<(DraftModel, MemoryEstimate), EngineError> {
        let model = Model::open(path)?;
        if model.info().is_encoder {
            return Err(EngineError::DraftEncoder { path: path.to_owned() });
        }
        let Loaded { runner, cache, sizing, .. } = Loaded::new(&model, backend, options)?;
        let n_tokens = n_common_tokens(target, &model)?;
        let config = SamplerConfig { logprobs: Some(0), ..SamplerConfig::greedy() };
        let draft = DraftModel {
            runner,
            cache,
            chooser: Sampler::new(config, n_tokens)?,
            cost: sizing.memory.weights as f32 / target_bytes.max(1) as f32,
            n_tokens,
            n_ctx: sizing.longest_ctx,
            round: Vec::new(),
        };
        Ok((draft, sizing.memory))
    }

    /// What drafting a token costs, in steps of the model that it drafts for.
    pub(super) fn cost(&self) -> f32 {
        self.cost
    }

    /// Drafts for the sequences in `asked` (and at most so many tokens), of which no more than `most_rows` tokens are read.
    pub(super) fn draft(
        &mut self,
        live: &mut [Live],
        asked: &[(usize, usize)],
        most_rows: usize,
    ) -> Result<(), BackendError> {
        let mut left = most_rows.min(self.runner.max_rows());
        let mut round = std::mem::take(&mut self.round);
        round.clear();
        for &(index, n_asked) in asked {
            if let Some(drafting) = self.begin(&mut live[index], index, n_asked, left) {
                left -= drafting.n_rows;
                round.push(drafting);
            }
        }
        let result = self.run(live, &mut round);
        self.round = round;
        result
    }

    /// Sees to a cache for the sequence, and to room in it.
    fn begin(&mut self, live: &mut Live, index: usize, n_asked: usize, left: usize) -> Option<Drafting> {
        let tokens = &live.sequence.tokens;
        if tokens.len() + n_asked > self.n_ctx {
            return None;
        }
        let runner = &mut self.runner;
        let cache = match &mut live.drafted {
            Some(cache) => cache,
            none => none.insert(self.cache.start(tokens, |copy| runner.copy_page(copy))),
        };
        let pending = &tokens[cache.len()..];
        let n_rows = pending.len().min(left);
        let is_read = n_rows == pending.len();
        let n_more = if is_read { n_asked - 1 } else { 0 };
        if n_rows == 0 || pending.iter().any(|&token| token as usize >= self.n_tokens) {
            return None;
        }
        if self.cache.reserve(cache, n_rows + n_more).is_err() {
            // Others need the room more.
            self.release(live);
            return None;
        }
        Some(Drafting { index, n_asked, n_rows, is_read, chance: 1.0 })
    }

    fn run(&mut self, live: &mut [Live], round: &mut Vec<Drafting>) -> Result<(), BackendError> {
        self.runner.run(round.iter().filter_map(|one| {
            let Live { sequence, drafted, .. } = &live[one.index];
            let cache = drafted.as_ref()?;
            let first = cache.len();
            let tokens = &sequence.tokens[first..first + one.n_rows];
            let outputs = if one.is_read { one.n_rows - 1..one.n_rows } else { 0..0 };
            Some(Piece { tokens, first, draft: &[], outputs, pool: None, second: None, cache })
        }))?;
        for one in &*round {
            let Live { sequence, drafted, .. } = &mut live[one.index];
            if let Some(cache) = drafted {
                self.cache.commit(cache, &sequence.tokens, one.n_rows);
            }
        }
        round.retain(|one| one.is_read);
        while !round.is_empty() {
            let mut row = 0;
            round.retain_mut(|one| {
                let logits = &self.runner.logits(row)[..self.n_tokens];
                row += 1;
                // A model that gives no numbers drafts nothing.
                let Ok(chosen) = self.chooser.sample(logits) else { return false };
                one.chance *= chosen.logprob.map_or(1.0, f32::exp);
                if one.chance < ROW_COST {
                    return false;
                }
                let draft = &mut live[one.index].draft;
                draft.source = Source::Model;
                draft.tokens.push(chosen.id);
                draft.tokens.len() < one.n_asked && one.chance >= ROW_COST + self.cost
            });
            self.runner.run(round.iter().filter_map(|one| {
                let Live { sequence, drafted, draft, .. } = &live[one.index];
                let (last, before) = draft.tokens.split_last()?;
                let (tokens, first) = (std::slice::from_ref(last), sequence.tokens.len() + before.len());
                let cache = drafted.as_ref()?;
                Some(Piece { tokens, first, draft: &[], outputs: 0..1, pool: None, second: None, cache })
            }))?;
        }
        Ok(())
    }

    /// Keeps what was read of a draft whose first `n` tokens now belong to the sequence.
    pub(crate) fn keep(&mut self, live: &mut Live, n: usize) {
        let Live { sequence, drafted, draft, .. } = live;
        if draft.source == Source::Model
            && let Some(cache) = drafted
        {
            // The last token of a draft is not read.
            self.cache.commit(cache, &sequence.tokens, n.min(draft.tokens.len().saturating_sub(1)));
        }
    }

    /// Gives back what a sequence holds.
    pub(crate) fn release(&mut self, live: &mut Live) {
        if let Some(cache) = live.drafted.take() {
            self.cache.release(cache, &live.sequence.tokens);
        }
    }
}

/// How many tokens both models know. They must be the same; only padding may follow.
fn n_common_tokens(target: &Model, draft: &Model) -> Result<usize, EngineError> {
    let (of_target, of_draft) = (target.tokenizer()?, draft.tokenizer()?);
    let n = of_target.n_tokens().min(of_draft.n_tokens());
    let is_padding = |id: u32| {
        let kind = of_target.kind(id).or(of_draft.kind(id));
        kind == Some(TokenKind::Unused)
    };
    let differs = |&id: &u32| {
        if id as usize >= n {
            return !is_padding(id);
        }
        of_target.token_text(id) != of_draft.token_text(id)
            || of_target.is_control(id) != of_draft.is_control(id)
    };
    let most = of_target.n_tokens().max(of_draft.n_tokens()) as u32;
    let Some(id) = (0..most).find(differs) else { return Ok(n) };
    let spelling = |text: Option<&[u8]>| match text {
        Some(text) => format!("`{}`", String::from_utf8_lossy(text)),
        None => "nothing".to_owned(),
    };
    Err(EngineError::DraftVocabulary {
        path: draft.path().to_owned(),
        id,
        expected: spelling(of_target.token_text(id)),
        got: spelling(of_draft.token_text(id)),
    })
}
