//! Perplexity by published protocols, so that values can be compared digit by digit: see [`Protocol`].

use std::path::Path;
use std::time::{Duration, Instant};

use whit_engine::{EncodeOptions, Engine, EngineError, Evaluation};

use crate::JudgeError;
use crate::estimate::Moments;
use crate::kl_base::{Header, KlBaseWriter};
use crate::logprob::Softmax;
use crate::windows::{Window, Windows};

/// How much text, and in which pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerplexityOptions {
    /// Tokens in a chunk. Values for different lengths cannot be compared.
    pub ctx: usize,
    /// Chunks to score, from the beginning. `None`: all.
    pub chunks: Option<usize>,
    /// Which predictions count.
    pub protocol: Protocol,
}

impl Default for PerplexityOptions {
    /// Chunks of 512, of each the second half: the protocol of most published numbers of quantized models.
    fn default() -> Self {
        PerplexityOptions { ctx: 512, chunks: None, protocol: Protocol::SecondHalf }
    }
}

/// Which predictions count. Values of different protocols cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// That of llama.cpp's `perplexity` tool. The text is cut into chunks of `ctx` tokens; what is left over is not used. Each
    /// chunk runs alone; its first token is replaced by BOS where the model wants it. Predictions at positions `ctx / 2` to
    /// `ctx - 2` count.
    #[default]
    SecondHalf,
    /// That of the documentation of `transformers`: windows of `ctx` tokens that begin this many tokens after each other. Of
    /// each the tokens count that no window before had, so each token of the text but the first counts once.
    Stride(usize),
    /// That of lm-evaluation-harness for whole texts: windows of `ctx` tokens side by side, the first behind BOS (or EOS,
    /// where there is no BOS), each later one behind the token before it. Every token counts once.
    Full,
}

/// The state after one chunk more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Chunks scored.
    pub n_done: usize,
    /// Chunks to score in all.
    pub n_chunks: usize,
    /// The perplexity so far.
    pub perplexity: f64,
    /// The mean divergence so far, where that is measured.
    pub divergence: Option<f64>,
    /// Time since the start.
    pub elapsed: Duration,
}

/// The result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `exp` of the mean negative log-probability.
    pub value: f64,
    /// One standard error of the value.
    pub uncertainty: f64,
    /// Of a whole text by [`Protocol::Full`]: the same by other units than tokens, for comparing vocabularies.
    pub by_text: Option<TextPerplexity>,
    /// Chunks scored.
    pub n_chunks: usize,
    /// Predictions scored.
    pub n_scored: usize,
    /// Tokens run.
    pub n_tokens: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// How well a text is predicted, by units that do not depend on the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextPerplexity {
    /// `exp` of the mean negative log-probability of a word: what stands between white space.
    pub word: f64,
    /// The same of a byte of UTF-8.
    pub byte: f64,
    /// The base-2 logarithm of `byte`.
    pub bits_per_byte: f64,
}

impl TextPerplexity {
    fn new(nll: f64, text: &str) -> TextPerplexity {
        // Python's `\s`, and pieces as its `re.split` counts them: one more than there are runs of white space.
        let is_space = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
        let starts_run = |(before, c): (Option<char>, char)| is_space(c) && !before.is_some_and(is_space);
        let befores = std::iter::once(None).chain(text.chars().map(Some));
        let n_words = 1 + befores.zip(text.chars()).filter(|&pair| starts_run(pair)).count();
        let per_byte = nll / text.len() as f64;
        TextPerplexity {
            word: (nll / n_words as f64).exp(),
            byte: per_byte.exp(),
            bits_per_byte: per_byte / std::f64::consts::LN_2,
        }
    }
}

/// The tokens of a text as a protocol wants them, and what goes before them or in their place.
pub(crate) fn encode(
    engine: &Engine,
    text: &str,
    protocol: Protocol,
) -> Result<(Vec<u32>, Option<u32>), JudgeError> {
    let tokenizer = engine.model().tokenizer()?;
    let special = tokenizer.special_ids();
    let (options, bos) = match protocol {
        Protocol::SecondHalf | Protocol::Stride(_) => {
            (EncodeOptions::TEXT, special.bos.filter(|_| tokenizer.adds_bos()))
        }
        Protocol::Full => (EncodeOptions::PIECE, special.bos.or(special.eos)),
    };
    Ok((tokenizer.encode(text, options).map_err(EngineError::from)?, bos))
}

/// The perplexity of `engine`'s model on `text`; `progress` is called after each chunk.
///
/// # Errors
/// A text shorter than a chunk, a chunk longer than the engine's context, predictions that are no numbers, and failures
/// of the engine.
pub fn perplexity(
    engine: &mut Engine,
    text: &str,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Perplexity, JudgeError> {
    let (tokens, bos) = encode(engine, text, options.protocol)?;
    let mut result = perplexity_of_tokens(engine, &tokens, bos, options, progress)?;
    if options.protocol == Protocol::Full && options.chunks.is_none() {
        result.by_text = Some(TextPerplexity::new(result.value.ln() * result.n_scored as f64, text));
    }
    Ok(result)
}

/// As [`perplexity`], of a text that is tokenized already; `bos` is what a text begins with: see [`Protocol`].
///
/// # Errors
/// As for [`perplexity`].
pub fn perplexity_of_tokens(
    engine: &mut Engine,
    tokens: &[u32],
    bos: Option<u32>,
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Perplexity, JudgeError> {
    let windows = Windows::new(tokens, bos, options, engine)?;
    let at_a_time = engine.max_sequences();
    measure(engine, &windows, at_a_time, &mut |_, _| Ok(()), progress)
}

/// As [`perplexity`] by [`Protocol::SecondHalf`], and saves every prediction as a file that [`KlBase`](crate::KlBase) and
/// llama.cpp read: about two bytes for each token of the vocabulary and prediction. A file of that name is replaced, at the
/// end.
///
/// # Errors
/// As for [`perplexity`], another protocol, and what the system refuses.
pub fn save_kl_base(
    engine: &mut Engine,
    text: &str,
    options: &PerplexityOptions,
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Perplexity, JudgeError> {
    if options.protocol != Protocol::SecondHalf {
        return Err(JudgeError::BaseProtocol);
    }
    let (tokens, bos) = encode(engine, text, options.protocol)?;
    save_kl_base_of_tokens(engine, &tokens, bos, options, path, progress)
}

/// As [`save_kl_base`], of a text that is tokenized already.
///
/// # Errors
/// As for [`save_kl_base`].
pub fn save_kl_base_of_tokens(
    engine: &mut Engine,
    tokens: &[u32],
    bos: Option<u32>,
    options: &PerplexityOptions,
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Perplexity, JudgeError> {
    let windows = Windows::new(tokens, bos, options, engine)?;
    let kept = &tokens[..windows.len() * options.ctx];
    let header = Header { ctx: options.ctx, n_vocab: engine.n_vocab(), tokens: kept.to_vec() };
    let mut writer = KlBaseWriter::create(path, &header)?;
    // One after the other, so that predictions come in the order of the text.
    let mut each = |logits: &[f32], softmax: &Softmax| writer.add(logits, softmax);
    let result = measure(engine, &windows, 1, &mut each, progress)?;
    writer.finish()?;
    Ok(result)
}

/// What is done with every prediction.
type Each<'a> = &'a mut dyn FnMut(&[f32], &Softmax) -> Result<(), JudgeError>;

/// Scores all windows, so many at a time. `each` gets every prediction that counts.
fn measure(
    engine: &mut Engine,
    windows: &Windows<'_>,
    at_a_time: usize,
    each: Each<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Perplexity, JudgeError> {
    let start = Instant::now();
    let n_chunks = windows.len();
    let (mut total, mut n_tokens) = (Moments::default(), 0);
    for first in (0..n_chunks).step_by(at_a_time) {
        let last = (first + at_a_time).min(n_chunks);
        let group: Vec<Window> = (first..last).map(|index| windows.get(index)).collect();
        let inputs: Vec<Evaluation<'_>> = group
            .iter()
            .map(|window| Evaluation { tokens: window.input(), outputs: window.scored.clone() })
            .collect();
        let mut sums = vec![Moments::default(); group.len()];
        let mut failed = None;
        engine.evaluate(&inputs, &mut |index, position, logits| {
            let softmax = Softmax::of(logits);
            // The last token of a window does not run, so it alone is not known to be in the vocabulary.
            let target = logits.get(group[index].tokens[position + 1] as usize);
            let nll = -target.map_or(f64::NAN, |&logit| softmax.log_probability(logit));
            if failed.is_none() {
                failed = match nll.is_nan() {
                    true => Some(JudgeError::NotANumber { chunk: first + index, position }),
                    false => each(logits, &softmax).err(),
                };
            }
            sums[index].add(nll);
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for (at, sum) in sums.into_iter().enumerate() {
            total.merge(sum);
            n_tokens += group[at].tokens.len();
            let (n_done, elapsed) = (first + at + 1, start.elapsed());
            let perplexity = total.exp_of_mean().value;
            progress(Progress { n_done, n_chunks, perplexity, divergence: None, elapsed });
        }
    }
    let estimate = total.exp_of_mean();
    Ok(Perplexity {
        value: estimate.value,
        uncertainty: estimate.error,
        by_text: None,
        n_chunks,
        n_scored: total.n,
        n_tokens,
        elapsed: start.elapsed(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted by Python: `len(re.split(r"\s+", text))`.
    #[test]
    fn words_are_those_of_python() {
        for (text, n_words) in
            [("a b", 2), ("", 1), (" a\n\n b ", 4), ("a\x1fb", 2), ("a\u{200b}b", 1), ("a\u{2003}\tb c", 3)]
        {
            let per_word = TextPerplexity::new(6.0, text).word.ln();
            assert!((per_word - 6.0 / f64::from(n_words)).abs() < 1e-12, "{text:?}: {per_word}");
        }
    }
}
