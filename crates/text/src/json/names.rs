//! The names and flags by which a GGUF describes a tokenizer, for rules that equal what such a name means.

use crate::normalize::{Find, Normal};
use crate::pre::steps::{Behavior, Pattern, Prepend, Step};
use crate::pre::{name_of, patterns_of};
use crate::rules::{ModelRules, Rules};
use crate::spm;
use crate::wordpiece::MAX_WORD_CHARS;

/// What parts lines, and is a piece of its own.
pub(super) const LINES: &str = r"\n+";
/// Spaces that a unigram model drops: those before and behind a text, as folders say it that were a GGUF. `transformers` has
/// them stripped with all other white space.
pub(super) const ENDS: &str = r"\A +| +\z";
/// Spaces of which it leaves one.
pub(super) const RUNS: &str = " {2,}";

/// Whether it writes spaces in their visible form.
fn is_escape(step: &Normal) -> bool {
    matches!(step, Normal::Replace { what: Find::Literal(what), with } if what == " " && with == spm::SPACE)
}

/// What comes nearest in a GGUF.
#[derive(Default)]
pub(super) struct Names {
    pub(super) model: &'static str,
    pub(super) pre: Option<&'static str>,
    pub(super) add_space_prefix: Option<bool>,
    pub(super) remove_extra_whitespaces: Option<bool>,
    pub(super) lowercase: Option<bool>,
    pub(super) strip_accents: Option<bool>,
    /// What the names do not say, if anything.
    pub(super) differs: Option<String>,
}

impl Names {
    pub(super) fn new(rules: &Rules) -> Self {
        match &rules.model {
            ModelRules::Bpe { byte_fallback, ignore_merges, .. } => {
                if *byte_fallback {
                    Self::sentencepiece(rules)
                } else {
                    Self::byte_level(rules, *ignore_merges)
                }
            }
            ModelRules::Unigram { .. } => Self::unigram(rules),
            ModelRules::WordPiece { max_chars, .. } => Self::wordpiece(rules, *max_chars),
            ModelRules::WordLevel => {
                Self { model: "none", differs: Some("its model is WordLevel".to_owned()), ..Self::default() }
            }
        }
    }

    fn byte_level(rules: &Rules, ignore_merges: bool) -> Self {
        let patterns = patterns_of(&rules.steps);
        let spelled =
            patterns.map(|patterns| patterns.iter().map(|regex| regex.as_str()).collect::<Vec<_>>());
        let pre = spelled.and_then(|spelled| name_of(&spelled, ignore_merges));
        let differs = if pre.is_none() {
            Some("no `tokenizer.ggml.pre` stands for its pre-tokenizer".to_owned())
        } else if !matches!(rules.normal.as_slice(), [] | [Normal::Nfc]) {
            Some("it has a normalizer".to_owned())
        } else {
            None
        };
        Self { model: "gpt2", pre, differs, ..Self::default() }
    }

    /// Characters with `▁` for spaces, merged over the whole text or over lines.
    fn sentencepiece(rules: &Rules) -> Self {
        let (mut prefix, mut escapes, mut foreign, mut lines) = (false, false, false, false);
        for step in &rules.normal {
            match step {
                Normal::Prepend(text) if text == spm::SPACE => prefix = true,
                step if is_escape(step) => escapes = true,
                _ => foreign = true,
            }
        }
        match rules.steps.as_slice() {
            [] => {}
            [Step::Metaspace { prepend, .. }] => {
                escapes = true;
                prefix |= *prepend != Prepend::Never;
            }
            // Spaces that are written otherwise already: nothing is cut.
            [
                Step::Split {
                    pattern: Pattern::Literal(space), behavior: Behavior::MergedWithPrevious, ..
                },
            ] if space == " " && escapes => {}
            [Step::Split { pattern: Pattern::Regex(newlines), behavior: Behavior::Isolated, .. }]
                if newlines.as_str() == LINES && !prefix =>
            {
                lines = true;
            }
            _ => foreign = true,
        }
        let differs = (foreign || !escapes)
            .then(|| "its normalizer or pre-tokenizer is not that of SentencePiece".to_owned());
        Self {
            model: if lines { "gemma4" } else { "llama" },
            pre: Some("default"),
            add_space_prefix: Some(prefix),
            differs,
            ..Self::default()
        }
    }

    fn unigram(rules: &Rules) -> Self {
        let (mut prefix, mut collapses, mut foreign) = (false, false, false);
        for step in &rules.normal {
            match step {
                Normal::Charsmap(_) => {}
                Normal::Prepend(text) if text == spm::SPACE => prefix = true,
                step if is_escape(step) => {}
                Normal::Strip { .. } => collapses = true,
                Normal::Replace { what: Find::Regex(what), with }
                    if what.as_str() == ENDS && with.is_empty()
                        || what.as_str() == RUNS && (with == " " || with == spm::SPACE) =>
                {
                    collapses = true;
                }
                _ => foreign = true,
            }
        }
        for step in &rules.steps {
            match step {
                Step::Split { pattern: Pattern::Whitespace, behavior: Behavior::Removed, .. } => {
                    collapses = true
                }
                Step::Metaspace { prepend, .. } => prefix = *prepend != Prepend::Never,
                _ => foreign = true,
            }
        }
        let differs =
            foreign.then(|| "its normalizer or pre-tokenizer is not that of SentencePiece".to_owned());
        Self {
            model: "t5",
            pre: Some("default"),
            add_space_prefix: Some(prefix),
            remove_extra_whitespaces: Some(collapses),
            differs,
            ..Self::default()
        }
    }

    fn wordpiece(rules: &Rules, max_chars: usize) -> Self {
        let bert = match rules.normal.as_slice() {
            [Normal::Bert(bert)] if bert.clean_text && bert.handle_chinese_chars => Some(*bert),
            _ => None,
        };
        let cuts = matches!(
            rules.steps.as_slice(),
            [
                Step::Split { pattern: Pattern::Whitespace, behavior: Behavior::Removed, invert: false },
                Step::Split { pattern: Pattern::Punctuation, behavior: Behavior::Isolated, invert: false },
            ]
        );
        let same = bert.is_some() && cuts && max_chars == MAX_WORD_CHARS;
        Self {
            model: "bert",
            // The name that converters write for BERT's own way; nothing turns on it.
            pre: Some("bert-bge"),
            lowercase: bert.map(|bert| bert.lowercase),
            strip_accents: bert.map(|bert| bert.strip_accents),
            differs: (!same).then(|| "its normalizer or pre-tokenizer is not BERT's".to_owned()),
            ..Self::default()
        }
    }
}
