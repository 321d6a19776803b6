//! Pre-tokenizers: the rules by which byte-level BPE models split text into words, by the name in the file.
//!
//! The names are those of `tokenizer.ggml.pre`; names, groups and expressions are facts read from llama.cpp's
//! `llama-vocab.cpp` and from the `pre_tokenizer` sections of the models' own `tokenizer.json`. Where both differ, the
//! model's own file holds (llama.cpp rewrites case folding and some classes for its engine). Left out: rules that no
//! regular expression says (`kimi-k2`, `afmoe`, `superbpe`, `hybriddna`).

pub(crate) mod classes;
mod fast;
pub(crate) mod scripts;
pub(crate) mod steps;

use classes::{CLASSES, PUNCTUATION};
use fancy_regex::Regex;
use fast::Words;
use steps::{Behavior, Pattern, Step};

use crate::TextError;

pub(crate) const DIGIT: &str = r"\p{N}";
pub(crate) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_WORDS: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const BLOOM: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+";
const HAN_AND_KANA: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
const HAN_AND_HANGUL: &str = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
/// The letters of `deepseek-llm`, as its `tokenizer.json` lists them.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[",
    r"A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}",
    r"\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}",
    r"\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}",
    r"\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}",
    r"\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}",
    r"\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}",
    r"\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}",
    r"\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}",
    r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}",
    r"\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}",
    r"\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}",
    r"\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}",
    r"\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}",
    r"\x{1E900}-\x{1E943}",
    r"]+",
);

/// What a pre-tokenizer's name brings with it.
#[derive(Clone, Copy, Debug)]
struct Rule {
    words: Kind,
    /// A word that is a token is taken whole, before any merging.
    ignore_merges: bool,
    add_bos: bool,
    add_sep: bool,
    /// Text is brought into Unicode's composed form first.
    nfc: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Fast(Words),
    /// Each expression splits the pieces that the ones before it left; what no expression matches stays a piece.
    Patterns(&'static [&'static str]),
}

const fn fast(words: Words) -> Rule {
    Rule { words: Kind::Fast(words), ignore_merges: false, add_bos: false, add_sep: false, nfc: false }
}

const fn patterns(patterns: &'static [&'static str]) -> Rule {
    Rule { words: Kind::Patterns(patterns), ignore_merges: false, add_bos: false, add_sep: false, nfc: false }
}

fn rule(name: &str) -> Option<Rule> {
    Some(match name {
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de" | "a.x-4.0"
        | "mellum" | "modern-bert" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" | "exaone4" => {
            fast(Words::Gpt2)
        }
        "jina-v1-en" | "jina-v2-code" | "roberta-bpe" => Rule { add_sep: true, ..fast(Words::Gpt2) },
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => fast(Words::Gpt2Digits),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => Rule { ignore_merges: true, add_bos: true, ..fast(Words::Cl100k3) },
        "glm4" | "glm5" => Rule { ignore_merges: true, ..fast(Words::Cl100k3) },
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => fast(Words::Cl100k3),
        // Qwen's own tokenizers normalise (llama.cpp does not): decomposed accents are no words that the model knows.
        "qwen2" => Rule { nfc: true, ..fast(Words::Cl100k1) },
        "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "stablelm2" | "hunyuan" | "solar-open" | "megrez"
        | "grok-2" => fast(Words::Cl100k1),
        // Not so here: its published vectors hold decomposed accents, and want them as they are.
        "qwen35" => fast(Words::Cl100k1Marks),
        "tekken" => Rule { ignore_merges: true, add_bos: true, ..patterns(&[TEKKEN]) },
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => patterns(&[GPT4O]),
        "granite-embed-multi-97m" => Rule { ignore_merges: true, ..patterns(&[GPT4O]) },
        "tiny_aya" | "cohere2moe" => patterns(&[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O]),
        "deepseek-llm" => patterns(&[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+",
            r"\s+$",
            HAN_AND_HANGUL,
            DIGIT,
        ]),
        "deepseek-coder" => patterns(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_AND_HANGUL, DIGIT]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => {
            patterns(&[r"\p{N}{1,3}", HAN_AND_KANA, DEEPSEEK_WORDS])
        }
        "youtu" => Rule {
            ignore_merges: true,
            ..patterns(&[
                r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ])
        },
        "falcon" => patterns(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
        "poro-chat" | "bloom" | "gpt3-finnish" => patterns(&[BLOOM]),
        "viking" => patterns(&[BLOOM, DIGIT]),
        "chameleon" => Rule {
            add_bos: true,
            ..patterns(&[
                r"<sentinel:[0-9]+>",
                r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                r"([\t\n]|    |  )",
                DIGIT,
                r"[\p{P}!-/:-@\[-`{-~]",
                GPT2,
            ])
        },
        "bailingmoe" | "bailingmoe2" | "llada-moe" => patterns(&[
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ]),
        "seed-coder" => patterns(&[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        ]),
        "ufakzeka" => {
            patterns(&[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"])
        }
        "laguna" => patterns(&[r"[^\n]+|[\n]+", QWEN2]),
        "exaone-moe" => patterns(&[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ]),
        "minicpm5" => Rule {
            ignore_merges: true,
            ..patterns(&[
                r"\p{N}{1,3}",
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ])
        },
        "default" => patterns(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        _ => return None,
    })
}

/// Names to try, most usual first, for rules that a `tokenizer.json` spells out.
const NAMES: [&str; 17] = [
    "gpt-2",
    "smollm",
    "llama-bpe",
    "dbrx",
    "qwen2",
    "qwen35",
    "gpt-4o",
    "tekken",
    "deepseek-v3",
    "deepseek-llm",
    "deepseek-coder",
    "seed-coder",
    "minicpm5",
    "youtu",
    "bailingmoe",
    "tiny_aya",
    "granite-embed-multi-97m",
];
/// Expressions that match every character of any text: whatever is done with what lies between matches, nothing does.
const COVERING: [&str; 6] = [GPT2, LLAMA3, QWEN2, QWEN35, GPT4O, TEKKEN];
/// Expressions beyond this are not compiled: those of published models have up to some thousand characters.
pub(crate) const MAX_PATTERN_BYTES: usize = 1 << 16;

impl Rule {
    fn patterns(&self) -> &'static [&'static str] {
        match self.words {
            Kind::Fast(words) => words.patterns(),
            Kind::Patterns(patterns) => patterns,
        }
    }
}

/// The name of the rule with these expressions.
pub(crate) fn name_of(patterns: &[&str], ignore_merges: bool) -> Option<&'static str> {
    let patterns: Vec<String> = patterns.iter().map(|pattern| plain_spelling(pattern)).collect();
    NAMES.into_iter().find(|name| {
        rule(name).is_some_and(|rule| {
            rule.ignore_merges == ignore_merges
                && rule.patterns().iter().map(|known| plain_spelling(known)).eq(patterns.iter().cloned())
        })
    })
}

/// The expression with characters for `\x{1234}`, `\r` and `\n`, which files write either way.
fn plain_spelling(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(before);
        let number = escape.strip_prefix("x{").and_then(|after| after.split_once('}'));
        let spelled = number.and_then(|(digits, after)| {
            Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, after))
        });
        let mut chars = escape.chars();
        let (c, after) = match (spelled, chars.next()) {
            (Some(spelled), _) => spelled,
            (None, Some('r')) => ('\r', chars.as_str()),
            (None, Some('n')) => ('\n', chars.as_str()),
            (None, c) => {
                out.push('\\');
                out.extend(c);
                rest = chars.as_str();
                continue;
            }
        };
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What `BertPreTokenizer` and `Punctuation` take for punctuation.
pub(crate) fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || CLASSES.of(c) & PUNCTUATION != 0
}

/// The expressions of steps that do nothing but cut at matches, and then spell bytes.
pub(crate) fn patterns_of(steps: &[Step]) -> Option<Vec<&Regex>> {
    let Some((Step::Spell, cuts)) = steps.split_last() else { return None };
    cuts.iter()
        .map(|step| match step {
            Step::Split { pattern: Pattern::Regex(regex), behavior, invert } => {
                let isolates = *behavior == Behavior::Isolated;
                let keeps = *invert && *behavior == Behavior::Removed && COVERING.contains(&regex.as_str());
                (isolates || keeps).then_some(regex)
            }
            _ => None,
        })
        .collect()
}

/// A ready splitter.
pub(crate) struct PreTokenizer {
    name: String,
    words: Splitter,
    pub(crate) ignore_merges: bool,
    pub(crate) add_bos: bool,
    pub(crate) add_sep: bool,
    pub(crate) nfc: bool,
}

enum Splitter {
    Fast(Words),
    Patterns(Vec<Regex>),
}

impl PreTokenizer {
    /// The rule of this name; a file without a name gets `default`, as its converter of long ago assumed.
    pub(crate) fn by_name(name: Option<&str>) -> Result<Self, TextError> {
        let name = name.unwrap_or("default");
        let unknown = || TextError::UnknownPreTokenizer { pre: name.to_owned() };
        let rule = rule(name).ok_or_else(unknown)?;
        let words = match rule.words {
            Kind::Fast(words) => Splitter::Fast(words),
            Kind::Patterns(patterns) => Splitter::Patterns(
                patterns.iter().map(|p| Regex::new(p)).collect::<Result<_, _>>().map_err(|_| unknown())?,
            ),
        };
        Ok(Self {
            name: name.to_owned(),
            words,
            ignore_merges: rule.ignore_merges,
            add_bos: rule.add_bos,
            add_sep: rule.add_sep,
            nfc: rule.nfc,
        })
    }

    /// The expressions, in order.
    pub(crate) fn patterns(&self) -> Vec<&str> {
        match &self.words {
            Splitter::Fast(words) => words.patterns().to_vec(),
            Splitter::Patterns(patterns) => patterns.iter().map(Regex::as_str).collect(),
        }
    }

    /// The splitter for steps that do nothing but cut at matches and then spell bytes.
    pub(crate) fn of_steps(steps: &[Step]) -> Option<Self> {
        let patterns = patterns_of(steps)?;
        let spelled: Vec<&str> = patterns.iter().map(|regex| regex.as_str()).collect();
        let words = match Words::ALL.into_iter().find(|words| words.patterns() == spelled) {
            Some(words) => Splitter::Fast(words),
            None => Splitter::Patterns(patterns.into_iter().cloned().collect()),
        };
        let name = "tokenizer.json".to_owned();
        Some(Self { name, words, ignore_merges: false, add_bos: false, add_sep: false, nfc: false })
    }

    /// Calls `word` with each word of `text`, in order; together they are the text.
    pub(crate) fn split(&self, text: &str, mut word: impl FnMut(&str)) -> Result<(), TextError> {
        match &self.words {
            Splitter::Fast(words) => words.split(text, word),
            Splitter::Patterns(patterns) => {
                let mut pieces = vec![text];
                for pattern in patterns {
                    pieces = split_pieces(pattern, &pieces)
                        .map_err(|bytes| TextError::SplitTooHard { pre: self.name.clone(), bytes })?;
                }
                pieces.into_iter().for_each(&mut word);
            }
        }
        Ok(())
    }
}

/// Splits every piece into the matches of `pattern` and what lies between them. The error is the length of the piece that
/// was too hard for the engine.
fn split_pieces<'a>(pattern: &Regex, pieces: &[&'a str]) -> Result<Vec<&'a str>, usize> {
    let mut out = Vec::with_capacity(pieces.len() * 2);
    for &piece in pieces {
        let mut done = 0;
        for found in pattern.find_iter(piece) {
            let found = found.map_err(|_| piece.len())?;
            if found.start() == found.end() {
                continue;
            }
            if found.start() > done {
                out.push(&piece[done..found.start()]);
            }
            out.push(found.as_str());
            done = found.end();
        }
        if done < piece.len() {
            out.push(&piece[done..]);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn by_patterns<'a>(patterns: &[Regex], text: &'a str) -> Vec<&'a str> {
        patterns.iter().fold(vec![text], |pieces, p| split_pieces(p, &pieces).unwrap())
    }

    fn same(words: Words, patterns: &[Regex], text: &str) {
        let mut got = Vec::new();
        words.split(text, |word| got.push(word.to_owned()));
        let expected: Vec<&str> = by_patterns(patterns, text).into_iter().filter(|p| !p.is_empty()).collect();
        assert_eq!(got, expected, "{words:?} on {text:?}");
    }

    #[test]
    fn hand_written_splitters_equal_their_expressions() {
        // Characters on which the rules turn, then any characters at all.
        let tricky =
            r"[ a-dstrevmlSTDL'\u{17f}0-9½٣\n\r\t\u{a0}\u{3000}\u{85}é字\u{301}\u{903}!.,$€\u{200b}😀]{0,24}";
        for words in Words::ALL {
            let patterns: Vec<Regex> = words.patterns().iter().map(|p| Regex::new(p).unwrap()).collect();
            for text in [
                "",
                " ",
                "'",
                "''",
                "  ",
                "\n \n a",
                " \r\n\r\n  b",
                "x'LLs",
                "a\u{301}b",
                "\u{301}\u{301} \u{301}",
            ] {
                same(words, &patterns, text);
            }
            let mut runner =
                proptest::test_runner::TestRunner::new(ProptestConfig { cases: 4000, ..Default::default() });
            runner
                .run(&prop_oneof![3 => tricky, 1 => "\\PC{0,40}", 1 => any::<String>()], |text| {
                    same(words, &patterns, &text);
                    Ok(())
                })
                .unwrap();
        }
    }

    #[test]
    fn every_named_rule_compiles_and_keeps_the_text() {
        let names = [
            "default",
            "gpt-2",
            "smollm",
            "llama-bpe",
            "qwen2",
            "qwen35",
            "tekken",
            "gpt-4o",
            "tiny_aya",
            "deepseek-llm",
            "deepseek-coder",
            "deepseek-v3",
            "youtu",
            "falcon",
            "bloom",
            "viking",
            "chameleon",
            "bailingmoe",
            "seed-coder",
            "ufakzeka",
            "laguna",
            "exaone-moe",
            "minicpm5",
            "roberta-bpe",
            "granite-embed-multi-97m",
        ];
        let text = "Hello, wörld's 12345 days!\r\n\n  字字 ́x (IMGIMGABZ) …।  ";
        for name in names {
            let mut got = String::new();
            PreTokenizer::by_name(Some(name)).unwrap().split(text, |word| got.push_str(word)).unwrap();
            assert_eq!(got, text, "{name}");
        }
    }

    #[test]
    fn unknown_name_is_an_error() {
        assert!(matches!(
            PreTokenizer::by_name(Some("nonsense")),
            Err(TextError::UnknownPreTokenizer { .. })
        ));
    }
}
