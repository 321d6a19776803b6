//! The small parts of a `tokenizer.json`, interpreted: normalizer, pre-tokenizer, post-processor and decoder.
//!
//! Names and defaults are those of the `tokenizers` library. What is not known is an error that says where it stands,
//! never passed over: tokens would be wrong without a word.

use std::num::NonZeroUsize;

use base64::Engine as _;
use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::TextError;
use crate::charsmap::Charsmap;
use crate::normalize::{Bert, Find, Normal};
use crate::pre::steps::{Behavior, Pattern, Prepend, Step};
use crate::pre::{DIGIT, GPT2, MAX_PATTERN_BYTES};
use crate::rules::Spelling;
use crate::spm;
use crate::template::{Part, Slot, Template};

/// Steps beyond this are refused; published models have up to a dozen.
const MAX_STEPS: usize = 32;
/// Longer lists are no part of a tokenizer's rules.
const MAX_ITEMS: usize = 1024;
/// Bytes that the automata of an expression may take.
const MAX_REGEX_BYTES: usize = 8 << 20;
/// Instructions that an expression may become.
const MAX_REGEX_STEPS: usize = 1 << 16;
const DIGITS: &str = r"\p{N}+";

/// A part of the file and its path there.
#[derive(Clone)]
pub(super) struct At<'v> {
    value: &'v Value,
    place: String,
}

impl<'v> At<'v> {
    pub(super) fn new(value: &'v Value, place: &str) -> Self {
        Self { value, place: place.to_owned() }
    }

    pub(super) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// The `type` of the part.
    pub(super) fn kind(&self) -> &'v str {
        self.value["type"].as_str().unwrap_or_default()
    }

    fn get(&self, key: &str) -> Self {
        Self { value: &self.value[key], place: format!("{}.{key}", self.place) }
    }

    fn items(&self) -> Result<Vec<Self>, TextError> {
        let list = self.value.as_array().ok_or_else(|| self.broken("a list"))?;
        if list.len() > MAX_ITEMS {
            return Err(self.broken("a shorter list"));
        }
        let item = |(i, value)| Self { value, place: format!("{}[{i}]", self.place) };
        Ok(list.iter().enumerate().map(item).collect())
    }

    fn str(&self) -> Result<&'v str, TextError> {
        self.value.as_str().ok_or_else(|| self.broken("a string"))
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.value[key].as_bool().unwrap_or(default)
    }

    fn id(&self) -> Result<u32, TextError> {
        let id = self.value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.broken("a token id"))
    }

    fn broken(&self, expected: &str) -> TextError {
        TextError::BrokenTokenizerJson {
            file: "tokenizer.json",
            what: format!("`{}` should be {expected}", self.place),
        }
    }

    pub(super) fn unsupported(&self) -> TextError {
        let mut what = self.value.to_string();
        if what.len() > 100 {
            what = format!("a `{}`", self.kind());
        }
        TextError::UnsupportedTokenizer { place: self.place.clone(), what }
    }

    /// The members of a `Sequence` below `key`, all the way down; otherwise the part alone, or nothing for null.
    pub(super) fn flat(&self, key: &str) -> Result<Vec<Self>, TextError> {
        let mut out = Vec::new();
        self.flatten(key, &mut out)?;
        Ok(out)
    }

    fn flatten(&self, key: &str, out: &mut Vec<Self>) -> Result<(), TextError> {
        if self.kind() == "Sequence" {
            // As deep as JSON may be; the reader limits that.
            for item in self.get(key).items()? {
                item.flatten(key, out)?;
            }
        } else if !self.is_null() {
            out.push(self.clone());
        }
        if out.len() > MAX_STEPS { Err(self.broken("a shorter list")) } else { Ok(()) }
    }

    fn regex(&self) -> Result<Regex, TextError> {
        compiled(self.str()?).ok_or_else(|| self.unsupported())
    }
}

fn compiled(pattern: &str) -> Option<Regex> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return None;
    }
    RegexBuilder::new(pattern)
        .delegate_size_limit(MAX_REGEX_BYTES)
        .max_prog_size(MAX_REGEX_STEPS)
        .build()
        .ok()
}

/// The steps of a normalizer.
pub(super) fn normalizer(part: &At<'_>) -> Result<Vec<Normal>, TextError> {
    part.flat("normalizers")?.iter().map(normal).collect()
}

fn normal(part: &At<'_>) -> Result<Normal, TextError> {
    Ok(match part.kind() {
        "NFC" => Normal::Nfc,
        "NFD" => Normal::Nfd,
        "NFKC" => Normal::Nfkc,
        "NFKD" => Normal::Nfkd,
        "Nmt" => Normal::Nmt,
        "Lowercase" => Normal::Lowercase,
        "StripAccents" => Normal::StripAccents,
        "ByteLevel" => Normal::ByteLevel,
        "Strip" => {
            Normal::Strip { left: part.flag("strip_left", true), right: part.flag("strip_right", true) }
        }
        "Prepend" => Normal::Prepend(part.get("prepend").str()?.to_owned()),
        "Replace" => {
            let what = part.get("pattern");
            let what = if what.get("Regex").is_null() {
                Find::Literal(what.get("String").str()?.to_owned())
            } else {
                Find::Regex(what.get("Regex").regex()?)
            };
            Normal::Replace { what, with: part.get("content").str()?.to_owned() }
        }
        "BertNormalizer" => {
            let lowercase = part.flag("lowercase", true);
            Normal::Bert(Bert {
                clean_text: part.flag("clean_text", true),
                handle_chinese_chars: part.flag("handle_chinese_chars", true),
                strip_accents: part.flag("strip_accents", lowercase),
                lowercase,
            })
        }
        "Precompiled" => {
            let map = part.get("precompiled_charsmap");
            let bytes = base64::engine::general_purpose::STANDARD.decode(map.str()?);
            Normal::Charsmap(Charsmap::new(&bytes.map_err(|_| map.broken("base64"))?)?)
        }
        _ => return Err(part.unsupported()),
    })
}

/// The steps of a pre-tokenizer.
pub(super) fn pre_tokenizer(part: &At<'_>) -> Result<Vec<Step>, TextError> {
    let mut steps = Vec::new();
    for part in part.flat("pretokenizers")? {
        pre_steps(&part, &mut steps)?;
    }
    Ok(steps)
}

fn pre_steps(part: &At<'_>, steps: &mut Vec<Step>) -> Result<(), TextError> {
    let cut = |pattern: Pattern, behavior: Behavior| Step::Split { pattern, behavior, invert: false };
    let expression = |pattern: &str| compiled(pattern).map(Pattern::Regex).ok_or_else(|| part.unsupported());
    match part.kind() {
        "ByteLevel" => {
            if part.flag("add_prefix_space", true) {
                steps.push(Step::Prefix);
            }
            if part.flag("use_regex", true) {
                steps.push(cut(expression(GPT2)?, Behavior::Isolated));
            }
            steps.push(Step::Spell);
        }
        "Split" => {
            let pattern = part.get("pattern");
            let pattern = if pattern.get("Regex").is_null() {
                Pattern::Literal(pattern.get("String").str()?.to_owned())
            } else {
                Pattern::Regex(pattern.get("Regex").regex()?)
            };
            let behavior = behavior(&part.get("behavior"))?;
            steps.push(Step::Split { pattern, behavior, invert: part.flag("invert", false) });
        }
        "Digits" => {
            let alone = part.flag("individual_digits", false);
            let pattern = if alone { DIGIT } else { DIGITS };
            steps.push(cut(expression(pattern)?, Behavior::Isolated));
        }
        "Punctuation" => {
            let behavior = if part.get("behavior").is_null() {
                Behavior::Isolated
            } else {
                behavior(&part.get("behavior"))?
            };
            steps.push(cut(Pattern::Punctuation, behavior));
        }
        "WhitespaceSplit" => steps.push(cut(Pattern::Whitespace, Behavior::Removed)),
        "Whitespace" => steps.push(Step::Split {
            pattern: expression(r"\w+|[^\w\s]+")?,
            behavior: Behavior::Removed,
            invert: true,
        }),
        "BertPreTokenizer" => {
            steps.push(cut(Pattern::Whitespace, Behavior::Removed));
            steps.push(cut(Pattern::Punctuation, Behavior::Isolated));
        }
        "CharDelimiterSplit" => {
            let delimiter = part.get("delimiter").str()?.to_owned();
            steps.push(cut(Pattern::Literal(delimiter), Behavior::Removed));
        }
        "FixedLength" => {
            let length = part.get("length");
            let n = if length.is_null() { 5 } else { length.id()? };
            let n = NonZeroUsize::new(n as usize).ok_or_else(|| length.broken("above 0"))?;
            steps.push(Step::Every(n));
        }
        "UnicodeScripts" => steps.push(Step::Scripts),
        "Metaspace" => {
            // Models, and what decodes them, know no other sign for a space.
            let replacement = part.get("replacement");
            if replacement.str()? != spm::SPACE {
                return Err(replacement.unsupported());
            }
            steps.push(Step::Metaspace { prepend: prepend(part)?, split: part.flag("split", true) });
        }
        _ => return Err(part.unsupported()),
    }
    Ok(())
}

/// Older files say `add_prefix_space`, newer ones `prepend_scheme`.
fn prepend(part: &At<'_>) -> Result<Prepend, TextError> {
    let scheme = part.get("prepend_scheme");
    Ok(match scheme.value.as_str() {
        _ if !part.flag("add_prefix_space", true) => Prepend::Never,
        None | Some("always") => Prepend::Always,
        Some("first") => Prepend::First,
        Some("never") => Prepend::Never,
        Some(_) => return Err(scheme.unsupported()),
    })
}

fn behavior(part: &At<'_>) -> Result<Behavior, TextError> {
    Ok(match part.str()? {
        "Removed" => Behavior::Removed,
        "Isolated" => Behavior::Isolated,
        "MergedWithPrevious" => Behavior::MergedWithPrevious,
        "MergedWithNext" => Behavior::MergedWithNext,
        "Contiguous" => Behavior::Contiguous,
        _ => return Err(part.unsupported()),
    })
}

/// The frame that a post-processor makes; none if it makes none.
pub(super) fn post_processor(part: &At<'_>) -> Result<Option<Template>, TextError> {
    let mut template = None;
    for part in part.flat("processors")? {
        let made = match part.kind() {
            // Only where tokens stand in the text is its concern.
            "ByteLevel" => continue,
            "TemplateProcessing" => of_template(&part)?,
            "BertProcessing" | "RobertaProcessing" => {
                let id = |key: &str| match part.get(key).items()?.as_slice() {
                    [_, id] => id.id(),
                    _ => Err(part.get(key).broken("a token and its id")),
                };
                let (cls, sep) = (Some(id("cls")?), Some(id("sep")?));
                if part.kind() == "BertProcessing" {
                    Template::new(cls, None, sep, 1)
                } else {
                    Template::new(cls, sep, sep, 0)
                }
            }
            _ => return Err(part.unsupported()),
        };
        if template.replace(made).is_some() {
            return Err(part.unsupported());
        }
    }
    Ok(template)
}

fn of_template(part: &At<'_>) -> Result<Template, TextError> {
    let frame = |key: &str| -> Result<Vec<Part>, TextError> {
        let mut out = Vec::new();
        for item in part.get(key).items()? {
            let (special, sequence) = (item.get("SpecialToken"), item.get("Sequence"));
            let inner = if special.is_null() { &sequence } else { &special };
            let kind = if inner.get("type_id").is_null() { 0 } else { inner.get("type_id").id()? };
            let name = inner.get("id");
            if special.is_null() {
                let slot = match name.str()? {
                    "A" => Slot::A,
                    "B" => Slot::B,
                    _ => return Err(name.broken("A or B")),
                };
                out.push(Part { slot, kind });
                continue;
            }
            for id in part.get("special_tokens").get(name.str()?).get("ids").items()? {
                out.push(Part { slot: Slot::Token(id.id()?), kind });
            }
        }
        Ok(out)
    };
    let count = |frame: &[Part], slot: Slot| frame.iter().filter(|part| part.slot == slot).count();
    let single = frame("single")?;
    if count(&single, Slot::A) != 1 || count(&single, Slot::B) != 0 {
        return Err(part.get("single").broken("a frame around one A"));
    }
    let pair = if part.get("pair").is_null() { Vec::new() } else { frame("pair")? };
    if pair.is_empty() {
        // The library's own default: one text after the other.
        return Ok(Template { pair: Template::bare().pair, single });
    }
    if count(&pair, Slot::A) != 1 || count(&pair, Slot::B) != 1 {
        return Err(part.get("pair").broken("a frame around one A and one B"));
    }
    Ok(Template { single, pair })
}

/// How tokens spell text, and whether the first one's space is to be dropped. `spells` is what the pre-tokenizer does.
pub(super) fn decoder(part: &At<'_>, spells: bool) -> Result<(Spelling, bool), TextError> {
    let mut spelling = None;
    let mut strips = false;
    for part in part.flat("decoders")? {
        match part.kind() {
            "ByteLevel" => spelling = Some(Spelling::Bytes),
            "Metaspace" => {
                spelling = Some(Spelling::Spaces);
                strips = prepend(&part)? != Prepend::Never;
            }
            "Replace"
                if part.get("pattern").get("String").value == spm::SPACE
                    && part.get("content").value == " " =>
            {
                spelling = Some(Spelling::Spaces);
            }
            // The way of text to come out a token at a time: bytes are put together, and nothing is added.
            "ByteFallback" | "Fuse" => {}
            "Strip" if part.get("content").value == " " => {
                strips = part.get("start").value.as_u64() > Some(0);
            }
            "WordPiece" => {
                spelling = Some(Spelling::Words(part.get("prefix").str()?.to_owned()));
                strips = true;
            }
            "CTC" => {
                let text = |key: &str| part.get(key).str().map(str::to_owned);
                spelling = Some(Spelling::Aligned {
                    blank: text("pad_token")?,
                    delimiter: text("word_delimiter_token")?,
                    cleans: part.flag("cleanup", true),
                });
            }
            "BPEDecoder" => spelling = Some(Spelling::Suffix(part.get("suffix").str()?.to_owned())),
            _ => return Err(part.unsupported()),
        }
    }
    Ok(match spelling {
        Some(spelling) => (spelling, strips),
        None if spells => (Spelling::Bytes, false),
        None => (Spelling::Words(String::new()), true),
    })
}
