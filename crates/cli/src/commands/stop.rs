//! `whit stop`: takes models out of a running server's memory.

use anyhow::Result;
use serde_json::json;

use crate::Global;
use crate::client::{Client, ServerArguments};

/// Take models out of a running server's memory
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Names, as `whit ps` shows them
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,

    #[command(flatten)]
    server: ServerArguments,
}

pub(crate) fn run(arguments: &Arguments, _: &Global) -> Result<()> {
    let client = Client::new(&arguments.server)?;
    for name in &arguments.models {
        client.post("/api/generate", &json!({"model": name, "keep_alive": 0, "stream": false}))?;
        note!("{name} is not loaded any more");
    }
    Ok(())
}
