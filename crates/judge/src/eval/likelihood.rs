//! How likely texts are behind others. What several texts stand behind runs once, for all of them, in one batch with that of other
//! questions; its last row of logits tells the first token of each, so answers of one token cost nothing more. Logits are made for
//! the rows alone that predict a token of an answer.

use whit_engine::{Engine, Evaluation};

use crate::JudgeError;
use crate::logprob::{Softmax, first_greatest};

/// A text, as tokens, and those that may follow it.
#[derive(Clone, Debug)]
pub(super) struct Stem {
    pub(super) context: Vec<u32>,
    pub(super) endings: Vec<Vec<u32>>,
}

impl Stem {
    pub(super) fn n_tokens(&self) -> usize {
        self.context.len() + self.endings.iter().map(Vec::len).sum::<usize>()
    }
}

/// For each ending of each stem the sum of its tokens' log-probabilities, and whether each was the likeliest. The first tokens of
/// what is longer than the context are left out.
pub(super) fn score(engine: &mut Engine, stems: &[Stem]) -> Result<Vec<Vec<(f64, bool)>>, JudgeError> {
    let most = engine.n_ctx() + 1;
    let mut scores: Vec<Vec<(f64, bool)>> =
        stems.iter().map(|stem| vec![(0.0, true); stem.endings.len()]).collect();
    let mut is_sound = true;
    let mut add = |score: &mut (f64, bool), logits: &[f32], softmax: &Softmax, token: u32| {
        let ll = logits.get(token as usize).map_or(f64::NAN, |&logit| softmax.log_probability(logit));
        is_sound &= !ll.is_nan();
        score.0 += ll;
        score.1 &= first_greatest(logits) == token as usize;
    };

    // Stems whose longest text fits; the others' endings each with a context of their own, cut off at the front.
    let fits = |stem: &Stem| {
        stem.context.len() + stem.endings.iter().map(Vec::len).max().unwrap_or(0) <= most
            && !stem.context.is_empty()
    };
    let whole: Vec<usize> = (0..stems.len()).filter(|&index| fits(&stems[index])).collect();
    let contexts: Vec<Evaluation<'_>> = whole
        .iter()
        .map(|&index| {
            let tokens = &stems[index].context[..];
            Evaluation { tokens, outputs: tokens.len() - 1..tokens.len() }
        })
        .collect();
    engine.evaluate_shared(&contexts, &mut |at, _, logits| {
        let (index, softmax) = (whole[at], Softmax::of(logits));
        for (ending, score) in stems[index].endings.iter().zip(&mut scores[index]) {
            if let Some(&token) = ending.first() {
                add(score, logits, &softmax, token);
            }
        }
    })?;

    // What is left: which ending of which stem, its tokens, and the first position that predicts one of them that is to be scored.
    let mut rest: Vec<(usize, usize, Vec<u32>, usize)> = Vec::new();
    for (index, stem) in stems.iter().enumerate() {
        for (at, ending) in stem.endings.iter().enumerate() {
            let mut tokens = [&stem.context[..], ending].concat();
            let n_new = if fits(stem) { ending.len().saturating_sub(1) } else { ending.len() };
            let n_cut = tokens.len().saturating_sub(most);
            tokens.drain(..n_cut);
            let n_new = n_new.min(tokens.len().saturating_sub(1));
            if n_new > 0 {
                let first = tokens.len() - 1 - n_new;
                rest.push((index, at, tokens, first));
            }
        }
    }
    let inputs: Vec<Evaluation<'_>> = rest
        .iter()
        .map(|(_, _, tokens, first)| {
            let tokens = &tokens[..tokens.len() - 1];
            Evaluation { tokens, outputs: *first..tokens.len() }
        })
        .collect();
    engine.evaluate_shared(&inputs, &mut |input, position, logits| {
        let (index, at, tokens, _) = &rest[input];
        let softmax = Softmax::of(logits);
        add(&mut scores[*index][*at], logits, &softmax, tokens[position + 1]);
    })?;
    if is_sound { Ok(scores) } else { Err(JudgeError::NoScore) }
}
