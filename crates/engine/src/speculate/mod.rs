//! Drafting: tokens are guessed ahead and verified together, in one step that takes little longer than a step for one.
//!
//! Every token of an answer is still chosen by the model: from its own logits, through grammar, penalties and sampler, by the
//! random number that would have been its own anyway. A draft only decides whether the logits that come next are there
//! already: it is followed as long as each token chosen is the one drafted. So an answer is the same with drafts and without,
//! sampled or not, whatever the drafts say. (A draft of one certain token per place is kept as often as by the rejection rule
//! of Leviathan et al., arXiv:2211.17192, which would keep the distribution alone.) Nothing is to be undone either: what was drafted
//! wrongly was never chosen, and its keys and values lie beyond the end of the sequence, where the next step writes.
//!
//! Drafts come from the text itself (`lookup`: what stood behind the last tokens before) or from a small model (`model`).
//! `rate` learns how each fares, and drafts no more than pays.

mod lookup;
mod model;
mod rate;

use std::str::FromStr;

use whit_base::BackendError;

use crate::Engine;
use crate::sequence::Live;
pub(crate) use model::DraftModel;
use rate::{Plan, Rate};

/// Most rows of a step that verifies drafts. As many as kernels take without a second look at the weights; more sequences
/// than these leave no room for drafts.
pub(crate) const MAX_ROWS: usize = 8;
/// What one more row costs, in steps of one row.
const ROW_COST: f32 = 0.12;

/// How tokens are drafted. Answers are the same with drafts and without; what changes is how long they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speculation {
    /// From the text itself: what stood behind the same tokens before.
    pub lookup: bool,
    /// By the [draft model](crate::EngineOptions::draft), where there is one.
    pub model: bool,
    /// Most tokens drafted for one step. No more than 7 are, in all sequences together.
    pub max_tokens: usize,
}

impl Speculation {
    /// No drafts.
    pub const OFF: Speculation = Speculation { lookup: false, model: false, max_tokens: 0 };
}

impl Default for Speculation {
    /// From whatever there is, as much as pays.
    fn default() -> Self {
        Speculation { lookup: true, model: true, max_tokens: MAX_ROWS - 1 }
    }
}

impl FromStr for Speculation {
    type Err = &'static str;

    /// `off`, `lookup`, `draft` (by the draft model alone) or `all`; otherwise these names.
    fn from_str(name: &str) -> Result<Speculation, &'static str> {
        let usual = Speculation::default();
        match name {
            "off" => Ok(Speculation::OFF),
            "lookup" => Ok(Speculation { model: false, ..usual }),
            "draft" => Ok(Speculation { lookup: false, ..usual }),
            "all" => Ok(usual),
            _ => Err("`off`, `lookup`, `draft` or `all`"),
        }
    }
}

/// Tokens that may follow a sequence, to be verified in the step that is about to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) tokens: Vec<u32>,
    pub(crate) source: Source,
}

/// Where a draft is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// The text, with so many tokens in common.
    Lookup(usize),
    #[default]
    Model,
}

/// Decides what is drafted for one sequence, by how its drafts have fared.
#[derive(Clone, Debug)]
pub(crate) struct Drafter {
    limits: Speculation,
    /// By how many tokens agree: few, some, many.
    lookups: [Rate; 3],
    model: Rate,
}

impl Drafter {
    pub(crate) fn new(limits: Speculation) -> Drafter {
        Drafter { limits, lookups: [0.3, 0.5, 0.8].map(Rate::new), model: Rate::new(0.7) }
    }

    fn rate(&mut self, source: Source) -> &mut Rate {
        match source {
            Source::Lookup(0..3) => &mut self.lookups[0],
            Source::Lookup(3..6) => &mut self.lookups[1],
            Source::Lookup(_) => &mut self.lookups[2],
            Source::Model => &mut self.model,
        }
    }

    /// Takes in how a draft fared: so many of its tokens were `accepted`, and whether one was not.
    pub(crate) fn learn(&mut self, source: Source, accepted: usize, missed: bool) {
        self.rate(source).learn(accepted, missed);
    }

    /// Drafts at most `most` tokens into `draft` from the text. Gives instead how many the draft model is to draft where
    /// that promises more; each of its tokens costs `model_cost`.
    fn draft(&mut self, tokens: &[u32], most: usize, model_cost: Option<f32>, draft: &mut Draft) -> usize {
        let most = most.min(self.limits.max_tokens);
        if most == 0 {
            return 0;
        }
        let found = self.limits.lookup.then(|| lookup::find(tokens)).flatten();
        let by_lookup = match found {
            Some(found) => self.rate(Source::Lookup(found.n_common)).plan(ROW_COST, most),
            None => Plan::NOTHING,
        };
        let by_model = match model_cost.filter(|_| self.limits.model) {
            Some(cost) => self.model.plan(ROW_COST + cost, most),
            None => Plan::NOTHING,
        };
        if by_lookup.n_tokens == 0 || by_model.speed > by_lookup.speed {
            return by_model.n_tokens;
        }
        if let Some(found) = found {
            draft.source = Source::Lookup(found.n_common);
            lookup::follow(tokens, found, by_lookup.n_tokens, &mut draft.tokens);
        }
        0
    }
}

impl Engine {
    /// Drafts for the sequences that generate, if the step has rows to spare. Where prompts are read it has none: their rows cost
    /// what they compute.
    pub(crate) fn draft(&mut self) -> Result<(), BackendError> {
        self.live.iter_mut().for_each(|live| live.draft.tokens.clear());
        let n_generating = self.live.iter().filter(|live| live.is_generating()).count();
        let most = MAX_ROWS.min(self.runner.max_rows()).min(self.runner.max_logits());
        if n_generating == 0 || n_generating >= most || self.live.iter().any(Live::is_reading) {
            return Ok(());
        }
        let (mut spare, mut n_left) = (most - n_generating, n_generating);
        let model_cost = self.draft_model.as_ref().map(DraftModel::cost);
        self.asked.clear();
        for (index, live) in self.live.iter_mut().enumerate().filter(|(_, live)| live.is_generating()) {
            // What one does not need is left for those after it.
            let part = (spare / n_left).min(live.sequence.n_draftable());
            n_left -= 1;
            let Some((drafter, tokens)) = live.sequence.drafter() else { continue };
            let n_asked = drafter.draft(tokens, part, model_cost, &mut live.draft);
            spare -= n_asked.max(live.draft.tokens.len());
            if n_asked > 0 {
                self.asked.push((index, n_asked));
            }
        }
        if let Some(model) = self.draft_model.as_mut().filter(|_| !self.asked.is_empty()) {
            let n_rows = if n_generating > 1 { self.pace.rows() } else { usize::MAX };
            model.draft(&mut self.live, &self.asked, n_rows)?;
        }
        Ok(())
    }
}
