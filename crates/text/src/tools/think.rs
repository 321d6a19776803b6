//! Thoughts, parted from the answer.
//!
//! A model thinks at the beginning of its answer, between two tags; many templates write the opening tag themselves, so
//! that the answer begins inside. White space around the tags is dropped.

use super::format::undecided;

/// The tags around thoughts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinkTags {
    /// Before, usually `<think>`.
    pub open: String,
    /// After, usually `</think>`.
    pub close: String,
}

impl ThinkTags {
    /// The tags that a chat template mentions, if it knows of thoughts.
    pub fn detect(template: &str) -> Option<ThinkTags> {
        const KNOWN: [(&str, &str); 4] = [
            ("<think>", "</think>"),
            ("<thinking>", "</thinking>"),
            ("<|START_THINKING|>", "<|END_THINKING|>"),
            ("[THINK]", "[/THINK]"),
        ];
        let (open, close) = KNOWN.iter().find(|(_, close)| template.contains(close))?;
        Some(ThinkTags { open: (*open).to_owned(), close: (*close).to_owned() })
    }

    /// Whether a prompt ends such that the model is already thinking.
    pub fn opened_by(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(&self.open)
    }
}

/// The variables by which a chat template lets thinking be switched on and off.
pub fn think_switches(template: &str) -> Vec<&'static str> {
    let mut switches = Vec::new();
    if template.contains("enable_thinking") {
        switches.push("enable_thinking");
    }
    // Granite 3, DeepSeek V3.1.
    let others = template.replace("enable_thinking", "");
    if others.contains("if thinking") || others.contains("thinking is defined") {
        switches.push("thinking");
    }
    switches
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thought {
    /// Of the thoughts.
    Thinking(String),
    /// Of the answer proper.
    Answer(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before anything but white space.
    Start,
    /// Behind the opening tag; `fresh`: only white space since.
    Thoughts {
        fresh: bool,
    },
    /// Behind the closing tag, only white space since.
    Gap,
    Answer,
}

/// Parts the thoughts from an answer that comes in pieces.
///
/// ```
/// use whit_text::tools::{ThinkSplitter, ThinkTags, Thought};
///
/// let tags = ThinkTags { open: "<think>".into(), close: "</think>".into() };
/// let mut splitter = ThinkSplitter::new(tags, false);
/// let mut out = Vec::new();
/// for piece in ["<think>\nhm", "m\n</th", "ink>\n\nYes."] {
///     splitter.push(piece, &mut out);
/// }
/// splitter.finish(&mut out);
/// assert_eq!(out, [Thought::Thinking("hmm".into()), Thought::Answer("Yes.".into())]);
/// ```
#[derive(Clone, Debug)]
pub struct ThinkSplitter {
    tags: ThinkTags,
    pending: String,
    place: Place,
}

impl ThinkSplitter {
    /// A splitter of one answer; `inside`: it begins with thoughts, the opening tag being in the prompt.
    pub fn new(tags: ThinkTags, inside: bool) -> ThinkSplitter {
        let place = if inside { Place::Thoughts { fresh: true } } else { Place::Start };
        ThinkSplitter { tags, pending: String::new(), place }
    }

    /// Takes the next piece and appends to `out` what became certain.
    pub fn push(&mut self, text: &str, out: &mut Vec<Thought>) {
        self.pending.push_str(text);
        while self.advance(out) {}
    }

    /// Takes a control token, as it is spelled: whether it was a tag or stood among thoughts. `ends`: it ends thoughts
    /// though it is not their tag.
    pub fn control(&mut self, spelling: &str, ends: bool, out: &mut Vec<Thought>) -> bool {
        match self.place {
            Place::Start => {
                let opens = spelling == self.tags.open;
                if !self.pending.trim().is_empty() {
                    self.place = Place::Answer;
                    emit(out, Thought::Answer(std::mem::take(&mut self.pending)));
                } else if opens {
                    self.pending.clear();
                    self.place = Place::Thoughts { fresh: true };
                }
                opens
            }
            Place::Thoughts { .. } => {
                let closes = spelling == self.tags.close;
                // No tag reaches across a control token.
                let mut text = std::mem::take(&mut self.pending);
                if closes || ends {
                    text.truncate(text.trim_end().len());
                    self.place = Place::Gap;
                }
                emit(out, Thought::Thinking(text));
                closes || !ends
            }
            Place::Gap | Place::Answer => false,
        }
    }

    /// Ends the answer: what is held back comes out.
    pub fn finish(&mut self, out: &mut Vec<Thought>) {
        let text = std::mem::take(&mut self.pending);
        match self.place {
            Place::Thoughts { .. } => emit(out, Thought::Thinking(text.trim_end().to_owned())),
            Place::Gap => {}
            Place::Start | Place::Answer => emit(out, Thought::Answer(text)),
        }
        self.place = Place::Start;
    }

    /// One step; false when more text is needed.
    fn advance(&mut self, out: &mut Vec<Thought>) -> bool {
        match self.place {
            Place::Start => {
                let text = self.pending.trim_start();
                if let Some(rest) = text.strip_prefix(&self.tags.open) {
                    self.pending = rest.to_owned();
                    self.place = Place::Thoughts { fresh: true };
                } else if self.tags.open.starts_with(text) {
                    return false;
                } else {
                    self.place = Place::Answer;
                }
                true
            }
            Place::Thoughts { fresh } => {
                if fresh {
                    let text = self.pending.trim_start();
                    self.pending = text.to_owned();
                    if self.pending.is_empty() {
                        return false;
                    }
                    self.place = Place::Thoughts { fresh: false };
                }
                if let Some(at) = self.pending.find(&self.tags.close) {
                    let rest = self.pending.split_off(at + self.tags.close.len());
                    let text = std::mem::replace(&mut self.pending, rest);
                    emit(out, Thought::Thinking(text[..at].trim_end().to_owned()));
                    self.place = Place::Gap;
                    return true;
                }
                let n = undecided(&self.pending, std::iter::once(self.tags.close.as_str()));
                let rest = self.pending.split_off(self.pending[..n].trim_end().len());
                let text = std::mem::replace(&mut self.pending, rest);
                emit(out, Thought::Thinking(text));
                false
            }
            Place::Gap => {
                self.pending = self.pending.trim_start().to_owned();
                if self.pending.is_empty() {
                    return false;
                }
                self.place = Place::Answer;
                true
            }
            Place::Answer => {
                emit(out, Thought::Answer(std::mem::take(&mut self.pending)));
                false
            }
        }
    }
}

fn emit(out: &mut Vec<Thought>, piece: Thought) {
    match (out.last_mut(), piece) {
        (_, Thought::Thinking(text) | Thought::Answer(text)) if text.is_empty() => {}
        (Some(Thought::Thinking(before)), Thought::Thinking(text))
        | (Some(Thought::Answer(before)), Thought::Answer(text)) => before.push_str(&text),
        (_, piece) => out.push(piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_every_split() {
        let thinking = |text: &str| Thought::Thinking(text.to_owned());
        let answer = |text: &str| Thought::Answer(text.to_owned());
        for (text, inside, expected) in [
            (
                "<think>\nhmm\n\nso\n</think>\n\nYes <think>.",
                false,
                vec![thinking("hmm\n\nso"), answer("Yes <think>.")],
            ),
            ("hmm</think>Yes", true, vec![thinking("hmm"), answer("Yes")]),
            ("<think>\n\n</think>\n\n", false, vec![]),
            ("  plain <think>x</think>", false, vec![answer("  plain <think>x</think>")]),
            ("<thin", false, vec![answer("<thin")]),
            ("<think>cut <", false, vec![thinking("cut <")]),
            ("<think>a</thought>é</think>ü", false, vec![thinking("a</thought>é"), answer("ü")]),
            ("", false, vec![]),
        ] {
            for cut in (0..=text.len()).filter(|&cut| text.is_char_boundary(cut)) {
                let tags = ThinkTags { open: "<think>".to_owned(), close: "</think>".to_owned() };
                let mut splitter = ThinkSplitter::new(tags, inside);
                let mut out = Vec::new();
                splitter.push(&text[..cut], &mut out);
                splitter.push(&text[cut..], &mut out);
                splitter.finish(&mut out);
                assert_eq!(out, expected, "{text:?} at {cut}");
            }
        }
    }

    #[test]
    fn tags_of_templates() {
        let tags = ThinkTags::detect("{{ '<think>' }} {{ content.split('</think>')[-1] }}");
        assert_eq!(tags.as_ref().map(|tags| tags.open.as_str()), Some("<think>"));
        assert!(tags.is_some_and(
            |tags| tags.opened_by("<|im_start|>assistant\n<think>\n") && !tags.opened_by("assistant\n")
        ));
        assert_eq!(ThinkTags::detect("{{ messages }}"), None);
        for (template, expected) in [
            ("{%- if enable_thinking is defined and enable_thinking is false %}", &["enable_thinking"][..]),
            ("{%- if thinking %}", &["thinking"]),
            ("{{ messages }} <think>", &[]),
        ] {
            assert_eq!(think_switches(template), expected, "{template}");
        }
    }
}
