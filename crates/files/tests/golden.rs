//! Files made by the reference implementation (make_golden.py, PyPI `gguf`) are read as its own reader reads them, and
//! written back to the same bytes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use whit_base::Bytes;
use whit_files::{Array, FileError, Gguf, GgufWriter, TensorInfo, Value};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// The types of an array down to its first item, and all items of all levels, as the reference lists them.
fn list_array(array: Array<'_>, kinds: &mut String, items: &mut String, first: bool) {
    if first {
        write!(kinds, "/{}", array.item_type()).unwrap();
    }
    for (i, item) in array.values().enumerate() {
        match item {
            Value::Array(inner) => list_array(inner, kinds, items, first && i == 0),
            item => list_scalar(item, items),
        }
    }
}

fn list_scalar(value: Value<'_>, out: &mut String) {
    match value {
        Value::Str(bytes) => write!(out, " x{}", hex(bytes)).unwrap(),
        Value::F32(v) => write!(out, " {:08x}", v.to_bits()).unwrap(),
        Value::F64(v) => write!(out, " {:016x}", v.to_bits()).unwrap(),
        other => write!(out, " {other}").unwrap(),
    }
}

/// The listing that `make_golden.py --list` prints.
fn listing(file: &Gguf) -> String {
    let mut out = format!("version {}\nalignment {}\n", file.version(), file.alignment());
    for (key, value) in file.metadata().iter() {
        let (mut kinds, mut items) = (value.value_type().to_string(), String::new());
        match value {
            Value::Array(array) => list_array(array, &mut kinds, &mut items, true),
            scalar => list_scalar(scalar, &mut items),
        }
        writeln!(out, "{key} {kinds}{items}").unwrap();
    }
    for tensor in file.tensors() {
        let TensorInfo { name, dtype, offset, shape, .. } = tensor;
        let ne: Vec<String> = shape.iter().rev().map(usize::to_string).collect();
        let data = hex(&file.tensor_bytes(tensor));
        writeln!(out, "{name} {dtype} ne={} offset={offset} {data}", ne.join(",")).unwrap();
    }
    out
}

#[test]
fn every_value_is_read_as_the_reference_reads_it() {
    let expected = fs::read_to_string(golden("every_value.txt")).unwrap();
    let mapped = Gguf::open(golden("every_value.gguf")).unwrap();
    assert_eq!(listing(&mapped), expected);
    let bytes = fs::read(golden("every_value.gguf")).unwrap();
    assert_eq!(mapped.n_bytes(), bytes.len());
    let in_memory = Gguf::from_bytes(Bytes::from_vec(bytes), "memory").unwrap();
    assert_eq!(listing(&in_memory), expected);
}

#[test]
fn version_2_is_read_alike() {
    let mut bytes = fs::read(golden("every_value.gguf")).unwrap();
    bytes[4] = 2;
    let file = Gguf::from_bytes(Bytes::from_vec(bytes), "memory").unwrap();
    let expected = fs::read_to_string(golden("every_value.txt")).unwrap();
    assert_eq!(listing(&file), expected.replace("version 3", "version 2"));
}

#[test]
fn writing_gives_the_bytes_of_the_reference_writer() {
    let source = Gguf::open(golden("every_value.gguf")).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in source.metadata().iter() {
        writer.set(key, value);
    }
    for tensor in source.tensors() {
        writer.declare(&tensor.name, tensor.dtype, &tensor.shape);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.gguf");
    let mut data = writer.create(&path).unwrap();
    for tensor in source.tensors() {
        data.write(&tensor.name, &source.tensor_bytes(tensor)).unwrap();
    }
    let n_bytes = data.finish().unwrap();
    let (copy, original) = (fs::read(&path).unwrap(), fs::read(golden("every_value.gguf")).unwrap());
    assert_eq!(n_bytes, copy.len() as u64);
    assert!(copy == original, "the copy differs from the reference's file");
}

#[test]
fn typed_getters_read_the_golden_file() {
    let file = Gguf::open(golden("every_value.gguf")).unwrap();
    let m = file.metadata();
    assert_eq!(m.str("scalar.string").unwrap(), "naïve ▁🦙\n\0end");
    assert_eq!(m.u32("scalar.u8").unwrap(), 255);
    assert_eq!(m.usize("scalar.u32").unwrap(), u32::MAX as usize);
    assert_eq!(m.u64("scalar.u64").unwrap(), u64::MAX);
    assert_eq!(m.i32("scalar.i8").unwrap(), -128);
    assert_eq!(m.f32("scalar.f32").unwrap(), 1e-6);
    assert_eq!(m.f32("scalar.f64").unwrap(), 0.1);
    assert!(m.bool("scalar.true").unwrap() && !m.bool("scalar.false").unwrap());
    assert_eq!(m.integers("array.i16").unwrap().collect::<Vec<_>>(), [-32768, 32767]);
    assert_eq!(m.integers("array.u64").unwrap().collect::<Vec<_>>(), [0, i64::MAX]);
    assert_eq!(m.integers("array.u8").unwrap().len(), 3);
    assert_eq!(m.floats("array.f64").unwrap().collect::<Vec<_>>(), [0.1, f32::NEG_INFINITY]);
    assert_eq!(m.strings("array.string").unwrap().len(), 4);
    assert_eq!(m.strings("array.string").unwrap().nth(3), Some(&b"<0x0A>"[..]));
    assert_eq!(m.array("array.bool").unwrap().bools().unwrap().collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(m.array("array.u32").unwrap().numbers::<u32>().unwrap().collect::<Vec<_>>(), [0, u32::MAX]);
    assert!(m.array("array.u32").unwrap().numbers::<i32>().is_none());
    assert_eq!(m.opt_str("absent").unwrap(), None);

    let wrong: [(&str, Result<(), FileError>, &str); 8] = [
        ("absent", m.str("absent").map(drop), "key `absent` is missing"),
        (
            "number as text",
            m.str("scalar.u8").map(drop),
            "`scalar.u8` should hold text in UTF-8, but holds 255 (u8)",
        ),
        (
            "negative",
            m.u32("scalar.i8").map(drop),
            "should hold an integer from 0 to 4294967295, but holds -128 (i8)",
        ),
        ("too large", m.u32("scalar.u64").map(drop), "but holds 18446744073709551615 (u64)"),
        ("float as integer", m.opt_u32("scalar.f32").map(drop), "but holds 0.000001 (f32)"),
        ("text as bool", m.bool("scalar.string").map(drop), "a bool, but holds \"naïve"),
        (
            "numbers as strings",
            m.strings("array.u8").map(drop),
            "an array of strings, but holds [u8; 3] (array)",
        ),
        ("scalar as array", m.array("scalar.u8").map(drop), "an array, but holds 255 (u8)"),
    ];
    for (what, result, expected) in wrong {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("every_value.gguf"), "{what}: {message}");
    }
}

#[test]
fn shapes_are_outermost_first() {
    let file = Gguf::open(golden("every_value.gguf")).unwrap();
    for (name, shape, n_rows, n_cols, n_bytes) in [
        ("matrix", &[2, 3][..], 2, 3, 24),
        ("vector", &[3], 1, 3, 6),
        ("cube", &[4, 3, 2], 12, 2, 96),
        ("four", &[1, 4, 2, 2], 8, 2, 32),
        ("q6_k", &[1, 256], 1, 256, 210),
    ] {
        let t = file.tensor(name).unwrap();
        assert_eq!(
            (&t.shape[..], t.n_rows(), t.n_cols(), t.n_bytes()),
            (shape, n_rows, n_cols, n_bytes),
            "{name}"
        );
        assert_eq!(t.n_elements(), n_rows * n_cols);
    }
    assert!(file.tensor("absent").is_none());
}

const PARTS: [&str; 3] =
    ["parts-00001-of-00003.gguf", "parts-00002-of-00003.gguf", "parts-00003-of-00003.gguf"];

#[test]
fn a_split_file_opens_by_any_part() {
    for name in PARTS {
        let file = Gguf::open(golden(name)).unwrap();
        assert_eq!(file.metadata().u32("llama.block_count").unwrap(), 1, "opened by {name}");
        assert_eq!(file.parts().len(), 3);
        assert_eq!(file.path(), golden(PARTS[0]));
        for i in 0..5usize {
            let tensor = file.tensor(&format!("t{i}")).unwrap();
            assert_eq!((tensor.part, &tensor.shape[..]), (i / 2, &[1 + i, 4][..]));
            assert_eq!(&file.tensor_bytes(tensor)[..4], (i as f32).to_le_bytes());
        }
    }
}

#[test]
fn a_broken_split_says_which_part() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let reset = || PARTS.iter().for_each(|name| assert!(fs::copy(golden(name), at(name)).is_ok()));
    let message = || Gguf::open(at(PARTS[0])).unwrap_err().to_string();

    reset();
    fs::remove_file(at(PARTS[1])).unwrap();
    assert!(message().contains("part 2 of 3 is missing") && message().contains(PARTS[1]), "{}", message());

    reset();
    fs::copy(golden(PARTS[2]), at(PARTS[1])).unwrap();
    assert!(message().contains("should be part 2 of 3 but is not"), "{}", message());

    reset();
    fs::copy(golden("every_value.gguf"), at(PARTS[2])).unwrap();
    assert!(message().contains("should be part 3 of 3 but is not"), "{}", message());

    reset();
    fs::write(at(PARTS[2]), b"").unwrap();
    assert!(message().contains("an empty file"), "{}", message());

    reset();
    fs::rename(at(PARTS[0]), at("first.gguf")).unwrap();
    let renamed = Gguf::open(at("first.gguf")).unwrap_err().to_string();
    assert!(renamed.contains("should end in `-00001-of-00003.gguf`"), "{renamed}");

    // The same tensors twice: part 3 replaced by part 2 under a corrected number.
    reset();
    let mut bytes = fs::read(golden(PARTS[1])).unwrap();
    let key = bytes.windows(8).position(|w| w == b"split.no").unwrap();
    bytes[key + 8 + 4] = 2;
    fs::write(at(PARTS[2]), bytes).unwrap();
    assert!(message().contains("should hold 5 tensors together but hold 6"), "{}", message());

    let bytes = fs::read(golden(PARTS[0])).unwrap();
    let lonely = Gguf::from_bytes(Bytes::from_vec(bytes), "memory").unwrap_err().to_string();
    assert!(lonely.contains("it is part 1 of 3"), "{lonely}");
}
