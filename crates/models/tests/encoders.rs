//! The tokenizers of encoders, WordPiece and unigram: our own against the `tokenizers` crate on random Unicode.
//!
//! The vocabularies, and the character map of XLM-R, are those of `ggml-vocab-{bert-bge,nomic-bert-moe}.gguf` in the source
//! package `llama-cpp-python`; the steps around them are those that `transformers` gives such models. `cargo xtask test`
//! fetches the files and sets `WHIT_TEST_DATA`. What a GGUF's own keys give is held against SentencePiece (`unigram/make.py`).
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use base64::Engine as _;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use whit_files::Gguf;
use whit_models::vocab;
use whit_text::{EncodeOptions, Tokenizer, TokenizerJson, folder_files};

const MARKED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

fn gguf(name: &str) -> Option<Gguf> {
    let dir = std::env::var_os("WHIT_TEST_DATA").map(|dir| PathBuf::from(dir).join("vocab"));
    if dir.is_none() {
        eprintln!("SKIPPED: WHIT_TEST_DATA is not set; run cargo xtask test");
    }
    Some(Gguf::open(dir?.join(format!("ggml-vocab-{name}.gguf"))).unwrap())
}

fn texts_of(gguf: &Gguf) -> Vec<String> {
    let texts = gguf.metadata().strings("tokenizer.ggml.tokens").unwrap();
    texts.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

fn added(id: usize, content: &str, lstrip: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": lstrip, "rstrip": false,
           "normalized": false, "special": true})
}

/// The `tokenizer.json` of BERT, uncased.
fn bert(gguf: &Gguf) -> Value {
    let texts = texts_of(gguf);
    let special = |text: &str| text.starts_with('[') && text.ends_with(']');
    let spelled = |text: &str| match text.strip_prefix('▁') {
        _ if special(text) => text.to_owned(),
        Some(head) => head.to_owned(),
        None => format!("##{text}"),
    };
    let vocab: serde_json::Map<String, Value> =
        texts.iter().enumerate().map(|(id, text)| (spelled(text), id.into())).collect();
    let names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let ids = names.map(|name| usize::try_from(vocab[name].as_u64().unwrap()).unwrap());
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": names.iter().zip(ids).map(|(name, id)| added(id, name, false)).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [ids[2]], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [ids[3]], "tokens": ["[SEP]"]}}
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab}
    })
}

/// The `tokenizer.json` of XLM-R with this normalizer and this pre-tokenizer around its character map.
fn xlm_r(gguf: &Gguf, collapse: bool, pre_tokenizer: &Value) -> Value {
    let metadata = gguf.metadata();
    let map = metadata.opt_integers("tokenizer.ggml.precompiled_charsmap").unwrap().unwrap();
    let map: Vec<u8> = map.map(|byte| byte as u8).collect();
    let map = base64::engine::general_purpose::STANDARD.encode(map);
    let mut normalizers = vec![json!({"type": "Precompiled", "precompiled_charsmap": map})];
    if collapse {
        normalizers.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    let scores: Vec<f64> = metadata.floats("tokenizer.ggml.scores").unwrap().map(f64::from).collect();
    let texts = texts_of(gguf);
    let names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];
    let ids = names.map(|name| texts.iter().position(|text| text == name).unwrap());
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": names.iter().zip(ids).map(|(name, id)| added(id, name, *name == "<mask>")).collect::<Vec<_>>(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", ids[2]], "cls": ["<s>", ids[0]],
                           "trim_offsets": true, "add_prefix_space": true},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": ids[3], "byte_fallback": false,
                  "vocab": texts.iter().zip(scores).collect::<Vec<_>>()}
    })
}

/// Random texts, always the same.
fn on_texts(check: impl Fn(&str) -> Result<(), TestCaseError>) {
    let pieces = prop_oneof![
        4 => "[a-zA-Z]{1,9}",
        3 => " {1,5}",
        2 => "[\\n\\r\\t ]{1,4}",
        2 => "[0-9]{1,5}",
        2 => "[!-/:-@\\[-`{-~]{1,4}",
        1 => "[àéîöüñßçÅİǅ\u{301}\u{308}\u{327}]{1,4}",
        1 => "[а-яА-Я]{1,6}",
        1 => "[一-龥豈-龎]{1,5}",
        1 => "[가-힣]{1,4}",
        1 => "[ऀ-ॿ]{1,4}",
        1 => "[ｱ-ﾝﬀ-ﬆ①-⑳㍿\u{3000}\u{a0}\u{ad}\u{200b}▁]{1,4}",
        1 => "[😀-🙏\u{200d}\u{fe0f}]{1,4}",
        1 => "(\\[MASK\\]| ?<mask>|</s>|\\[SEP\\])",
        // The library's categories of characters are those of Unicode 8.
        2 => "[\\PC&&\\p{age:8.0}]{1,6}",
    ];
    let texts = prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat());
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    if let Err(e) = TestRunner::new_with_rng(config, rng).run(&texts, |text| check(&text)) {
        panic!("{e}");
    }
}

fn same_as_the_tokenizers_crate(json: &Value) -> (Tokenizer, TokenizerJson) {
    let bytes = serde_json::to_vec(json).unwrap();
    let theirs = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
    let file = TokenizerJson::read(&bytes, None).unwrap();
    let ours = Tokenizer::new(file.spec()).unwrap();
    on_texts(|text| {
        let expected = theirs.encode(text, false).unwrap();
        prop_assert_eq!(ours.encode(text, MARKED).unwrap(), expected.get_ids(), "{:?}", text);
        Ok(())
    });
    for (a, b) in [("a query", "One, or two answers."), ("", ""), ("日本", " x")] {
        assert_eq!(ours.encode(a, EncodeOptions::TEXT).unwrap(), theirs.encode(a, true).unwrap().get_ids());
        let expected = theirs.encode((a, b), true).unwrap();
        let (ids, kinds) = ours.encode_pair(a, b, EncodeOptions::TEXT).unwrap();
        assert_eq!((ids.as_slice(), kinds.as_slice()), (expected.get_ids(), expected.get_type_ids()));
    }
    (ours, file)
}

/// The `tokenizer.json` that a folder gets that is made of the file.
fn written(gguf: &Gguf) -> Value {
    let files = folder_files(vocab::spec(gguf.metadata()).unwrap()).unwrap();
    serde_json::from_str(&files.tokenizer_json).unwrap()
}

#[test]
fn bert_as_the_tokenizers_crate_has_it() {
    let Some(gguf) = gguf("bert-bge") else { return };
    let (by_file, file) = same_as_the_tokenizers_crate(&bert(&gguf));
    let (by_written, _) = same_as_the_tokenizers_crate(&written(&gguf));
    let by_gguf = vocab::tokenizer(&gguf).unwrap();
    let by_names = Tokenizer::new(file.gguf_spec().unwrap()).unwrap();
    on_texts(|text| {
        // Where heads are spelled `▁head`, a `▁` within a word is nothing.
        let text = text.replace('▁', "");
        let expected = by_file.encode_pair(&text, "b", EncodeOptions::PROMPT).unwrap();
        for tokenizer in [&by_gguf, &by_names, &by_written] {
            let got = tokenizer.encode_pair(&text, "b", EncodeOptions::PROMPT).unwrap();
            prop_assert_eq!(&got, &expected, "{:?}", text);
        }
        Ok(())
    });
}

#[test]
fn xlm_r_as_the_tokenizers_crate_has_it() {
    let Some(gguf) = gguf("nomic-bert-moe") else { return };
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    // As `transformers` converts the model today, and as it did.
    same_as_the_tokenizers_crate(&xlm_r(&gguf, true, &metaspace("always")));
    same_as_the_tokenizers_crate(&xlm_r(&gguf, true, &metaspace("first")));
    let split =
        json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace("always")]});
    let (by_file, file) = same_as_the_tokenizers_crate(&xlm_r(&gguf, false, &split));
    let (by_written, _) = same_as_the_tokenizers_crate(&written(&gguf));
    let by_gguf = vocab::tokenizer(&gguf).unwrap();
    let by_names = Tokenizer::new(file.gguf_spec().unwrap()).unwrap();
    on_texts(|text| {
        // Beyond these, the library looks at graphemes where SentencePiece looks at characters.
        let text: String = text.chars().filter(|&c| c.is_ascii() || ('а'..'я').contains(&c)).collect();
        let expected = by_file.encode(&text, EncodeOptions::TEXT).unwrap();
        for tokenizer in [&by_gguf, &by_names, &by_written] {
            prop_assert_eq!(&tokenizer.encode(&text, EncodeOptions::TEXT).unwrap(), &expected, "{:?}", text);
        }
        Ok(())
    });
    // From the tests of `transformers` (test_tokenization_xlm_roberta.py), whose reference is SentencePiece.
    let expected = [0, 35378, 6661, 38, 2];
    assert_eq!(by_gguf.encode("Hello World!", EncodeOptions::TEXT).unwrap(), expected);
    assert_eq!(by_file.encode("Hello World!", EncodeOptions::TEXT).unwrap(), expected);
}

#[test]
fn unigram_of_a_gguf_as_sentencepiece_has_it() {
    let Some(gguf) = gguf("nomic-bert-moe") else { return };
    let tokenizer = vocab::tokenizer(&gguf).unwrap();
    let rows: Vec<(String, Vec<u32>)> = serde_json::from_str(include_str!("unigram/ids.json")).unwrap();
    let mut failures = Vec::new();
    for (text, expected) in &rows {
        let got = tokenizer.encode(text, EncodeOptions::PIECE).unwrap();
        if got != *expected {
            failures.push(format!("{text:?}\n got {got:?}\nwant {expected:?}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} differ\n{}", failures.len(), rows.len(), failures.join("\n"));
}
