//! Models that other programs keep on this machine, used where they lie and never written to: Ollama's store, the cache of
//! the Hugging Face Hub (which pulls by `hf:` write to, as all its tools do), and LM Studio's folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest::{self, Manifest};
use crate::registry::{self, RegistryManifest, RegistryName};
use crate::source::hub::HubName;
use crate::source::hub::cache::HubCache;
use crate::{Digest, Reference, Resolved, Source};

/// Ollama's own registry, as the folder in its store is called.
const OLLAMA_HOST: &str = "registry.ollama.ai";
/// The most bytes of a manifest or a text in Ollama's store.
const MAX_SMALL: u64 = 4 << 20;

/// Where other programs keep models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// The cache of the Hugging Face Hub. Pulls by `hf:` need it.
    pub hugging_face: Option<PathBuf>,
    /// Ollama's stores.
    pub ollama: Vec<PathBuf>,
    /// LM Studio's folders.
    pub lm_studio: Vec<PathBuf>,
}

impl Elsewhere {
    /// As these programs' own variables say, or where they keep models by default.
    pub(crate) fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Elsewhere {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME").or_else(|| path("USERPROFILE"));
        let below = |folder: &str| home.as_ref().map(|home| home.join(folder));
        let cache = path("XDG_CACHE_HOME").or_else(|| below(".cache"));
        let hub_home = path("HF_HOME").or_else(|| Some(cache.as_ref()?.join("huggingface")));
        let hugging_face = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hub_home?.join("hub")));
        let ollama = match path("OLLAMA_MODELS") {
            Some(folder) => vec![folder],
            // The second is that of the service on Linux.
            None => below(".ollama/models")
                .into_iter()
                .chain(cfg!(target_os = "linux").then(|| PathBuf::from("/usr/share/ollama/.ollama/models")))
                .collect(),
        };
        let lm_studio = [below(".lmstudio/models"), below(".cache/lm-studio/models")];
        Elsewhere { hugging_face, ollama, lm_studio: lm_studio.into_iter().flatten().collect() }
    }

    /// The model, if one of these has it. `ollama` is what a name without a source may mean.
    pub(crate) fn find(&self, reference: &Reference) -> Option<Resolved> {
        match reference {
            Reference::Source(Source::Hub(name)) => self.in_hub(name),
            Reference::Source(Source::Registry(name)) => self.in_ollama(name),
            Reference::Source(Source::LmStudio(file)) => self.in_lm_studio(file),
            Reference::Name(name, tag) => {
                let tag = tag.as_deref().unwrap_or("latest");
                self.in_ollama(&RegistryName::ollama(&format!("{name}:{tag}")).ok()?)
            }
            _ => None,
        }
    }

    /// All that they have.
    pub(crate) fn list(&self) -> Vec<Manifest> {
        let mut found =
            self.hugging_face.iter().flat_map(|root| HubCache::at(root).list()).collect::<Vec<_>>();
        for root in &self.ollama {
            for path in below(&root.join("manifests"), 8) {
                let name = ollama_name(&path);
                found.extend(name.and_then(|name| self.in_ollama(&name)?.manifest));
            }
        }
        for root in &self.lm_studio {
            for path in below(root, 4) {
                let name = path.to_ascii_lowercase();
                if name.ends_with(".gguf") && !name.contains("mmproj") {
                    found.extend(self.in_lm_studio(&path).and_then(|found| found.manifest));
                }
            }
        }
        found
    }

    fn in_hub(&self, name: &HubName) -> Option<Resolved> {
        let found = HubCache::at(self.hugging_face.as_ref()?).find(name);
        found.inspect_err(|error| tracing::warn!(%error, "a model of the hub's cache is left out")).ok()?
    }

    fn in_ollama(&self, name: &RegistryName) -> Option<Resolved> {
        let host = name.host().unwrap_or(OLLAMA_HOST);
        let tag = name.tag()?;
        for root in &self.ollama {
            let path = root.join("manifests").join(host).join(name.repository()).join(tag);
            let Some(text) = small(&path) else { continue };
            let Ok(manifest) = serde_json::from_slice::<RegistryManifest>(&text) else { continue };
            let blob = |digest: &Digest| root.join("blobs").join(format!("sha256-{}", digest.hex()));
            let Ok(weights) = registry::weights(&manifest) else { continue };
            let file = blob(&weights.digest);
            let Ok(facts) = fs::metadata(&file) else { continue };
            if !facts.is_file() || facts.len() != weights.size {
                continue;
            }
            let extras =
                registry::extras(&manifest, &|layer| small(&blob(&layer.digest)).ok_or_else(String::new));
            let name = name.to_string();
            let manifest = Manifest {
                name: name.clone(),
                source: name.clone(),
                file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                size: facts.len(),
                sha256: weights.digest.hex().to_owned(),
                licence: None,
                parameters: None,
                description: None,
                pulled: manifest::time(fs::metadata(&path).and_then(|facts| facts.modified()).ok()),
                extras: extras.unwrap_or_default(),
            };
            return Some(Resolved { path: file, name, manifest: Some(manifest) });
        }
        None
    }

    fn in_lm_studio(&self, file: &str) -> Option<Resolved> {
        let found = self.lm_studio.iter().map(|root| root.join(file)).find(|path| path.is_file())?;
        let facts = fs::metadata(&found).ok()?;
        let name = format!("lmstudio:{file}");
        let manifest = Manifest {
            name: name.clone(),
            source: name.clone(),
            file: found.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size: facts.len(),
            sha256: String::new(),
            licence: None,
            parameters: None,
            description: None,
            pulled: manifest::time(facts.modified().ok()),
            extras: crate::Extras::default(),
        };
        Some(Resolved { path: found, name, manifest: Some(manifest) })
    }
}

/// The name of what a path below `manifests/` stands for.
fn ollama_name(path: &str) -> Option<RegistryName> {
    let (path, tag) = path.rsplit_once('/')?;
    let (host, repository) = path.split_once('/')?;
    match host {
        OLLAMA_HOST => RegistryName::ollama(&format!(
            "{}:{tag}",
            repository.strip_prefix("library/").unwrap_or(repository)
        )),
        host => RegistryName::oci(&format!("{host}/{repository}:{tag}")),
    }
    .ok()
}

/// A small file.
fn small(path: &Path) -> Option<Vec<u8>> {
    let facts = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    if facts.len() > MAX_SMALL { None } else { fs::read(path).ok() }
}

/// The files below a folder, as paths from it.
fn below(folder: &Path, depth: usize) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        match fs::metadata(entry.path()) {
            Ok(facts) if facts.is_dir() && depth > 1 => {
                found
                    .extend(below(&entry.path(), depth - 1).into_iter().map(|path| format!("{name}/{path}")));
            }
            Ok(facts) if facts.is_file() => found.push(name),
            _ => {}
        }
    }
    found.sort();
    found
}
