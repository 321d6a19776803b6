//! The safetensors files of a folder: one, or several that an index names.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::{INDEX, SINGLE, SafeTensors};
use crate::{FileError, Mapping};

/// The longest index; those of the largest models have a few megabytes.
const MAX_INDEX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Index {
    /// Tensor to file.
    weight_map: HashMap<String, String>,
}

pub(super) fn open(folder: &Path) -> Result<SafeTensors, FileError> {
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.is_file() {
        return SafeTensors::open(single);
    }
    let fail = |problem: String| FileError::Split { path: folder.to_owned(), problem };
    if !index.is_file() {
        return Err(fail(format!("it holds neither `{SINGLE}` nor `{INDEX}`: {}", instead(folder))));
    }
    let length = fs::metadata(&index).map_err(|source| FileError::io(&index, "open", source))?.len();
    if length > MAX_INDEX {
        return Err(fail(format!("`{INDEX}` has {length} bytes, which no index needs: download it again")));
    }
    let text = fs::read(&index).map_err(|source| FileError::io(&index, "read", source))?;
    let weight_map = serde_json::from_slice::<Index>(&text)
        .map_err(|error| fail(format!("`{INDEX}` is no index of tensors ({error}): download it again")))?
        .weight_map;

    // In the order of their names, whatever the order in the index.
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    for file in weight_map.values() {
        *files.entry(file).or_default() += 1;
    }
    let mut all = SafeTensors::empty();
    for (&file, &n_expected) in &files {
        if !is_plain(file) {
            let file = file.escape_debug();
            return Err(fail(format!(
                "`{INDEX}` names the file `{file}`, which is no plain name of a safetensors file: get the model from elsewhere"
            )));
        }
        let path = folder.join(file);
        if !path.is_file() {
            return Err(fail(format!("`{file}` is missing, which `{INDEX}` names: download it too")));
        }
        let before = all.tensors.len();
        all.add(&path, Mapping::open(&path)?)?;
        let found = all.tensors.get(before..).unwrap_or_default();
        let stranger =
            found.iter().find(|tensor| weight_map.get(&*tensor.name).is_none_or(|its| its != file));
        if let Some(stranger) = stranger {
            let name = &stranger.name;
            return Err(fail(format!(
                "`{file}` holds a tensor `{name}`, of which `{INDEX}` says otherwise: download both again"
            )));
        }
        if found.len() != n_expected {
            return Err(fail(format!(
                "`{file}` holds {} tensors, but `{INDEX}` says {n_expected}: download both again",
                found.len()
            )));
        }
    }
    Ok(all)
}

/// Whether a name of a file cannot lead anywhere but into the folder.
fn is_plain(name: &str) -> bool {
    Path::new(name).file_name() == Some(name.as_ref())
        && !name.contains(['/', '\\', ':', '\0'])
        && name.ends_with(".safetensors")
}

/// What to do with a folder that has no safetensors, by what it has.
fn instead(folder: &Path) -> String {
    let names: Vec<String> = fs::read_dir(folder)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    let ends = |ending: &str| names.iter().find(|name| name.ends_with(ending));
    if let Some(gguf) = ends(".gguf") {
        return format!("name the GGUF file in it, such as `{}`", folder.join(gguf).display());
    }
    if names.iter().any(|name| name == "adapter_model.safetensors") {
        return "it is an adapter, not a model; it needs the model that it was made for".to_owned();
    }
    if ends(".bin").or(ends(".pt")).or(ends(".pth")).is_some() {
        return "its weights are pickles, which can run any program and are not read; get the model as safetensors or \
                GGUF, or convert it with `model.save_pretrained(folder)` of `transformers`"
            .to_owned();
    }
    if let Some(shard) = ends(".safetensors") {
        return format!("`{shard}` alone is not enough; download the whole folder again");
    }
    "get a folder with the weights as safetensors, or a GGUF file".to_owned()
}
