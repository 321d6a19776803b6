//! `whit export`: a model in a folder, for a machine without a network.

use std::path::PathBuf;

use anyhow::Result;
use whit_hub::Reference;

use crate::{Global, models, units};

/// Copy a model into a folder, to carry it to a machine without a network
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A model that is here, or the path of a GGUF file
    model: String,

    /// A new or empty folder
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let reference: Reference = arguments.model.parse()?;
    let store = models::store(global)?;
    let manifest = models::watched(&reference.to_string(), |report| {
        store.export(&reference, &arguments.folder, report)
    })?;
    let (size, folder) = (units::bytes(manifest.size), arguments.folder.display());
    note!("exported {} ({size})\n\nhint: `whit import {folder}` brings it into a store", manifest.name);
    Ok(())
}
