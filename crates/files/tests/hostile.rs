//! Files that lie, are cut short, or are something else: an error that says where, never a panic, never an
//! allocation that the file does not justify.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;

use whit_base::Bytes;
use whit_files::{FileError, Gguf, Value};

/// Builds a file byte by byte, with no check at all.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn head(version: u32, n_tensors: u64, n_keys: u64) -> Raw {
        Raw(b"GGUF".to_vec()).u32(version).u64(n_tensors).u64(n_keys)
    }

    fn bytes(mut self, bytes: &[u8]) -> Raw {
        self.0.extend(bytes);
        self
    }

    fn u32(self, value: u32) -> Raw {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Raw {
        self.bytes(&value.to_le_bytes())
    }

    fn text(self, text: &str) -> Raw {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    fn key(self, key: &str, kind: u32) -> Raw {
        self.text(key).u32(kind)
    }

    /// `ne` is innermost first, as in the file.
    fn tensor(self, name: &str, ne: &[u64], kind: u32, offset: u64) -> Raw {
        let raw = self.text(name).u32(ne.len() as u32);
        ne.iter().fold(raw, |raw, n| raw.u64(*n)).u32(kind).u64(offset)
    }

    fn data(mut self, n: usize) -> Raw {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + n, 0xAB);
        self
    }

    fn open(&self) -> Result<Gguf, FileError> {
        Gguf::from_bytes(Bytes::from_vec(self.0.clone()), "test.gguf")
    }
}

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A small valid file with strings, nested arrays and two tensors, whose data end the file.
fn valid() -> Raw {
    Raw::head(3, 2, 4)
        .key("general.architecture", STRING)
        .text("llama")
        .key("llama.block_count", U32)
        .u32(1)
        .key("tokenizer.ggml.tokens", ARRAY)
        .u32(STRING)
        .u64(3)
        .text("a")
        .text("bc")
        .text("")
        .key("nested", ARRAY)
        .u32(ARRAY)
        .u64(1)
        .u32(5)
        .u64(2)
        .u64(7)
        .tensor("embed", &[32, 2], 8, 0)
        .tensor("norm", &[8], 0, 96)
        .data(128)
}

#[test]
fn the_valid_file_is_valid() {
    let file = valid().open().unwrap();
    assert_eq!(file.tensors().len(), 2);
    assert_eq!(file.tensor_bytes(file.tensor("norm").unwrap()).len(), 32);
}

#[test]
fn cut_at_every_byte_it_is_refused() {
    let whole = valid();
    for n in 0..whole.0.len() {
        let error = Raw(whole.0[..n].to_vec()).open().unwrap_err();
        let cut_short = match n {
            0..4 => matches!(error, FileError::NotGguf { .. }),
            _ => {
                matches!(error, FileError::Truncated { .. })
                    && error.to_string().contains("download it again")
            }
        };
        assert!(cut_short, "cut at {n}: {error}");
    }
}

#[test]
fn lies_are_refused_with_their_place() {
    let huge = u64::MAX;
    let one_key = || Raw::head(3, 0, 1);
    let one_tensor = || Raw::head(3, 1, 0);
    let nested = |depth: usize| {
        let raw = (0..depth).fold(one_key().key("bomb", ARRAY), |raw, _| raw.u32(ARRAY).u64(1));
        raw.u32(0).u64(0)
    };
    #[rustfmt::skip]
    let cases: Vec<(&str, Raw, &str)> = vec![
        ("no such version", Raw::head(99, 0, 0), "GGUF version 99"),
        ("version 1", Raw::head(1, 0, 0), "GGUF version 1 "),
        ("big-endian", Raw::head(3u32.swap_bytes(), 0, 0), "big-endian"),
        ("tensor count", Raw::head(3, huge, 0), "the table of tensors needs"),
        ("tensor count, plausible", Raw::head(3, 1000, 0).bytes(&[0; 100]), "the table of tensors needs 24000 bytes"),
        ("key count", Raw::head(3, 0, huge), "the metadata needs"),
        ("key count, plausible", Raw::head(3, 0, 1000).bytes(&[0; 100]), "the metadata needs 13000 bytes"),
        ("key length", one_key().u64(huge).bytes(&[0; 50]), "metadata key 1 of 1 needs"),
        ("key too long", one_key().u64(70_000).bytes(&vec![b'k'; 80_000]), "at most 65535 bytes, got 70000"),
        ("key not UTF-8", one_key().u64(2).bytes(&[0xff, 0xfe]).bytes(&[0; 50]), "a UTF-8 name, got \"\\xff\\xfe\""),
        ("value type", one_key().key("k", 13).bytes(&[0; 50]), "`k` at offset 33: expected a value type from 0 to 12, got 13"),
        ("bool", one_key().key("k", 7).bytes(&[2]), "a bool, 0 or 1, got 2"),
        ("string length", one_key().key("k", STRING).u64(huge), "`k` needs 18446744073709551615 bytes from offset 45"),
        ("array item type", one_key().key("k", ARRAY).u32(99).u64(0), "a value type from 0 to 12, got 99"),
        ("array length", one_key().key("k", ARRAY).u32(5).u64(huge), "`k` needs"),
        ("array length, product overflows", one_key().key("k", ARRAY).u32(10).u64(1 << 61), "`k` needs"),
        ("array of strings, length", one_key().key("k", ARRAY).u32(STRING).u64(3).bytes(&[0; 16]), "`k` needs 24 bytes"),
        ("string in an array", one_key().key("k", ARRAY).u32(STRING).u64(1).u64(huge), "`k` needs"),
        ("bool in an array", one_key().key("k", ARRAY).u32(7).u64(3).bytes(&[0, 1, 7]), "a bool, 0 or 1, got 7"),
        ("nested arrays, length", one_key().key("k", ARRAY).u32(ARRAY).u64(1 << 40).bytes(&[0; 99]), "`k` needs"),
        ("arrays nested deeply", nested(100), "nested at most 4 deep"),
        ("key twice", Raw::head(3, 0, 2).key("k", 0).bytes(&[1]).key("k", 0).bytes(&[2]), "`k` a second time"),
        ("alignment 0", one_key().key("general.alignment", U32).u32(0), "a power of two from 8 up, got 0"),
        ("alignment 48", one_key().key("general.alignment", U32).u32(48), "a power of two from 8 up, got 48"),
        ("alignment as text", one_key().key("general.alignment", STRING).text("32"), "but holds \"32\""),
        ("tensor name length", one_tensor().u64(huge).bytes(&[0; 50]), "the name of tensor 1 of 1 needs"),
        ("dimension count", one_tensor().text("t").u32(5).bytes(&[0; 90]), "`t` at offset 33: expected at most 4 dimensions, got 5"),
        ("dimension 0", one_tensor().tensor("t", &[32, 0], 0, 0), "dimensions from 1 up, got 0"),
        ("dimensions overflow", one_tensor().tensor("t", &[1 << 32, 1 << 32], 0, 0), "fewer than 2^63"),
        ("dimensions overflow, 4", one_tensor().tensor("t", &[huge, huge, huge, huge], 0, 0), "fewer than 2^63"),
        ("bytes overflow", one_tensor().tensor("t", &[1 << 62], 0, 0), "fewer than 2^63"),
        ("half a block", one_tensor().tensor("t", &[33], 8, 0).data(99), "a multiple of 32 values, the blocks of Q8_0, got [33]"),
        ("type known by name", one_tensor().tensor("t", &[256], 41, 0), "tensor `t` is stored as type 41 (Q1_0)"),
        ("type retired", one_tensor().tensor("t", &[32], 31, 0), "type 31 (Q4_0_4_4, retired)"),
        ("type unknown", one_tensor().tensor("t", &[32], 4242, 0), "type 4242 (unknown)"),
        ("offset unaligned", one_tensor().tensor("t", &[8], 0, 33).data(99), "a data offset that is a multiple of 32, got 33"),
        ("offset past the end", one_tensor().tensor("t", &[8], 0, 1 << 40).data(32), "the data of tensor `t` needs 32 bytes"),
        ("offset overflows", one_tensor().tensor("t", &[8], 0, huge - 31).data(32), "the data of tensor `t` needs 32 bytes"),
        ("data longer than the file", one_tensor().tensor("t", &[1 << 40], 0, 0).data(32), "only 32 are left"),
        ("tensor twice", Raw::head(3, 2, 0).tensor("t", &[8], 0, 0).tensor("t", &[8], 0, 32).data(64), "the name a second time"),
        ("data overlap", Raw::head(3, 2, 0).tensor("a", &[16], 0, 0).tensor("b", &[8], 0, 32).data(64), "an overlap of 32 bytes"),
        ("split number", Raw::head(3, 0, 2).key("split.count", U32).u32(2).key("split.no", U32).u32(2), "part 2 of 2, which cannot be"),
    ];
    for (what, raw, expected) in cases {
        let message = raw.open().expect_err(what).to_string();
        assert!(message.contains(expected), "{what}: expected \"{expected}\" in: {message}");
        assert!(message.starts_with("test.gguf: "), "{what}: {message}");
    }
}

#[test]
fn other_files_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let cases: [(&[u8], &str); 9] = [
        (b"", "an empty file"),
        (b"FUGG\0\0\0\x03", "big-endian"),
        (b"tjgg\x03\0\0\0", "an old GGJT file"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}", "a safetensors file"),
        (b"\x80\x02}q\0", "starts with \"\\x80\\x02}q\\x00\""),
        (b"GGU", "starts with \"GGU\""),
    ];
    for (bytes, expected) in cases {
        fs::write(&path, bytes).unwrap();
        let error = Gguf::open(&path).unwrap_err();
        assert!(matches!(error, FileError::NotGguf { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let absent = Gguf::open(folder.path().join("absent.gguf")).unwrap_err().to_string();
    assert!(absent.contains("absent.gguf: cannot open the file"), "{absent}");
    let is_folder = Gguf::open(folder.path()).unwrap_err().to_string();
    assert!(is_folder.contains("a folder"), "{is_folder}");
}

#[test]
fn strings_that_are_not_utf8_are_bytes() {
    let raw = Raw::head(3, 0, 2)
        .key("text", STRING)
        .u64(2)
        .bytes(&[0xff, b'a'])
        .key("tokens", ARRAY)
        .u32(STRING)
        .u64(2)
        .u64(1)
        .bytes(&[0xc3])
        .text("ok");
    let file = raw.open().unwrap();
    assert_eq!(file.metadata().get("text"), Some(Value::Str(&[0xff, b'a'])));
    assert!(file.metadata().str("text").unwrap_err().to_string().contains("text in UTF-8"));
    assert_eq!(file.metadata().strings("tokens").unwrap().collect::<Vec<_>>(), [&[0xc3][..], b"ok"]);
}

/// Reads everything that can be read, so that a lie that passed the checks would be found.
fn exercise(file: &Gguf) -> usize {
    fn walk(value: Value<'_>) -> usize {
        match value {
            Value::Str(bytes) => bytes.iter().map(|b| *b as usize).sum(),
            Value::Array(array) => {
                let typed = array.strings().map_or(0, |s| s.map(<[u8]>::len).sum())
                    + array.integers().map_or(0, |s| s.len())
                    + array.floats().map_or(0, |s| s.filter(|v| v.is_nan()).count());
                let items: Vec<Value<'_>> = array.values().collect();
                assert_eq!(items.len(), array.len());
                typed + items.into_iter().map(walk).sum::<usize>()
            }
            other => other.to_string().len(),
        }
    }
    let metadata: usize = file.metadata().iter().map(|(key, value)| key.len() + walk(value)).sum();
    let tensors = file.tensors().iter().map(|t| {
        assert_eq!(t.dtype.row_bytes(t.n_cols()).unwrap() * t.n_rows(), t.n_bytes());
        file.tensor_bytes(t).iter().map(|b| *b as usize).sum::<usize>()
    });
    metadata + tensors.sum::<usize>()
}

/// xorshift64*: the same damage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

#[test]
fn damaged_files_never_panic() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/every_value.gguf");
    let mut random = Random(0x5EED);
    let (mut opened, mut refused) = (0, 0);
    for original in [valid().0, fs::read(golden).unwrap()] {
        // The head is where a flip can do harm; the rest is data.
        let head = original.len().min(2000);
        for _ in 0..20_000 {
            let mut bytes = original.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(head);
                // Half the time a single bit, else a byte that tends to be extreme.
                bytes[at] = match random.below(4) {
                    0 | 1 => bytes[at] ^ (1 << random.below(8)),
                    2 => 0xff,
                    _ => random.below(256) as u8,
                };
            }
            if random.below(8) == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
            match Raw(bytes).open() {
                Ok(file) => {
                    exercise(&file);
                    opened += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(opened > 1000 && refused > 1000, "the damage should do both: {opened} opened, {refused} refused");
}
