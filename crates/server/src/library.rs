//! Which models there are, by the names that clients use: those of the store, files that the server was told of, and
//! recipes, which are other names for a model, with a system message, a template or parameters of their own.
//!
//! A client never names a path. A trailing `:latest` is what clients add to a name without a tag.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use whit_engine::{Message, ModelInfo};
use whit_files::Gguf;
use whit_hub::{Digest, Extras, Manifest, Recipe, Reference, RegistryName, Resolved, Source, Store};

use crate::error::{ApiError, ServerError};
use crate::prompt::{INFILL, Input};

/// The models that there are.
pub(crate) struct Library {
    store: Store,
    files: Vec<(String, PathBuf)>,
    facts: Mutex<HashMap<PathBuf, Known>>,
}

/// By the name of a model, the file of the one that drafts for it.
pub(crate) type Drafts = HashMap<String, PathBuf>;

/// What was read of a file, as it was when it was read.
struct Known {
    modified: Option<SystemTime>,
    size: u64,
    facts: Arc<Facts>,
}

/// What a stored model brings of its own; `None` for weights alone.
fn recipe_of_stored(manifest: &Manifest, modified: SystemTime) -> Option<Arc<Recipe>> {
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (!manifest.extras.is_empty()).then(|| {
        Arc::new(Recipe {
            from: manifest.name.clone(),
            extras: manifest.extras.clone(),
            created: since.as_secs(),
        })
    })
}

/// What a client means by a name: one of the catalog, a place, or, as clients of Ollama write it, one of a registry
/// (`owner/name`, `host/owner/name:tag`). Never a path of this machine.
pub(crate) fn reference(name: &str) -> Result<Reference, ApiError> {
    let bad = || ApiError::BadRequest("invalid model name".to_owned());
    let plain = name.strip_suffix(":latest").unwrap_or(name);
    match plain.parse::<Reference>()? {
        Reference::Path(_) if name.contains('/') && !name.starts_with('/') => {
            let (name, _) = RegistryName::from_client(name).map_err(|_| bad())?;
            Ok(Reference::Source(Source::Registry(name)))
        }
        Reference::Path(_) => Err(bad()),
        reference => Ok(reference),
    }
}

/// Puts in front of a conversation what a model brings.
pub(crate) fn begin(extras: &Extras, input: Input) -> Input {
    let Input::Chat(mut chat) = input else { return input };
    let has_system = chat.messages.first().is_some_and(|message| message.role == "system");
    let at = usize::from(has_system);
    let message = |message: &Value| serde_json::from_value::<Message>(message.clone()).ok();
    chat.messages.splice(at..at, extras.messages.iter().filter_map(message));
    if let Some(system) = extras.system.as_ref().filter(|_| !has_system) {
        chat.messages.insert(0, Message::system(system));
    }
    chat.template = chat.template.or_else(|| extras.template.clone());
    Input::Chat(chat)
}

/// A model that is here.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its full name.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    /// SHA-256, hexadecimal, of the file where the store knows it, else of what identifies the file.
    pub(crate) digest: String,
    pub(crate) recipe: Option<Arc<Recipe>>,
    /// The name of the model that a recipe is made from.
    pub(crate) parent: Option<String>,
}

/// What a model file says of itself.
pub(crate) struct Facts {
    pub(crate) info: ModelInfo,
    pub(crate) template: Option<String>,
    pub(crate) capabilities: Vec<&'static str>,
}

impl Facts {
    pub(crate) fn can(&self, capability: &str) -> bool {
        self.capabilities.contains(&capability)
    }
}

impl Library {
    pub(crate) fn open(store: Store, files: Vec<(String, PathBuf)>) -> Result<Library, ServerError> {
        for (_, path) in &files {
            if !path.exists() {
                return Err(whit_hub::HubError::NoSuchFile { path: path.clone() }.into());
            }
        }
        store.recipes()?;
        Ok(Library { store, files, facts: Mutex::default() })
    }

    /// The models of the store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The files of models that draft for others, both as they were named at the start.
    pub(crate) fn drafts(&self, named: &[(String, String)]) -> Result<Drafts, ServerError> {
        let mut drafts = Drafts::new();
        for (name, draft) in named {
            // Who sets up the server may name any file.
            let path = match self.find(draft) {
                Ok(entry) => entry.path,
                Err(_) if Path::new(draft).exists() => PathBuf::from(draft),
                Err(_) => return Err(ServerError::NoDraft { name: name.clone(), draft: draft.clone() }),
            };
            // One that is not here yet is called so when it is.
            let name = match self.find(name) {
                Ok(entry) => entry.name,
                Err(_) => name.strip_suffix(":latest").unwrap_or(name).to_lowercase(),
            };
            drafts.insert(name, path);
        }
        Ok(drafts)
    }

    /// The model that a client means.
    pub(crate) fn find(&self, name: &str) -> Result<Entry, ApiError> {
        let wanted = name.trim();
        if wanted.is_empty() {
            return Err(ApiError::BadRequest("model is required".to_owned()));
        }
        let wanted = wanted.strip_suffix(":latest").unwrap_or(wanted);
        let missing = || ApiError::ModelNotFound(name.to_owned());
        match self.store.recipe(wanted)? {
            Some((name, recipe)) => self.by_recipe(&name, Arc::new(recipe)).map_err(|_| missing()),
            None => self.find_plain(wanted).ok_or_else(missing),
        }
    }

    /// A model that is no recipe.
    fn find_plain(&self, name: &str) -> Option<Entry> {
        if let Some((name, path)) = self.files.iter().find(|(known, _)| known == name) {
            return Entry::of_file(name, path);
        }
        let reference = reference(name).ok()?;
        match self.store.resolve_plain(&reference) {
            Ok(found) => found.and_then(Entry::of_stored),
            Err(whit_hub::HubError::UnknownModel { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, "a model cannot be used");
                None
            }
        }
    }

    fn by_recipe(&self, name: &str, recipe: Arc<Recipe>) -> Result<Entry, ApiError> {
        let base = match (recipe.from.parse::<Digest>(), Path::new(&recipe.from)) {
            (Ok(digest), _) => Entry::of_file(name, &self.store.blob(&digest)).map(|entry| (entry, None)),
            // Only who has this machine's command line writes paths into recipes.
            (_, path) if path.is_absolute() => {
                let found = self.store.resolve_plain(&Reference::Path(path.to_owned()))?;
                found.and_then(Entry::of_stored).map(|entry| (entry, None))
            }
            _ => self.find_plain(&recipe.from).map(|entry| {
                let parent = entry.name.clone();
                (entry, Some(parent))
            }),
        };
        let (base, parent) = base.ok_or_else(|| ApiError::ModelNotFound(recipe.from.clone()))?;
        let made = serde_json::to_vec(&*recipe).map_err(|error| ApiError::internal(&error))?;
        let digest = hex(&Sha256::new().chain_update(&base.digest).chain_update(made).finalize());
        Ok(Entry {
            name: name.to_owned(),
            digest,
            modified: std::time::UNIX_EPOCH + std::time::Duration::from_secs(recipe.created),
            recipe: Some(recipe),
            parent,
            ..base
        })
    }

    /// The digest that a client names.
    pub(crate) fn digest(text: &str) -> Result<Digest, ApiError> {
        let digest = Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(text));
        digest.ok_or_else(|| ApiError::BadRequest("invalid digest format".to_owned()))
    }

    /// All models, the latest first.
    pub(crate) fn list(&self) -> Result<Vec<Entry>, ApiError> {
        let made = |(name, recipe): (String, Recipe)| self.by_recipe(&name, Arc::new(recipe)).ok();
        let mut entries: Vec<Entry> = self.store.recipes()?.into_iter().filter_map(made).collect();
        let hidden = |entries: &[Entry], name: &str| entries.iter().any(|entry| entry.name == name);
        for (name, path) in &self.files {
            if !hidden(&entries, name) {
                entries.extend(Entry::of_file(name, path));
            }
        }
        for manifest in self.store.list()? {
            if !hidden(&entries, &manifest.name) {
                entries.extend(self.find_plain(&manifest.name));
            }
        }
        entries.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.name.cmp(&b.name)));
        Ok(entries)
    }

    /// What the file of a model says of itself. Reads the header, once.
    pub(crate) fn facts(&self, entry: &Entry) -> Result<Arc<Facts>, ApiError> {
        let modified = fs::metadata(&entry.path).and_then(|metadata| metadata.modified()).ok();
        let known = lock(&self.facts)
            .get(&entry.path)
            // Of a file that has gone, what was known of it.
            .filter(|known| known.size == entry.size && modified.is_none_or(|_| known.modified == modified))
            .map(|known| Arc::clone(&known.facts));
        if let Some(facts) = known {
            return Ok(facts);
        }
        let fail = |error: &dyn std::error::Error| ApiError::internal(error);
        let gguf = whit_models::open(&entry.path).map_err(|error| fail(&error))?;
        let info = whit_models::describe(&gguf).map_err(|error| fail(&error))?;
        let template = gguf.metadata().opt_str("tokenizer.chat_template").ok().flatten().map(str::to_owned);
        let capabilities = capabilities(&gguf, template.as_deref(), &info);
        let facts = Arc::new(Facts { info, template, capabilities });
        lock(&self.facts)
            .insert(entry.path.clone(), Known { modified, size: entry.size, facts: Arc::clone(&facts) });
        Ok(facts)
    }

    /// What a model made from this one is made from, and what it inherits.
    pub(crate) fn foundation(&self, name: &str) -> Result<(String, Extras), ApiError> {
        let entry = self.find(name)?;
        Ok(match entry.recipe.as_deref() {
            Some(recipe) => (recipe.from.clone(), recipe.extras.clone()),
            None => (entry.name, Extras::default()),
        })
    }

    /// Copies a model: a new name for the same thing.
    pub(crate) fn copy(&self, source: &str, destination: &str) -> Result<(), ApiError> {
        let (from, extras) = self.foundation(source)?;
        Ok(self.store.create(destination, from, extras)?)
    }

    /// Removes a model. A file that the server was told of is not its own to remove.
    pub(crate) fn remove(&self, name: &str) -> Result<(), ApiError> {
        let entry = self.find(name)?;
        if self.store.remove_recipe(&entry.name)?.is_some() {
            return Ok(());
        }
        if self.files.iter().any(|(known, _)| *known == entry.name) {
            return Err(ApiError::BadRequest(
                "this model is a file outside of the store; delete it there".to_owned(),
            ));
        }
        let reference: Reference = entry.name.parse()?;
        self.store.remove(&reference)?;
        Ok(())
    }
}

impl Entry {
    /// The options that it brings.
    pub(crate) fn parameters(&self) -> Map<String, Value> {
        self.recipe.as_ref().map(|recipe| recipe.extras.parameters.clone()).unwrap_or_default()
    }

    /// A file that is used where it lies. Hashing gigabytes for a list is out of the question; what identifies the file
    /// changes when it does.
    fn of_file(name: &str, path: &Path) -> Option<Entry> {
        let (size, modified) = measure(path)?;
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let identity = format!("{}\0{size}\0{}", path.display(), since.as_nanos());
        Some(Entry {
            name: name.to_owned(),
            path: path.to_owned(),
            size,
            modified,
            digest: hex(&Sha256::digest(identity)),
            recipe: None,
            parent: None,
        })
    }

    fn of_stored(found: Resolved) -> Option<Entry> {
        let entry = Entry::of_file(&found.name, &found.path)?;
        Some(match found.manifest {
            Some(manifest) => {
                let recipe = recipe_of_stored(&manifest, entry.modified);
                // Another program's file may have none; then what identifies the file does.
                let digest = if manifest.sha256.is_empty() { entry.digest } else { manifest.sha256 };
                Entry { digest, recipe, ..entry }
            }
            None => entry,
        })
    }
}

/// Bytes of a model's file, or of the weights in its folder, and when they were last written.
fn measure(path: &Path) -> Option<(u64, SystemTime)> {
    let written = |facts: &fs::Metadata| facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let facts = fs::metadata(path).ok()?;
    if facts.is_file() {
        return Some((facts.len(), written(&facts)));
    }
    let (mut size, mut modified) = (0, SystemTime::UNIX_EPOCH);
    for entry in fs::read_dir(path).ok()?.flatten() {
        // Through links: in the cache of the Hub all files are such.
        if let Ok(facts) = fs::metadata(entry.path())
            && entry.path().extension().is_some_and(|ending| ending == "safetensors")
        {
            size += facts.len();
            modified = modified.max(written(&facts));
        }
    }
    Some((size, modified))
}

/// What a model can do, as clients ask for it.
fn capabilities(gguf: &Gguf, template: Option<&str>, info: &ModelInfo) -> Vec<&'static str> {
    // A file that says how states are pooled is of a model that was made for embeddings, not for answers.
    let mut capabilities = match info {
        _ if info.ranks => return vec!["rerank"],
        _ if info.is_encoder => return vec!["embedding"],
        _ if info.is_embedder => vec!["embedding"],
        _ => vec!["completion"],
    };
    if let Some(template) = template {
        if template.contains("tools") {
            capabilities.push("tools");
        }
        if template.contains("enable_thinking") || template.contains("<think>") {
            capabilities.push("thinking");
        }
    }
    // Control tokens stand together near an end of the vocabulary; one pass finds a family's three.
    let mut found = [0u8; INFILL.len()];
    if let Ok(Some(tokens)) = gguf.metadata().opt_strings("tokenizer.ggml.tokens") {
        for token in tokens {
            for (family, marks) in INFILL.iter().enumerate() {
                found[family] += u8::from(marks.iter().any(|mark| mark.as_bytes() == token));
            }
        }
    }
    if found.contains(&3) {
        capabilities.push("insert");
    }
    capabilities
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
