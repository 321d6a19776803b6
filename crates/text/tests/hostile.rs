//! Vocabularies as a damaged or hostile file may give them: an error or a working tokenizer, never a panic.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use whit_text::{
    DecodeOptions, EncodeOptions, SpecialIds, StreamDecoder, TextError, TokenKind, Tokenizer, TokenizerJson,
    VocabSpec,
};

fn build<'a>(
    model: &'a str,
    texts: &'a [&'a [u8]],
    change: impl FnOnce(&mut VocabSpec<'a>),
) -> Result<Tokenizer, TextError> {
    let mut spec = VocabSpec::new(model, texts.iter().copied());
    change(&mut spec);
    Tokenizer::new(spec)
}

#[test]
fn errors_say_what_is_wrong() {
    let two: [&[u8]; 2] = [b"a", b"b"];
    for (result, expected) in [
        (build("llama", &[], |_| {}), "it has 0 tokens"),
        (build("llama", &two, |spec| spec.scores = vec![0.0]), "2 tokens but 1 scores"),
        (build("llama", &two, |spec| spec.kinds = vec![1]), "2 tokens but 1 token types"),
        (build("rwkv", &two, |_| {}), "tokenizer model `rwkv`"),
        (build("gpt2", &two, |spec| spec.pre = Some("nonsense")), "pre-tokenizer `nonsense`"),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let tokenizer = build("llama", &two, |_| {}).unwrap();
    assert!(matches!(
        tokenizer.decode(&[0, 2], DecodeOptions::TEXT),
        Err(TextError::TokenOutOfRange { id: 2, n_tokens: 2 })
    ));
    let mut out = String::new();
    assert!(StreamDecoder::new(DecodeOptions::TEXT).push(&tokenizer, u32::MAX, &mut out).is_err());
}

#[test]
fn special_ids_outside_of_the_vocabulary_are_dropped() {
    let far = Some(u32::MAX);
    let tokenizer = build("llama", &[b"a", b"b"], |spec| {
        spec.special = SpecialIds {
            bos: far,
            eos: far,
            eot: far,
            end_of_generation: vec![7, 1],
            ..SpecialIds::default()
        };
        spec.add_bos = Some(true);
        spec.add_eos = Some(true);
        spec.strips_left = vec![u32::MAX];
    })
    .unwrap();
    assert_eq!(tokenizer.special_ids().bos, None);
    assert_eq!(tokenizer.special_ids().end_of_generation, [1]);
    assert_eq!(tokenizer.encode("ab", EncodeOptions::PROMPT).unwrap(), [0, 0, 1]);
}

#[test]
fn a_text_that_ends_at_ordinary_text_can_still_hold_it() {
    // The end of generation is a token of ordinary text here: it stays one.
    let tokenizer = build("llama", &[b"<unk>", b"a", b"b"], |spec| {
        spec.kinds = vec![2, 1, 1];
        spec.special.eos = Some(2);
        spec.add_bos = Some(false);
        spec.add_space_prefix = Some(false);
    })
    .unwrap();
    assert!(tokenizer.is_end_of_generation(2));
    assert_eq!(tokenizer.kind(2), Some(TokenKind::Normal));
    assert_eq!(tokenizer.encode("ab", EncodeOptions::PIECE).unwrap(), [1, 2]);
}

#[test]
fn texts_that_are_no_utf8_cut_no_character() {
    // Control and user-defined tokens that begin or end within "é" (C3 A9).
    for model in ["gpt2", "llama", "t5", "bert", "gemma4"] {
        let tokenizer = build(model, &[b"\xc3", b"\xa9", b"\xa9x", b"x\xc3", b"\xff\xfe", b""], |spec| {
            spec.pre = Some("gpt-2");
            spec.kinds = vec![3, 4, 3, 4, 4, 3];
        })
        .unwrap();
        for text in ["é", "xé", "éx", "xéx", ""] {
            tokenizer.encode(text, EncodeOptions::PROMPT).unwrap();
        }
        for id in 0..6 {
            tokenizer.decode(&[id], DecodeOptions::RAW).unwrap();
        }
    }
}

#[test]
fn scores_that_are_no_numbers_do_no_harm() {
    let texts: [&[u8]; 6] = [b"a", b"b", b"ab", b"ba", b"aba", b"bab"];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0] {
        let tokenizer = build("llama", &texts, |spec| {
            spec.scores = vec![bad; 6];
            spec.add_space_prefix = Some(false);
            spec.add_bos = Some(false);
        })
        .unwrap();
        for n in [3, 200] {
            let text = "ab".repeat(n);
            let ids = tokenizer.encode(&text, EncodeOptions::PIECE).unwrap();
            assert_eq!(tokenizer.decode(&ids, DecodeOptions::RAW).unwrap(), text, "{bad}");
        }
    }
}

#[test]
fn long_runs_are_encoded_in_time() {
    // Quadratic work on any of these would take minutes.
    let texts: Vec<Vec<u8>> = (1..=16).map(|n| vec![b'a'; n]).collect();
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let merges: Vec<(&[u8], &[u8])> = (1..16).map(|n| (texts[n - 1], texts[0])).collect();
    for model in ["gpt2", "llama", "t5", "bert", "gemma4"] {
        for pre in ["gpt-2", "qwen2", "llama-bpe"] {
            let tokenizer = build(model, &texts, |spec| {
                spec.pre = Some(pre);
                spec.merges = Box::new(merges.clone().into_iter());
                spec.special.unk = Some(0);
            })
            .unwrap();
            for text in ["a", " ", "\n", "a ", "é", "\u{301}", "'", "1", "<"] {
                tokenizer.encode(&text.repeat(300_000), EncodeOptions::PROMPT).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_vocabulary_and_any_text(
        model in prop::sample::select(vec!["gpt2", "llama", "t5", "bert", "gemma4"]),
        pre in prop::sample::select(vec!["gpt-2", "smollm", "llama-bpe", "qwen2", "qwen35", "falcon"]),
        texts in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab \xc3\xa9\xe2\x96\x81<>0x".to_vec()), 0..5), 1..60),
        kinds in prop::collection::vec(-1i32..8, 60),
        merges in prop::collection::vec((0usize..60, 0usize..60), 0..60),
        text in "[ab é▁<>0x\n]{0,60}",
        ids in prop::collection::vec(0u32..70, 0..20),
    ) {
        let part = |at: usize| texts[at % texts.len()].as_slice();
        let views: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let tokenizer = build(model, &views, |spec| {
            spec.pre = Some(pre);
            spec.scores = (0..texts.len()).map(|i| -((i % 7) as f32)).collect();
            spec.kinds = kinds;
            spec.merges = Box::new(merges.iter().map(|&(l, r)| (part(l), part(r))).collect::<Vec<_>>().into_iter());
            spec.remove_extra_whitespaces = Some(true);
        }).unwrap();
        for options in [EncodeOptions::TEXT, EncodeOptions::PIECE, EncodeOptions::PROMPT] {
            let ids = tokenizer.encode(&text, options).unwrap();
            prop_assert!(ids.iter().all(|&id| (id as usize) < texts.len()));
            if options == EncodeOptions::PIECE {
                // Text never turns into control tokens, but for WordPiece's word for unknown words.
                let unk = tokenizer.special_ids().unk.filter(|_| model == "bert");
                prop_assert!(!ids.iter().any(|&id| tokenizer.kind(id) == Some(TokenKind::Control) && Some(id) != unk), "{:?}", ids);
            }
        }
        let _ = tokenizer.decode(&ids, DecodeOptions::TEXT);
    }
}

/// A file with a bit of everything, for damage to be done to.
const FILE: &str = r#"{
 "added_tokens": [{"id": 0, "content": "<unk>", "special": true, "normalized": false, "lstrip": true, "rstrip": true},
   {"id": 1, "content": "<s>", "special": true}, {"id": 9, "content": "a b", "special": false, "single_word": true, "normalized": true}],
 "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": "b+"}, "content": "ba"},
   {"type": "Precompiled", "precompiled_charsmap": "DAAAAAEEAAABBAAAYQQAAGIAYwA="}, {"type": "Prepend", "prepend": "a"}]},
 "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "(?i:a|b)(?=c)"}, "behavior": "MergedWithNext", "invert": false},
   {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}, {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true}]},
 "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
   "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [1]}}},
 "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}]},
 "model": {"type": "BPE", "vocab": {"<unk>": 0, "<s>": 1, "a": 2, "b": 3, "ab": 4, "▁": 5, "<0x61>": 6, "Ġ": 7, "@@c": 8}, "merges": ["a b", ["ab", "@@c"]],
   "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "ignore_merges": true, "continuing_subword_prefix": "@@", "end_of_word_suffix": "</w>"}
}"#;

/// Reads the file and uses what comes of it.
fn use_file(json: &[u8], text: &str) {
    let Ok(file) = TokenizerJson::read(json, Some(br#"{"bos_token": "<s>", "eos_token": {"content": "a"}}"#))
    else {
        return;
    };
    for spec in [Ok(file.spec()), file.gguf_spec()].into_iter().flatten() {
        let Ok(tokenizer) = Tokenizer::new(spec) else { continue };
        for options in [EncodeOptions::TEXT, EncodeOptions::PROMPT] {
            if let Ok((ids, kinds)) = tokenizer.encode_pair(text, "b", options) {
                assert_eq!(ids.len(), kinds.len());
                tokenizer.decode(&ids, DecodeOptions::RAW).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn damaged_files_are_refused_or_work(
        damage in prop::collection::vec((0usize..4000, prop_oneof![
            Just(String::new()), "[0-9]{1,10}", "[a-z{}\\[\\]\":,]{1,2}", Just("null".to_owned()), Just("-1".to_owned()),
            Just("WordPiece".to_owned()), Just("Unigram".to_owned()), Just("WordLevel".to_owned()),
        ], 0usize..6), 0..4),
        text in "[abc ▁é\u{301}]{0,20}|(<s>|a b){1,3}",
    ) {
        let mut bytes = FILE.as_bytes().to_vec();
        for (at, with, n) in damage {
            let at = at % bytes.len();
            let end = (at + n).min(bytes.len());
            bytes.splice(at..end, with.into_bytes());
        }
        use_file(&bytes, &text);
    }
}

#[test]
fn a_file_cannot_ask_for_more_than_there_is() {
    assert!(TokenizerJson::read(FILE.as_bytes(), None).is_ok(), "whole, it works");
    let file = |normalizer: &str, pre_tokenizer: &str, model: &str| {
        let json =
            format!(r#"{{"normalizer": {normalizer}, "pre_tokenizer": {pre_tokenizer}, "model": {model}}}"#);
        TokenizerJson::read(json.as_bytes(), None)
    };
    let model = r#"{"type": "WordLevel", "vocab": {"a": 0}}"#;
    let sequence = |key: &str, part: &str, n: usize| {
        format!(r#"{{"type": "Sequence", "{key}": [{}]}}"#, vec![part; n].join(","))
    };
    // Texts that double, again and again.
    let doubled = r#"{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}"#;
    let spelled = r#"{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}"#;
    let long = format!(
        r#"{{"type": "Replace", "pattern": {{"Regex": "a"}}, "content": "{}"}}"#,
        "b".repeat(100_000)
    );
    for (normalizer, pre_tokenizer) in [
        (sequence("normalizers", doubled, 32), "null".to_owned()),
        ("null".to_owned(), sequence("pretokenizers", spelled, 32)),
        (long, "null".to_owned()),
    ] {
        let file = file(&normalizer, &pre_tokenizer, model).unwrap();
        let tokenizer = Tokenizer::new(file.spec()).unwrap();
        let result = tokenizer.encode(&"aé".repeat(10_000), EncodeOptions::TEXT);
        assert!(matches!(result, Err(TextError::GrowsTooLong { .. })), "{normalizer} {pre_tokenizer}");
    }
    // Too many steps, too long an expression, one that is small and becomes large, one that never comes to an end.
    let split = |regex: &str| {
        format!(
            r#"{{"type": "Split", "pattern": {{"Regex": "{regex}"}}, "behavior": "Isolated", "invert": false}}"#
        )
    };
    for pre_tokenizer in [
        sequence("pretokenizers", spelled, 33),
        split(&"a".repeat(100_000)),
        split("(\\pL{1000}){1000}"),
        split("(a|(a|(a|(a|b)(?1)(?1))(?2)(?2))(?3)(?3))(?4)(?4)(?1)(?1)(?1)(?1)"),
        "[".repeat(100_000),
    ] {
        assert!(
            file("null", &pre_tokenizer, model).is_err(),
            "{}",
            &pre_tokenizer[..100.min(pre_tokenizer.len())]
        );
    }
    let endless = file("null", &split("(?=(a+)+$)b"), model).unwrap();
    let tokenizer = Tokenizer::new(endless.spec()).unwrap();
    let result = tokenizer.encode(&format!("{}c", "a".repeat(1000)), EncodeOptions::TEXT);
    assert!(matches!(result, Ok(_) | Err(TextError::SplitTooHard { .. })));
    // A table for ids that are not there, and words without end.
    for model in [
        r#"{"type": "WordLevel", "vocab": {"a": 3000000000}}"#,
        r#"{"type": "WordPiece", "vocab": {"a": 0}, "max_input_chars_per_word": 1000000}"#,
    ] {
        assert!(file("null", "null", model).is_err(), "{model}");
    }
}
