//! `whit ps`: the models that a running server has loaded.

use std::io;

use anyhow::Result;
use serde_json::Value;

use crate::client::{Client, ServerArguments};
use crate::{Global, output, units};

/// List the models that a running server has loaded
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
}

pub(crate) fn run(arguments: &Arguments, _: &Global) -> Result<()> {
    let answer = Client::new(&arguments.server)?.get("/api/ps")?;
    let models = answer["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    if models.is_empty() {
        note!("no model is loaded");
        return Ok(());
    }
    let text = |model: &Value, name: &str| model[name].as_str().unwrap_or_default().to_owned();
    let mut rows = vec![["NAME", "MEMORY", "CONTEXT", "UNTIL"].map(str::to_owned).to_vec()];
    for model in models {
        rows.push(vec![
            text(model, "name"),
            units::memory(model["size"].as_u64().unwrap_or_default()),
            model["context_length"].as_u64().map(|n| n.to_string()).unwrap_or_default(),
            until(&text(model, "expires_at")),
        ]);
    }
    Ok(output::table(&mut io::stdout().lock(), &[false, true, true, false], &rows)?)
}

/// A time, to the minute. Servers write one in another century for a model that stays.
fn until(time: &str) -> String {
    let year = time.get(..4).and_then(|year| year.parse::<u32>().ok());
    match (year, time.get(..16)) {
        (Some(year), _) if year >= 2100 => "stopped".to_owned(),
        (_, Some(minutes)) => minutes.replace('T', " ") + " UTC",
        _ => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::until;

    #[test]
    fn times_of_unloading() {
        for (time, expected) in [
            ("2026-11-20T12:34:56.789Z", "2026-11-20 12:34 UTC"),
            ("2126-11-20T12:34:56Z", "stopped"),
            ("", ""),
        ] {
            assert_eq!(until(time), expected, "{time}");
        }
    }
}
