//! How each family of models writes a call: the markers around it and the syntax between them.
//!
//! Markers and syntaxes are those of the families' published chat templates and model cards: Qwen 2.5 and 3, Hermes and
//! SmolLM3 (`<tool_call>`), Llama 3.1 to 3.3, Mistral (tokenizer versions 1 to 13), Phi-4-mini, Granite 3, Gemma 3, LFM2.
//! Left out: DeepSeek's and Cohere's markers, and Qwen3-Coder's XML.

/// How a model writes its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": .., "arguments": {..}}</tool_call>`
    Hermes,
    /// `{"name": .., "parameters": {..}}`, several with `;` between, perhaps after `<|python_tag|>`; `<function=name>{..}</function>`
    Llama3,
    /// `[TOOL_CALLS][{"name": .., "arguments": {..}}]`, newer: `[TOOL_CALLS]name[ARGS]{..}`
    Mistral,
    /// `<|tool_call|>[{"name": .., "arguments": {..}}]<|/tool_call|>`; Granite leaves the end away
    Phi4,
    /// A fenced block `tool_code` with a Python call in it, or one with JSON
    Gemma,
    /// `<|tool_call_start|>[name(key="value")]<|tool_call_end|>`
    Lfm2,
    /// No markers: an answer that is a call as JSON, bare or in a fenced block. Every other format reads this as well.
    #[default]
    Json,
}

/// What stands between the markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// One object, or a list of them.
    Json,
    /// The same, or Python, whichever begins.
    JsonOrPython,
    /// The same, or `name[ARGS]{..}`.
    JsonOrNamed,
    /// `name>{..}`
    Named,
    /// A fenced block: its first line says which.
    Fence,
}

/// A text with which calls begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opener {
    pub(super) marker: &'static str,
    pub(super) syntax: Syntax,
    /// The text with which they end, if it comes.
    pub(super) closer: &'static str,
}

const fn opener(marker: &'static str, syntax: Syntax, closer: &'static str) -> Opener {
    Opener { marker, syntax, closer }
}

const FENCE: Opener = opener("```", Syntax::Fence, "```");
const HERMES: &[Opener] = &[opener("<tool_call>", Syntax::Json, "</tool_call>"), FENCE];
const LLAMA3: &[Opener] = &[
    opener("<|python_tag|>", Syntax::JsonOrPython, "<|eom_id|>"),
    opener("<function=", Syntax::Named, "</function>"),
    FENCE,
];
const MISTRAL: &[Opener] = &[opener("[TOOL_CALLS]", Syntax::JsonOrNamed, "</s>"), FENCE];
const PHI4: &[Opener] = &[
    opener("<|tool_call|>", Syntax::Json, "<|/tool_call|>"),
    // Granite 3.2 and later.
    opener("<tool_call>", Syntax::Json, "</tool_call>"),
    opener("functools", Syntax::Json, "<|/tool_call|>"),
    FENCE,
];
const LFM2: &[Opener] = &[opener("<|tool_call_start|>", Syntax::JsonOrPython, "<|tool_call_end|>"), FENCE];
const BARE: &[Opener] = &[FENCE];

impl ToolFormat {
    /// The format that a chat template teaches, or else the one usual for an architecture (`general.architecture`).
    pub fn detect(template: Option<&str>, architecture: &str) -> ToolFormat {
        // A template mentions the markers when it writes past calls; the earlier of these name one family alone.
        const MENTIONS: [(&str, ToolFormat); 9] = [
            ("[TOOL_CALLS]", ToolFormat::Mistral),
            ("<|python_tag|>", ToolFormat::Llama3),
            ("Environment: ipython", ToolFormat::Llama3),
            ("<|tool_call_start|>", ToolFormat::Lfm2),
            ("<|tool_list_start|>", ToolFormat::Lfm2),
            ("<|tool_call|>", ToolFormat::Phi4),
            ("<|tool|>", ToolFormat::Phi4),
            ("<tool_call>", ToolFormat::Hermes),
            ("tool_code", ToolFormat::Gemma),
        ];
        let template = template.unwrap_or_default();
        if let Some((_, format)) = MENTIONS.iter().find(|(mark, _)| template.contains(mark)) {
            return *format;
        }
        const USUAL: [(&str, ToolFormat); 5] = [
            ("qwen", ToolFormat::Hermes),
            ("gemma", ToolFormat::Gemma),
            ("mistral", ToolFormat::Mistral),
            ("granite", ToolFormat::Phi4),
            ("lfm2", ToolFormat::Lfm2),
        ];
        USUAL
            .iter()
            .find(|(name, _)| architecture.starts_with(name))
            .map_or(ToolFormat::Json, |found| found.1)
    }

    pub(super) fn openers(self) -> &'static [Opener] {
        match self {
            ToolFormat::Hermes => HERMES,
            ToolFormat::Llama3 => LLAMA3,
            ToolFormat::Mistral => MISTRAL,
            ToolFormat::Phi4 => PHI4,
            ToolFormat::Lfm2 => LFM2,
            ToolFormat::Gemma | ToolFormat::Json => BARE,
        }
    }
}

/// The first place in `text` where one of `markers` stands whole, and which.
pub(super) fn find(text: &str, markers: impl Iterator<Item = &'static str>) -> Option<(usize, usize)> {
    markers.enumerate().filter_map(|(i, marker)| Some((text.find(marker)?, i))).min()
}

/// Where the end of `text` may be the beginning of one of `markers`; its length if it is not.
pub(super) fn undecided<'a>(text: &str, markers: impl Iterator<Item = &'a str>) -> usize {
    let longest = |marker: &str| {
        (1..marker.len()).rev().find(|&n| marker.is_char_boundary(n) && text.ends_with(&marker[..n]))
    };
    text.len() - markers.filter_map(longest).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_templates() {
        let read = |name: &str| {
            std::fs::read_to_string(format!("{}/tests/templates/{name}.jinja", env!("CARGO_MANIFEST_DIR")))
                .unwrap_or_default()
        };
        for (template, architecture, expected) in [
            (Some(read("qwen2.5")), "qwen2", ToolFormat::Hermes),
            (Some(read("qwen3")), "qwen3", ToolFormat::Hermes),
            (Some(read("llama3.2")), "llama", ToolFormat::Llama3),
            (Some(read("gemma3")), "gemma3", ToolFormat::Gemma),
            (Some(read("smollm2")), "llama", ToolFormat::Json),
            (Some("{{ '[TOOL_CALLS]' }}".to_owned()), "llama", ToolFormat::Mistral),
            (Some("{{ '<|tool|>' + tools + '<|/tool|>' }}".to_owned()), "phi3", ToolFormat::Phi4),
            (Some("{{ '<|tool_list_start|>' }}".to_owned()), "lfm2", ToolFormat::Lfm2),
            (None, "qwen2", ToolFormat::Hermes),
            (None, "llama", ToolFormat::Json),
        ] {
            assert_eq!(
                ToolFormat::detect(template.as_deref(), architecture),
                expected,
                "{architecture} {template:?}"
            );
        }
    }

    #[test]
    fn ends_that_may_be_beginnings() {
        let markers = || ["<tool_call>", "```"].into_iter();
        for (text, held) in [
            ("abc", ""),
            ("abc<", "<"),
            ("a<tool", "<tool"),
            ("x``", "``"),
            ("<tool x", ""),
            ("<<", "<"),
            ("é`", "`"),
        ] {
            assert_eq!(&text[undecided(text, markers())..], held, "{text}");
        }
        assert_eq!(find("a```b<tool_call>", markers()), Some((1, 1)));
    }
}
