//! Stop strings over streamed text.
//!
//! Text that may be the start of a stop string is held back until it is known. The first stop string to be complete
//! ends the text; of several complete at the same byte, the longest. So the outcome does not depend on how the text
//! was cut into pieces. The search is Knuth, Morris and Pratt's, once per stop string: linear, and never backwards.

use crate::SampleError;

/// Whether the text goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopStatus {
    /// No stop string is complete yet.
    Continue,
    /// The stop string of this index is complete.
    Stopped(usize),
}

/// Watches the text of one sequence for stop strings.
///
/// ```
/// use whit_sample::{StopMatcher, StopStatus};
///
/// let mut stops = StopMatcher::new(["###"])?;
/// let mut text = String::new();
/// assert_eq!(stops.push("a # b #", &mut text), StopStatus::Continue);
/// assert_eq!(text, "a # b ");
/// assert_eq!(stops.push("## c", &mut text), StopStatus::Stopped(0));
/// assert_eq!(text, "a # b ");
/// # Ok::<(), whit_sample::SampleError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Text not released yet: the start of a stop string, perhaps.
    held: String,
    stopped: Option<usize>,
}

#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// For each length of a matched start, the longest shorter start that also ends there.
    fallback: Vec<usize>,
    /// Bytes of the pattern matched at the end of the text so far.
    matched: usize,
}

impl StopMatcher {
    /// A matcher for these stop strings; none of them is fine.
    ///
    /// # Errors
    /// An empty stop string.
    pub fn new<S: AsRef<str>>(stops: impl IntoIterator<Item = S>) -> Result<Self, SampleError> {
        let pattern = |(index, stop): (usize, S)| match stop.as_ref() {
            "" => Err(SampleError::EmptyStop { index }),
            text => Ok(Pattern::new(text.as_bytes())),
        };
        let patterns = stops.into_iter().enumerate().map(pattern).collect::<Result<_, _>>()?;
        Ok(Self { patterns, held: String::new(), stopped: None })
    }

    /// Takes the next piece of text, and appends to `out` what is now known not to be part of a stop string. Once
    /// stopped, it takes nothing more.
    pub fn push(&mut self, text: &str, out: &mut String) -> StopStatus {
        if let Some(index) = self.stopped {
            return StopStatus::Stopped(index);
        }
        if self.patterns.is_empty() {
            out.push_str(text);
            return StopStatus::Continue;
        }
        let n_held = self.held.len();
        self.held.push_str(text);
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            let mut complete: Option<usize> = None;
            for index in 0..self.patterns.len() {
                let is_complete = self.patterns[index].step(byte);
                let is_longest =
                    complete.is_none_or(|best| self.patterns[index].len() > self.patterns[best].len());
                if is_complete && is_longest {
                    complete = Some(index);
                }
            }
            if let Some(index) = complete {
                out.push_str(&self.held[..n_held + at + 1 - self.patterns[index].len()]);
                self.held.clear();
                self.stopped = Some(index);
                return StopStatus::Stopped(index);
            }
        }
        // A start of a stop string starts at a character, so the cut falls between characters.
        let n_open = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        out.extend(self.held.drain(..self.held.len() - n_open));
        StopStatus::Continue
    }

    /// The text has ended: appends what is held back to `out`, and begins anew.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.reset();
    }

    /// Begins anew; what is held back is dropped.
    pub fn reset(&mut self) {
        self.held.clear();
        self.stopped = None;
        for pattern in &mut self.patterns {
            pattern.matched = 0;
        }
    }
}

impl Pattern {
    fn new(bytes: &[u8]) -> Self {
        let mut pattern = Self { bytes: bytes.to_vec(), fallback: vec![0; bytes.len() + 1], matched: 0 };
        // The pattern, matched against itself from its second byte on, tells its own fallbacks.
        for (n, &byte) in bytes.iter().enumerate().skip(1) {
            pattern.step(byte);
            pattern.fallback[n + 1] = pattern.matched;
        }
        pattern.matched = 0;
        pattern
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Goes on by one byte; whether the whole pattern now ends there.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched == self.bytes.len() || self.bytes[self.matched] != byte {
            if self.matched == 0 {
                return false;
            }
            self.matched = self.fallback[self.matched];
        }
        self.matched += 1;
        self.matched == self.bytes.len()
    }
}
