//! Conversion both ways, of every golden model: what comes out of a folder that `transformers` saved is what the field's own
//! converter made of it, tensor by tensor and key by key, and what comes out of that file is the folder again.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

#[path = "../../engine/tests/common/folder.rs"]
mod folder;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use whit_base::DType;
use whit_base::quant::decode_row;
use whit_files::{Gguf, GgufWriter, SafeTensors, SafeTensorsWriter, TensorInfo, Value};
use whit_models::vocab;
use whit_shrink::{Format, to_folder, to_gguf};
use whit_text::{EncodeOptions, Tokenizer};

/// No other program has files of it.
const NOT_IN_GGUF: &str = "mpnet";

/// A RoBERTa: its file says no more than BERT's, and becomes a folder of BERT's kind, which computes the same.
const AS_BERT: &str = "xlmr-rank";

/// All golden models that are converted.
fn models() -> impl Iterator<Item = String> {
    folder::names(&golden(), ".hf.json").into_iter().filter(|name| name != NOT_IN_GGUF)
}

/// Whose file becomes the folder of another family that computes the same.
const ONE_WAY: &str = "granite4";

/// Beginnings of keys in which a file may differ from the golden one, and why.
const DIFFERENT: [(&str, &str); 7] = [
    // The converter takes `n_ctx`, a field that nothing reads; the model has 512 positions.
    ("gpt2", "gpt2.context_length"),
    // Older files give a period where newer ones list the layers.
    ("gemma3-pattern2-softcap", "gemma3.attention.sliding_window_pattern"),
    // The converter says these of the larger sizes' parts, of which a dense one has none.
    ("granite4", "granite.ssm."),
    ("granite4", "granite.expert_"),
    ("granite4", "granite.rope.scaling.finetuned"),
    // What the folder has as a stretch of the base is in the base behind it.
    ("hunyuan", "hunyuan-dense.rope.scaling."),
    // The same number for every layer.
    ("granite4", "granite.attention.head_count_kv"),
];

/// Fields in which a folder may differ from the saved one and mean the same.
const SAID_OTHERWISE: [(&str, &str); 6] = [
    // The converter says another length.
    ("gpt2", "n_positions"),
    ("hunyuan", "max_position_embeddings"),
    ("nomic-bert", "n_positions"),
    // A RoBERTa's table has rows that no token stands at, a BERT's has not.
    (AS_BERT, "max_position_embeddings"),
    // The width itself, without the arithmetic before it.
    ("lfm2", "intermediate_size"),
    ("lfm2", "block_auto_adjust_ff_dim"),
];

fn may_differ(model: &str, key: &str) -> bool {
    DIFFERENT.iter().any(|(name, start)| *name == model && key.starts_with(start))
}

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden")
}

fn values(tensor: &TensorInfo, data: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; tensor.n_elements()];
    decode_row(tensor.dtype, data, &mut values);
    values
}

fn number(value: Value<'_>) -> Option<f64> {
    value.as_integer().map(|v| v as f64).or(value.as_f32().map(f64::from))
}

#[test]
fn folders_become_what_the_fields_converter_makes() {
    let place = tempfile::tempdir().unwrap();
    for name in models() {
        let (from, to) = (place.path().join(&name), place.path().join(format!("{name}.gguf")));
        folder::write(&name, &golden(), &from);
        to_gguf(&from, &to, None, &mut |_| {}).unwrap();
        let (ours, theirs) =
            (Gguf::open(&to).unwrap(), Gguf::open(golden().join(format!("{name}.gguf"))).unwrap());

        assert_eq!(ours.tensors().len(), theirs.tensors().len(), "{name}");
        for expected in theirs.tensors() {
            let got =
                ours.tensor(&expected.name).unwrap_or_else(|| panic!("{name}: {} is missing", expected.name));
            assert_eq!((&got.shape, got.dtype), (&expected.shape, DType::F32), "{name}: {}", expected.name);
            let (a, b) = (ours.tensor_bytes(got), theirs.tensor_bytes(expected));
            if expected.name.starts_with("rope_") {
                // Made, not stored: to the last digit but one.
                let close =
                    values(got, &a).iter().zip(values(expected, &b)).all(|(a, b)| (a - b).abs() < 1e-5 * b);
                assert!(close, "{name}: {}", expected.name);
            } else {
                assert!(*a == *b, "{name}: {} has other values", expected.name);
            }
        }
        for (key, expected) in theirs.metadata().iter() {
            if key.starts_with("general.") && key != "general.architecture" && key != "general.file_type"
                || may_differ(&name, key)
            {
                continue;
            }
            let got = ours.metadata().get(key).unwrap_or_else(|| panic!("{name}: {key} is missing"));
            match (number(got), number(expected)) {
                (Some(a), Some(b)) => {
                    assert!((a - b).abs() <= 1e-6 * b.abs(), "{name}: {key} is {a}, not {b}")
                }
                _ => assert_eq!(got, expected, "{name}: {key}"),
            }
        }
    }
}

/// The keys that a model opened in place has, but for what its folder is called.
fn keys(folder: &Path) -> BTreeMap<String, String> {
    let gguf = whit_models::open(folder).unwrap();
    let keys = gguf.metadata().iter().filter(|(key, _)| !key.starts_with("general."));
    let mut keys: BTreeMap<_, _> = keys.map(|(key, value)| (key.to_owned(), value.to_string())).collect();
    for tensor in gguf.tensors().iter().filter(|tensor| tensor.name.starts_with("rope_")) {
        let rounded: Vec<String> =
            values(tensor, &gguf.tensor_bytes(tensor)).iter().map(|value| format!("{value:.3}")).collect();
        keys.insert(tensor.name.to_string(), rounded.join(" "));
    }
    keys
}

#[test]
fn files_become_the_folder_that_they_came_from() {
    let place = tempfile::tempdir().unwrap();
    let mut differ = Vec::new();
    for name in models().filter(|name| name != ONE_WAY) {
        let (saved, to) = (place.path().join(&name), place.path().join(format!("{name}-back")));
        folder::write(&name, &golden(), &saved);
        to_folder(&golden().join(format!("{name}.gguf")), &to, None, &mut |_| {}).unwrap();

        let (ours, theirs) =
            (SafeTensors::open_folder(&to).unwrap(), SafeTensors::open_folder(&saved).unwrap());
        assert_eq!(ours.tensors().len(), theirs.tensors().len(), "{name}");
        for expected in theirs.tensors().iter().filter(|_| name != AS_BERT) {
            let got =
                ours.tensor(&expected.name).unwrap_or_else(|| panic!("{name}: {} is missing", expected.name));
            assert_eq!((&got.shape, got.kind), (&expected.shape, expected.kind), "{name}: {}", expected.name);
            let close =
                got.data.as_chunks::<4>().0.iter().zip(expected.data.as_chunks::<4>().0).all(|(a, b)| {
                    // One more than the value was rounded once.
                    a == b
                        || (name.starts_with("gemma")
                            && (f32::from_le_bytes(*a) - f32::from_le_bytes(*b)).abs() < 1e-6)
                });
            assert!(close, "{name}: {} has other values", expected.name);
        }
        let (mut ours, mut theirs) = (keys(&to), keys(&saved));
        for keys in [&mut ours, &mut theirs] {
            keys.retain(|key, _| !may_differ(&name, key));
        }
        assert_eq!(ours, theirs, "{name}");

        let settings = |folder: &Path| -> serde_json::Map<String, serde_json::Value> {
            serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
        };
        let (ours, theirs) = (settings(&to), settings(&saved));
        for (field, expected) in theirs.iter().filter(|(_, value)| value.is_number() || value.is_boolean()) {
            let Some(got) = ours.get(field).filter(|_| !SAID_OTHERWISE.contains(&(&name, field))) else {
                continue;
            };
            let equal = match (got.as_f64(), expected.as_f64()) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * b.abs(),
                _ => got == expected,
            };
            if !equal {
                differ.push(format!("{name}: {field} is {got}, not {expected}"));
            }
        }
    }
    assert_eq!(differ, Vec::<String>::new());
}

#[test]
fn formats() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("m"), place.path().join("m.gguf"));
    folder::write("qwen3", &golden(), &from);
    for (format, dtype, error) in [
        (Format::F32, DType::F32, 0.0),
        (Format::F16, DType::F16, 1e-3),
        (Format::BF16, DType::BF16, 1e-2),
        (Format::Q8_0, DType::Q8_0, 3e-2),
    ] {
        let done = to_gguf(&from, &to, Some(format), &mut |_| {}).unwrap();
        assert_eq!((done.format, done.n_bytes), (format, fs::metadata(&to).unwrap().len()));
        let (file, exact) = (Gguf::open(&to).unwrap(), Gguf::open(golden().join("qwen3.gguf")).unwrap());
        for tensor in file.tensors() {
            let matrix = tensor.shape.len() > 1;
            assert_eq!(tensor.dtype, if matrix { dtype } else { DType::F32 }, "{}", tensor.name);
            let expected = exact.tensor(&tensor.name).unwrap();
            let (got, expected) =
                (values(tensor, &file.tensor_bytes(tensor)), values(expected, &exact.tensor_bytes(expected)));
            let far = got.iter().zip(&expected).find(|(a, b)| (*a - *b).abs() > error);
            assert_eq!(far, None, "{format}: {}", tensor.name);
        }
    }
    // Rows of 8 are no whole number of blocks: what cannot be in blocks is f16, as in the field's files.
    folder::write("qwen2-gqa7", &golden(), &place.path().join("odd"));
    to_gguf(&place.path().join("odd"), &to, Some(Format::Q8_0), &mut |_| {}).unwrap();
    let file = Gguf::open(&to).unwrap();
    assert_eq!(file.tensor("blk.0.attn_q.weight").unwrap().dtype, DType::F16);
    assert_eq!(file.tensor("blk.0.ffn_down.weight").unwrap().dtype, DType::Q8_0);
    assert_eq!("Q8_0".parse(), Ok(Format::Q8_0));
    assert!("q4_0".parse::<Format>().unwrap_err().contains("choose f32"));
}

/// What other programs take as f32 alone stays so, whatever is asked for.
#[test]
fn some_matrices_are_always_f32() {
    let place = tempfile::tempdir().unwrap();
    for (name, tensors) in [
        ("lfm2", &["blk.0.shortconv.conv.weight"][..]),
        ("gemma3n", &["blk.0.altup_predict_coef.weight", "blk.3.altup_correct_coef.weight"]),
        ("qwen3-moe", &["blk.0.ffn_gate_inp.weight"]),
    ] {
        let (from, to) = (place.path().join(name), place.path().join(format!("{name}.gguf")));
        folder::write(name, &golden(), &from);
        to_gguf(&from, &to, Some(Format::F16), &mut |_| {}).unwrap();
        let file = Gguf::open(&to).unwrap();
        for tensor in tensors {
            assert_eq!(file.tensor(tensor).unwrap().dtype, DType::F32, "{name}: {tensor}");
        }
        assert_eq!(file.tensor("token_embd.weight").unwrap().dtype, DType::F16, "{name}");
    }
}

/// A copy of a file, with one tensor cut to its first rows.
fn rewrite(from: &Path, to: &Path, cut: &str, n_rows: usize) {
    let gguf = Gguf::open(from).unwrap();
    let mut writer = GgufWriter::new();
    gguf.metadata().iter().for_each(|(key, value)| writer.set(key, value));
    let shape = |tensor: &TensorInfo| match *tensor.name == *cut {
        true => vec![n_rows, tensor.n_cols()],
        false => tensor.shape.clone(),
    };
    for tensor in gguf.tensors() {
        writer.declare(&tensor.name, tensor.dtype, &shape(tensor));
    }
    let mut out = writer.create(to).unwrap();
    for tensor in gguf.tensors() {
        let n_bytes = shape(tensor).iter().product::<usize>() * 4;
        out.write(&tensor.name, &gguf.tensor_bytes(tensor)[..n_bytes]).unwrap();
    }
    out.finish().unwrap();
}

#[test]
fn what_cannot_be_converted_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    folder::write("qwen3", &golden(), &path("m"));
    let file = golden().join("qwen3.gguf");
    fs::create_dir(path("there")).unwrap();
    let quiet = &mut |_| {};
    let cases = [
        (to_folder(&file, &path("there"), None, quiet), "something of that name already"),
        (to_folder(&file, &path("out"), Some(Format::Q8_0), quiet), "a folder cannot hold q8_0; choose f32"),
        (to_folder(&path("none.gguf"), &path("out"), None, quiet), "cannot open"),
        (to_gguf(&path("there"), &path("out.gguf"), None, quiet), "it holds neither `model.safetensors`"),
        (to_gguf(&path("m"), &path("nowhere/out.gguf"), None, quiet), "cannot create"),
    ];
    for (result, expected) in cases {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "expected \"{expected}\" in: {message}");
    }
    // Layers with other heads than the first.
    let odd = path("odd.gguf");
    rewrite(&golden().join("llama-gqa-llama3.gguf"), &odd, "blk.1.attn_q.weight", 3);
    let error = to_folder(&odd, &path("out"), None, quiet).unwrap_err().to_string();
    assert!(error.contains("blk.1.attn_q.weight") && error.contains("a multiple of 8 rows"), "{error}");
    fs::remove_file(odd).unwrap();
    fs::remove_file(path("m/tokenizer.json")).unwrap();
    let error = to_gguf(&path("m"), &path("out.gguf"), None, quiet).unwrap_err().to_string();
    assert!(error.contains("it has no `tokenizer.json`"), "{error}");
    // A tokenizer that GGUF has no words for.
    let words = r#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#;
    fs::write(path("m/tokenizer.json"), words).unwrap();
    let error = to_gguf(&path("m"), &path("out.gguf"), None, quiet).unwrap_err().to_string();
    assert!(error.contains("a GGUF cannot carry this tokenizer"), "{error}");
    let mut left: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["m", "there"]);
}

/// A model that is only read where it lies is refused, and nothing is written.
#[test]
fn what_is_not_converted_says_so() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("m"), place.path().join("out"));
    folder::write(NOT_IN_GGUF, &golden(), &from);
    let error = to_gguf(&from, &to, None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("it runs as it is"), "{error}");
    let file = golden().join(format!("{}.gguf", NOT_IN_GGUF));
    assert!(to_folder(&file, &to, None, &mut |_| {}).is_err());
    assert!(!to.exists());
}

/// What other folders than the saved ones become: the file that they came from.
#[test]
fn files_come_back_as_they_were() {
    let place = tempfile::tempdir().unwrap();
    for name in [AS_BERT, "granite-moe", "qwen3-moe", "stablelm-12b", "ministral3", ONE_WAY] {
        let (folder, again) = (place.path().join(name), place.path().join(format!("{name}.gguf")));
        let file = golden().join(format!("{name}.gguf"));
        to_folder(&file, &folder, None, &mut |_| {}).unwrap();
        to_gguf(&folder, &again, None, &mut |_| {}).unwrap();
        let (ours, theirs) = (Gguf::open(&again).unwrap(), Gguf::open(&file).unwrap());
        assert_eq!(ours.tensors().len(), theirs.tensors().len(), "{name}");
        for expected in theirs.tensors() {
            let got = ours.tensor(&expected.name).unwrap();
            assert_eq!(got.shape, expected.shape, "{name}: {}", expected.name);
            assert!(*ours.tensor_bytes(got) == *theirs.tensor_bytes(expected), "{name}: {}", expected.name);
        }
        // Whether it is said once or for each layer.
        let n_kv_heads = |gguf: &Gguf| {
            let key =
                format!("{}.attention.head_count_kv", gguf.metadata().str("general.architecture").unwrap());
            match gguf.metadata().get(&key) {
                Some(Value::Array(counts)) => counts.integers().unwrap().next(),
                count => {
                    count.and_then(|count| count.as_integer()).and_then(|count| i64::try_from(count).ok())
                }
            }
        };
        assert_eq!(n_kv_heads(&ours), n_kv_heads(&theirs), "{name}");
    }
}

/// How a model of sentences pools goes with it, both ways.
#[test]
fn pooling_goes_along() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    folder::write("bert", &golden(), &path("m"));
    let modules = r#"[{"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]"#;
    fs::write(path("m/modules.json"), modules).unwrap();
    fs::create_dir(path("m/1_Pooling")).unwrap();
    for (mode, number) in [("mean", 1), ("cls", 2), ("lasttoken", 3)] {
        let settings = format!(r#"{{"pooling_mode": "{mode}"}}"#);
        fs::write(path("m/1_Pooling/config.json"), settings).unwrap();
        let (file, folder) = (path(&format!("{mode}.gguf")), path(mode));
        to_gguf(&path("m"), &file, None, &mut |_| {}).unwrap();
        to_folder(&file, &folder, None, &mut |_| {}).unwrap();
        for model in [Gguf::open(&file).unwrap(), whit_models::open(&folder).unwrap()] {
            assert_eq!(model.metadata().u32("bert.pooling_type").unwrap(), number, "{mode}");
        }
    }
}

/// all-MiniLM-L6-v2 as its authors published it, with its real vocabulary: there and back.
#[test]
fn minilm_comes_back() {
    let Some(data) = std::env::var_os("WHIT_TEST_DATA") else {
        eprintln!("SKIPPED: WHIT_TEST_DATA is not set; run cargo xtask test");
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let saved = PathBuf::from(data).join("models/all-minilm-l6-v2");
    let (file, back) = (place.path().join("m.gguf"), place.path().join("m"));
    to_gguf(&saved, &file, None, &mut |_| {}).unwrap();
    to_folder(&file, &back, None, &mut |_| {}).unwrap();
    let (ours, theirs) =
        (SafeTensors::open_folder(&back).unwrap(), SafeTensors::open_folder(&saved).unwrap());
    // What no vector of a sentence goes through is not in the file.
    let used = |name: &str| !name.starts_with("pooler.") && !name.ends_with("position_ids");
    for expected in theirs.tensors().iter().filter(|tensor| used(&tensor.name)) {
        let got = ours.tensor(&expected.name).unwrap_or_else(|| panic!("{} is missing", expected.name));
        assert!(*got.data == *expected.data, "{} has other values", expected.name);
    }
    let tokenizer = |path: &Path| vocab::tokenizer(&whit_models::open(path).unwrap()).unwrap();
    let (ours, theirs) = (tokenizer(&back), tokenizer(&saved));
    assert_eq!(ours.special_ids(), theirs.special_ids());
    for text in ["", "Hello, World!", "naïve façade", "日本 ▁x", "unbelievably 12.5%", "[MASK] a [SEP]"]
    {
        for options in [EncodeOptions::TEXT, EncodeOptions::PROMPT] {
            assert_eq!(ours.encode(text, options).unwrap(), theirs.encode(text, options).unwrap(), "{text}");
        }
        let pair = |tokenizer: &Tokenizer| tokenizer.encode_pair(text, "b c", EncodeOptions::TEXT).unwrap();
        assert_eq!(pair(&ours), pair(&theirs), "{text}");
    }
}

/// Tensors that become one must all be there, and alike.
#[test]
fn experts_that_are_missing() {
    let place = tempfile::tempdir().unwrap();
    let (saved, damaged) = (place.path().join("m"), place.path().join("damaged"));
    folder::write("qwen3-moe", &golden(), &saved);
    let tensors = SafeTensors::open_folder(&saved).unwrap();
    let gone = "model.layers.1.mlp.experts.2.up_proj.weight";
    let mut writer = SafeTensorsWriter::new();
    let kept = || tensors.tensors().iter().filter(|tensor| &*tensor.name != gone);
    for tensor in kept() {
        writer.declare(&tensor.name, DType::F32, &tensor.shape).unwrap();
    }
    let mut out = writer.create(&damaged).unwrap();
    out.put("config.json", &fs::read(saved.join("config.json")).unwrap()).unwrap();
    out.put("tokenizer.json", &fs::read(saved.join("tokenizer.json")).unwrap()).unwrap();
    while let Some(name) = out.next_name().map(str::to_owned) {
        let tensor = kept().find(|tensor| *tensor.name == *name).unwrap();
        out.write_with(&name, |out| out.write_all(&tensor.data)).unwrap();
    }
    out.finish().unwrap();
    let error = to_gguf(&damaged, &place.path().join("out.gguf"), None, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("`blk.1.ffn_up_exps.weight`, number 2 is missing"), "{error}");
}
