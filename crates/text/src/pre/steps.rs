//! Pre-tokenizers of `tokenizer.json` in full: steps that cut a text into pieces, or write the pieces in another way.
//!
//! Most models need none of this: their steps are expressions followed by a byte-level model, and for those
//! [`PreTokenizer`](super::PreTokenizer) walks the text without copying it. Behaviours and their names are those of the
//! `tokenizers` library.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::ops::Range;

use fancy_regex::Regex;

use crate::TextError;
use crate::byte_level::CHAR_OF_BYTE;
use crate::normalize::{most_bytes, within};
use crate::pre::{is_punctuation, scripts};
use crate::spm;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Split {
        pattern: Pattern,
        behavior: Behavior,
        /// Take what lies between the matches for the matches.
        invert: bool,
    },
    /// A space before a piece that does not begin with one.
    Prefix,
    /// Each byte as a character.
    Spell,
    /// Spaces as `▁`, one before a piece that does not begin with one, and cuts before each.
    Metaspace { prepend: Prepend, split: bool },
    /// Cuts after every so many characters.
    Every(NonZeroUsize),
    /// Cuts where another script begins.
    Scripts,
}

/// Where a text is cut.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Literal(String),
    Regex(Regex),
    Whitespace,
    Punctuation,
}

/// What becomes of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    /// Matches in a row are one piece.
    Contiguous,
}

/// Which pieces get a `▁` before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepend {
    Always,
    /// That with which the whole text begins.
    First,
    Never,
}

/// A piece of a text.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'t> {
    pub(crate) text: Cow<'t, str>,
    /// The whole text begins with it.
    pub(crate) at_start: bool,
}

impl<'t> Piece<'t> {
    fn part(&self, range: Range<usize>) -> Self {
        let at_start = self.at_start && range.start == 0;
        let text = match &self.text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
            Cow::Owned(text) => Cow::Owned(text[range].to_owned()),
        };
        Self { text, at_start }
    }

    /// The parts that begin at these places, each up to the next one.
    fn parts<'p>(&'p self, starts: &'p [usize]) -> impl Iterator<Item = Self> + 'p {
        let ends = starts.iter().skip(1).copied().chain([self.text.len()]);
        starts.iter().zip(ends).map(|(&start, end)| self.part(start..end))
    }
}

impl Step {
    /// All steps on one piece.
    pub(crate) fn apply_all<'t>(steps: &[Self], piece: Piece<'t>) -> Result<Vec<Piece<'t>>, TextError> {
        let most = most_bytes(piece.text.len());
        let mut pieces = vec![piece];
        for step in steps {
            let mut next = Vec::with_capacity(pieces.len());
            for piece in pieces {
                step.apply(piece, &mut next)?;
            }
            pieces = next;
            within(pieces.iter().map(|piece| piece.text.len()).sum(), most)?;
        }
        Ok(pieces)
    }

    fn apply<'t>(&self, piece: Piece<'t>, out: &mut Vec<Piece<'t>>) -> Result<(), TextError> {
        match self {
            Self::Split { pattern, behavior, invert } => {
                let mut parts = pattern.parts(&piece.text)?;
                if *invert {
                    parts.iter_mut().for_each(|part| part.1 = !part.1);
                }
                let ranges = behavior.merge(&parts).into_iter().filter(|range| !range.is_empty());
                out.extend(ranges.map(|range| piece.part(range)));
            }
            Self::Prefix => {
                let mut piece = piece;
                if !piece.text.starts_with(' ') {
                    piece.text.to_mut().insert(0, ' ');
                }
                out.push(piece);
            }
            Self::Spell => {
                let spelled = piece.text.bytes().map(|byte| CHAR_OF_BYTE[usize::from(byte)]).collect();
                out.push(Piece { text: Cow::Owned(spelled), ..piece });
            }
            Self::Every(n) => {
                let starts: Vec<usize> =
                    piece.text.char_indices().map(|(at, _)| at).step_by(n.get()).collect();
                out.extend(piece.parts(&starts));
            }
            Self::Scripts => out.extend(piece.parts(&scripts::starts(&piece.text))),
            Self::Metaspace { prepend, split } => {
                let mut piece = piece;
                if piece.text.contains(' ') {
                    piece.text = Cow::Owned(piece.text.replace(' ', spm::SPACE));
                }
                let wanted = *prepend == Prepend::Always || *prepend == Prepend::First && piece.at_start;
                if wanted && !piece.text.starts_with(spm::SPACE) {
                    piece.text.to_mut().insert_str(0, spm::SPACE);
                }
                if !*split {
                    out.push(piece);
                    return Ok(());
                }
                let mut start = 0;
                for (at, _) in piece.text.match_indices(spm::SPACE) {
                    if at > start {
                        out.push(piece.part(start..at));
                        start = at;
                    }
                }
                if start < piece.text.len() {
                    out.push(piece.part(start..piece.text.len()));
                }
            }
        }
        Ok(())
    }
}

impl Pattern {
    /// The matches, and what lies between them; together they are the text.
    fn parts(&self, text: &str) -> Result<Vec<(Range<usize>, bool)>, TextError> {
        let mut parts = Vec::new();
        let mut done = 0;
        let mut found = |range: Range<usize>| {
            if range.start > done {
                parts.push((done..range.start, false));
            }
            done = range.end;
            parts.push((range, true));
        };
        match self {
            Self::Literal(literal) if literal.is_empty() => {}
            Self::Literal(literal) => {
                text.match_indices(literal.as_str())
                    .for_each(|(at, found_text)| found(at..at + found_text.len()));
            }
            Self::Whitespace => {
                text.match_indices(char::is_whitespace).for_each(|(at, c)| found(at..at + c.len()));
            }
            Self::Punctuation => {
                text.match_indices(is_punctuation).for_each(|(at, c)| found(at..at + c.len()));
            }
            Self::Regex(regex) => {
                for one in regex.find_iter(text) {
                    let one = one.map_err(|_| TextError::SplitTooHard {
                        pre: regex.as_str().to_owned(),
                        bytes: text.len(),
                    })?;
                    found(one.range());
                }
            }
        }
        if done < text.len() {
            parts.push((done..text.len(), false));
        }
        Ok(parts)
    }
}

impl Behavior {
    /// The pieces that matches (true) and the text between them (false) make.
    fn merge(self, parts: &[(Range<usize>, bool)]) -> Vec<Range<usize>> {
        let mut out: Vec<Range<usize>> = Vec::with_capacity(parts.len());
        // Whether the part before this one, in the order of walking, was a match.
        let mut before = None;
        match self {
            Self::Removed => out.extend(parts.iter().filter(|part| !part.1).map(|part| part.0.clone())),
            Self::Isolated => out.extend(parts.iter().map(|part| part.0.clone())),
            Self::Contiguous => {
                for (range, is_match) in parts {
                    match out.last_mut() {
                        Some(last) if before == Some(*is_match) => last.end = range.end,
                        _ => out.push(range.clone()),
                    }
                    before = Some(*is_match);
                }
            }
            Self::MergedWithPrevious => {
                for (range, is_match) in parts {
                    match out.last_mut() {
                        Some(last) if *is_match && before != Some(true) => last.end = range.end,
                        _ => out.push(range.clone()),
                    }
                    before = Some(*is_match);
                }
            }
            Self::MergedWithNext => {
                for (range, is_match) in parts.iter().rev() {
                    match out.last_mut() {
                        Some(last) if *is_match && before != Some(true) => last.start = range.start,
                        _ => out.push(range.clone()),
                    }
                    before = Some(*is_match);
                }
                out.reverse();
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn behaviours() {
        // From the documentation of `SplitDelimiterBehavior`: "the-final--countdown" cut at "-".
        for (behavior, expected) in [
            (Behavior::Removed, vec!["the", "final", "countdown"]),
            (Behavior::Isolated, vec!["the", "-", "final", "-", "-", "countdown"]),
            (Behavior::MergedWithPrevious, vec!["the-", "final-", "-", "countdown"]),
            (Behavior::MergedWithNext, vec!["the", "-final", "-", "-countdown"]),
            (Behavior::Contiguous, vec!["the", "-", "final", "--", "countdown"]),
        ] {
            let step = Step::Split { pattern: Pattern::Literal("-".to_owned()), behavior, invert: false };
            let text = Piece { text: Cow::Borrowed("the-final--countdown"), at_start: true };
            let pieces = Step::apply_all(&[step], text).unwrap();
            let got: Vec<&str> = pieces.iter().map(|piece| piece.text.as_ref()).collect();
            assert_eq!(got, expected, "{behavior:?}");
            assert!(pieces[0].at_start && !pieces[1].at_start);
        }
    }
}
