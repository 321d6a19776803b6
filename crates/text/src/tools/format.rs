//! How each family of models writes a call: the markers around it and the syntax between them.
//!
//! Markers and syntaxes are those of the families' published chat templates and model cards: Qwen 2.5 and 3, Hermes,
//! Granite 4 and SmolLM3 (`<tool_call>`), Qwen3-Coder, Qwen 3.5 and Nemotron 3 (tags), Llama 3.1 to 3.3, Mistral (tokenizer
//! versions 1 to 13), Phi-4-mini, Granite 3, Gemma 3 and 4, FunctionGemma, LFM2, DeepSeek R1 and V3.1, Command R7B,
//! Nemotron Nano 2. Left out: GLM, Kimi, MiniMax, and gpt-oss, none of which is small.

/// How a model writes its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": .., "arguments": {..}}</tool_call>`
    Hermes,
    /// `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`
    Tags,
    /// `{"name": .., "parameters": {..}}`, several with `;` between, perhaps after `<|python_tag|>`; `<function=name>{..}</function>`
    Llama3,
    /// `[TOOL_CALLS][{"name": .., "arguments": {..}}]`
    Mistral,
    /// `[TOOL_CALLS]name[ARGS]{..}`, with `[CALL_ID]id` before the arguments or without
    MistralNamed,
    /// `<|tool_call|>[{"name": .., "arguments": {..}}]<|/tool_call|>`
    Phi4,
    /// The same without the end
    Granite3,
    /// A fenced block `tool_code` with a Python call in it, or one with JSON
    Gemma,
    /// `<start_function_call>call:name{key:<escape>value<escape>}<end_function_call>`
    FunctionGemma,
    /// `<|tool_call>call:name{key:<|"|>value<|"|>}<tool_call|>`
    Gemma4,
    /// `<|tool_call_start|>[name(key="value")]<|tool_call_end|>`
    Lfm2,
    /// `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>name`, the arguments in a fenced block,
    /// `<｜tool▁call▁end｜><｜tool▁calls▁end｜>`
    DeepSeek,
    /// `<|START_ACTION|>[{"tool_call_id": "0", "tool_name": .., "parameters": {..}}]<|END_ACTION|>`
    Cohere,
    /// `<TOOLCALL>[{"name": .., "arguments": {..}}]</TOOLCALL>`
    Nemotron,
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
    /// The same, or tags.
    JsonOrTags,
    /// Tags, of which the marker is the beginning and the closer the end.
    Tags,
    /// Name and arguments between markers.
    Markers,
    /// Google's notation.
    Notation,
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
const TAGS: &[Opener] = &[
    opener("<tool_call>", Syntax::JsonOrTags, "</tool_call>"),
    // Some forget the tag around.
    opener("<function=", Syntax::Tags, "</function>"),
    FENCE,
];
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
const FUNCTION_GEMMA: &[Opener] =
    &[opener("<start_function_call>", Syntax::Notation, "<end_function_call>"), FENCE];
const GEMMA4: &[Opener] = &[opener("<|tool_call>", Syntax::Notation, "<tool_call|>"), FENCE];
const DEEPSEEK: &[Opener] =
    &[opener("<｜tool▁calls▁begin｜>", Syntax::Markers, "<｜tool▁calls▁end｜>"), FENCE];
const COHERE: &[Opener] = &[opener("<|START_ACTION|>", Syntax::Json, "<|END_ACTION|>"), FENCE];
const NEMOTRON: &[Opener] = &[opener("<TOOLCALL>", Syntax::Json, "</TOOLCALL>"), FENCE];
const BARE: &[Opener] = &[FENCE];

impl ToolFormat {
    /// The format that a chat template teaches, or else the one usual for an architecture (`general.architecture`).
    pub fn detect(template: Option<&str>, architecture: &str) -> ToolFormat {
        // A template mentions the markers when it writes past calls; the earlier of these name one family alone.
        const MENTIONS: [(&str, ToolFormat); 18] = [
            ("[ARGS]", ToolFormat::MistralNamed),
            ("[TOOL_CALLS]", ToolFormat::Mistral),
            ("<|python_tag|>", ToolFormat::Llama3),
            ("Environment: ipython", ToolFormat::Llama3),
            ("<|tool_call_start|>", ToolFormat::Lfm2),
            ("<|tool_list_start|>", ToolFormat::Lfm2),
            ("<|/tool|>", ToolFormat::Phi4),
            ("<|/tool_call|>", ToolFormat::Phi4),
            ("<|tool_call|>", ToolFormat::Granite3),
            ("<parameter=", ToolFormat::Tags),
            ("<start_function_call>", ToolFormat::FunctionGemma),
            ("<|tool_call>", ToolFormat::Gemma4),
            ("<｜tool▁calls▁begin｜>", ToolFormat::DeepSeek),
            ("<|START_ACTION|>", ToolFormat::Cohere),
            ("<TOOLCALL>", ToolFormat::Nemotron),
            ("<tool_call>", ToolFormat::Hermes),
            ("xml_tools", ToolFormat::Hermes),
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
            ("granite", ToolFormat::Granite3),
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
            ToolFormat::Tags => TAGS,
            ToolFormat::Llama3 => LLAMA3,
            ToolFormat::Mistral | ToolFormat::MistralNamed => MISTRAL,
            ToolFormat::Phi4 | ToolFormat::Granite3 => PHI4,
            ToolFormat::FunctionGemma => FUNCTION_GEMMA,
            ToolFormat::Gemma4 => GEMMA4,
            ToolFormat::Lfm2 => LFM2,
            ToolFormat::DeepSeek => DEEPSEEK,
            ToolFormat::Cohere => COHERE,
            ToolFormat::Nemotron => NEMOTRON,
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
