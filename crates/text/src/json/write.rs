//! The way back: a vocabulary as a GGUF carries it to a `tokenizer.json` and a `tokenizer_config.json`, which other programs
//! read, and [`TokenizerJson`](super::TokenizerJson), too.
//!
//! The parts are those that `transformers` gives such models (`convert_slow_tokenizer.py`, and their published files), and
//! merges of SentencePiece vocabularies are made from scores as it makes them. Left out: algorithms that few files have
//! (`rwkv`, `plamo2`).

use std::cmp::Ordering;
use std::collections::HashMap;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::names::{ENDS, LINES, RUNS};
use crate::TextError;
use crate::pre::PreTokenizer;
use crate::spec::{SpecialIds, TokenKind, VocabSpec};
use crate::spm;
use crate::template::{Part, Slot, Template};
use crate::wordpiece::MAX_WORD_CHARS;

/// The tokenizer's files in a model folder.
#[derive(Clone, Debug)]
pub struct FolderFiles {
    /// `tokenizer.json`.
    pub tokenizer_json: String,
    /// `tokenizer_config.json`.
    pub tokenizer_config: String,
}

/// Writes a vocabulary as the files of a model folder.
///
/// # Errors
/// An algorithm that is not written, a pre-tokenizer that is not known, texts that are not UTF-8.
pub fn folder_files(mut spec: VocabSpec<'_>) -> Result<FolderFiles, TextError> {
    let tokens = std::mem::replace(&mut spec.tokens, Box::new(std::iter::empty()));
    let mut tokens = Tokens::new(tokens, &spec.kinds)?;
    spec.special.set_usual(spec.model);
    let parts = match spec.model {
        "gpt2" => byte_level(&mut spec, &tokens)?,
        "llama" => sentencepiece(&spec, &mut tokens),
        "t5" => unigram(&spec, &mut tokens),
        "bert" => wordpiece(&spec, &mut tokens),
        "gemma4" => characters(&mut spec, &mut tokens),
        other => return Err(TextError::NotInJson { what: format!("its algorithm is `{other}`") }),
    };
    let special = &spec.special;
    let adds = [spec.add_bos, spec.add_sep, spec.add_eos];
    let adds = [0, 1, 2].map(|i| adds[i].unwrap_or(parts.adds[i]));
    let put = |id: Option<u32>, add: bool| id.filter(|&id| add && tokens.text(Some(id)).is_some());
    let [bos, sep, eos] = [put(special.bos, adds[0]), put(special.sep, adds[1]), put(special.eos, adds[2])];
    let is_bert = spec.model == "bert";
    let frame = Template::usual(is_bert, bos, sep, eos);
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": tokens.added(&spec.strips_left, &spec.strips_right), "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer, "post_processor": tokens.framed(&frame), "decoder": parts.decoder,
        "model": parts.model,
    });
    let mut config =
        json!({ "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": is_bert });
    // Of encoders the frame says it all.
    if !is_bert && spec.model != "t5" {
        (config["add_bos_token"], config["add_eos_token"]) = (adds[0].into(), adds[2].into());
    }
    let SpecialIds { bos, eos, unk, sep, pad, mask, .. } = *special;
    for (name, id) in [
        (if is_bert { "cls_token" } else { "bos_token" }, bos),
        ("eos_token", eos),
        ("unk_token", unk),
        ("sep_token", sep),
        ("pad_token", pad),
        ("mask_token", mask),
    ] {
        if let Some(text) = tokens.text(id) {
            config[name] = text.into();
        }
    }
    Ok(FolderFiles { tokenizer_json: format!("{tokenizer}\n"), tokenizer_config: format!("{config:#}\n") })
}

/// What an algorithm makes of a vocabulary.
struct Parts {
    model: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// Whether BOS, SEP and EOS go around a text where the file does not say.
    adds: [bool; 3],
}

/// The tokens, with their texts as they are to be spelled.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<TokenKind>,
}

impl Tokens {
    fn new<'a>(tokens: impl Iterator<Item = &'a [u8]>, kinds: &[i32]) -> Result<Self, TextError> {
        let text = |(id, text): (usize, &[u8])| {
            std::str::from_utf8(text).map(str::to_owned).map_err(|_| TextError::BrokenVocabulary {
                what: format!("the text of token {id} is not UTF-8"),
            })
        };
        let texts = tokens.enumerate().map(text).collect::<Result<Vec<_>, _>>()?;
        let kind = |id: usize| kinds.get(id).map_or(TokenKind::Normal, |&kind| TokenKind::from_gguf(kind));
        Ok(Self { kinds: (0..texts.len()).map(kind).collect(), texts })
    }

    fn text(&self, id: Option<u32>) -> Option<&str> {
        self.texts.get(id? as usize).map(String::as_str)
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &str, TokenKind)> {
        self.texts.iter().zip(&self.kinds).enumerate().map(|(id, (text, kind))| (id, text.as_str(), *kind))
    }

    /// Tokens of spaces are matched in text, where they are spaces; in the file they are spelled as all spaces are.
    fn spell_spaces(&mut self) {
        for (text, _) in
            self.texts.iter_mut().zip(&self.kinds).filter(|(_, kind)| **kind == TokenKind::UserDefined)
        {
            if text.contains(' ') {
                *text = text.replace(' ', spm::SPACE);
            }
        }
    }

    /// Texts to ids.
    fn by_text(&self) -> Map<String, Value> {
        let mut vocab = Map::new();
        for (id, text, _) in self.iter().filter(|(.., kind)| *kind != TokenKind::Unused) {
            vocab.entry(text).or_insert_with(|| id.into());
        }
        vocab
    }

    /// Those that are matched in text before all else.
    fn added(&self, strips_left: &[u32], strips_right: &[u32]) -> Vec<Value> {
        let is_added =
            |kind| matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown);
        let tokens = self.iter().filter(|(.., kind)| is_added(*kind));
        let described = tokens.map(|(id, text, kind)| {
            let strips = |list: &[u32]| u32::try_from(id).is_ok_and(|id| list.contains(&id));
            json!({
                "id": id, "content": text, "single_word": false, "lstrip": strips(strips_left),
                "rstrip": strips(strips_right), "normalized": false, "special": kind != TokenKind::UserDefined,
            })
        });
        described.collect()
    }

    /// What puts a frame around texts.
    fn framed(&self, frame: &Template) -> Value {
        let spelled = |parts: &[Part]| -> Vec<Value> {
            let part = |part: &Part| match part.slot {
                Slot::A => json!({ "Sequence": { "id": "A", "type_id": part.kind } }),
                Slot::B => json!({ "Sequence": { "id": "B", "type_id": part.kind } }),
                Slot::Token(id) => {
                    json!({ "SpecialToken": { "id": self.text(Some(id)), "type_id": part.kind } })
                }
            };
            parts.iter().map(part).collect()
        };
        let mut named = Map::new();
        for id in frame.tokens() {
            if let Some(text) = self.text(Some(id)) {
                named.insert(text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] }));
            }
        }
        if named.is_empty() {
            return Value::Null;
        }
        json!({
            "type": "TemplateProcessing", "single": spelled(&frame.single), "pair": spelled(&frame.pair),
            "special_tokens": named,
        })
    }
}

/// BPE over the bytes of words.
fn byte_level(spec: &mut VocabSpec<'_>, tokens: &Tokens) -> Result<Parts, TextError> {
    let pre = PreTokenizer::by_name(spec.pre)?;
    let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let spell =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let mut steps: Vec<Value> = pre.patterns().into_iter().map(split).collect();
    steps.push(spell.clone());
    let ignore_merges = spec.ignore_merges.unwrap_or(pre.ignore_merges);
    Ok(Parts {
        model: bpe(tokens, None, false, ignore_merges, listed_merges(spec)),
        normalizer: if pre.nfc { json!({ "type": "NFC" }) } else { Value::Null },
        pre_tokenizer: json!({ "type": "Sequence", "pretokenizers": steps }),
        decoder: spell,
        adds: [pre.add_bos, pre.add_sep, false],
    })
}

/// SentencePiece BPE, by scores.
fn sentencepiece(spec: &VocabSpec<'_>, tokens: &mut Tokens) -> Parts {
    tokens.spell_spaces();
    let prefix = spec.add_space_prefix.unwrap_or(true);
    let merges = merges_of(tokens, &spec.scores);
    Parts {
        model: bpe(tokens, tokens.text(spec.special.unk), true, false, merges),
        normalizer: normalizers(spaces(prefix)),
        pre_tokenizer: Value::Null,
        decoder: spaces_back(prefix),
        adds: [true, false, false],
    }
}

/// BPE over characters, with merges that are listed, and within lines (Gemma 4).
fn characters(spec: &mut VocabSpec<'_>, tokens: &mut Tokens) -> Parts {
    tokens.spell_spaces();
    let lines =
        json!({ "type": "Split", "pattern": { "Regex": LINES }, "behavior": "Isolated", "invert": false });
    Parts {
        model: bpe(tokens, tokens.text(spec.special.unk), true, false, listed_merges(spec)),
        normalizer: normalizers(spaces(false)),
        pre_tokenizer: lines,
        decoder: spaces_back(false),
        adds: [true, false, false],
    }
}

/// SentencePiece unigram.
fn unigram(spec: &VocabSpec<'_>, tokens: &mut Tokens) -> Parts {
    tokens.spell_spaces();
    let score = |id: usize| spec.scores.get(id).copied().unwrap_or(0.0);
    let used = || tokens.iter().filter(|(id, _, kind)| *kind != TokenKind::Unused && score(*id).is_finite());
    // What is never to be found must not be worse than the worst: what is unknown is measured by that.
    let worst = used().map(|(id, ..)| score(id)).fold(f32::INFINITY, f32::min);
    let worst = if worst.is_finite() { worst } else { 0.0 };
    let n = used().next_back().map_or(0, |(id, ..)| id + 1);
    let mut is_used = vec![false; n];
    used().for_each(|(id, ..)| is_used[id] = true);
    let scored = |(id, text, _): (usize, &str, TokenKind)| {
        json!([text, f64::from(if is_used[id] { score(id) } else { worst })])
    };
    let vocab: Vec<Value> = tokens.iter().take(n).map(scored).collect();
    let has_bytes = tokens.kinds.contains(&TokenKind::Byte);
    let unk = spec.special.unk.filter(|&unk| (unk as usize) < n);

    let mut steps = Vec::new();
    if let Some(map) = spec.charsmap.as_ref().filter(|map| !map.is_empty()) {
        let map = base64::engine::general_purpose::STANDARD.encode(map);
        steps.push(json!({ "type": "Precompiled", "precompiled_charsmap": map }));
    }
    if spec.remove_extra_whitespaces == Some(true) {
        steps.push(json!({ "type": "Replace", "pattern": { "Regex": ENDS }, "content": "" }));
        steps.push(json!({ "type": "Replace", "pattern": { "Regex": RUNS }, "content": " " }));
    }
    let prefix = spec.add_space_prefix.unwrap_or(true);
    steps.extend(spaces(prefix));
    Parts {
        model: json!({ "type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": has_bytes }),
        normalizer: normalizers(steps),
        pre_tokenizer: Value::Null,
        decoder: spaces_back(prefix),
        adds: [false, false, true],
    }
}

/// Before the pieces of a word but the first.
const TAIL: &str = "##";

/// BERT's pieces of words: a GGUF marks what opens a word, a folder what does not.
fn wordpiece(spec: &VocabSpec<'_>, tokens: &mut Tokens) -> Parts {
    for (text, kind) in tokens.texts.iter_mut().zip(&tokens.kinds) {
        // Among them what no text comes to, such as `[unused1]`.
        let is_special = *kind != TokenKind::Normal || text.starts_with('[') && text.ends_with(']');
        if !is_special {
            *text = match text.strip_prefix(spm::SPACE) {
                Some(head) => head.to_owned(),
                None => format!("{TAIL}{text}"),
            };
        }
    }
    let lowercase = spec.lowercase.unwrap_or(true);
    Parts {
        model: json!({
            "type": "WordPiece", "unk_token": tokens.text(spec.special.unk).unwrap_or("[UNK]"),
            "continuing_subword_prefix": TAIL, "max_input_chars_per_word": MAX_WORD_CHARS, "vocab": tokens.by_text(),
        }),
        normalizer: json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": spec.strip_accents.unwrap_or(lowercase), "lowercase": lowercase,
        }),
        pre_tokenizer: json!({ "type": "BertPreTokenizer" }),
        decoder: json!({ "type": "WordPiece", "prefix": TAIL, "cleanup": true }),
        adds: [true, true, false],
    }
}

fn bpe(
    tokens: &Tokens,
    unk: Option<&str>,
    byte_fallback: bool,
    ignore_merges: bool,
    merges: Vec<String>,
) -> Value {
    json!({
        "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": byte_fallback, "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges, "vocab": tokens.by_text(), "merges": merges,
    })
}

fn listed_merges(spec: &mut VocabSpec<'_>) -> Vec<String> {
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    spec.merges.by_ref().map(|(left, right)| format!("{} {}", text(left), text(right))).collect()
}

/// Spaces in their visible form, one before the text where the model wants that.
fn spaces(prefix: bool) -> Vec<Value> {
    let prepend = prefix.then(|| json!({ "type": "Prepend", "prepend": spm::SPACE }));
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": spm::SPACE });
    prepend.into_iter().chain([replace]).collect()
}

fn normalizers(mut steps: Vec<Value>) -> Value {
    if steps.len() == 1 { steps.remove(0) } else { json!({ "type": "Sequence", "normalizers": steps }) }
}

/// Spaces as they were, without the one before the text.
fn spaces_back(prefix: bool) -> Value {
    let back = json!({ "type": "Replace", "pattern": { "String": spm::SPACE }, "content": " " });
    let mut decoders = vec![back, json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
    if prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": decoders })
}

/// Every way to make a token of two others, the best token first.
fn merges_of(tokens: &Tokens, scores: &[f32]) -> Vec<String> {
    let plain = || {
        let is_plain = |kind| matches!(kind, TokenKind::Normal | TokenKind::UserDefined);
        tokens.iter().filter(move |(.., kind)| is_plain(*kind))
    };
    let ids: HashMap<&str, usize> =
        plain().filter(|(_, text, _)| !text.is_empty()).map(|(id, text, _)| (text, id)).collect();
    let mut merges: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    for (id, text, _) in plain() {
        let score = scores.get(id).copied().unwrap_or(0.0);
        let first = merges.len();
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                merges.push((score, l, r, left, right));
            }
        }
        merges[first..].sort_by_key(|&(_, l, r, ..)| (l, r));
    }
    merges.sort_by(|a, b| {
        let by_score = b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
        by_score.then_with(|| b.3.chars().count().cmp(&a.3.chars().count()))
    });
    merges.into_iter().map(|(.., left, right)| format!("{left} {right}")).collect()
}
