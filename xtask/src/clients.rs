//! The step `clients`: client libraries of others, from their registries, against a running server with real models. The
//! tests themselves are in `tests/clients/`; what follows `--` goes to pytest.

use std::path::Path;
use std::process::Command;

use crate::data;
use crate::serving::{self, QWEN, SMOLLM2, Server};
use crate::shell;

pub(crate) fn run(rest: &[String]) -> anyhow::Result<()> {
    data::fetch()?;
    let folder = shell::root().join("tests/clients");
    let python = serving::python_with(&folder.join("requirements.txt"))?;
    let modules = serving::node_modules(&folder)?;
    let program = serving::build()?;
    let server = Server::start(&program, &[SMOLLM2, QWEN], &[])?;
    let result = python_clients(&python, &folder, server.url(), rest);
    let result = match rest {
        [] => result.and_then(|()| node_clients(&modules, &folder, server.url())),
        _ => result,
    };
    server.end(result)
}

fn python_clients(python: &Path, folder: &Path, url: &str, rest: &[String]) -> anyhow::Result<()> {
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(rest).current_dir(folder);
    let schemas = data::existing_folder()?.join("json-schema");
    shell::run(pytest.env("PYTHONDONTWRITEBYTECODE", "1").env("WHIT_URL", url).env("WHIT_SCHEMAS", schemas))
}

fn node_clients(modules: &Path, folder: &Path, url: &str) -> anyhow::Result<()> {
    let mut node = Command::new("node");
    node.args(["--test", "--test-concurrency=1"]).current_dir(folder);
    // CommonJS looks there; ES modules would only look beside the tests.
    shell::run(node.env("NODE_PATH", modules).env("WHIT_URL", url))
}
