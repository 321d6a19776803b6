//! The step `openapi`: schemathesis asks everything that `/openapi.json` describes, in ways that are right and wrong, and
//! looks at the answers: no failure of the server, and nothing that the document does not say.
//!
//! The models are tiny golden ones, so that answers take no time. What follows `--` goes to schemathesis, such as
//! `--max-examples 2000 --seed 7`.

use std::path::Path;
use std::process::Command;

use crate::serving::{self, Server};
use crate::shell;

/// The same requests each time, and about three minutes of them on two cores.
const DEFAULTS: [&str; 4] = ["--max-examples", "60", "--seed", "1"];
const KEY: &str = "openapi";

pub(crate) fn run(rest: &[String]) -> anyhow::Result<()> {
    let folder = shell::root().join("tests/openapi");
    let python = serving::python_with(&folder.join("requirements.txt"))?;
    let program = serving::build()?;
    let golden = shell::root().join("crates/engine/tests/golden/llama-gqa-llama3.gguf");
    let tiny = format!("tiny={}", golden.display());
    // A key, so that the refusals without one are tested too. Threads that wait for each other would only be slow here.
    let args = ["--offline", &tiny, "--ctx", "64", "--threads", "1", "--api-key", KEY];
    let server = Server::start(&program, &[], &args)?;
    let result = schemathesis(&python, &folder, server.url(), rest);
    server.end(result)
}

fn schemathesis(python: &Path, folder: &Path, url: &str, rest: &[String]) -> anyhow::Result<()> {
    let mut command = Command::new(python);
    command.args(["-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run"]);
    // The key and the checks stand in the file: on the command line they would override what it says of them.
    command.arg(format!("{url}/openapi.json"));
    if rest.is_empty() {
        command.args(DEFAULTS);
    }
    command.args(rest).current_dir(folder).env("PYTHONDONTWRITEBYTECODE", "1");
    // For the hooks, which make a second model with a chat template.
    shell::run(command.env("WHIT_URL", url).env("WHIT_KEY", KEY))
}
