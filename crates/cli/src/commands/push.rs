//! `whit push`: sends a model to a registry.

use std::io::IsTerminal as _;
use std::time::Instant;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use whit_hub::{Digest, ModelFacts, Package, PushEvent, RegistryName};

use crate::failure::Usage;
use crate::{Global, models, units};

/// Send a model to a registry
///
/// Any registry that keeps Docker images keeps models too. Name and password are those of `docker login`, or
/// WHIT_REGISTRY_AUTH=user:password@host.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A stored model, or the path of a GGUF file
    model: String,

    /// Where to: oci:HOST/OWNER/NAME:TAG [default: where the model came from]
    destination: Option<String>,

    /// Speak to the registry without encryption
    #[arg(long)]
    insecure: bool,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let start = Instant::now();
    let destination = arguments.destination.as_ref().unwrap_or(&arguments.model);
    let name: RegistryName = destination
        .parse()
        .map_err(|problem| Usage(format!("`{destination}` is no place to push to; {problem}")))?;
    let found = models::find(global, &arguments.model)?;
    let package = {
        let info = whit_models::describe(&whit_models::open(&found.path)?)?;
        let quantization =
            info.file_type.or_else(|| info.formats.first().map(|share| share.dtype.to_string()));
        Package {
            digest: found.manifest.as_ref().and_then(|manifest| Digest::from_hex(&manifest.sha256)),
            facts: ModelFacts {
                family: info.architecture,
                parameters: units::count(info.n_params),
                quantization: quantization.unwrap_or_default(),
            },
            extras: found.manifest.map(|manifest| manifest.extras).unwrap_or_default(),
            file: found.path,
        }
    };
    let mut bar = Bar::default();
    let result =
        models::store(global)?.push(&package, &name, arguments.insecure, &mut |event| bar.show(&event));
    bar.clear();
    result?;
    note!("pushed {} to {name} in {}", arguments.model, units::time(start.elapsed()));
    Ok(())
}

/// A bar for each blob in turn; nothing where standard error is no terminal.
#[derive(Default)]
struct Bar {
    bar: Option<(Digest, ProgressBar)>,
}

impl Bar {
    fn show(&mut self, event: &PushEvent) {
        let PushEvent::Blob { digest, done, total } = event else { return };
        if !std::io::stderr().is_terminal() {
            return;
        }
        if self.bar.as_ref().is_none_or(|(known, _)| known != digest) {
            self.clear();
            let bar = ProgressBar::new(*total).with_prefix(format!("pushing {}", digest.short()));
            // A template of ours that does not parse would show in the first run; the default bar serves as well.
            if let Ok(style) = ProgressStyle::with_template(models::COUNTING) {
                bar.set_style(style.progress_chars("━━╌"));
            }
            self.bar = Some((digest.clone(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(*done);
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
