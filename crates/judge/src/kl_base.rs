//! The file of reference predictions that llama.cpp's `perplexity` tool writes with `--kl-divergence-base` (or
//! `--save-all-logits`), so that either program can read what the other wrote.
//!
//! Little-endian: `_logits_`, then as i32 the tokens in a chunk, the vocabulary and the number of chunks; the tokens of all
//! chunks as i32 (before BOS takes the place of any); then for each chunk its predictions at positions `ctx / 2` to `ctx - 2`,
//! a row of u16 each: as f32 a scale and the least log-probability, then the steps above it, one for each token, padded to
//! an even number. What lies more than 16 below the greatest logit counts as 16 below. Layout: `log_softmax` and
//! `kl_divergence` in llama.cpp's `tools/perplexity/perplexity.cpp`.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::JudgeError;
use crate::logprob::Softmax;

const MAGIC: &[u8; 8] = b"_logits_";
/// Values before the steps of a row, in u16: two f32.
const ROW_HEAD: usize = 4;
const N_STEPS: f32 = 65535.0;
/// How far below the greatest logit the least may lie.
const DEPTH: f32 = 16.0;

/// What the file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) ctx: usize,
    pub(crate) n_vocab: usize,
    /// The tokens of all chunks.
    pub(crate) tokens: Vec<u32>,
}

impl Header {
    fn n_chunks(&self) -> usize {
        self.tokens.len() / self.ctx.max(1)
    }
}

/// Bytes of a row.
fn row_bytes(n_vocab: usize) -> u64 {
    2 * (n_vocab.next_multiple_of(2) + ROW_HEAD) as u64
}

/// Reference predictions, being read.
#[derive(Debug)]
pub struct KlBase {
    path: PathBuf,
    header: Header,
    file: BufReader<File>,
    row: Vec<u8>,
}

impl KlBase {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be read, is none of that kind, or whose length is not what it says.
    pub fn open(path: impl AsRef<Path>) -> Result<KlBase, JudgeError> {
        let path = path.as_ref().to_owned();
        let fail = |source| JudgeError::Io { path: path.clone(), doing: "read", source };
        let bad = |problem: &str| JudgeError::BadBase { path: path.clone(), problem: problem.to_owned() };
        let file = File::open(&path).map_err(fail)?;
        let n_bytes = file.metadata().map_err(fail)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut head = [0u8; 20];
        file.read_exact(&mut head).map_err(|_| bad("it is too short to be one"))?;
        let (magic, numbers) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(bad("it does not begin with `_logits_`"));
        }
        let mut numbers =
            numbers.chunks_exact(4).map(|bytes| i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let mut number = || numbers.next().and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0);
        let (Some(ctx), Some(n_vocab), Some(n_chunks)) = (number(), number(), number()) else {
            return Err(bad("its context, vocabulary or number of chunks is no positive number"));
        };
        if ctx < 4 {
            return Err(bad("its chunks are too short"));
        }
        // At most 2^31 each: a token takes 4 bytes, a row fewer than 2^33.
        let expected = (|| {
            let n_scored = n_chunks.checked_mul(ctx - 1 - ctx / 2)?;
            let rows = n_scored.checked_mul(row_bytes(usize::try_from(n_vocab).ok()?))?;
            n_chunks.checked_mul(ctx)?.checked_mul(4)?.checked_add(head.len() as u64)?.checked_add(rows)
        })();
        if expected != Some(n_bytes) {
            return Err(bad("its length is not that of its chunks; it may be of a run that was interrupted"));
        }
        let mut bytes = vec![0u8; (n_chunks * ctx * 4) as usize];
        file.read_exact(&mut bytes).map_err(fail)?;
        let tokens = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let (ctx, n_vocab) = (ctx as usize, n_vocab as usize);
        let row = vec![0; row_bytes(n_vocab) as usize];
        Ok(KlBase { path, header: Header { ctx, n_vocab, tokens }, file, row })
    }

    /// Tokens in a chunk.
    pub fn ctx(&self) -> usize {
        self.header.ctx
    }

    /// Tokens in the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.header.n_vocab
    }

    /// Chunks.
    pub fn n_chunks(&self) -> usize {
        self.header.n_chunks()
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.header.tokens
    }

    /// Puts the log-probabilities of the next prediction into `row`, one for each token of the vocabulary.
    pub(crate) fn next_row(&mut self, row: &mut [f32]) -> Result<(), JudgeError> {
        let fail = |source| JudgeError::Io { path: self.path.clone(), doing: "read", source };
        self.file.read_exact(&mut self.row).map_err(fail)?;
        let float = |at: usize| {
            f32::from_le_bytes([self.row[at], self.row[at + 1], self.row[at + 2], self.row[at + 3]])
        };
        let (scale, least) = (float(0), float(4));
        for (value, steps) in row.iter_mut().zip(self.row[2 * ROW_HEAD..].chunks_exact(2)) {
            *value = scale * f32::from(u16::from_le_bytes([steps[0], steps[1]])) + least;
        }
        Ok(())
    }
}

/// Reference predictions, being written. What is not finished leaves no file.
pub(crate) struct KlBaseWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
    row: Vec<u8>,
}

impl KlBaseWriter {
    pub(crate) fn create(path: &Path, header: &Header) -> Result<KlBaseWriter, JudgeError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let fail = |source| JudgeError::Io { path: path.to_owned(), doing: "write", source };
        let file = BufWriter::with_capacity(1 << 20, File::create(&temporary).map_err(fail)?);
        let mut writer = KlBaseWriter { path: path.to_owned(), temporary, file: Some(file), row: Vec::new() };
        writer.write(MAGIC)?;
        let numbers = [header.ctx as u32, header.n_vocab as u32, header.n_chunks() as u32];
        for number in numbers.iter().chain(&header.tokens) {
            writer.write(&number.to_le_bytes())?;
        }
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), JudgeError> {
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes));
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> JudgeError {
        JudgeError::Io { path: self.path.clone(), doing: "write", source }
    }

    /// Appends a prediction.
    pub(crate) fn add(&mut self, logits: &[f32], softmax: &Softmax) -> Result<(), JudgeError> {
        let max = softmax.max;
        let min = logits.iter().copied().fold(f32::INFINITY, f32::min).max(max - DEPTH);
        let scale = (max - min) / N_STEPS;
        let least = min - max - softmax.ln_sum as f32;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row.extend_from_slice(&scale.to_le_bytes());
        row.extend_from_slice(&least.to_le_bytes());
        for &logit in logits {
            // A cast from float saturates: what is below the least becomes 0.
            let steps = (inverse * (logit - min)).round_ties_even() as u16;
            row.extend_from_slice(&steps.to_le_bytes());
        }
        row.resize(row_bytes(logits.len()) as usize, 0);
        let written = self.write(&row);
        self.row = row;
        written
    }

    /// Puts the file in its place.
    pub(crate) fn finish(mut self) -> Result<(), JudgeError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let done = file.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| {
            drop(file);
            fs::rename(&self.temporary, &self.path)
        });
        if done.is_err() {
            let _ = fs::remove_file(&self.temporary);
        }
        done.map_err(|source| self.failed(source))
    }
}

impl Drop for KlBaseWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: it is named after this process, and of no use to any other.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
