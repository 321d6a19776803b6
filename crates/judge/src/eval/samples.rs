//! The log of a run: for every document what came back, a line each, written as it comes. A run that was killed finds its lines
//! again and goes on behind them; what another run wrote (another model, another number of examples) is refused, not mixed in.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::JudgeError;
use crate::tasks::Response;

/// A log, open for one task.
#[derive(Debug)]
pub(super) struct Samples {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Samples {
    /// Opens the log of `task` in `folder`, or begins it; gives what came back for the documents that it has. `run` tells one run
    /// from another.
    pub(super) fn open(
        folder: &Path,
        task: &str,
        run: &Value,
    ) -> Result<(Samples, Vec<(u64, Response)>), JudgeError> {
        let path = folder.join(format!("{task}.jsonl"));
        let fail = |source| JudgeError::Io { path: path.clone(), doing: "write", source };
        std::fs::create_dir_all(folder).map_err(fail)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        let mut reader = BufReader::new(&mut file);
        let (mut line, mut kept, mut responses) = (String::new(), 0u64, Vec::new());
        loop {
            line.clear();
            let n = reader.read_line(&mut line).map_err(fail)?;
            // A line without an end was being written when the run was killed.
            if n == 0 || !line.ends_with('\n') {
                break;
            }
            let Ok(value) = serde_json::from_str::<Value>(&line) else { break };
            if kept == 0 {
                if value["run"] != *run {
                    return Err(JudgeError::OtherRun { path });
                }
            } else {
                match response(&value) {
                    Some(response) => responses.push(response),
                    None => break,
                }
            }
            kept += n as u64;
        }
        file.set_len(kept).map_err(fail)?;
        file.seek(SeekFrom::Start(kept)).map_err(fail)?;
        let mut samples = Samples { path, file: BufWriter::new(file) };
        if kept == 0 {
            samples.write(&json!({ "run": run }))?;
            samples.flush()?;
        }
        Ok((samples, responses))
    }

    /// Appends what came back for a document, with its texts for people to read.
    pub(super) fn add(&mut self, id: u64, asked: &Value, response: &Response) -> Result<(), JudgeError> {
        let response = match response {
            Response::Scores(scores) => json!(scores),
            Response::Text(text) => json!(text),
        };
        self.write(&json!({ "document": format!("{id:016x}"), "asked": asked, "response": response }))
    }

    pub(super) fn flush(&mut self) -> Result<(), JudgeError> {
        let written = self.file.flush();
        written.map_err(|source| self.failed(source))
    }

    fn write(&mut self, value: &Value) -> Result<(), JudgeError> {
        let written = writeln!(self.file, "{value}");
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> JudgeError {
        JudgeError::Io { path: self.path.clone(), doing: "write", source }
    }
}

fn response(line: &Value) -> Option<(u64, Response)> {
    let id = u64::from_str_radix(line["document"].as_str()?, 16).ok()?;
    let response = match &line["response"] {
        Value::String(text) => Response::Text(text.clone()),
        Value::Array(scores) => {
            let score = |score: &Value| Some((score[0].as_f64()?, score[1].as_bool()?));
            Response::Scores(scores.iter().map(score).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some((id, response))
}

/// Writes programs that complete prompts in the form that HumanEval's own `evaluate_functional_correctness` reads.
pub(super) fn write_programs(path: &Path, programs: &[(String, String)]) -> Result<(), JudgeError> {
    let lines = programs.iter().map(|(id, completion)| json!({ "task_id": id, "completion": completion }));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).map_err(|source| JudgeError::Io {
        path: path.to_owned(),
        doing: "write",
        source,
    })
}
