//! `whit import`: a model out of a folder that `whit export` made.

use std::path::PathBuf;

use anyhow::Result;

use crate::{Global, models};

/// Copy a model into the store, out of a folder that `whit export` made
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let store = models::store(global)?;
    let name = arguments.folder.display().to_string();
    let model = models::watched(&name, |report| store.import(&arguments.folder, report))?;
    note!("imported {}", model.name);
    Ok(())
}
