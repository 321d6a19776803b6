//! safetensors, read and written: against the crate of that name, and files and folders that lie.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use whit_base::{Bytes, DType};
use whit_files::{FileError, SafeTensors, SafeTensorsWriter};

/// A file of this header and so many bytes of data.
fn file(header: &str, n_data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..n_data).map(|i| i as u8));
    bytes
}

fn open(bytes: &[u8]) -> Result<SafeTensors, FileError> {
    SafeTensors::from_bytes(Bytes::from_vec(bytes.to_vec()), "test.safetensors")
}

fn entry(dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

/// One tensor `t`.
fn one(dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#"{{"t":{}}}"#, entry(dtype, shape, from, to))
}

/// Two tensors `a` and `b` of four bytes each, at these places.
fn two(a: (u64, u64), b: (u64, u64)) -> String {
    format!(r#"{{"a":{},"b":{}}}"#, entry("F32", "[1]", a.0, a.1), entry("F32", "[1]", b.0, b.1))
}

/// A file as the crate writes it, of many types and shapes.
fn written_by_the_crate() -> Vec<u8> {
    let data: Vec<u8> = (0..=255).cycle().take(4096).collect();
    let tensors: [(&str, Dtype, &[usize], usize); 8] = [
        ("model.embed", Dtype::BF16, &[5, 3], 30),
        ("scalar", Dtype::F32, &[], 4),
        ("empty", Dtype::F32, &[0, 7], 0),
        ("half", Dtype::F16, &[2, 2, 2, 2, 2], 64),
        ("ids", Dtype::I64, &[3], 24),
        ("mask", Dtype::BOOL, &[7], 7),
        ("wide", Dtype::F64, &[2], 16),
        ("größe", Dtype::F32, &[1, 9], 36),
    ];
    let views = tensors.iter().map(|(name, dtype, shape, n)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), &data[..*n]).unwrap())
    });
    let remarks = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(remarks)).unwrap()
}

/// What both readers say of a file: type, shape and data by name.
type Contents = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

fn contents(file: &SafeTensors) -> Contents {
    let tensor = |t: &whit_files::SafeTensor| (t.kind.name().to_owned(), t.shape.clone(), t.data.to_vec());
    file.tensors().iter().map(|t| (t.name.to_string(), tensor(t))).collect()
}

fn contents_by_the_crate(bytes: &[u8]) -> Result<Contents, safetensors::SafeTensorError> {
    let file = safetensors::SafeTensors::deserialize(bytes)?;
    let tensor =
        |view: &TensorView<'_>| (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec());
    Ok(file.tensors().iter().map(|(name, view)| (name.clone(), tensor(view))).collect())
}

#[test]
fn files_of_the_crate_are_read() {
    let bytes = written_by_the_crate();
    let ours = open(&bytes).unwrap();
    assert_eq!(contents(&ours), contents_by_the_crate(&bytes).unwrap());
    let dtypes = ["model.embed", "half", "scalar", "ids"].map(|name| ours.tensor(name).unwrap().dtype());
    assert_eq!(dtypes, [Some(DType::BF16), Some(DType::F16), Some(DType::F32), None]);
}

#[test]
fn cut_at_every_byte_it_is_refused() {
    let whole = written_by_the_crate();
    for n in 0..whole.len() {
        assert!(open(&whole[..n]).is_err(), "cut at {n}");
    }
}

#[test]
fn lies_are_refused_with_their_place() {
    let huge = u64::MAX;
    let length = |n: u64| [&n.to_le_bytes()[..], b"{}      "].concat();
    #[rustfmt::skip]
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("header length", length(huge), "the header needs 18446744073709551615 bytes from offset 8, but only 8 are left"),
        ("header length, plausible", length(100), "the header needs 100 bytes from offset 8, but only 8 are left"),
        ("header of 100 MB and one", [&100_000_001u64.to_le_bytes()[..], &vec![b' '; 100_000_001]].concat(), "a header of at most 100000000 bytes, got 100000001"),
        ("no JSON", file("{\"t\":", 0), "the header at offset"),
        ("no object", file("[1, 2]", 0), "an object that names tensors"),
        ("no text", [&2u64.to_le_bytes()[..], b"{\xff"].concat(), "a table of tensors in JSON"),
        ("remarks that are none", file(r#"{"__metadata__":[1]}"#, 0), "a table of tensors in JSON"),
        ("field missing", file(r#"{"t":{"dtype":"F32","shape":[1]}}"#, 4), "missing field `data_offsets`"),
        ("negative shape", file(&one("F32", "[-1]", 0, 4), 4), "a table of tensors in JSON"),
        ("fractional shape", file(&one("F32", "[1.5]", 0, 4), 4), "a table of tensors in JSON"),
        ("nested deeply", file(&format!("{{\"t\":{}", "[".repeat(100_000)), 0), "a table of tensors in JSON"),
        ("name too long", file(&one("F32", "[1]", 0, 4).replace("\"t\"", &format!("\"{}\"", "n".repeat(2000))), 4), "a name of 2000 bytes"),
        ("name twice", file(&two((0, 4), (4, 8)).replace("\"b\"", "\"a\""), 8), "the name `a` a second time"),
        ("type unknown", file(&one("F33", "[1]", 0, 4), 4), "tensor `t` at offset 62: expected a type of values that the format knows, got F33"),
        ("offsets in disorder", file(&one("F32", "[1]", 4, 0), 4), "offsets in order, got 4 and 0"),
        ("end past the file", file(&one("F32", "[2]", 0, 8), 4), "the data of tensor `t` needs 8 bytes from offset 62, but only 4 are left"),
        ("start past the file", file(&one("F32", "[1]", 1 << 40, (1 << 40) + 4), 4), "but only 0 are left"),
        ("offsets at the edge", file(&one("F32", "[1]", huge - 4, huge), 4), "the data of tensor `t` needs 4 bytes"),
        ("shape too small", file(&one("F32", "[1]", 0, 8), 8), "the bytes of [1] values of type F32, got 8 bytes"),
        ("shape too large", file(&one("BF16", "[2,3]", 0, 8), 8), "the bytes of [2, 3] values of type BF16, got 8 bytes"),
        ("shape overflows", file(&one("F32", "[4294967296,4294967296,4294967296]", 0, 0), 0), "the bytes of [4294967296, "),
        ("shape overflows to 0", file(&one("F32", "[4611686018427387904]", 0, 0), 0), "the bytes of [4611686018427387904] values"),
        ("half a byte", file(&one("F4", "[1]", 0, 1), 1), "values of type F4"),
        ("overlap", file(&two((0, 4), (2, 6)), 6), "the data of tensor `b` at offset"),
        ("overlap, the same place", file(&two((0, 4), (0, 4)), 4), "an overlap of 4 bytes"),
        ("gap", file(&two((0, 4), (8, 12)), 12), "a gap of 4 bytes"),
        ("gap before all", file(&one("F32", "[1]", 4, 8), 8), "data right behind the header"),
        ("more behind all", file(&one("F32", "[1]", 0, 4), 10), "the end of the file, got 6 more bytes"),
        ("data without tensors", file("{}", 3), "got 3 more bytes"),
    ];
    for (what, bytes, expected) in cases {
        let message = open(&bytes).expect_err(what).to_string();
        assert!(message.contains(expected), "{what}: expected \"{expected}\" in: {message}");
        assert!(message.starts_with("test.safetensors: "), "{what}: {message}");
    }
}

#[test]
fn other_files_are_recognised() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "an empty file"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (b"PK\x03\x04....", "another zip archive"),
        (b"\x80\x02}q\0q\x01", "a pickle"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ];
    for (bytes, expected) in cases {
        let error = open(bytes).unwrap_err();
        assert!(matches!(error, FileError::NotSafetensors { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn damaged_files_are_read_as_the_crate_reads_them() {
    let original = written_by_the_crate();
    let head = original.len() - 181;
    let mut seed = 0x5EEDu64;
    let mut below = |n: usize| {
        // xorshift64*: the same damage on every run.
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    };
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = original.clone();
        for _ in 0..=below(2) {
            let at = below(head);
            bytes[at] = match below(4) {
                0 | 1 => bytes[at] ^ (1 << below(8)),
                2 => b'0' + below(10) as u8,
                _ => below(256) as u8,
            };
        }
        match (open(&bytes), contents_by_the_crate(&bytes)) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(contents(&ours), theirs);
                opened += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            // The crate lets the last of two equal names win.
            (Err(error), Ok(_)) => assert!(error.to_string().contains("a second time"), "{error}"),
            (Ok(_), Err(error)) => panic!("the crate refuses this: {error}"),
        }
    }
    assert!(opened > 500 && refused > 500, "the damage should do both: {opened} opened, {refused} refused");
}

/// Tensors of odd sizes in mixed formats, and their bytes.
fn tensors() -> Vec<(String, DType, Vec<usize>, Vec<u8>)> {
    let formats = [DType::BF16, DType::F32, DType::F16];
    let tensor = |i: usize| {
        let (dtype, shape) = (formats[i % 3], vec![i + 1, 3]);
        let n = (i + 1) * 3 * dtype.block_bytes();
        (format!("layer.{i}.weight"), dtype, shape, (0..n).map(|b| (b * 7 + i) as u8).collect())
    };
    (0..9).map(tensor).collect()
}

fn write(folder: &Path, shard_bytes: u64) -> Result<u64, FileError> {
    let mut writer = SafeTensorsWriter::new().with_shard_bytes(shard_bytes);
    let tensors = tensors();
    for (name, dtype, shape, _) in &tensors {
        writer.declare(name, *dtype, shape)?;
    }
    let mut out = writer.create(folder)?;
    out.put("config.json", b"{}")?;
    while let Some(name) = out.next_name().map(str::to_owned) {
        let (.., bytes) = tensors.iter().find(|tensor| tensor.0 == name).unwrap();
        assert!(!folder.exists(), "not before it is whole");
        out.write_with(&name, |out| bytes.chunks(5).try_for_each(|piece| out.write_all(piece)))?;
    }
    out.finish()
}

#[test]
fn what_is_written_is_read_by_both() {
    let place = tempfile::tempdir().unwrap();
    for (shard_bytes, n_files) in [(u64::MAX, 1), (100, 4), (1, 9)] {
        let folder = place.path().join(format!("by-{shard_bytes}"));
        let n_bytes = write(&folder, shard_bytes).unwrap();
        let ours = SafeTensors::open_folder(&folder).unwrap();
        assert_eq!(ours.files().len(), n_files, "{shard_bytes}");
        let on_disk: u64 =
            fs::read_dir(&folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(n_bytes, on_disk);
        let mut theirs = Contents::new();
        for path in ours.files() {
            theirs.extend(contents_by_the_crate(&fs::read(path).unwrap()).unwrap());
        }
        assert_eq!(contents(&ours), theirs);
        for (name, dtype, shape, bytes) in tensors() {
            let tensor = ours.tensor(&name).unwrap();
            assert_eq!(
                (tensor.dtype(), &tensor.shape, &*tensor.data),
                (Some(dtype), &shape, &*bytes),
                "{name}"
            );
            assert_eq!(tensor.offset % dtype.block_bytes(), 0, "{name} stands at a multiple of its width");
        }
        assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
    }
}

#[test]
fn the_writer_refuses_what_would_not_be_whole() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    let declared = || {
        let mut writer = SafeTensorsWriter::new();
        writer.declare("a", DType::F32, &[2]).unwrap();
        writer.declare("b", DType::F32, &[1]).unwrap();
        writer
    };
    let says = |error: FileError, expected: &str| assert!(error.to_string().contains(expected), "{error}");

    let mut out = declared().create(&folder).unwrap();
    says(out.write_with("b", |_| Ok(())).unwrap_err(), "tensor `a` is next, not `b`");
    says(out.write_with("a", |out| out.write_all(&[0; 7])).unwrap_err(), "has 8 bytes, but 7 were given");
    for name in ["../config.json", "a/../../b", "/tmp/b", ""] {
        says(out.put(name, b"").unwrap_err(), "no name within the folder");
    }
    says(out.finish().unwrap_err(), "tensor `a` was declared but not written");
    drop(declared().create(&folder).unwrap());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing stays");

    let mut writer = declared();
    says(writer.declare("q", DType::Q4_0, &[32]).unwrap_err(), "Q4_0 cannot stand in a safetensors file");
    says(writer.declare("h", DType::F32, &[usize::MAX, 2]).unwrap_err(), "too large");
    writer.declare("a", DType::F32, &[1]).unwrap();
    says(writer.create(&folder).unwrap_err(), "the tensor `a` is declared twice");
    fs::create_dir(&folder).unwrap();
    says(declared().create(&folder).unwrap_err(), "there is something of that name already");
}

#[test]
fn folders_that_lie_are_refused() {
    const INDEX: &str = "model.safetensors.index.json";
    let place = tempfile::tempdir().unwrap();
    write(&place.path().join("whole"), 200).unwrap();
    let part = one("F32", "[1]", 0, 4);
    fs::write(place.path().join("outside.safetensors"), file(&part, 4)).unwrap();
    let index = |map: &str| format!(r#"{{"weight_map":{{{map}}}}}"#);
    // Files of a folder, and what is said of them.
    type Case<'a> = (&'a str, Vec<(&'a str, Vec<u8>)>, &'a str);
    let text = |text: &str| text.as_bytes().to_vec();
    let cases: Vec<Case<'_>> = vec![
        ("nothing", vec![], "it holds neither `model.safetensors` nor `model.safetensors.index.json`"),
        ("pickles", vec![("pytorch_model.bin", vec![])], "pickles, which can run any program"),
        ("an adapter", vec![("adapter_model.safetensors", vec![])], "it is an adapter, not a model"),
        ("a GGUF file", vec![("m-Q4_0.gguf", vec![])], "name the GGUF file in it"),
        ("a part alone", vec![("model-00001-of-00002.safetensors", vec![])], "alone is not enough"),
        ("an index that is none", vec![(INDEX, text("[]"))], "is no index of tensors"),
        ("an index of numbers", vec![(INDEX, text(&index(r#""t":1"#)))], "is no index of tensors"),
        (
            "a file missing",
            vec![(INDEX, text(&index(r#""t":"a.safetensors""#)))],
            "`a.safetensors` is missing",
        ),
        ("up", vec![(INDEX, text(&index(r#""t":"../outside.safetensors""#)))], "no plain name"),
        ("up, otherwise", vec![(INDEX, text(&index(r#""t":"..\\outside.safetensors""#)))], "no plain name"),
        ("absolute", vec![(INDEX, text(&index(r#""t":"/tmp/outside.safetensors""#)))], "no plain name"),
        ("another kind of file", vec![(INDEX, text(&index(r#""t":"config.json""#)))], "no plain name"),
        (
            "a tensor too few",
            vec![
                (INDEX, text(&index(r#""t":"a.safetensors","u":"a.safetensors""#))),
                ("a.safetensors", file(&part, 4)),
            ],
            "holds 1 tensors, but `model.safetensors.index.json` says 2",
        ),
        (
            "a tensor too many",
            vec![
                (INDEX, text(&index(r#""a":"a.safetensors""#))),
                ("a.safetensors", file(&two((0, 4), (4, 8)), 8)),
            ],
            "holds a tensor `b`, of which",
        ),
        (
            "a tensor in two files",
            vec![
                (INDEX, text(&index(r#""t":"a.safetensors","u":"b.safetensors""#))),
                ("a.safetensors", file(&part, 4)),
                ("b.safetensors", file(&part, 4)),
            ],
            "so has another file of the model",
        ),
    ];
    for (i, (what, files, expected)) in cases.into_iter().enumerate() {
        let folder = place.path().join(i.to_string());
        fs::create_dir(&folder).unwrap();
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).unwrap();
        }
        let message = SafeTensors::open_folder(&folder).expect_err(what).to_string();
        assert!(message.contains(expected), "{what}: expected \"{expected}\" in: {message}");
    }
}
