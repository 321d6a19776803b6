//! Vocabularies of GGUF files as the files of a folder: what the `tokenizers` crate makes of these equals what we make of the
//! vocabulary itself. Whole vocabularies of real models are in `whit-models`.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use whit_text::{EncodeOptions, TokenKind, Tokenizer, TokenizerJson, VocabSpec, folder_files};

const MARKED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

/// A vocabulary: texts with their kinds and scores.
struct Vocab {
    model: &'static str,
    tokens: Vec<(String, TokenKind, f32)>,
    merges: Vec<(&'static str, &'static str)>,
}

impl Vocab {
    fn new(model: &'static str, controls: &[&str], texts: &[&str]) -> Self {
        let control = |text: &&str| match *text {
            "<unk>" => TokenKind::Unknown,
            _ => TokenKind::Control,
        };
        let controls = controls.iter().map(|text| ((*text).to_owned(), control(text), 0.0));
        let score = |(i, text): (usize, &&str)| -0.5 * i as f32 - 1.0 / text.len() as f32;
        let plain = |(i, text): (usize, &&str)| ((*text).to_owned(), TokenKind::Normal, score((i, text)));
        Self { model, tokens: controls.chain(texts.iter().enumerate().map(plain)).collect(), merges: vec![] }
    }

    fn with_bytes(mut self) -> Self {
        self.tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), TokenKind::Byte, 0.0)));
        self
    }

    /// Tokens that models have beside those that they were trained with.
    fn with_more(mut self) -> Self {
        self.tokens.push(("DAY".to_owned(), TokenKind::UserDefined, -1.0));
        let unused = |i: usize| (format!("[PAD{i}]"), TokenKind::Unused, -10_000.0);
        self.tokens.extend((0..3).map(unused));
        self
    }

    fn spec(&self, set: &dyn Fn(&mut VocabSpec<'_>)) -> VocabSpec<'_> {
        let mut spec = VocabSpec::new(self.model, self.tokens.iter().map(|(text, ..)| text.as_bytes()));
        spec.kinds = self.tokens.iter().map(|(_, kind, _)| *kind as i32).collect();
        spec.scores = self.tokens.iter().map(|(.., score)| *score).collect();
        spec.merges = Box::new(self.merges.iter().map(|(left, right)| (left.as_bytes(), right.as_bytes())));
        let find = |wanted: &str| {
            let found = self.tokens.iter().position(|(text, ..)| text == wanted);
            found.map(|id| u32::try_from(id).unwrap())
        };
        spec.special.bos = find("<s>").or(find("[CLS]"));
        spec.special.eos = find("</s>");
        spec.special.unk = find("<unk>").or(find("[UNK]"));
        spec.special.sep = find("[SEP]");
        spec.special.mask = find("[MASK]");
        set(&mut spec);
        spec
    }
}

/// Holds all three against each other on random texts, always the same, without the characters in `but`.
fn check(vocab: &Vocab, but: &str, set: &dyn Fn(&mut VocabSpec<'_>)) {
    let by_names = Tokenizer::new(vocab.spec(set)).unwrap();
    let files = folder_files(vocab.spec(set)).unwrap();
    let theirs = tokenizers::Tokenizer::from_bytes(files.tokenizer_json.as_bytes()).unwrap();
    let config = Some(files.tokenizer_config.as_bytes());
    let file = TokenizerJson::read(files.tokenizer_json.as_bytes(), config).unwrap();
    let by_file = Tokenizer::new(file.spec()).unwrap();
    let again = Tokenizer::new(file.gguf_spec().unwrap()).unwrap();

    let pieces = prop_oneof![
        6 => "[abc]{1,7}",
        3 => " {1,3}",
        1 => "[\\n\\t]{1,3}",
        2 => "[12]{1,4}",
        2 => "[!.\\-\\[\\]#]{1,3}",
        2 => "[éÉe\u{301}ﬁİ]{1,3}",
        1 => "[字か]{1,3}",
        1 => "[▁\u{200b}]{1,2}",
        2 => "(<s>|</s>|DAY|\\[MASK\\]|\\[SEP\\]|\\[PAD1\\]|<0x0A>)",
    ];
    let texts = prop::collection::vec(pieces, 0..9).prop_map(|pieces| pieces.concat());
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, rng).run(&texts, |text| {
        let text: String = text.chars().filter(|&c| !but.contains(c)).collect();
        // The library's unigram model takes the spelling of a byte for that byte.
        let text = if vocab.model == "t5" { text.replace("<0x0A>", "") } else { text };
        let expected = theirs.encode(text.as_str(), false).unwrap();
        for tokenizer in [&by_names, &by_file, &again] {
            prop_assert_eq!(tokenizer.encode(&text, MARKED).unwrap(), expected.get_ids(), "{:?}", text);
        }
        let framed = theirs.encode((text.as_str(), "b"), true).unwrap();
        for tokenizer in [&by_names, &by_file, &again] {
            let (ids, kinds) = tokenizer.encode_pair(&text, "b", EncodeOptions::PROMPT).unwrap();
            prop_assert_eq!(ids, framed.get_ids(), "{:?}", text);
            // Without a frame, of which decoders have no use, the library has a default of its own.
            if ["bert", "t5"].contains(&vocab.model) {
                prop_assert_eq!(kinds, framed.get_type_ids(), "{:?}", text);
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{}: {e}\n{}", vocab.model, files.tokenizer_json));
}

const PLAIN: [&str; 21] = [
    "▁", "a", "b", "c", "e", "1", "2", "!", ".", "é", "字", "ab", "abc", "▁a", "▁ab", "12", "ba", "▁▁", "\n",
    "\n\n", "b▁a",
];

#[test]
fn sentencepiece() {
    for vocab in [
        Vocab::new("llama", &["<unk>", "<s>", "</s>"], &PLAIN).with_bytes(),
        Vocab::new("llama", &["<unk>", "<s>", "</s>"], &PLAIN).with_bytes().with_more(),
    ] {
        check(&vocab, "", &|_| {});
        check(&vocab, "", &|spec| spec.add_space_prefix = Some(false));
    }
}

#[test]
fn unigram() {
    for vocab in [
        Vocab::new("t5", &["<unk>", "<s>", "</s>"], &PLAIN),
        Vocab::new("t5", &["<unk>", "<s>", "</s>"], &PLAIN).with_bytes().with_more(),
    ] {
        check(&vocab, "", &|_| {});
        check(&vocab, "", &|spec| spec.add_space_prefix = Some(false));
        check(&vocab, "", &|spec| (spec.add_bos, spec.add_sep) = (Some(true), Some(true)));
        // Of a visible space that ends a text nobody is sure.
        check(&vocab, "▁", &|spec| spec.remove_extra_whitespaces = Some(true));
        check(&vocab, "▁", &|spec| {
            (spec.remove_extra_whitespaces, spec.add_space_prefix) = (Some(true), Some(false));
        });
    }
}

#[test]
fn wordpiece() {
    let heads = ["a", "b", "c", "1", "!", ".", "é", "e", "字", "ab", "abc", "12", "[", "]", "#", "▁"];
    let heads: Vec<String> = heads.iter().map(|text| format!("▁{text}")).collect();
    let heads = heads.iter().map(String::as_str);
    let tails = ["a", "b", "c", "1", "2", "é", "e", "bc", "ab", "字", "[unused1]"];
    let texts: Vec<&str> = heads.chain(tails).collect();
    let controls = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    for vocab in [Vocab::new("bert", &controls, &texts), Vocab::new("bert", &controls, &texts).with_more()] {
        check(&vocab, "", &|_| {});
        check(&vocab, "", &|spec| spec.lowercase = Some(false));
        check(&vocab, "", &|spec| spec.strip_accents = Some(false));
        check(&vocab, "", &|spec| (spec.lowercase, spec.strip_accents) = (Some(false), Some(true)));
    }
}

#[test]
fn lines_of_characters() {
    let mut vocab = Vocab::new("gemma4", &["<unk>", "<s>", "</s>"], &PLAIN).with_bytes().with_more();
    vocab.merges = vec![
        ("a", "b"),
        ("ab", "c"),
        ("▁", "a"),
        ("▁a", "b"),
        ("1", "2"),
        ("b", "a"),
        ("▁", "▁"),
        ("\n", "\n"),
    ];
    check(&vocab, "", &|_| {});
    check(&vocab, "", &|spec| spec.add_bos = Some(false));
}

#[test]
fn what_is_not_written_says_so() {
    let error = folder_files(VocabSpec::new("rwkv", std::iter::empty())).unwrap_err().to_string();
    assert!(
        error.contains("no tokenizer.json is written for this tokenizer: its algorithm is `rwkv`"),
        "{error}"
    );
}
