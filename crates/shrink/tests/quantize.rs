//! Quantized files: that they hold what was asked for and load, and what becomes of runs that do not end well.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

#[path = "../../engine/tests/common/folder.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod folder;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use whit_base::DType;
use whit_base::quant::{decode_row, encode_row, error_bound};
use whit_engine::{Engine, EngineOptions, Evaluation};
use whit_files::{Gguf, GgufWriter};
use whit_shrink::{
    Budget, CalibrationOptions, Formats, Mix, QuantizeOptions, Quantized, ShrinkError, calibrate_on_tokens,
    fit_budget, quantize,
};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden")
}

fn options(mix: Mix) -> QuantizeOptions {
    QuantizeOptions { formats: Formats::of(mix), importance: None, threads: Some(2), replace: false }
}

fn run(from: &Path, to: &Path, mix: Mix) -> Result<Quantized, ShrinkError> {
    quantize(from, to, &options(mix), &mut |_| ControlFlow::Continue(()))
}

fn values(gguf: &Gguf, name: &str) -> (DType, Vec<f32>) {
    let tensor = gguf.tensor(name).unwrap();
    let mut values = vec![0.0; tensor.n_elements()];
    decode_row(tensor.dtype, &gguf.tensor_bytes(tensor), &mut values);
    (tensor.dtype, values)
}

#[test]
fn every_mix_holds_the_source_and_runs() {
    let place = tempfile::tempdir().unwrap();
    // Rows of 32 and 64 values; of 56, which no block fits; experts.
    for name in ["llama-gqa-llama3", "qwen2-gqa7", "qwen3-moe"] {
        let from = golden().join(format!("{name}.gguf"));
        let source = Gguf::open(&from).unwrap();
        for mix in Mix::all() {
            let to = place.path().join(format!("{name}-{mix}.gguf"));
            let done = run(&from, &to, mix).unwrap();
            let case = format!("{name} {mix}");
            let written = Gguf::open(&to).unwrap();
            assert_eq!(written.tensors().len(), source.tensors().len(), "{case}");
            assert_eq!(done.file_bytes, fs::metadata(&to).unwrap().len(), "{case}");
            let n_bytes: usize = written.tensors().iter().map(|tensor| tensor.n_bytes()).sum();
            assert_eq!(done.bytes_after, n_bytes as u64, "{case}");
            for (key, value) in source.metadata().iter().filter(|(key, _)| *key != "general.file_type") {
                assert_eq!(written.metadata().get(key), Some(value), "{case}: {key}");
            }
            assert_eq!(written.metadata().u32("general.file_type").unwrap(), mix.file_type(), "{case}");
            assert_eq!(written.metadata().u32("general.quantization_version").unwrap(), 2, "{case}");
            for tensor in source.tensors() {
                let (_, expected) = values(&source, &tensor.name);
                let (format, got) = values(&written, &tensor.name);
                for (got, expected) in got.chunks(format.block_len()).zip(expected.chunks(format.block_len()))
                {
                    let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                    let bound = error_bound(format) * most + 1e-7;
                    for (got, expected) in got.iter().zip(expected) {
                        assert!(
                            (got - expected).abs() <= bound,
                            "{case}: {}: {got}, not {expected}",
                            tensor.name
                        );
                    }
                }
            }
            let mut engine =
                Engine::load(&to, &EngineOptions { ctx: Some(64), ..EngineOptions::default() }).unwrap();
            let input = [Evaluation { tokens: &[1, 2, 3, 4], outputs: 0..4 }];
            engine
                .evaluate(&input, &mut |_, _, row| assert!(row.iter().all(|x| x.is_finite()), "{case}"))
                .unwrap();
        }
    }
}

#[test]
fn a_folder_gives_what_its_file_gives() {
    let place = tempfile::tempdir().unwrap();
    for name in ["llama-gqa-llama3", "gemma3-global-linear", "qwen3-moe"] {
        let saved = place.path().join(name);
        folder::write(name, &golden(), &saved);
        let (a, b) =
            (place.path().join(format!("{name}-a.gguf")), place.path().join(format!("{name}-b.gguf")));
        run(&saved, &a, Mix::Q4_K_M).unwrap();
        run(&golden().join(format!("{name}.gguf")), &b, Mix::Q4_K_M).unwrap();
        let (a, b) = (Gguf::open(a).unwrap(), Gguf::open(b).unwrap());
        assert_eq!(a.tensors().len(), b.tensors().len(), "{name}");
        for tensor in b.tensors().iter().filter(|tensor| !tensor.name.starts_with("rope_")) {
            assert_eq!(values(&a, &tensor.name), values(&b, &tensor.name), "{name}: {}", tensor.name);
        }
    }
}

#[test]
fn threads_do_not_show() {
    let place = tempfile::tempdir().unwrap();
    let from = golden().join("qwen3-moe.gguf");
    let write = |n: usize| {
        let to = place.path().join(format!("{n}.gguf"));
        let options = QuantizeOptions { threads: Some(n), ..options(Mix::Q4_0) };
        quantize(&from, &to, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        fs::read(to).unwrap()
    };
    assert_eq!(write(1), write(5));
}

/// A model of one matrix in this format.
fn tiny(path: &Path, format: DType, values: &[f32]) {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "llama");
    writer.declare("blk.0.ffn_up.weight", format, &[2, values.len() / 2]);
    let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
    encode_row(format, values, None, &mut bytes);
    let mut out = writer.create(path).unwrap();
    out.write("blk.0.ffn_up.weight", &bytes).unwrap();
    out.finish().unwrap();
}

#[test]
fn nothing_is_left_of_a_run_that_does_not_end() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let mut broken = vec![0.5f32; 64];
    tiny(&path("whole.gguf"), DType::F32, &broken);
    broken[40] = f32::NAN;
    tiny(&path("nan.gguf"), DType::F32, &broken);
    broken[40] = 7e4;
    tiny(&path("large.gguf"), DType::F32, &broken);
    fs::write(path("there.gguf"), "something").unwrap();

    let never = |_| ControlFlow::Break(());
    let on = |_| ControlFlow::Continue(());
    type Report = fn(whit_shrink::QuantizeProgress) -> ControlFlow<()>;
    for (from, to, mix, report, part) in [
        ("whole.gguf", "new.gguf", Mix::Q8_0, never as Report, "stopped; nothing was written"),
        (
            "nan.gguf",
            "new.gguf",
            Mix::Q8_0,
            on,
            "tensor `blk.0.ffn_up.weight`, row 1: NaN cannot be stored as Q8_0",
        ),
        ("large.gguf", "new.gguf", Mix::F16, on, "row 1: 70000 cannot be stored as F16; choose bf16"),
        ("whole.gguf", "there.gguf", Mix::Q8_0, on, "there is something of that name already"),
        ("whole.gguf", "whole.gguf", Mix::Q8_0, on, "this is the model that is read"),
        ("none.gguf", "new.gguf", Mix::Q8_0, on, "none.gguf"),
        ("whole.gguf", "no-folder/new.gguf", Mix::Q8_0, on, "no-folder"),
        ("there.gguf", "new.gguf", Mix::Q8_0, on, "this is not a GGUF file"),
    ] {
        let error = quantize(&path(from), &path(to), &options(mix), &mut { report }).unwrap_err().to_string();
        assert!(error.contains(part), "{from} to {to}: `{part}` is not in: {error}");
        let mut left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["large.gguf", "nan.gguf", "there.gguf", "whole.gguf"], "{from} to {to}");
    }
    assert_eq!(fs::read(path("there.gguf")).unwrap(), b"something");
}

#[test]
fn quantizing_again_is_told() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("a.gguf"), place.path().join("b.gguf"));
    let values: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
    tiny(&from, DType::Q8_0, &values);
    assert_eq!(run(&from, &to, Mix::Q4_0).unwrap().requantized(), Some(DType::Q8_0));
    let again = QuantizeOptions { replace: true, ..options(Mix::Q8_0) };
    let done = quantize(&from, &to, &again, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(done.requantized(), None);
    assert_eq!(fs::read(&from).unwrap().len() as u64, fs::metadata(&from).unwrap().len());
    assert_eq!(done.bits_per_weight(), 8.5);
}

#[test]
fn a_budget_is_kept_and_spent() {
    let place = tempfile::tempdir().unwrap();
    let from = golden().join("llama-gqa-llama3.gguf");
    let source = Gguf::open(&from).unwrap();
    let tokens: Vec<u32> = (0..48).map(|i| 4 + i * 7 % 60).collect();
    let engine = EngineOptions { ctx: Some(64), ..EngineOptions::default() };
    let calibration = CalibrationOptions { chunk_size: 48, output: true, ..CalibrationOptions::default() };
    let mut loaded = Engine::load(&from, &engine).unwrap();
    let imatrix = calibrate_on_tokens(&mut loaded, &tokens, None, &calibration, &mut |_| {}).unwrap();
    let fit = |budget| fit_budget(&source, &imatrix, &tokens, budget, &engine, &mut |_| {});
    let mut last = f64::INFINITY;
    // Rows of 32: the smallest format has 4.25 or 4.5 bits, the largest 8.5; norms have 32.
    for bits in [5.0, 5.5, 6.5, 8.0] {
        let fitted = fit(Budget::BitsPerWeight(bits)).unwrap();
        assert!(fitted.divergence < last, "{bits} bits: {}, with fewer {last}", fitted.divergence);
        last = fitted.divergence;
        let to = place.path().join(format!("{bits}.gguf"));
        let formats = Formats { chosen: fitted.formats, ..Formats::of(Mix::Q4_K_M) };
        let options = QuantizeOptions { formats, ..options(Mix::Q4_K_M) };
        let done = quantize(&from, &to, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let got = done.bits_per_weight();
        assert!(got <= bits && got > bits - 0.4, "{bits} bits: {got}");
        // A file as large as this one is had by its size, too.
        let by_size = fit(Budget::FileBytes(done.file_bytes + 1024)).unwrap();
        assert!(by_size.divergence <= last * 1.0001, "{bits} bits: {} by size, {last}", by_size.divergence);
    }
    let said = fit(Budget::BitsPerWeight(3.0)).unwrap_err().to_string();
    assert!(said.starts_with("no choice of formats makes the model that small"), "{said}");
}
