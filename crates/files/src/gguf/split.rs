//! Split files: one model in several GGUF files, named `<name>-00001-of-00003.gguf` and so on. Each part is a GGUF
//! file of its own with the keys `split.no` (from 0), `split.count` and `split.tensors.count`; the first also has
//! the model's metadata. Convention of llama.cpp (`llama_split_path`, the `gguf-split` program).

use std::path::{Path, PathBuf};

use super::part::{self, Read};
use super::tensor::MAX_TENSORS;
use crate::{FileError, Mapping, Metadata};

/// Which part of how many a file is.
pub(super) struct Place {
    no: usize,
    count: usize,
    /// Tensors in all parts together, where stated.
    n_tensors: Option<usize>,
}

impl Place {
    /// What the metadata say, or `None` for a file that is whole.
    pub(super) fn of(path: &Path, metadata: &Metadata) -> Result<Option<Place>, FileError> {
        let count = metadata.opt_usize("split.count")?.unwrap_or(1);
        if count <= 1 {
            return Ok(None);
        }
        let no = metadata.usize("split.no")?;
        let n_tensors = metadata.opt_usize("split.tensors.count")?;
        let too_many = n_tensors.is_some_and(|n| n as u64 > MAX_TENSORS);
        if no >= count || count > usize::from(u16::MAX) || too_many {
            let problem =
                format!("it says that it is part {no} of {count}, which cannot be: download it again");
            return Err(FileError::Split { path: path.to_owned(), problem });
        }
        Ok(Some(Place { no, count, n_tensors }))
    }
}

/// The error for a part that cannot be joined with the others.
pub(super) fn lonely(path: &Path, place: &Place) -> FileError {
    let problem =
        format!("it is part {} of {}: open it by its path, beside the others", place.no + 1, place.count);
    FileError::Split { path: path.to_owned(), problem }
}

/// All parts in order, given one of them.
pub(super) fn collect(path: &Path, opened: Read) -> Result<Vec<Read>, FileError> {
    let Some(place) = Place::of(path, &opened.metadata)? else { return Ok(vec![opened]) };
    let fail = |path: &Path, problem: String| Err(FileError::Split { path: path.to_owned(), problem });
    let Some(stem) = stem(path, place.no, place.count) else {
        let expected = format!("-{:05}-of-{:05}.gguf", place.no + 1, place.count);
        return fail(
            path,
            format!("it is a part of a split file, and its name should end in `{expected}`: rename it"),
        );
    };

    let mut parts = Vec::new();
    let mut opened = Some(opened);
    for no in 0..place.count {
        let part_path = part_path(path, &stem, no, place.count);
        let mut read = match opened.take_if(|_| no == place.no) {
            Some(read) => read,
            None => {
                if !part_path.exists() {
                    let problem = format!(
                        "part {} of {} is missing, {} should lie beside it: download it too",
                        no + 1,
                        place.count,
                        part_path.display()
                    );
                    return fail(path, problem);
                }
                part::read(Mapping::open(&part_path)?, &part_path, no)?
            }
        };
        match Place::of(&part_path, &read.metadata)? {
            Some(found) if found.no == no && found.count == place.count => {}
            _ => {
                let problem =
                    format!("it should be part {} of {} but is not: download it again", no + 1, place.count);
                return fail(&part_path, problem);
            }
        }
        for tensor in &mut read.tensors {
            tensor.part = no;
        }
        parts.push(read);
    }

    let found: usize = parts.iter().map(|part| part.tensors.len()).sum();
    match place.n_tensors {
        Some(expected) if expected != found => fail(
            path,
            format!(
                "its parts should hold {expected} tensors together but hold {found}: download them again"
            ),
        ),
        _ => Ok(parts),
    }
}

/// What stands before `-00001-of-00003.gguf` in the file name.
fn stem(path: &Path, no: usize, count: usize) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    Some(name.strip_suffix(&format!("-{:05}-of-{count:05}.gguf", no + 1))?.to_owned())
}

fn part_path(beside: &Path, stem: &str, no: usize, count: usize) -> PathBuf {
    beside.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", no + 1))
}
