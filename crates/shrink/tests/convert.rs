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
use whit_files::{Gguf, GgufWriter, SafeTensors, TensorInfo, Value};
use whit_shrink::{Format, to_folder, to_gguf};

const MODELS: [&str; 19] = [
    "llama-gqa-llama3",
    "llama-untied-linear-bias",
    "qwen2-gqa7",
    "qwen2-yarn",
    "gemma3-global-linear",
    "gemma3-pattern2-softcap",
    "mistral-window",
    "qwen3",
    "smollm3-nope",
    "granite",
    "phi3-longrope-short",
    "phi3-longrope-long",
    "phi3-partial-window",
    "gemma",
    "gemma2",
    "olmo2",
    "stablelm",
    "phi2",
    "gpt2",
];

/// Keys in which a file may differ from the golden one, and why.
const DIFFERENT: [(&str, &str); 2] = [
    // The converter takes `n_ctx`, a field that nothing reads; the model has 512 positions.
    ("gpt2", "gpt2.context_length"),
    // Older files give a period where newer ones list the layers.
    ("gemma3-pattern2-softcap", "gemma3.attention.sliding_window_pattern"),
];

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
    for name in MODELS {
        let (from, to) = (place.path().join(name), place.path().join(format!("{name}.gguf")));
        folder::write(name, &golden(), &from);
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
                || DIFFERENT.contains(&(name, key))
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
    for name in MODELS {
        let (saved, to) = (place.path().join(name), place.path().join(format!("{name}-back")));
        folder::write(name, &golden(), &saved);
        to_folder(&golden().join(format!("{name}.gguf")), &to, None, &mut |_| {}).unwrap();

        let (ours, theirs) =
            (SafeTensors::open_folder(&to).unwrap(), SafeTensors::open_folder(&saved).unwrap());
        assert_eq!(ours.tensors().len(), theirs.tensors().len(), "{name}");
        for expected in theirs.tensors() {
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
        for (model, key) in DIFFERENT {
            if model == name {
                ours.remove(key);
                theirs.remove(key);
            }
        }
        assert_eq!(ours, theirs, "{name}");
    }
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

/// Models that are only read where they lie are refused, and nothing is written.
#[test]
fn what_is_not_converted_says_so() {
    let place = tempfile::tempdir().unwrap();
    for name in
        ["bert", "modern-bert", "mpnet", "qwen3-moe", "olmoe", "granite-moe", "mixtral", "stablelm-12b"]
    {
        let (from, to) = (place.path().join(name), place.path().join("out"));
        folder::write(name, &golden(), &from);
        let error = to_gguf(&from, &to, None, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("it runs as it is"), "{name}: {error}");
        assert!(!to.exists());
        let error = to_folder(&golden().join(format!("{name}.gguf")), &to, None, &mut |_| {});
        assert!(error.is_err(), "{name}");
    }
}
