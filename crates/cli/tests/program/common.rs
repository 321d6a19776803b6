//! Running the program on tiny models with known answers (`crates/engine/tests/golden`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use whit_files::{Gguf, GgufWriter};

/// How a run ended.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Standard output of a run that went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self.stdout
    }
}

/// The program with an empty home and nothing of ours in the environment.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whit"));
    for name in ["WHIT_CPU_LEVEL", "WHIT_PIP", "HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    // What other programs keep below the user's own home is not this test's.
    command.env("HOME", home);
    command.env("WHIT_HOME", home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program, with `stdin` if there is some.
pub(crate) fn run_in(home: &Path, arguments: &[&str], stdin: Option<&[u8]>) -> Run {
    let mut command = command(home);
    command.args(arguments);
    finish(command, stdin)
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command, stdin: Option<&[u8]>) -> Run {
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().expect("the program starts");
    if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A program that does not read its input is no failure of the test.
        let _ = pipe.write_all(bytes);
    }
    let output = child.wait_with_output().expect("the program ends");
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Runs the program with an empty home.
pub(crate) fn run(arguments: &[&str]) -> Run {
    let home = tempfile::tempdir().expect("a temporary folder");
    run_in(home.path(), arguments, None)
}

pub(crate) fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden").join(file)
}

/// A golden model: its path, and what its reference says.
pub(crate) struct Golden {
    pub(crate) path: String,
    pub(crate) prompt: Vec<u32>,
    pub(crate) greedy: Vec<u32>,
    pub(crate) logits: Vec<f32>,
}

impl Golden {
    pub(crate) fn new(name: &str) -> Golden {
        let json = std::fs::read(golden(&format!("{name}.json"))).expect("a golden file");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let ids = |key: &str| {
            let ids = json[key].as_array().expect("a list");
            ids.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
        };
        let bytes = std::fs::read(golden(&format!("{name}.logits.bin"))).expect("golden logits");
        let logits = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        let path = golden(&format!("{name}.gguf")).display().to_string();
        Golden { path, prompt: ids("prompt"), greedy: ids("greedy"), logits }
    }

    pub(crate) fn prompt_text(&self) -> String {
        text(&self.prompt)
    }

    pub(crate) fn answer(&self) -> String {
        text(&self.greedy)
    }
}

/// The text of ids of the golden models' stub vocabulary (`vocabulary` in `make_golden.py`).
pub(crate) fn text(ids: &[u32]) -> String {
    let characters = "\n abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-+*/=_#@&";
    let mut pieces: Vec<String> = characters.chars().map(String::from).collect();
    pieces.extend(["th", "the", " the"].map(String::from));
    ids.iter().map(|&id| pieces[id as usize - 4].as_str()).collect()
}

/// A copy of a golden model with other metadata.
pub(crate) fn rewrite(name: &str, to: &Path, change: impl FnOnce(&mut GgufWriter)) -> String {
    let gguf = Gguf::open(golden(&format!("{name}.gguf"))).expect("a golden model");
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata().iter() {
        writer.set(key, value);
    }
    change(&mut writer);
    for tensor in gguf.tensors() {
        writer.declare(&tensor.name, tensor.dtype, &tensor.shape);
    }
    let mut writer = writer.create(to).expect("a new file");
    for tensor in gguf.tensors() {
        writer.write(&tensor.name, &gguf.tensor_bytes(tensor)).expect("writing");
    }
    writer.finish().expect("writing");
    to.display().to_string()
}
