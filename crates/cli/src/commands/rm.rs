//! `whit rm`: removes models from the store.

use anyhow::Result;
use whit_hub::Reference;

use crate::{Global, models, units};

/// Remove models from the store
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Names, as `whit list` shows them
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let store = models::store(global)?;
    for name in &arguments.models {
        let reference: Reference = name.parse()?;
        // What is not there, or damaged, is told of by what follows.
        let full_name = store.resolve(&reference).ok().flatten().map(|found| found.name);
        let freed = store.remove(&reference)?;
        note!("removed {reference}, {} freed", units::bytes(freed));
        for (made, recipe) in store.recipes()? {
            if full_name.as_ref() == Some(&recipe.from) {
                note!("note: {made} is made from it, and is not there until it is pulled again");
            }
        }
    }
    Ok(())
}
