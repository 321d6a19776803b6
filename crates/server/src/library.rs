//! Which models there are, by the names that clients use: those of the store, files that the server was told of, and
//! recipes, which are other names for a model, with a system message, a template or parameters of their own.
//!
//! A client never names a path. A trailing `:latest` is what clients add to a name without a tag.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use whit_engine::{Message, ModelInfo};
use whit_files::Gguf;
use whit_hub::{Manifest, Reference, Resolved, Store};

use crate::error::{ApiError, ServerError};
use crate::prompt::{INFILL, Input};

/// Where recipes are written down, below the store's home.
const RECIPES: &str = "recipes.json";
/// The longest name of a recipe.
const MAX_NAME: usize = 200;

/// The models that there are.
pub(crate) struct Library {
    store: Store,
    files: Vec<(String, PathBuf)>,
    recipes: Mutex<BTreeMap<String, Arc<Recipe>>>,
    facts: Mutex<HashMap<PathBuf, Known>>,
}

/// What was read of a file, as it was when it was read.
struct Known {
    modified: Option<SystemTime>,
    size: u64,
    facts: Arc<Facts>,
}

/// A model by another name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recipe {
    /// The name of another model, or the digest of an uploaded file: `sha256:…`.
    pub(crate) from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) license: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) parameters: Map<String, Value>,
    /// Said before every conversation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) messages: Vec<Message>,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

impl Recipe {
    /// What a stored model brings of its own; `None` for weights alone.
    fn of_stored(manifest: &Manifest, modified: SystemTime) -> Option<Arc<Recipe>> {
        let extras = &manifest.extras;
        if extras.is_empty() {
            return None;
        }
        let message = |message: &Value| serde_json::from_value(message.clone()).ok();
        Some(Arc::new(Recipe {
            from: manifest.name.clone(),
            system: extras.system.clone(),
            template: extras.template.clone(),
            license: (!extras.licenses.is_empty()).then(|| extras.licenses.join("\n\n")),
            parameters: extras.parameters.clone(),
            messages: extras.messages.iter().filter_map(message).collect(),
            created: modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }))
    }

    /// Puts in front of a conversation what belongs there.
    pub(crate) fn apply(&self, input: Input) -> Input {
        let Input::Chat(mut chat) = input else { return input };
        let has_system = chat.messages.first().is_some_and(|message| message.role == "system");
        let at = usize::from(has_system);
        chat.messages.splice(at..at, self.messages.iter().cloned());
        if let Some(system) = self.system.as_ref().filter(|_| !has_system) {
            chat.messages.insert(0, Message::system(system));
        }
        chat.template = chat.template.or_else(|| self.template.clone());
        Input::Chat(chat)
    }
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
            if !path.is_file() {
                return Err(whit_hub::HubError::NoSuchFile { path: path.clone() }.into());
            }
        }
        let path = store.home().join(RECIPES);
        let recipes = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!(path = %path.display(), %error, "recipes cannot be read; they are left out");
                BTreeMap::<String, Recipe>::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        let recipes = recipes.into_iter().map(|(name, recipe)| (name, Arc::new(recipe))).collect();
        Ok(Library { store, files, recipes: Mutex::new(recipes), facts: Mutex::default() })
    }

    /// The models of the store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Where uploaded files lie.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.store.home().join("blobs")
    }

    /// The model that a client means.
    pub(crate) fn find(&self, name: &str) -> Result<Entry, ApiError> {
        let wanted = name.trim();
        if wanted.is_empty() {
            return Err(ApiError::BadRequest("model is required".to_owned()));
        }
        let wanted = wanted.strip_suffix(":latest").unwrap_or(wanted);
        let missing = || ApiError::ModelNotFound(name.to_owned());
        let recipe = lock(&self.recipes).get(wanted).cloned();
        match recipe {
            Some(recipe) => self.by_recipe(wanted, recipe).map_err(|_| missing()),
            None => self.find_plain(wanted).ok_or_else(missing),
        }
    }

    /// A model that is no recipe.
    fn find_plain(&self, name: &str) -> Option<Entry> {
        if let Some((name, path)) = self.files.iter().find(|(known, _)| known == name) {
            return Entry::of_file(name, path);
        }
        let reference: Reference = name.parse().ok()?;
        if matches!(reference, Reference::Path(_)) {
            return None;
        }
        match self.store.resolve(&reference) {
            Ok(found) => found.and_then(Entry::of_stored),
            Err(whit_hub::HubError::UnknownModel { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, "a model cannot be used");
                None
            }
        }
    }

    fn by_recipe(&self, name: &str, recipe: Arc<Recipe>) -> Result<Entry, ApiError> {
        let base = match recipe.from.strip_prefix("sha256:") {
            Some(digest) => Entry::of_file(name, &self.blob(digest)?).map(|entry| (entry, None)),
            None => self.find_plain(&recipe.from).map(|entry| {
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

    /// The path of an uploaded file, there or not.
    pub(crate) fn blob(&self, digest: &str) -> Result<PathBuf, ApiError> {
        let digest = digest.strip_prefix("sha256:").unwrap_or(digest);
        let is_digest = digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_digest {
            return Err(ApiError::BadRequest("invalid digest format".to_owned()));
        }
        Ok(self.blobs().join(format!("sha256-{digest}")))
    }

    /// All models, the latest first.
    pub(crate) fn list(&self) -> Result<Vec<Entry>, ApiError> {
        let recipes = lock(&self.recipes).clone();
        let mut entries: Vec<Entry> =
            recipes.into_iter().filter_map(|(name, recipe)| self.by_recipe(&name, recipe).ok()).collect();
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
        let gguf = Gguf::open(&entry.path).map_err(|error| fail(&error))?;
        let info = whit_models::describe(&gguf).map_err(|error| fail(&error))?;
        let template = gguf.metadata().opt_str("tokenizer.chat_template").ok().flatten().map(str::to_owned);
        let capabilities = capabilities(&gguf, template.as_deref(), &info);
        let facts = Arc::new(Facts { info, template, capabilities });
        lock(&self.facts)
            .insert(entry.path.clone(), Known { modified, size: entry.size, facts: Arc::clone(&facts) });
        Ok(facts)
    }

    /// Writes down a recipe under `name`.
    pub(crate) fn put(&self, name: &str, recipe: Recipe) -> Result<(), ApiError> {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts
            || name.len() > MAX_NAME
            || !name.chars().all(plain)
            || name.contains("..")
            || name.contains("//")
        {
            return Err(ApiError::BadRequest("invalid model name".to_owned()));
        }
        let mut recipes = lock(&self.recipes);
        recipes.insert(name.to_owned(), Arc::new(recipe));
        self.save(&recipes)
    }

    /// Copies a model: a new name for the same thing.
    pub(crate) fn copy(&self, source: &str, destination: &str) -> Result<(), ApiError> {
        let entry = self.find(source)?;
        let created = crate::clock::unix_now();
        let recipe = match &entry.recipe {
            Some(recipe) => Recipe { created, ..(**recipe).clone() },
            None => Recipe { from: entry.name.clone(), created, ..Recipe::default() },
        };
        self.put(destination, recipe)
    }

    /// Removes a model. A file that the server was told of is not its own to remove.
    pub(crate) fn remove(&self, name: &str) -> Result<(), ApiError> {
        let entry = self.find(name)?;
        {
            let mut recipes = lock(&self.recipes);
            if let Some(recipe) = recipes.remove(&entry.name) {
                self.save(&recipes)?;
                let used = recipes.values().any(|other| other.from == recipe.from);
                if !used && recipe.from.starts_with("sha256:") {
                    let blob = self.blob(&recipe.from)?;
                    fs::remove_file(&blob).map_err(|error| ApiError::internal(&error))?;
                }
                return Ok(());
            }
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

    fn save(&self, recipes: &BTreeMap<String, Arc<Recipe>>) -> Result<(), ApiError> {
        let plain: BTreeMap<&str, &Recipe> =
            recipes.iter().map(|(name, recipe)| (name.as_str(), &**recipe)).collect();
        let text = serde_json::to_vec_pretty(&plain).map_err(|error| ApiError::internal(&error))?;
        let path = self.store.home().join(RECIPES);
        let temporary = path.with_extension("tmp");
        let written = fs::create_dir_all(self.store.home())
            .and_then(|()| fs::write(&temporary, text))
            .and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|error| ApiError::internal(&error))
    }
}

impl Entry {
    /// A file that is used where it lies. Hashing gigabytes for a list is out of the question; what identifies the file
    /// changes when it does.
    fn of_file(name: &str, path: &Path) -> Option<Entry> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let identity = format!("{}\0{}\0{}", path.display(), metadata.len(), since.as_nanos());
        Some(Entry {
            name: name.to_owned(),
            path: path.to_owned(),
            size: metadata.len(),
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
                let recipe = Recipe::of_stored(&manifest, entry.modified);
                // Another program's file may have none; then what identifies the file does.
                let digest = if manifest.sha256.is_empty() { entry.digest } else { manifest.sha256 };
                Entry { digest, recipe, ..entry }
            }
            None => entry,
        })
    }
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
