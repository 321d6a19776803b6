//! The way back: a vocabulary as a GGUF carries it to a `tokenizer.json` and a `tokenizer_config.json`, which other programs
//! read, and [`TokenizerJson`](super::TokenizerJson), too.
//!
//! Merges of SentencePiece vocabularies are made from scores as `transformers` makes them (`convert_slow_tokenizer.py`).
//! Left out: vocabularies that are neither byte-level BPE (`gpt2`) nor SentencePiece BPE (`llama`).

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::TextError;
use crate::pre::PreTokenizer;
use crate::spec::{SpecialIds, TokenKind, VocabSpec};
use crate::spm;

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
pub fn folder_files(spec: VocabSpec<'_>) -> Result<FolderFiles, TextError> {
    let is_spm = match spec.model {
        "gpt2" => false,
        "llama" => true,
        other => {
            return Err(TextError::NotInJson { what: format!("its algorithm is `{other}`") });
        }
    };
    let kind = |id: usize| spec.kinds.get(id).map_or(TokenKind::Normal, |&kind| TokenKind::from_gguf(kind));
    let mut texts = Vec::new();
    for (id, text) in spec.tokens.enumerate() {
        let text = std::str::from_utf8(text).map_err(|_| TextError::BrokenVocabulary {
            what: format!("the text of token {id} is not UTF-8"),
        })?;
        // Tokens of spaces are matched in text, where they are spaces; in the file they are spelled as all spaces are.
        let spaces = is_spm && kind(id) == TokenKind::UserDefined && text.contains(' ');
        texts.push(if spaces { text.replace(' ', spm::SPACE) } else { text.to_owned() });
    }

    let mut vocab = Map::new();
    for (id, text) in texts.iter().enumerate().filter(|(id, _)| kind(*id) != TokenKind::Unused) {
        vocab.entry(text.clone()).or_insert_with(|| id.into());
    }
    let added: Vec<Value> = texts
        .iter()
        .enumerate()
        .filter(|(id, _)| {
            matches!(kind(*id), TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)
        })
        .map(|(id, text)| {
            let strips = |list: &[u32]| u32::try_from(id).is_ok_and(|id| list.contains(&id));
            json!({
                "id": id, "content": text, "single_word": false, "lstrip": strips(&spec.strips_left),
                "rstrip": strips(&spec.strips_right), "normalized": false,
                "special": kind(id) != TokenKind::UserDefined,
            })
        })
        .collect();

    let special = &spec.special;
    let text_of = |id: Option<u32>| id.and_then(|id| texts.get(id as usize)).map(String::as_str);
    let mut model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": is_spm, "byte_fallback": is_spm, "ignore_merges": false,
    });
    let (normalizer, pre_tokenizer, decoder, add_bos);
    let merges: Vec<String>;
    if is_spm {
        model["unk_token"] = json!(text_of(special.unk));
        let prefix = spec.add_space_prefix.unwrap_or(true);
        let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": spm::SPACE });
        let prepend = json!({ "type": "Prepend", "prepend": spm::SPACE });
        normalizer =
            if prefix { json!({ "type": "Sequence", "normalizers": [prepend, replace] }) } else { replace };
        pre_tokenizer = Value::Null;
        let back = json!({ "type": "Replace", "pattern": { "String": spm::SPACE }, "content": " " });
        let mut decoders = vec![back, json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
        if prefix {
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        decoder = json!({ "type": "Sequence", "decoders": decoders });
        add_bos = spec.add_bos.unwrap_or(true);
        let plain = |id: usize| matches!(kind(id), TokenKind::Normal | TokenKind::UserDefined);
        merges = merges_of(&texts, &spec.scores, &plain);
    } else {
        let pre = PreTokenizer::by_name(spec.pre)?;
        model["ignore_merges"] = spec.ignore_merges.unwrap_or(pre.ignore_merges).into();
        normalizer = if pre.nfc { json!({ "type": "NFC" }) } else { Value::Null };
        let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let mut steps: Vec<Value> = pre.patterns().into_iter().map(split).collect();
        steps.push(json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
        }));
        pre_tokenizer = json!({ "type": "Sequence", "pretokenizers": steps });
        decoder = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
        add_bos = spec.add_bos.unwrap_or(pre.add_bos);
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        merges = spec.merges.map(|(left, right)| format!("{} {}", text(left), text(right))).collect();
    }
    model["vocab"] = vocab.into();
    model["merges"] = merges.into();
    let add_eos = spec.add_eos.unwrap_or(false);
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": frame(special, &texts, add_bos, add_eos), "decoder": decoder, "model": model,
    });
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
        "add_bos_token": add_bos, "add_eos_token": add_eos,
    });
    for (name, id) in [
        ("bos_token", special.bos),
        ("eos_token", special.eos),
        ("unk_token", special.unk),
        ("pad_token", special.pad),
    ] {
        if let Some(text) = text_of(id) {
            config[name] = text.into();
        }
    }
    Ok(FolderFiles { tokenizer_json: format!("{tokenizer}\n"), tokenizer_config: format!("{config:#}\n") })
}

/// What puts BOS and EOS around texts.
fn frame(special: &SpecialIds, texts: &[String], add_bos: bool, add_eos: bool) -> Value {
    let token = |id: Option<u32>, wanted: bool| {
        let id = id.filter(|_| wanted)?;
        Some((id, texts.get(id as usize)?.as_str()))
    };
    let (bos, eos) = (token(special.bos, add_bos), token(special.eos, add_eos));
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let framed = |slot: &str, n: u32| -> Vec<Value> {
        let token = |(_, text): (u32, &str)| json!({ "SpecialToken": { "id": text, "type_id": n } });
        let sequence = json!({ "Sequence": { "id": slot, "type_id": n } });
        bos.map(token).into_iter().chain([sequence]).chain(eos.map(token)).collect()
    };
    let named: Map<String, Value> = [bos, eos]
        .into_iter()
        .flatten()
        .map(|(id, text)| (text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] })))
        .collect();
    let pair = [framed("A", 0), framed("B", 1)].concat();
    json!({
        "type": "TemplateProcessing", "single": framed("A", 0), "pair": pair, "special_tokens": named,
    })
}

/// Every way to make a token of two others, the best token first.
fn merges_of(texts: &[String], scores: &[f32], plain: &dyn Fn(usize) -> bool) -> Vec<String> {
    let ids: HashMap<&str, usize> = (0..texts.len())
        .filter(|&id| plain(id) && !texts[id].is_empty())
        .map(|id| (texts[id].as_str(), id))
        .collect();
    let mut merges: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    for (id, text) in texts.iter().enumerate().filter(|(id, _)| plain(*id)) {
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
