//! Every vocabulary file with published token ids, against those ids.
//!
//! The pairs come from `vendor/llama.cpp/models/ggml-vocab-*.gguf{,.inp,.out}` of the PyPI source package
//! `llama-cpp-python`; the ids in the `.out` files were made by the models' own Hugging Face tokenizers.
//! `cargo xtask test` fetches them and sets `WHIT_TEST_DATA`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use whit_files::Gguf;
use whit_models::vocab;
use whit_text::{DecodeOptions, EncodeOptions, StreamDecoder, Tokenizer, TokenizerJson, folder_files};

/// Every family that has a pair; a missing one is an error, not a test less.
const PAIRS: [&str; 17] = [
    "bert-bge",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
    // Vocabularies without a pair: they must load.
    "aquila",
    "gpt-neox",
];
const WITHOUT_PAIR: [&str; 2] = ["aquila", "gpt-neox"];

fn data() -> Option<PathBuf> {
    let dir = std::env::var_os("WHIT_TEST_DATA").map(|dir| PathBuf::from(dir).join("vocab"));
    if dir.is_none() {
        eprintln!("SKIPPED: WHIT_TEST_DATA is not set; run cargo xtask test");
    }
    dir
}

fn load(path: &Path) -> Tokenizer {
    vocab::tokenizer(&Gguf::open(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn published_pairs() {
    let Some(dir) = data() else { return };
    let n_texts = check_pairs(&dir, &PAIRS, |path| {
        let tokenizer = load(path);
        move |text| tokenizer.encode(text, EncodeOptions::PIECE).unwrap()
    });
    assert!(n_texts > 600, "only {n_texts} texts");
    println!("{n_texts} texts in {} vocabularies", PAIRS.len() - WITHOUT_PAIR.len());
}

/// The same ids from the `tokenizer.json` that such a file becomes in a model folder, and by the `tokenizers` crate from that.
#[test]
fn published_pairs_by_the_files_of_a_folder() {
    let Some(dir) = data() else { return };
    let files =
        |path: &Path| folder_files(vocab::spec(Gguf::open(path).unwrap().metadata()).unwrap()).unwrap();
    check_pairs(&dir, &PAIRS, |path| {
        let files = files(path);
        let (json, config) = (files.tokenizer_json.as_bytes(), files.tokenizer_config.as_bytes());
        let tokenizer = Tokenizer::new(TokenizerJson::read(json, Some(config)).unwrap().spec()).unwrap();
        move |text| tokenizer.encode(text, EncodeOptions::PIECE).unwrap()
    });
    check_pairs(&dir, &PAIRS, |path| {
        let tokenizer = tokenizers::Tokenizer::from_bytes(files(path).tokenizer_json.as_bytes()).unwrap();
        move |text| tokenizer.encode(text, false).unwrap().get_ids().to_vec()
    });
}

/// Holds the tokenizers of these files against the published ids, and gives the number of texts.
fn check_pairs<E: Fn(&str) -> Vec<u32>>(dir: &Path, names: &[&str], load: impl Fn(&Path) -> E) -> usize {
    let mut n_texts = 0;
    let mut failures = Vec::new();
    for &name in names {
        let path = dir.join(format!("ggml-vocab-{name}.gguf"));
        let encode = load(&path);
        if WITHOUT_PAIR.contains(&name) {
            continue;
        }
        let texts = std::fs::read_to_string(path.with_extension("gguf.inp")).unwrap();
        let ids = std::fs::read_to_string(path.with_extension("gguf.out")).unwrap();
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let ids: Vec<&str> = ids.lines().collect();
        // The file of texts ends with a separator.
        let texts = texts.strip_suffix(&[""]).unwrap_or(&texts);
        assert_eq!(texts.len(), ids.len(), "{name}");
        for (text, line) in texts.iter().zip(ids) {
            let expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let got = encode(text);
            n_texts += 1;
            if got != expected {
                failures.push(format!("{name}: {text:?}\n  expected {expected:?}\n  got      {got:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {n_texts} differ\n{}", failures.len(), failures.join("\n"));
    n_texts
}

#[test]
fn decoding_gives_the_text_back() {
    let Some(dir) = data() else { return };
    for name in PAIRS {
        // WordPiece forgets case and spaces.
        if name == "bert-bge" || WITHOUT_PAIR.contains(&name) {
            continue;
        }
        let path = dir.join(format!("ggml-vocab-{name}.gguf"));
        let tokenizer = load(&path);
        let texts = std::fs::read_to_string(path.with_extension("gguf.inp")).unwrap();
        for text in texts.split("\n__ggml_vocab_test__\n") {
            let ids = tokenizer.encode(text, EncodeOptions::TEXT).unwrap();
            assert_eq!(tokenizer.decode(&ids, DecodeOptions::TEXT).unwrap(), text, "{name}");
            let mut decoder = StreamDecoder::new(DecodeOptions::TEXT);
            let mut streamed = String::new();
            for &id in &ids {
                decoder.push(&tokenizer, id, &mut streamed).unwrap();
            }
            decoder.finish(&mut streamed);
            assert_eq!(streamed, text, "{name}");
        }
    }
}

#[test]
fn what_is_missing_is_said() {
    let Some(dir) = data() else { return };
    let open = |name: &str| Gguf::open(dir.join(format!("ggml-vocab-{name}.gguf"))).unwrap();
    let gguf = open("gpt-2");
    let tokenizer = vocab::tokenizer(&gguf).unwrap();
    let template = vocab::chat_template(&gguf, &tokenizer).unwrap_err().to_string();
    assert!(template.contains("no chat template"), "{template}");
}

#[test]
fn special_tokens_and_what_is_added() {
    let Some(dir) = data() else { return };
    let tokenizer = |name: &str| load(&dir.join(format!("ggml-vocab-{name}.gguf")));
    // Ids from the models' own tokenizer_config.json and tokenizer.json.
    for (name, options, text, expected) in [
        ("llama-spm", EncodeOptions::TEXT, "", vec![1]),
        ("llama-spm", EncodeOptions::PROMPT, "<s>", vec![1]),
        ("llama-spm", EncodeOptions::TEXT, "<s>", vec![1, 529, 29879, 29958]),
        ("llama-bpe", EncodeOptions::TEXT, "Hello", vec![128_000, 9906]),
        ("llama-bpe", EncodeOptions::PROMPT, "<|begin_of_text|>Hello", vec![128_000, 9906]),
        ("qwen2", EncodeOptions::TEXT, "Hello", vec![9707]),
        ("qwen2", EncodeOptions::PROMPT, "<|im_start|>", vec![151_644]),
        ("bert-bge", EncodeOptions::TEXT, "hello", vec![101, 7592, 102]),
        // Phi-3's role tokens swallow the line break after them.
        ("phi-3", EncodeOptions::PROMPT, "<|user|>\nHi<|end|>\n", vec![1, 32_010, 6324, 32_007]),
    ] {
        assert_eq!(tokenizer(name).encode(text, options).unwrap(), expected, "{name}: {text:?}");
    }
    assert!(tokenizer("phi-3").is_end_of_generation(32_007));
}
