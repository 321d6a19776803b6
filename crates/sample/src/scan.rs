//! Passes over the logits of a whole vocabulary, in blocks of 32, or of more where nothing touches them.
//!
//! A block is read in place unless the mask or an adjusted logit touches it; then its 32 values are patched on the
//! stack. So neither a bias on three tokens nor a grammar costs a copy of the vocabulary.
//!
//! Each pass asks of a block first what its largest logit is, which takes one instruction for each of its values or less, and seldom
//! more than that: nothing is ever sorted but the few candidates that are left. The likeliest of 262,144 tokens takes 20 µs on a
//! Zen 5.

use std::cmp::Ordering;

use crate::{SampleError, math};

/// Tokens per block: the bits of one word of a mask.
pub(crate) const BLOCK: usize = 32;
/// Tokens per block where there is neither a mask nor a patch.
const LONG_BLOCK: usize = 8 * BLOCK;

/// A token that may still be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: u32,
    pub(crate) logit: f32,
    /// Share of the total, in whatever unit the current stage uses.
    pub(crate) weight: f32,
    /// What the current stage sorts by, ascending.
    pub(crate) key: f32,
}

impl Candidate {
    fn new(id: u32, logit: f32) -> Self {
        // Adding +0.0 makes -0.0 positive: the two are equal as logits, so the id must decide between them.
        let logit = logit + 0.0;
        Self { id, logit, weight: 0.0, key: -logit }
    }
}

/// Ascending by key, then by id.
pub(crate) fn by_key(a: &Candidate, b: &Candidate) -> Ordering {
    a.key.total_cmp(&b.key).then(a.id.cmp(&b.id))
}

/// The logits as the samplers see them.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) logits: &'a [f32],
    /// Tokens whose logit is replaced, ascending by id.
    pub(crate) patches: &'a [(u32, f32)],
    /// Bit `i % 32` of word `i / 32`: whether token `i` is allowed.
    pub(crate) mask: Option<&'a [u32]>,
}

impl<'a> View<'a> {
    /// The logits as the model gave them.
    pub(crate) fn raw(logits: &'a [f32]) -> Self {
        Self { logits, patches: &[], mask: None }
    }

    /// Calls `visit` with the first id and the logits of each block that has an allowed token.
    #[inline]
    fn for_each_block(&self, mut visit: impl FnMut(u32, &[f32])) {
        if self.mask.is_none() && self.patches.is_empty() {
            for (index, block) in self.logits.chunks(LONG_BLOCK).enumerate() {
                visit((index * LONG_BLOCK) as u32, block);
            }
            return;
        }
        let mut patches = self.patches;
        for (index, block) in self.logits.chunks(BLOCK).enumerate() {
            let first = (index * BLOCK) as u32;
            let n_here = patches.iter().take_while(|(id, _)| *id < first + block.len() as u32).count();
            let (here, rest) = patches.split_at(n_here);
            patches = rest;
            let allowed = self.mask.map_or(u32::MAX, |words| words[index]);
            if allowed == 0 {
                continue;
            }
            if allowed == u32::MAX && here.is_empty() {
                visit(first, block);
                continue;
            }
            let mut patched = [f32::NEG_INFINITY; BLOCK];
            for (bit, (to, from)) in patched.iter_mut().zip(block).enumerate() {
                if allowed >> bit & 1 == 1 {
                    *to = *from;
                }
            }
            for &(id, logit) in here {
                let bit = (id - first) as usize;
                if allowed >> bit & 1 == 1 {
                    patched[bit] = logit;
                }
            }
            visit(first, &patched[..block.len()]);
        }
    }

    /// The likeliest token, the lowest id of equals. Every other pass may rely on the logits being numbers once this
    /// one has returned.
    pub(crate) fn best(&self) -> Result<(u32, f32), SampleError> {
        let mut best = (0, f32::NEG_INFINITY);
        let mut broken = None;
        self.for_each_block(|first, block| {
            let (largest, all_numbers) = largest(block);
            if !all_numbers && broken.is_none() {
                broken = first_broken(first, block);
            }
            if largest > best.1
                && let Some(at) = block.iter().position(|&logit| logit == largest)
            {
                best = (first + at as u32, largest);
            }
        });
        match broken {
            Some((token, value)) => Err(SampleError::NotANumber { token, value }),
            None if best.1 == f32::NEG_INFINITY => Err(SampleError::NothingAllowed),
            None => Ok(best),
        }
    }

    /// The `k` likeliest tokens, sorted; fewer when fewer are allowed. Checks the logits as [`best`](Self::best) does.
    ///
    /// Collects what beats the k-th of those collected so far, and cuts back to `k` whenever the buffer is full, so
    /// that nearly every block is passed over after one comparison.
    pub(crate) fn top(&self, k: usize, out: &mut Vec<Candidate>) -> Result<(), SampleError> {
        out.clear();
        if k == 0 {
            return Ok(());
        }
        let full = k.saturating_mul(2).max(256);
        out.reserve(full.saturating_add(BLOCK).min(self.logits.len()));
        let mut floor = f32::NEG_INFINITY;
        let mut broken = None;
        self.for_each_block(|first, block| {
            let (largest, all_numbers) = largest(block);
            if !all_numbers && broken.is_none() {
                broken = first_broken(first, block);
            }
            // Strictly greater: of equals the earlier ids, which are in the buffer already, win.
            if largest <= floor {
                return;
            }
            for (first, block) in short_blocks(first, block) {
                push(out, first, block, |logit| logit > floor);
                if out.len() >= full {
                    floor = cut(out, k).logit;
                }
            }
        });
        if let Some((token, value)) = broken {
            return Err(SampleError::NotANumber { token, value });
        }
        if out.is_empty() {
            return Err(SampleError::NothingAllowed);
        }
        if out.len() > k {
            cut(out, k);
        }
        out.sort_unstable_by(by_key);
        Ok(())
    }

    /// Every token with a logit of at least `floor`, ascending by id; forbidden ones never.
    pub(crate) fn at_least(&self, floor: f32, out: &mut Vec<Candidate>) {
        out.clear();
        let floor = floor.max(f32::MIN);
        self.for_each_block(|first, block| {
            if largest(block).0 >= floor {
                for (first, block) in short_blocks(first, block) {
                    push(out, first, block, |logit| logit >= floor);
                }
            }
        });
    }

    /// The sum of e^(logit - max) over the allowed tokens.
    pub(crate) fn mass(&self, max: f32) -> f64 {
        let mut sum = 0.0;
        self.for_each_block(|first, block| {
            for (_, block) in short_blocks(first, block) {
                // Two loops, for the compiler vectorises the first only while nothing depends on the one before.
                let mut weights = [0.0f32; BLOCK];
                for (weight, &logit) in weights.iter_mut().zip(block) {
                    *weight = math::exp_nonpositive(logit - max);
                }
                let mut lanes = [0.0f32; 8];
                for eight in weights.as_chunks::<8>().0 {
                    for (lane, weight) in lanes.iter_mut().zip(eight) {
                        *lane += weight;
                    }
                }
                sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
            }
        });
        sum
    }
}

/// A block in blocks of [`BLOCK`], with their first ids.
fn short_blocks(first: u32, block: &[f32]) -> impl Iterator<Item = (u32, &[f32])> {
    (first..).step_by(BLOCK).zip(block.chunks(BLOCK))
}

/// Appends the tokens of a block that are `wanted`, of which there are seldom any.
fn push(out: &mut Vec<Candidate>, first: u32, block: &[f32], wanted: impl Fn(f32) -> bool) {
    let mut any = [0u32; 8];
    let (eights, rest) = block.as_chunks::<8>();
    for eight in eights {
        for (any, &logit) in any.iter_mut().zip(eight) {
            *any |= u32::from(wanted(logit));
        }
    }
    if any != [0; 8] || rest.iter().any(|&logit| wanted(logit)) {
        let ids_and_logits = (first..).zip(block).filter(|(_, logit)| wanted(**logit));
        out.extend(ids_and_logits.map(|(id, &logit)| Candidate::new(id, logit)));
    }
}

/// The largest value of a block, and whether all of them are numbers below positive infinity; only then the first counts.
#[inline]
fn largest(block: &[f32]) -> (f32, bool) {
    const LANES: usize = 16;
    let mut largest = [f32::NEG_INFINITY; LANES];
    // As numbers of the width of a logit, or the compiler would narrow them in between.
    let mut broken = [0u32; LANES];
    let (lines, rest) = block.as_chunks::<{ 2 * LANES }>();
    for line in lines {
        let (left, right) = line.split_at(LANES);
        for (lane, (&a, &b)) in left.iter().zip(right).enumerate() {
            broken[lane] |= u32::from(a.is_nan() | b.is_nan());
            let larger = if a > b { a } else { b };
            largest[lane] = if larger > largest[lane] { larger } else { largest[lane] };
        }
    }
    let mut all = largest.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let mut is_broken = broken != [0; LANES];
    for &logit in rest {
        is_broken |= logit.is_nan();
        all = if logit > all { logit } else { all };
    }
    (all, !is_broken && is_number(all))
}

fn first_broken(first: u32, block: &[f32]) -> Option<(u32, f32)> {
    (first..).zip(block.iter().copied()).find(|(_, logit)| !is_number(*logit))
}

/// Neither NaN nor positive infinity. Negative infinity forbids a token.
#[inline]
fn is_number(logit: f32) -> bool {
    logit < f32::INFINITY
}

/// Leaves the `k` first by key, unsorted, and gives the last of them. `k` is at least 1 and at most the length.
fn cut(candidates: &mut Vec<Candidate>, k: usize) -> Candidate {
    let (_, last, _) = candidates.select_nth_unstable_by(k - 1, by_key);
    let last = *last;
    candidates.truncate(k);
    last
}
