//! `whit cp`: another name for a model.

use anyhow::Result;
use whit_hub::Reference;

use crate::{Global, models};

/// Give a model another name; the weights are not copied
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A model that is here, or the path of a GGUF file
    model: String,

    /// Its other name
    name: String,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let reference: Reference = arguments.model.parse()?;
    models::store(global)?.copy(&reference, &arguments.name)?;
    note!("{} is {}, too", arguments.name, reference);
    Ok(())
}
