//! `whit list`: the models in the store, or those that can be pulled.

use std::io;

use anyhow::Result;
use whit_hub::catalog::{CATALOG, Place};
use whit_hub::{Manifest, Store};

use crate::{Global, models, output, units};

/// List the models in the store
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// List the models known by name instead, pulled or not
    #[arg(long)]
    catalog: bool,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let store = models::store(global)?;
    if arguments.catalog {
        let mut rows = Vec::new();
        rows.push(["NAME", "SIZE", "DOWNLOAD", "HERE", "LICENCE", "DESCRIPTION"].map(str::to_owned).to_vec());
        for entry in CATALOG {
            let name = entry.full_name();
            let found = name.parse().and_then(|reference| store.resolve(&reference));
            let here = if found.is_ok_and(|found| found.is_some()) { "yes" } else { "" };
            let download = entry.places.first().and_then(|place| match place {
                Place::Pip(parts) => Some(units::bytes(parts.download)),
                _ => None,
            });
            let licence = entry.licence.to_owned();
            let description = entry.description.to_owned();
            rows.push(vec![
                name,
                // Without a digest, nobody knows to the byte what a place gives tomorrow.
                format!("{}{}", if entry.sha256.is_some() { "" } else { "~" }, units::bytes(entry.size)),
                download.unwrap_or_default(),
                here.to_owned(),
                licence,
                description,
            ]);
        }
        return Ok(output::table(
            &mut io::stdout().lock(),
            &[false, true, true, false, false, false],
            &rows,
        )?);
    }
    print(&store)
}

/// Prints the models that are here.
pub(crate) fn print(store: &Store) -> Result<()> {
    let stored = store.list()?;
    let mut rows = Vec::new();
    if stored.is_empty() {
        note!(
            "no models in {}\n\nhint: `whit list --catalog` shows what `whit pull` can get",
            store.home().display()
        );
        return Ok(());
    }
    rows.push(["NAME", "SIZE", "QUANTIZATION", "MODIFIED"].map(str::to_owned).to_vec());
    for manifest in stored {
        let quantization = quantization(store, &manifest).unwrap_or_else(|| "?".to_owned());
        rows.push(vec![manifest.name, units::bytes(manifest.size), quantization, minutes(&manifest.pulled)]);
    }
    Ok(output::table(&mut io::stdout().lock(), &[false, true, false, false], &rows)?)
}

/// The file's own name for its formats, or the one that most parameters have.
fn quantization(store: &Store, manifest: &Manifest) -> Option<String> {
    let path = store.resolve(&manifest.name.parse().ok()?).ok()??.path;
    let info = whit_models::describe(&whit_models::open(path).ok()?).ok()?;
    info.file_type.or_else(|| info.formats.first().map(|share| share.dtype.to_string()))
}

/// `2026-01-02T03:04:05Z` to the minute.
fn minutes(time: &str) -> String {
    time.get(..16).map_or_else(|| time.to_owned(), |minutes| minutes.replace('T', " ") + " UTC")
}
