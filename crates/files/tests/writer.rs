//! The writer's contract: what is declared is what is written, and a file appears whole or not at all.
//! That its bytes are those of the reference writer is checked in golden.rs.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io;

use whit_base::DType;
use whit_files::{FileError, Gguf, GgufWriter};

fn two_tensors() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "llama");
    writer.declare("a", DType::F32, &[3]);
    writer.declare("b", DType::Q8_0, &[2, 32]);
    writer
}

#[test]
fn values_and_tensors_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut writer = two_tensors();
    writer.set("general.alignment", 64u32);
    writer.set("removed", true);
    writer.set("replaced", 1u32);
    writer.set("last", 2.5f64);
    writer.set("replaced", "two");
    writer.unset("removed");
    writer.set_numbers("numbers", &[1.5f32, -2.0]);
    writer.set_numbers::<i32>("none", &[]);
    writer.set_strings("strings", ["", "ä", "b"]);
    let mut data = writer.create(&path).unwrap();
    data.write("a", &[1; 12]).unwrap();
    data.write_with("b", |out| (0..68u8).try_for_each(|byte| out.write_all(&[byte]))).unwrap();
    assert!(!path.exists(), "the file must not appear before it is whole");
    assert_eq!(data.finish().unwrap(), fs::metadata(&path).unwrap().len());

    let file = Gguf::open(&path).unwrap();
    assert_eq!((file.version(), file.alignment()), (3, 64));
    let m = file.metadata();
    let keys: Vec<&str> = m.iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        ["general.architecture", "general.alignment", "replaced", "last", "numbers", "none", "strings"]
    );
    assert_eq!((m.str("replaced").unwrap(), m.f32("last").unwrap()), ("two", 2.5));
    assert_eq!(m.floats("numbers").unwrap().collect::<Vec<_>>(), [1.5, -2.0]);
    assert_eq!(m.integers("none").unwrap().len(), 0);
    assert_eq!(m.strings("strings").unwrap().collect::<Vec<_>>(), [&b""[..], "ä".as_bytes(), b"b"]);
    let (a, b) = (file.tensor("a").unwrap(), file.tensor("b").unwrap());
    assert_eq!((a.offset % 64, b.offset - a.offset), (0, 64));
    assert_eq!(file.tensor_bytes(a)[..], [1; 12]);
    assert!(file.tensor_bytes(b).iter().copied().eq(0..68));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_broken_contract_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    type Steps = fn(&mut whit_files::TensorWriter) -> Result<(), FileError>;
    let cases: [(Steps, &str); 6] = [
        (|d| d.write("b", &[0; 68]), "tensor `a` is next, not `b`"),
        (|d| d.write("a", &[0; 11]), "tensor `a` has 12 bytes, but 11 were given"),
        (|d| d.write("a", &[0; 13]), "tensor `a` has 12 bytes, but 13 were given"),
        (|d| d.write("a", &[0; 12]), "tensor `b` was declared but not written"),
        (
            |d| {
                d.write("a", &[0; 12])?;
                d.write("b", &[0; 68])?;
                d.write("c", &[])
            },
            "tensor `c` was not declared",
        ),
        (
            |d| d.write_with("a", |_| Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"))),
            "cannot write the file: the disk is full",
        ),
    ];
    for (steps, expected) in cases {
        let mut data = two_tensors().create(&path).unwrap();
        let error = steps(&mut data).and_then(|()| data.finish().map(drop)).unwrap_err();
        assert!(error.to_string().contains(expected), "expected \"{expected}\" in: {error}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "something is left behind");
    }
}

#[test]
fn an_impossible_head_is_refused() {
    let long = "n".repeat(64);
    type Change<'a> = &'a dyn Fn(&mut GgufWriter);
    let cases: [(Change<'_>, &str); 8] = [
        (&|w| w.declare("a", DType::F32, &[1]), "the name is declared twice"),
        (&|w| w.declare("c", DType::Q4_K, &[4, 100]), "rows of a multiple of 256 values"),
        (&|w| w.declare("c", DType::F32, &[0]), "each from 1 up"),
        (&|w| w.declare("c", DType::F32, &[1, 1, 1, 1, 1]), "at most 4 dimensions"),
        (&|w| w.declare("c", DType::F32, &[usize::MAX, 2]), "fewer than 2^63"),
        (&|w| w.declare(&long, DType::F32, &[1]), "1 to 63 bytes"),
        (&|w| w.set("", 1u8), "1 to 65535 bytes"),
        (&|w| w.set("general.alignment", 7u32), "a power of two from 8 up"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (change, expected) in cases {
        let mut writer = two_tensors();
        change(&mut writer);
        let error = writer.create(folder.path().join("model.gguf")).unwrap_err();
        assert!(error.to_string().contains(expected), "expected \"{expected}\" in: {error}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
    let error = two_tensors().create(folder.path().join("absent/model.gguf")).unwrap_err();
    assert!(error.to_string().contains("cannot create the file"), "{error}");
}

#[test]
fn an_existing_file_is_replaced_only_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, "old").unwrap();
    drop(two_tensors().create(&path).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let mut data = two_tensors().create(&path).unwrap();
    data.write("a", &[0; 12]).unwrap();
    data.write("b", &[0; 68]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    data.finish().unwrap();
    assert!(Gguf::open(&path).is_ok());
}
