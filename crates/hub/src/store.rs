//! The store: one folder with every model that was pulled.
//!
//! ```text
//! <home>/models/<name>/<tag>/manifest.json     a model is there when both are
//!                            <file>.gguf       or a folder of files
//! <home>/models/pip/<name>==<version>/…        the same, for models named by their source
//! <home>/partial/<name>@<tag>/…                a pull under way, or interrupted
//! <home>/locks/<name>@<tag>                    held while a model is pulled or removed
//! <home>/recipes.json                           models that are made of others (`recipe.rs`)
//! <home>/blobs/sha256-…                         files that were uploaded for them
//! ```

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::catalog::{self, CATALOG, Entry, Place};
use crate::manifest;
use crate::progress::{Phase, Progress, Report};
use crate::source::hub::HubName;
use crate::source::{Job, Source};
use crate::staging::remove_folder;
use crate::{Elsewhere, Extras, HubError, Manifest, Network, Reference, RegistryName};

/// The usual time for a place to be reached.
const HURRY: Duration = Duration::from_secs(3);

/// Where the store is, and what it works with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that holds everything; made when first needed.
    pub home: PathBuf,
    /// The command that runs pip, word by word; looked for when absent.
    pub pip: Option<Vec<OsString>>,
    /// The models known by name.
    pub catalog: &'static [Entry],
    /// What the network may be used for, and with what.
    pub network: Network,
    /// Where other programs keep models.
    pub elsewhere: Elsewhere,
    /// How long a place may take to be reached, while there are others to try.
    pub hurry: Duration,
}

impl Config {
    /// A store in `home`, with the usual catalog, and pip wherever it is found.
    pub fn new(home: impl Into<PathBuf>) -> Config {
        Config {
            home: home.into(),
            pip: None,
            catalog: CATALOG,
            network: Network::default(),
            elsewhere: Elsewhere::default(),
            hurry: HURRY,
        }
    }

    /// As the environment says: `home` where it is given, else `WHIT_HOME`, or the platform's folder for application data (`$XDG_DATA_HOME/whit` or
    /// `~/.local/share/whit`; `~/Library/Application Support/whit` on macOS; `%LOCALAPPDATA%\whit` on Windows).
    /// `WHIT_PIP` is the command that runs pip, words separated by spaces, or the path of one program; [`Network::from_env`]
    /// says the rest.
    pub fn from_env(given: Option<PathBuf>) -> Result<Config, HubError> {
        let home = given.or_else(|| home(|name| std::env::var_os(name))).ok_or(HubError::NoHome)?;
        let pip = std::env::var_os("WHIT_PIP").and_then(pip_words);
        let network = Network::from_env(&home)?;
        let elsewhere = Elsewhere::from_variables(&|name| std::env::var(name).ok());
        Ok(Config { pip, network, elsewhere, ..Config::new(home) })
    }
}

/// The store's folder, by the environment that `variable` reads.
fn home(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = path("WHIT_HOME") {
        return Some(home);
    }
    let data = if cfg!(windows) {
        path("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        path("HOME")?.join("Library/Application Support")
    } else {
        // The XDG specification ignores paths that are not absolute.
        path("XDG_DATA_HOME")
            .filter(|p| p.is_absolute())
            .or_else(|| Some(path("HOME")?.join(".local/share")))?
    };
    Some(data.join("whit"))
}

fn pip_words(value: OsString) -> Option<Vec<OsString>> {
    if Path::new(&value).is_file() {
        return Some(vec![value]);
    }
    let words: Vec<OsString> = match value.to_str() {
        Some(text) => text.split_whitespace().map(OsString::from).collect(),
        None => vec![value],
    };
    (!words.is_empty()).then_some(words)
}

/// A model that is here.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its file, or the folder of a model that is no GGUF file.
    pub path: PathBuf,
    /// The name to show: the full name, or the path as given.
    pub name: String,
    /// What the store knows about it; `None` for a file used where it lies.
    pub manifest: Option<Manifest>,
}

impl Resolved {
    /// What the model brings beside its weights.
    pub fn extras(&self) -> Extras {
        self.manifest.as_ref().map(|manifest| manifest.extras.clone()).unwrap_or_default()
    }
}

/// The models on this machine.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) config: Config,
}

/// What a reference comes to.
pub(crate) struct Target {
    /// The name to show and to store.
    pub(crate) name: String,
    /// The two folders below `models/`.
    folders: [String; 2],
    pub(crate) origin: Origin,
}

impl Target {
    /// Whether the same name may mean another file tomorrow.
    pub(crate) fn may_change(&self) -> bool {
        match &self.origin {
            Origin::Source(job) => job.may_change(),
            Origin::Hub(_) => true,
            Origin::Catalog(_) | Origin::Nowhere => false,
        }
    }
}

/// Where a model can be got.
pub(crate) enum Origin {
    Catalog(Entry),
    Source(Job),
    /// In the Hugging Face Hub, and then in the cache that its tools share.
    Hub(HubName),
    /// Nowhere: it is in the store or not at all.
    Nowhere,
}

impl Store {
    /// The store that `config` says. Touches nothing yet.
    pub fn open(config: Config) -> Store {
        Store { config }
    }

    /// The folder that holds everything.
    pub fn home(&self) -> &Path {
        &self.config.home
    }

    /// Whether this registry is asked without encryption, because the user listed it so.
    pub fn asks_plainly(&self, name: &RegistryName) -> bool {
        name.base(&self.config.network, false).starts_with("http://")
    }

    /// The model, if it is here; `None` if it is known and can be pulled. Never uses the network.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Resolved>, HubError> {
        match self.recipe_of(reference)? {
            Some((name, recipe)) => self.made(name, recipe).map(Some),
            None => self.resolve_plain(reference),
        }
    }

    /// The same, past recipes.
    pub fn resolve_plain(&self, reference: &Reference) -> Result<Option<Resolved>, HubError> {
        if let Reference::Path(path) = reference {
            return match path.exists() {
                true => Ok(Some(Resolved {
                    path: path.clone(),
                    name: path.display().to_string(),
                    manifest: None,
                })),
                false => Err(HubError::NoSuchFile { path: path.clone() }),
            };
        }
        let target = self.target(reference);
        if let Some(found) = self.here(reference, &target)? {
            return Ok(Some(found));
        }
        match (target.origin, reference) {
            (Origin::Nowhere, Reference::Name(..)) if !Path::new(&target.name).exists() => {
                let hint = catalog::hint(self.config.catalog, &target.name);
                let hint = format!("{hint} (`whit pull {}` asks Ollama's registry for it)", target.name);
                Err(HubError::UnknownModel { name: target.name, hint })
            }
            (Origin::Nowhere, _) => Err(self.unknown(&target.name)),
            _ => Ok(None),
        }
    }

    /// The stored models, by name, and those that other programs keep. A folder that is not a model, or a damaged one, is left out.
    pub fn list(&self) -> Result<Vec<Manifest>, HubError> {
        let mut models = Vec::new();
        for family in subfolders(&self.config.home.join("models"))? {
            for folder in subfolders(&family)? {
                match Manifest::read(&folder) {
                    Ok(Some(manifest)) if folder.join(&manifest.file).exists() => models.push(manifest),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "a model is left out"),
                }
            }
        }
        models.extend(self.config.elsewhere.list());
        let made = |(name, recipe)| self.made(name, recipe).ok()?.manifest;
        // One whose weights are gone is not there.
        let mut all: Vec<Manifest> = self.recipes()?.into_iter().filter_map(made).collect();
        all.append(&mut models);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        // A recipe hides what has its name; what was pulled is ours; the same by another program comes last.
        all.dedup_by(|b, a| a.name == b.name);
        Ok(all)
    }

    /// What the store knows about a model that is in it.
    pub fn info(&self, reference: &Reference) -> Result<Manifest, HubError> {
        match self.resolve(reference)? {
            Some(Resolved { manifest: Some(manifest), .. }) => Ok(manifest),
            _ => Err(HubError::NotStored { name: reference.to_string() }),
        }
    }

    /// Removes a model, and whatever an interrupted pull of it left. Gives the bytes that were freed.
    pub fn remove(&self, reference: &Reference) -> Result<u64, HubError> {
        if let Some((name, _)) = self.recipe_of(reference)?
            && let Some(freed) = self.remove_recipe(&name)?
        {
            return Ok(freed);
        }
        if let Reference::Path(path) = reference {
            let problem = "it is a file of yours, not of the store; delete it yourself".to_owned();
            return Err(HubError::BadReference { reference: path.display().to_string(), problem });
        }
        let target = self.target(reference);
        let (folder, partial) = (self.folder(&target), self.partial(&target));
        if !folder.exists() && !partial.exists() {
            if let Some(found) = self.here(reference, &target)? {
                // What was pulled as `ollama:name` is called by that name, too.
                if found.path.starts_with(self.home()) {
                    return self.remove(&found.name.parse()?);
                }
                return Err(HubError::NotOurs { name: found.name, path: found.path });
            }
            return match target.origin {
                Origin::Nowhere => Err(self.unknown(&target.name)),
                _ => Err(HubError::NotStored { name: target.name }),
            };
        }
        let _lock = self.lock(&target, &mut |_| {})?;
        let freed = size_of(&folder) + size_of(&partial);
        // First the manifest: from then on the model is not there, whatever happens to the rest.
        let manifest = folder.join(manifest::FILE_NAME);
        match fs::remove_file(&manifest) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(HubError::io(&manifest, "remove", error));
            }
            _ => {}
        }
        remove_folder(&folder)?;
        remove_folder(&partial)?;
        if let Some(family) = folder.parent() {
            // It stays where other tags are in it.
            let _ = fs::remove_dir(family);
        }
        Ok(freed)
    }

    /// What `reference`, which is not a path, comes to.
    pub(crate) fn target(&self, reference: &Reference) -> Target {
        match reference {
            Reference::Source(source) => Target {
                name: source.to_string(),
                folders: [source.scheme().to_owned(), source.folder()],
                origin: match (source, source.job()) {
                    (_, Some(job)) => Origin::Source(job),
                    (Source::Hub(name), _) => Origin::Hub(name.clone()),
                    _ => Origin::Nowhere,
                },
            },
            Reference::Name(name, tag) => match catalog::find(self.config.catalog, name, tag.as_deref()) {
                Some(entry) => Target {
                    name: entry.full_name(),
                    folders: [entry.name.to_owned(), entry.tag.to_owned()],
                    origin: Origin::Catalog(*entry),
                },
                None => Target {
                    name: reference.to_string(),
                    folders: [name.clone(), tag.clone().unwrap_or_else(|| "latest".to_owned())],
                    origin: Origin::Nowhere,
                },
            },
            Reference::Path(path) => Target {
                name: path.display().to_string(),
                folders: ["path".to_owned(), "path".to_owned()],
                origin: Origin::Nowhere,
            },
        }
    }

    pub(crate) fn unknown(&self, name: &str) -> HubError {
        let mut hint = catalog::hint(self.config.catalog, name);
        if Path::new(name).exists() {
            hint = format!("to use the file or folder of that name, write `./{name}`");
        }
        HubError::UnknownModel { name: name.to_owned(), hint }
    }

    /// The model, if it is in the store, or another program keeps it.
    pub(crate) fn here(&self, reference: &Reference, target: &Target) -> Result<Option<Resolved>, HubError> {
        match self.stored(target)? {
            Some(found) => Ok(Some(found)),
            // A name with a digest is one file; others' files of that name may be any.
            None if matches!(target.origin, Origin::Catalog(Entry { sha256: Some(_), .. })) => Ok(None),
            None => {
                if let Origin::Catalog(entry) = &target.origin {
                    for place in entry.places {
                        let (Place::Registry(name) | Place::Hub(name)) = place else { continue };
                        let reference: Reference = name.parse()?;
                        let here = self.stored(&self.target(&reference))?;
                        if let Some(found) = here.or_else(|| self.config.elsewhere.find(&reference)) {
                            return Ok(Some(found));
                        }
                    }
                }
                // What was pulled as `ollama:name:tag` is also called as clients of Ollama call it.
                if let Reference::Name(..) = reference
                    && let Ok(name) = RegistryName::ollama(&reference.to_string())
                    && let Some(found) =
                        self.stored(&self.target(&Reference::Source(Source::Registry(name))))?
                {
                    return Ok(Some(found));
                }
                Ok(self.config.elsewhere.find(reference))
            }
        }
    }

    /// The model, if it is in the store and its file is as long as it should be.
    pub(crate) fn stored(&self, target: &Target) -> Result<Option<Resolved>, HubError> {
        let folder = self.folder(target);
        let Some(manifest) = Manifest::read(&folder)? else { return Ok(None) };
        let path = folder.join(&manifest.file);
        let length = |facts: fs::Metadata| if facts.is_dir() { size_of(&path) } else { facts.len() };
        match fs::metadata(&path).map(length) {
            Ok(length) if length == manifest.size => {
                Ok(Some(Resolved { path, name: manifest.name.clone(), manifest: Some(manifest) }))
            }
            Ok(length) => Err(HubError::Damaged {
                path,
                name: manifest.name,
                problem: format!("it has {length} bytes instead of {}", manifest.size),
            }),
            // Someone deleted the file: it can be pulled again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HubError::io(&path, "read", error)),
        }
    }

    /// The folder of a model.
    pub(crate) fn folder(&self, target: &Target) -> PathBuf {
        let [family, tag] = &target.folders;
        self.config.home.join("models").join(family).join(tag)
    }

    /// The folder of its pull.
    pub(crate) fn partial(&self, target: &Target) -> PathBuf {
        self.config.home.join("partial").join(target.folders.join("@"))
    }

    /// The name that its file gets.
    pub(crate) fn file_name(&self, target: &Target) -> String {
        let [family, tag] = &target.folders;
        match target.origin {
            Origin::Source(_) => format!("{tag}.gguf"),
            _ => format!("{family}-{tag}.gguf"),
        }
    }

    /// The model's lock, waited for while another process holds it. Released when dropped, and by a kill.
    pub(crate) fn lock(&self, target: &Target, report: Report<'_>) -> Result<File, HubError> {
        self.lock_file(&target.folders.join("@"), report)
    }

    /// A lock by its name.
    pub(crate) fn lock_file(&self, name: &str, report: Report<'_>) -> Result<File, HubError> {
        let folder = self.config.home.join("locks");
        let path = folder.join(name);
        let opened = fs::create_dir_all(&folder)
            .and_then(|()| OpenOptions::new().write(true).create(true).truncate(false).open(&path));
        hold(opened.map_err(|error| HubError::io(&path, "open the lock file", error))?, &path, report)
    }
}

/// Locks a file, and waits while another process holds it.
pub(crate) fn hold(file: File, path: &Path, report: Report<'_>) -> Result<File, HubError> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                report(Progress::new(Phase::Waiting));
                thread::sleep(Duration::from_millis(200));
            }
            Err(TryLockError::Error(error)) => return Err(HubError::io(path, "lock", error)),
        }
    }
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>, HubError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(HubError::io(folder, "list", error)),
    }
}

/// Bytes of the files in a folder and one level below.
pub(crate) fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => size_of(&entry.path()),
        Ok(facts) => facts.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_follows_the_environment() {
        let check = |variables: &[(&str, &str)], expected: Option<&str>| {
            let lookup = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, v)| OsString::from(v))
            };
            assert_eq!(home(lookup), expected.map(PathBuf::from), "{variables:?}");
        };
        check(
            &[("WHIT_HOME", "/x"), ("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("LOCALAPPDATA", "/l")],
            Some("/x"),
        );
        check(&[], None);
        if cfg!(windows) {
            check(&[("LOCALAPPDATA", "/l")], Some("/l/whit"));
        } else if cfg!(target_os = "macos") {
            check(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")], Some("/h/Library/Application Support/whit"));
        } else {
            check(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")], Some("/d/whit"));
            check(&[("HOME", "/h"), ("XDG_DATA_HOME", "relative")], Some("/h/.local/share/whit"));
            check(&[("HOME", "/h"), ("WHIT_HOME", "")], Some("/h/.local/share/whit"));
        }
    }

    #[test]
    fn the_pip_command_is_words_or_a_program() {
        let words = |text: &str| pip_words(OsString::from(text));
        assert_eq!(
            words("python3.12 -m  pip"),
            Some(["python3.12", "-m", "pip"].map(OsString::from).to_vec())
        );
        assert_eq!(words("  "), None);
        let folder = tempfile::Builder::new().prefix("a b").tempdir().expect("a temporary folder");
        let program = folder.path().join("pip");
        fs::write(&program, "").expect("a file in it");
        assert_eq!(pip_words(program.clone().into()), Some(vec![program.into()]));
    }
}
