//! Importance matrices against the sums that `transformers` gives (`make_imatrix.py`), and their files.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use whit_base::DType;
use whit_engine::{CacheType, Engine, EngineOptions};
use whit_files::{Gguf, GgufWriter};
use whit_shrink::{
    CalibrationOptions, Formats, Imatrix, Mix, QuantizeOptions, TensorRule, calibrate_on_tokens, quantize,
};

const MODELS: [&str; 2] = ["llama-gqa-llama3", "qwen3-moe"];

fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden")
}

fn golden(model: &str, ending: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/imatrix-{model}.{ending}"))
}

fn computed(model: &str, max_rows: Option<usize>, output: bool) -> Imatrix {
    let told = fs::read_to_string(models().join(format!("{model}.json"))).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let prompt: Vec<u32> =
        told["prompt"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let options =
        EngineOptions { ctx: Some(64), cache_type: CacheType::F32, max_rows, ..EngineOptions::default() };
    let mut engine = Engine::load(models().join(format!("{model}.gguf")), &options).unwrap();
    let options = CalibrationOptions {
        chunk_size: 7,
        output,
        dataset: "prompt".to_owned(),
        ..CalibrationOptions::default()
    };
    calibrate_on_tokens(&mut engine, &prompt, None, &options, &mut |_| {}).unwrap()
}

#[track_caller]
fn assert_close(case: &str, got: &Imatrix, expected: &Imatrix) {
    assert!(got.tensors.keys().eq(expected.tensors.keys()), "{case}: {:?}", got.tensors.keys());
    for (name, expected) in &expected.tensors {
        let got = &got.tensors[name];
        assert_eq!(got.counts, expected.counts, "{case}: {name}");
        assert_eq!(got.squares.len(), expected.squares.len(), "{case}: {name}");
        for (got, expected) in got.squares.iter().zip(&expected.squares) {
            assert!(
                (got - expected).abs() <= 1e-3 * expected.abs() + 1e-4,
                "{case}: {name}: {got}, not {expected}"
            );
        }
    }
}

#[test]
fn sums_are_those_of_transformers() {
    for model in MODELS {
        let expected = Imatrix::read(&golden(model, "gguf")).unwrap();
        assert_eq!((expected.n_chunks, expected.chunk_size), (3, 7));
        for max_rows in [None, Some(4)] {
            let got = computed(model, max_rows, false);
            assert_close(&format!("{model}, {max_rows:?} rows"), &got, &expected);
            assert_eq!(
                (got.n_chunks, got.chunk_size, &got.datasets),
                (3, 7, &vec!["prompt".to_owned()]),
                "{model}"
            );
        }
        let more = computed(model, None, true);
        let output = if model == "qwen3-moe" { "output.weight" } else { "token_embd.weight" };
        assert_eq!(more.tensors.len(), expected.tensors.len() + 1, "{model}");
        assert_eq!(more.tensors[output].counts, [21.0], "{model}");
    }
}

#[test]
fn files_are_read_and_written() {
    let place = tempfile::tempdir().unwrap();
    for model in MODELS {
        let expected = Imatrix::read(&golden(model, "gguf")).unwrap();
        let path = place.path().join("i.gguf");
        expected.write(&path).unwrap();
        assert_eq!(Imatrix::read(&path).unwrap(), expected, "{model}");
        // As llama-imatrix writes them, name by name.
        let (ours, theirs) = (Gguf::open(&path).unwrap(), Gguf::open(golden(model, "gguf")).unwrap());
        for tensor in theirs.tensors() {
            let own = ours.tensor(&tensor.name).unwrap();
            assert_eq!((&own.shape, own.dtype), (&tensor.shape, tensor.dtype), "{model}: {}", tensor.name);
        }

        // The older form has means, times calls.
        let older = Imatrix::read(&golden(model, "dat")).unwrap();
        assert_eq!((older.n_chunks, &older.datasets), (3, &vec!["prompt".to_owned()]));
        let gguf = Gguf::open(models().join(format!("{model}.gguf"))).unwrap();
        for name in expected.tensors.keys() {
            let shape = &gguf.tensor(name).unwrap().shape;
            let (new, old) =
                (expected.importance(name, shape).unwrap(), older.importance(name, shape).unwrap());
            for (new, old) in new.iter().zip(old) {
                assert!((new - old).abs() <= 1e-5 * new.abs(), "{model}: {name}: {new}, {old}");
            }
            let wrong = [&[7], &shape[..]].concat();
            assert_eq!(expected.importance(name, &wrong), None);
        }
    }
}

#[test]
fn what_is_no_importance_matrix_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("i");
    let whole = fs::read(golden(MODELS[0], "dat")).unwrap();
    // No prefix of a file is a file, save the one without what may be left out.
    let end_of_entries = whole.len() - (4 + 4 + "prompt".len());
    for n in 0..whole.len() {
        fs::write(&path, &whole[..n]).unwrap();
        assert_eq!(Imatrix::read(&path).is_ok(), n == end_of_entries, "{n} of {} bytes", whole.len());
    }
    let no_counts = place.path().join("n.gguf");
    let mut writer = GgufWriter::new();
    writer.declare("blk.0.attn_q.weight.in_sum2", DType::F32, &[1, 2]);
    let mut out = writer.create(&no_counts).unwrap();
    out.write("blk.0.attn_q.weight.in_sum2", &[0; 8]).unwrap();
    out.finish().unwrap();
    let model = models().join("qwen3.gguf");
    for (path, part) in [
        (no_counts.as_path(), "does not say of how many rows"),
        (model.as_path(), "it is a model, or something else"),
        (Path::new("none.gguf"), "none.gguf"),
    ] {
        let said = Imatrix::read(path).unwrap_err().to_string();
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    fs::write(&path, (-1i32).to_le_bytes()).unwrap();
    let said = Imatrix::read(&path).unwrap_err().to_string();
    assert!(said.ends_with("-1 entries; it is no importance matrix, or a damaged one"), "{said}");
}

#[test]
fn importance_steers_the_fit_expert_by_expert() {
    let place = tempfile::tempdir().unwrap();
    let from = models().join("qwen3-moe.gguf");
    let mut imatrix = Imatrix::read(&golden("qwen3-moe", "gguf")).unwrap();
    let write = |name: &str, importance: Option<Imatrix>| {
        let to = place.path().join(name);
        let all = TensorRule::new("", DType::Q4_0).unwrap();
        let options = QuantizeOptions {
            formats: Formats { rules: vec![all], ..Formats::of(Mix::Q4_0) },
            importance: importance.map(|imatrix| (imatrix, "i.gguf".to_owned())),
            threads: Some(2),
            replace: false,
        };
        quantize(&from, &to, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        Gguf::open(to).unwrap()
    };
    let name = "blk.0.ffn_up_exps.weight";
    // All experts alike but one: only that one changes.
    let sums = imatrix.tensors.get_mut(name).unwrap();
    sums.squares.fill(1.0);
    sums.counts.fill(1.0);
    let even = write("even.gguf", Some(imatrix.clone()));
    let n_cols = even.tensor(name).unwrap().n_cols();
    imatrix.tensors.get_mut(name).unwrap().squares[2 * n_cols + 5] = 1e4;
    let uneven = write("uneven.gguf", Some(imatrix));
    let bytes = |gguf: &Gguf| gguf.tensor_bytes(gguf.tensor(name).unwrap()).to_vec();
    let (a, b) = (bytes(&even), bytes(&uneven));
    let n = a.len() / 4;
    for expert in 0..4 {
        let same = a[expert * n..(expert + 1) * n] == b[expert * n..(expert + 1) * n];
        assert_eq!(same, expert != 2, "expert {expert}");
    }
    let metadata = uneven.metadata();
    assert_eq!(metadata.str("quantize.imatrix.file").unwrap(), "i.gguf");
    assert_eq!(metadata.str("quantize.imatrix.dataset").unwrap(), "prompt");
    assert_eq!(metadata.u32("quantize.imatrix.chunks_count").unwrap(), 3);
    assert!(write("plain.gguf", None).metadata().get("quantize.imatrix.file").is_none());
}
