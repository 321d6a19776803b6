//! Reads one part of a GGUF file: header, metadata, table of tensors, and the place of their data.

use std::path::Path;
use std::sync::Arc;

use whit_base::Bytes;

use super::cursor::{Cursor, Flaw};
use super::metadata::MAX_KEYS;
use super::tensor::{Entry, MAX_TENSORS, MIN_ENTRY, check_overlap};
use super::{Metadata, Part, TensorInfo};
use crate::FileError;

/// The alignment of a file that does not state one.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;

/// The key that states it.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// Bytes of the shortest metadata entry: key length, type, one byte of value.
const MIN_KEY_VALUE: u64 = 8 + 4 + 1;

/// A part that has been read and checked.
pub(super) struct Read {
    pub(super) part: Part,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
}

/// Whoever holds the bytes of a file.
pub(super) type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Reads the part that `owner` holds, which is the `number`th of its file, from 0.
pub(super) fn read(owner: Owner, path: &Path, number: usize) -> Result<Read, FileError> {
    let n_bytes = (*owner).as_ref().len();
    let bytes = Bytes::new(owner.clone(), 0..n_bytes).unwrap_or_else(|| Bytes::from_vec(Vec::new()));
    let shared: Arc<Path> = path.into();
    let mut cursor = Cursor::new(&bytes);
    check_magic(path, &mut cursor)?;
    let version = check_version(path, &mut cursor)?;
    let n_tensors =
        cursor.count(MIN_ENTRY, MAX_TENSORS).map_err(|flaw| flaw.at(path, "the table of tensors"))?;
    let n_keys = cursor.count(MIN_KEY_VALUE, MAX_KEYS).map_err(|flaw| flaw.at(path, "the metadata"))?;

    let metadata = Metadata::read(&shared, &bytes, &mut cursor, n_keys)?;
    let alignment = alignment(&metadata)?;

    let mut entries = Vec::new();
    for i in 0..n_tensors {
        entries.push(Entry::read(path, &mut cursor, i, n_tensors)?);
    }
    let data_start = (cursor.position() as u64).next_multiple_of(alignment);

    let tensors: Vec<TensorInfo> = entries
        .into_iter()
        .map(|entry| entry.place(path, number, &owner, data_start, alignment))
        .collect::<Result<_, _>>()?;
    check_overlap(path, &tensors)?;

    let part = Part { path: path.to_owned(), version, alignment: alignment as usize, n_bytes };
    Ok(Read { part, metadata, tensors })
}

fn check_magic(path: &Path, cursor: &mut Cursor<'_>) -> Result<(), FileError> {
    let start = cursor.peek(16);
    if start.starts_with(b"GGUF") {
        return cursor.array::<4>().map(|_| ()).map_err(|flaw| flaw.at(path, "the header"));
    }
    let (found, hint) = recognise(start);
    Err(FileError::NotGguf { path: path.to_owned(), found, hint })
}

/// What a file that is not GGUF seems to be, by its first bytes, and what to do about it.
fn recognise(start: &[u8]) -> (String, &'static str) {
    const OLD: &str = "it predates GGUF: get the model as GGUF or convert it anew";
    const TABLE: [(&[u8], &str, &str); 10] = [
        (b"FUGG", "a byte-swapped file", "big-endian files are not supported: get the little-endian one"),
        (b"lmgg", "an old GGML file", OLD),
        (b"fmgg", "an old GGMF file", OLD),
        (b"tjgg", "an old GGJT file", OLD),
        (b"algg", "an old GGLA adapter", OLD),
        (
            b"PK\x03\x04",
            "a zip archive (a wheel or a PyTorch checkpoint)",
            "extract the .gguf file from it first",
        ),
        (b"version https://", "a Git LFS pointer", "run `git lfs pull`, or download the file itself"),
        (b"<!", "a web page", "the download went wrong: download the file itself"),
        (b"<html", "a web page", "the download went wrong: download the file itself"),
        (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    ];
    if start.is_empty() {
        return ("an empty file".to_owned(), "download it again");
    }
    if let Some((_, found, hint)) = TABLE.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return ((*found).to_owned(), hint);
    }
    // safetensors: the length of a JSON object in 8 bytes, then the object.
    if start.get(8..10) == Some(b"{\"") {
        return ("a safetensors file".to_owned(), "get the model as GGUF or convert it");
    }
    let head = start.get(..start.len().min(8)).unwrap_or_default();
    (
        format!("something that starts with \"{}\"", head.escape_ascii()),
        "name a .gguf file, or download it again",
    )
}

fn check_version(path: &Path, cursor: &mut Cursor<'_>) -> Result<u32, FileError> {
    let version = cursor.u32().map_err(|flaw| flaw.at(path, "the version"))?;
    let hint = match version {
        2 | 3 => return Ok(version),
        1 => "convert it anew, or get a newer conversion of the model",
        swapped if (1..=99).contains(&swapped.swap_bytes()) => {
            "it is a big-endian file, made for another kind of machine: get the little-endian one"
        }
        _ => "if it is newer than this program, update the program; otherwise download the file again",
    };
    Err(FileError::Version { path: path.to_owned(), version, hint })
}

/// The stated alignment, or 32. Weights are used in place, so an alignment below 8 is refused, as by the specification.
fn alignment(metadata: &Metadata) -> Result<u64, FileError> {
    let stated = metadata.opt_u32(ALIGNMENT_KEY)?.map_or(DEFAULT_ALIGNMENT, u64::from);
    if stated >= 8 && stated.is_power_of_two() {
        return Ok(stated);
    }
    let flaw = Flaw::bad(0, "a power of two from 8 up", stated);
    Err(flaw.at(metadata.path(), format!("metadata key `{ALIGNMENT_KEY}`")))
}
