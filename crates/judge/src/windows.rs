//! A text cut into the pieces that a protocol runs, and which predictions of each count.

use std::ops::Range;

use whit_engine::Engine;

use crate::{JudgeError, PerplexityOptions, Protocol};

/// Tokens that run together, from position 0.
pub(crate) struct Window {
    /// The last one does not run: nothing of what it predicts counts.
    pub(crate) tokens: Vec<u32>,
    /// The positions whose predictions count, each of the token after it.
    pub(crate) scored: Range<usize>,
}

impl Window {
    /// What runs.
    pub(crate) fn input(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }
}

/// How a text is cut.
pub(crate) struct Windows<'a> {
    tokens: &'a [u32],
    options: &'a PerplexityOptions,
    /// Takes the place of a first token, or stands before it.
    bos: Option<u32>,
    n: usize,
}

impl<'a> Windows<'a> {
    /// `bos` is what a text begins with: see [`Protocol`].
    pub(crate) fn new(
        tokens: &'a [u32],
        bos: Option<u32>,
        options: &'a PerplexityOptions,
        engine: &Engine,
    ) -> Result<Windows<'a>, JudgeError> {
        let ctx = options.ctx;
        if ctx < 4 || ctx > engine.n_ctx() {
            return Err(JudgeError::BadContext { ctx, n_ctx: engine.n_ctx() });
        }
        let (n_needed, n) = match options.protocol {
            Protocol::SecondHalf => (ctx, tokens.len() / ctx),
            Protocol::Stride(stride) => {
                if stride == 0 || stride >= ctx {
                    return Err(JudgeError::BadStride { stride, ctx });
                }
                (2, 1 + tokens.len().saturating_sub(ctx).div_ceil(stride))
            }
            Protocol::Full => (1 + usize::from(bos.is_none()), tokens.len().div_ceil(ctx)),
        };
        if tokens.len() < n_needed {
            return Err(JudgeError::TextTooShort { n_tokens: tokens.len(), n_needed });
        }
        Ok(Windows { tokens, options, bos, n: n.min(options.chunks.unwrap_or(usize::MAX)) })
    }

    pub(crate) fn len(&self) -> usize {
        self.n
    }

    pub(crate) fn get(&self, index: usize) -> Window {
        let (ctx, all) = (self.options.ctx, self.tokens);
        match self.options.protocol {
            Protocol::SecondHalf => {
                let mut tokens = all[index * ctx..(index + 1) * ctx].to_vec();
                if let Some(bos) = self.bos {
                    tokens[0] = bos;
                }
                Window { tokens, scored: ctx / 2..ctx - 1 }
            }
            Protocol::Stride(stride) => {
                let first = index * stride;
                let end = (first + ctx).min(all.len());
                let n_new = if index == 0 { end - 1 } else { end - (first + ctx - stride) };
                let tokens = all[first..end].to_vec();
                let n_scorable = tokens.len() - 1;
                Window { tokens, scored: n_scorable - n_new..n_scorable }
            }
            Protocol::Full => {
                let (first, end) = (index * ctx, ((index + 1) * ctx).min(all.len()));
                let tokens = match (index, self.bos) {
                    (0, Some(bos)) => [&[bos], &all[..end]].concat(),
                    (0, None) => all[..end].to_vec(),
                    // Before a window stands the token that the one before ended with; before the last, a short one, as
                    // many as fit.
                    _ => all[end - ctx - 1..end].to_vec(),
                };
                let n_scorable = tokens.len() - 1;
                let n_new = (end - first).min(n_scorable);
                Window { tokens, scored: n_scorable - n_new..n_scorable }
            }
        }
    }
}
