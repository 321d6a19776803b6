//! Reads the header of one safetensors file, and checks that its tensors are the rest of the file: each inside it, none over
//! another, nothing between or behind them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use whit_base::Bytes;

use super::{SafeTensor, SafeType};
use crate::FileError;
use crate::gguf::cursor::Flaw;

/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// The longest name of a tensor.
const MAX_NAME: usize = 1024;
/// The key of the file's own remarks.
const REMARKS: &str = "__metadata__";

/// Reads the file that `owner` holds.
pub(super) fn read(
    path: &Path,
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
) -> Result<Vec<SafeTensor>, FileError> {
    let file = (*owner).as_ref();
    let (text, data_start) = text_of(path, file)?;
    let header: Header = serde_json::from_slice(text).map_err(|error| {
        // A header is one line.
        let flaw = Flaw::bad(8 + error.column(), "a table of tensors in JSON", error);
        flaw.at(path, "the header")
    })?;
    let mut tensors = Vec::with_capacity(header.0.len());
    let n_data = file.len() - data_start;
    for (name, entry) in header.0 {
        let place = || format!("tensor `{name}`");
        let bad = |expected: &str, got: String| Flaw::bad(data_start, expected, got).at(path, place());
        let kind = SafeType::from_name(&entry.dtype)
            .ok_or_else(|| bad("a type of values that the format knows", entry.dtype.clone()))?;
        let [from, to] = entry.data_offsets;
        let short = |need: u64| FileError::Truncated {
            path: path.to_owned(),
            place: format!("the data of tensor `{name}`"),
            offset: (data_start as u64).saturating_add(from),
            need,
            have: (n_data as u64).saturating_sub(from),
        };
        let n = to.checked_sub(from).ok_or_else(|| bad("offsets in order", format!("{from} and {to}")))?;
        let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
        let Some((from, to)) = range.filter(|(_, to)| *to <= n_data) else { return Err(short(n)) };
        let shape: Option<Vec<usize>> = entry.shape.iter().map(|&n| usize::try_from(n).ok()).collect();
        let expected = shape.as_deref().and_then(|shape| kind.bytes(shape));
        let Some(shape) = shape.filter(|_| expected == Some(to - from)) else {
            let got = format!("{} bytes", to - from);
            return Err(bad(&format!("the bytes of {:?} values of type {kind}", entry.shape), got));
        };
        let place = data_start + from..data_start + to;
        let data = Bytes::new(owner.clone(), place.clone()).ok_or_else(|| short(n))?;
        tensors.push(SafeTensor { name: name.into(), shape, kind, offset: place.start, data });
    }
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.data.len()));
    check_whole(path, &tensors, data_start, file.len())?;
    Ok(tensors)
}

/// The text of the header, and where the data start.
fn text_of<'a>(path: &Path, file: &'a [u8]) -> Result<(&'a [u8], usize), FileError> {
    let foreign = |found: &str, hint: &'static str| {
        Err(FileError::NotSafetensors { path: path.to_owned(), found: found.to_owned(), hint })
    };
    const OTHERS: [(&[u8], &str, &str); 6] = [
        (b"GGUF", "a GGUF file", "name that file itself, not its folder"),
        (
            b"PK\x03\x04",
            "a PyTorch checkpoint or another zip archive",
            "get the model as safetensors or GGUF",
        ),
        (b"\x80", "a pickle", "get the model as safetensors or GGUF: pickles can run any program"),
        (b"version https://", "a Git LFS pointer", "run `git lfs pull`, or download the file itself"),
        (b"<!", "a web page", "the download went wrong: download the file itself"),
        (b"<html", "a web page", "the download went wrong: download the file itself"),
    ];
    if file.is_empty() {
        return foreign("an empty file", "download it again");
    }
    let begins_as_header = file.get(8).is_some_and(|&first| first == b'{');
    if !begins_as_header
        && let Some((_, found, hint)) = OTHERS.iter().find(|(magic, ..)| file.starts_with(magic))
    {
        return foreign(found, hint);
    }
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(|| {
        let flaw = Flaw::Short { offset: 0, need: 8, have: file.len() };
        flaw.at(path, "the length of the header")
    })?;
    let length = u64::from_le_bytes(*length);
    let text = usize::try_from(length).ok().and_then(|n| rest.get(..n));
    let Some(text) = text else {
        return Err(Flaw::Short { offset: 8, need: length, have: rest.len() }.at(path, "the header"));
    };
    if length > MAX_HEADER {
        let flaw = Flaw::bad(0, format!("a header of at most {MAX_HEADER} bytes"), length);
        return Err(flaw.at(path, "the length of the header"));
    }
    Ok((text, 8 + text.len()))
}

/// Refuses data that overlap, and bytes that are nobody's: offsets would be wrong, or something hides there.
fn check_whole(
    path: &Path,
    tensors: &[SafeTensor],
    data_start: usize,
    length: usize,
) -> Result<(), FileError> {
    let mut end = data_start;
    let mut last = "the header".to_owned();
    for tensor in tensors {
        if tensor.offset != end {
            let got = match tensor.offset > end {
                true => format!("a gap of {} bytes", tensor.offset - end),
                false => format!("an overlap of {} bytes", end - tensor.offset),
            };
            let flaw = Flaw::bad(tensor.offset, format!("data right behind {last}, which end at {end}"), got);
            return Err(flaw.at(path, format!("the data of tensor `{}`", tensor.name)));
        }
        end += tensor.data.len();
        last = format!("those of tensor `{}`", tensor.name);
    }
    if end != length {
        let flaw = Flaw::bad(end, "the end of the file", format!("{} more bytes", length - end));
        return Err(flaw.at(path, "what follows the last tensor"));
    }
    Ok(())
}

/// The tensors in the order of the file.
struct Header(Vec<(String, Entry)>);

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// By hand: a map that keeps the last of two equal names would hide a tensor.
impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that names tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
                let mut entries = Vec::new();
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name.len() > MAX_NAME {
                        return Err(M::Error::custom(format!("a name of {} bytes", name.len())));
                    }
                    if !names.insert(name.clone()) {
                        return Err(M::Error::custom(format!("the name `{name}` a second time")));
                    }
                    if name == REMARKS {
                        map.next_value::<HashMap<String, String>>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
