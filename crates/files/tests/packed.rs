//! Quantized folders against the programs that define their layouts (`make_packed.py`): values, blocks, and files that are cut off
//! or lie.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use whit_base::quant::{decode_row, encode_row, error_bound};
use whit_base::{Bytes, DType};
use whit_files::packed::{self, Packed};
use whit_files::{SafeTensors, SafeTensorsWriter};

struct Case {
    name: String,
    config: Map<String, Value>,
    dtype: String,
    is_exact: bool,
    shape: [usize; 2],
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/packed")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(golden().join("cases.json")).unwrap();
    let all: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let side = |case: &Value, at: usize| case["shape"][at].as_u64().unwrap() as usize;
    all.into_iter()
        .map(|(name, case)| Case {
            config: case["config"].as_object().unwrap().clone(),
            dtype: case["dtype"].as_str().unwrap().to_owned(),
            is_exact: case["exact"].as_bool().unwrap(),
            shape: [side(&case, 0), side(&case, 1)],
            name,
        })
        .collect()
}

fn open(case: &Case) -> SafeTensors {
    SafeTensors::open(golden().join(format!("{}.safetensors", case.name))).unwrap()
}

/// The only matrix of a case.
fn matrix(case: &Case) -> Packed {
    let mut all =
        packed::read(&golden(), &open(case), &case.config).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    assert_eq!(all.matrices.len(), 1, "{}", case.name);
    assert!(!all.parts.contains("expected"), "{}", case.name);
    all.matrices.remove(0)
}

/// The values that the layout's own program gives, of as many rows as are kept.
fn expected(case: &Case) -> Vec<f32> {
    let weights = open(case);
    let data = &weights.tensor("expected").unwrap().data;
    data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn values_are_those_of_the_layouts_own_programs() {
    for case in cases() {
        let matrix = matrix(&case);
        assert_eq!(matrix.shape(), case.shape, "{}", case.name);
        assert_eq!(matrix.name(), "m.weight", "{}", case.name);
        let expected = expected(&case);
        let mut values = vec![f32::NAN; expected.len()];
        matrix.values(0..expected.len() / case.shape[1], &mut values);
        // Transforms add up 128 values twice, in f64 there; all others multiply once.
        let tolerance = if case.name.starts_with("exl3") { 2e-5 } else { 1e-7 };
        let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
        for (i, (value, expected)) in values.iter().zip(&expected).enumerate() {
            let error = (value - expected).abs();
            assert!(error <= tolerance * largest, "{} [{i}]: {value}, expected {expected}", case.name);
        }
        // Some rows alone are the same rows.
        if values.len() > 4 * case.shape[1] {
            let mut some = vec![f32::NAN; 2 * case.shape[1]];
            matrix.values(1..3, &mut some);
            assert_eq!(some, values[case.shape[1]..3 * case.shape[1]], "{}", case.name);
        }
    }
}

#[test]
fn blocks_hold_the_values() {
    for case in cases() {
        let matrix = matrix(&case);
        assert_eq!(
            (matrix.dtype().name(), matrix.is_exact()),
            (&*case.dtype, case.is_exact),
            "{}",
            case.name
        );
        let ([n_out, n_in], dtype) = (matrix.shape(), matrix.dtype());
        let mut values = vec![0.0; n_out * n_in];
        matrix.values(0..n_out, &mut values);
        let blocks = matrix.blocks(0..n_out);
        assert_eq!(blocks.len(), n_out * dtype.row_bytes(n_in).unwrap(), "{}", case.name);
        let mut decoded = vec![0.0; values.len()];
        decode_row(dtype, &blocks, &mut decoded);
        if case.is_exact {
            assert_eq!(decoded, values, "{}", case.name);
        }
        for (row, (got, values)) in decoded.chunks(32).zip(values.chunks(32)).enumerate() {
            let largest = values.iter().fold(0f32, |most, value| most.max(value.abs()));
            // Scales and offsets in F16 are rounded by 2^-11 of products of up to 31 of them.
            let bound = match dtype {
                DType::Q8_0 => error_bound(dtype),
                DType::BF16 => 1.0 / 256.0,
                _ => 1.0 / 500.0,
            };
            // And where they are below 2^-14, by 2^-25.
            let bound = bound * largest + 127.0 * 2f32.powi(-25);
            for (got, value) in got.iter().zip(values) {
                assert!((got - value).abs() <= bound, "{} block {row}: {got}, not {value}", case.name);
            }
        }
        let some = matrix.blocks(n_out - 3..n_out - 1);
        let row_bytes = dtype.row_bytes(n_in).unwrap();
        assert_eq!(some, blocks[(n_out - 3) * row_bytes..(n_out - 1) * row_bytes], "{}", case.name);
    }
}

/// Every tensor of a layout left out, cut to another shape, or stored as another type: an error or, where the tensor is not needed,
/// the same matrix. Never a panic.
#[test]
fn parts_that_lie_are_refused() {
    for case in cases() {
        let weights = open(&case);
        let all: Vec<_> =
            weights.tensors().iter().filter(|tensor| &*tensor.name != "expected").cloned().collect();
        let mut refused = 0;
        for victim in 0..all.len() {
            for damage in 0..4 {
                let mut changed: Vec<(String, String, Vec<usize>, Vec<u8>)> = all
                    .iter()
                    .map(|t| (t.name.to_string(), t.kind.name().to_owned(), t.shape.clone(), t.data.to_vec()))
                    .collect();
                let (_, kind, shape, data) = &mut changed[victim];
                match damage {
                    0 => drop(changed.remove(victim)),
                    1 => {
                        // Half of the first dimension.
                        let Some(first) = shape.first_mut().filter(|n| **n > 1) else { continue };
                        let kept = *first / 2;
                        data.truncate(data.len() / *first * kept);
                        *first = kept;
                    }
                    2 => {
                        *kind = "F64".to_owned();
                        *shape = vec![data.len() / 8];
                        data.truncate(data.len() / 8 * 8);
                    }
                    _ => data.fill(0xff),
                }
                let read = SafeTensors::from_bytes(file(&changed), "changed");
                let Ok(weights) = read else { continue };
                match packed::read(Path::new("folder"), &weights, &case.config) {
                    Err(error) => {
                        refused += 1;
                        let text = error.to_string();
                        assert!(text.starts_with("folder: "), "{}: {text}", case.name);
                        assert!(text.contains("download") || text.contains("get "), "{}: {text}", case.name);
                    }
                    // Whatever numbers a part holds, decoding them ends.
                    Ok(found) => found.matrices.iter().for_each(|matrix| {
                        let n = matrix.shape()[0].min(4);
                        matrix.values(0..n, &mut vec![0.0; n * matrix.shape()[1]]);
                        matrix.blocks(0..n);
                    }),
                }
            }
        }
        assert!(refused >= 2, "{}: {refused} refused", case.name);
    }
}

/// A safetensors file of these tensors.
fn file(tensors: &[(String, String, Vec<usize>, Vec<u8>)]) -> Bytes {
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, kind, shape, bytes) in tensors {
        let place = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({ "dtype": kind, "shape": shape, "data_offsets": place }));
        data.extend_from_slice(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    Bytes::from_vec(file)
}

#[test]
fn settings_that_no_layout_has_are_refused() {
    let by = |name: &str| cases().into_iter().find(|case| case.name == name).unwrap();
    for (name, setting, value, message) in [
        ("gptq4", "bits", json!(7), "7 bits"),
        ("gptq4", "bits", json!(3), "hold no whole number"),
        ("gptq4", "group_size", json!(0), "groups of 0"),
        ("gptq4", "group_size", json!(48), "no whole groups of 48"),
        ("gptq4", "checkpoint_format", json!("marlin"), "laid out for `marlin`"),
        ("awq", "version", json!("gemv_fast"), "laid out for `gemv_fast`"),
        ("awq", "bits", json!(8), "AWQ has 4"),
        ("mlx4", "mode", json!("mxfp4"), "the mode `mxfp4`"),
        ("fp8-squares", "weight_block_size", json!([8, 8]), "do not cover it"),
    ] {
        let mut case = by(name);
        case.config.insert(setting.to_owned(), value);
        let error = packed::read(&golden(), &open(&case), &case.config).unwrap_err().to_string();
        assert!(error.contains(message), "{name} {setting}: {error}");
    }
    // Weights that are quantized by nothing that is known.
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("plain");
    let mut writer = SafeTensorsWriter::new();
    writer.declare("a.weight", DType::F32, &[1, 2]).unwrap();
    let mut row = vec![0; 8];
    encode_row(DType::F32, &[1.0, 2.0], None, &mut row);
    let mut out = writer.create(&path).unwrap();
    out.write_with("a.weight", |out| std::io::Write::write_all(out, &row)).unwrap();
    out.finish().unwrap();
    let config = json!({ "quant_method": "quip" }).as_object().unwrap().clone();
    let error =
        packed::read(&path, &SafeTensors::open_folder(&path).unwrap(), &config).unwrap_err().to_string();
    assert!(error.contains("quantized by `quip`"), "{error}");
}
