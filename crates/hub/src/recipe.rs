//! Recipes: models that are made of another one, with a system message, a template, parameters or first messages of their own,
//! or just another name. They are small, so all lie in one file, `recipes.json`; the weights stay where they are.
//!
//! A recipe is of a plain model: what is made from a recipe is made from what that one is made from, and takes along what it
//! brings.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::store::size_of;
use crate::{Digest, Extras, HubError, Manifest, Reference, Resolved, Store, manifest, source};

const FILE_NAME: &str = "recipes.json";
/// The longest name.
const MAX_NAME: usize = 200;

/// A model by another name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// What it is made from: another model's name, the path of a file, or the digest of one in the folder of uploads,
    /// `sha256:…`.
    pub from: String,
    /// What it brings, all of it: nothing is taken from the other model.
    #[serde(flatten)]
    pub extras: Extras,
    /// Seconds since 1970.
    pub created: u64,
}

impl Store {
    /// All recipes, by name.
    pub fn recipes(&self) -> Result<BTreeMap<String, Recipe>, HubError> {
        let path = self.recipe_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(HubError::io(&path, "read", error)),
        };
        serde_json::from_slice(&text)
            .map_err(|error| HubError::BadRecipes { path, problem: error.to_string() })
    }

    /// The recipe of this name, in any case, and how it is written. `:latest` says nothing.
    pub fn recipe(&self, name: &str) -> Result<Option<(String, Recipe)>, HubError> {
        let mut recipes = self.recipes()?;
        Ok(written(&recipes, name).and_then(|name| recipes.remove_entry(&name)))
    }

    /// Writes down a recipe, in place of one of the same name.
    pub fn create(&self, name: &str, from: String, extras: Extras) -> Result<(), HubError> {
        let name = plain(name);
        check(name)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let recipe = Recipe { from, extras, created: since.as_secs() };
        self.change(|recipes| {
            if let Some(before) = written(recipes, name) {
                recipes.remove(&before);
            }
            recipes.insert(name.to_owned(), recipe);
        })
    }

    /// Gives a model another name; both stay.
    pub fn copy(&self, source: &Reference, destination: &str) -> Result<(), HubError> {
        let (from, extras) = self.foundation(source)?;
        self.create(destination, from, extras)
    }

    /// What a model made from this one is made from, and what it inherits.
    pub fn foundation(&self, reference: &Reference) -> Result<(String, Extras), HubError> {
        if let Some((_, recipe)) = self.recipe_of(reference)? {
            return Ok((recipe.from, recipe.extras));
        }
        let found = self.resolve_plain(reference)?;
        let found = found.ok_or_else(|| HubError::NotStored { name: reference.to_string() })?;
        Ok(match found.manifest {
            Some(manifest) => (found.name, manifest.extras),
            None => {
                let path = std::path::absolute(&found.path);
                let path = path.map_err(|error| HubError::io(&found.path, "find", error))?;
                (path.display().to_string(), Extras::default())
            }
        })
    }

    /// The path of an uploaded file, there or not.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("sha256-{}", digest.hex()))
    }

    /// Where uploaded files lie.
    pub fn blobs(&self) -> PathBuf {
        self.home().join("blobs")
    }

    /// The recipe that `reference` means: a file of the user's comes before any name.
    pub(crate) fn recipe_of(&self, reference: &Reference) -> Result<Option<(String, Recipe)>, HubError> {
        match reference {
            Reference::Path(path) if path.exists() => Ok(None),
            reference => self.recipe(&reference.to_string()),
        }
    }

    /// The model that a recipe makes.
    pub(crate) fn made(&self, name: String, recipe: Recipe) -> Result<Resolved, HubError> {
        let base = match recipe.from.parse::<Digest>() {
            Ok(digest) => {
                let path = self.blob(&digest);
                if !path.is_file() {
                    return Err(HubError::NoSuchFile { path });
                }
                let sha256 = digest.hex().to_owned();
                (path, Some(Manifest { sha256, ..Manifest::default() }))
            }
            Err(_) => {
                let found = self.resolve_plain(&recipe.from.parse()?)?;
                let found = found.ok_or_else(|| HubError::NotStored { name: recipe.from.clone() })?;
                (found.path, found.manifest)
            }
        };
        let (path, base) = (base.0, base.1.unwrap_or_default());
        let facts = fs::metadata(&path).map_err(|error| HubError::io(&path, "read", error))?;
        let size = if facts.is_dir() { size_of(&path) } else { facts.len() };
        let manifest = Manifest {
            name: name.clone(),
            source: recipe.from,
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size,
            pulled: manifest::time(Some(UNIX_EPOCH + Duration::from_secs(recipe.created))),
            extras: recipe.extras,
            ..base
        };
        Ok(Resolved { path, name, manifest: Some(manifest) })
    }

    /// Removes a recipe, and an uploaded file that no other one is made from. Gives the bytes that were freed; `None` where
    /// there is no such recipe.
    pub fn remove_recipe(&self, name: &str) -> Result<Option<u64>, HubError> {
        let mut unused = None;
        let mut found = false;
        self.change(|recipes| {
            let removed = written(recipes, name).and_then(|name| recipes.remove(&name));
            found = removed.is_some();
            unused = removed
                .filter(|recipe| !recipes.values().any(|other| other.from == recipe.from))
                .and_then(|recipe| recipe.from.parse::<Digest>().ok());
        })?;
        let Some(digest) = unused else { return Ok(found.then_some(0)) };
        let path = self.blob(&digest);
        let size = fs::metadata(&path).map_or(0, |facts| facts.len());
        fs::remove_file(&path).map_err(|error| HubError::io(&path, "remove", error))?;
        Ok(Some(size))
    }

    /// Changes the file, which other processes do not meanwhile.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Recipe>)) -> Result<(), HubError> {
        let _lock = self.lock_file("recipes", &mut |_| {})?;
        let before = self.recipes()?;
        let mut recipes = before.clone();
        change(&mut recipes);
        if recipes == before {
            return Ok(());
        }
        let path = self.recipe_file();
        let text = serde_json::to_vec_pretty(&recipes);
        let text = text.map_err(|error| HubError::io(&path, "write", error.into()))?;
        manifest::write_whole(&path, &text)
    }

    fn recipe_file(&self) -> PathBuf {
        self.home().join(FILE_NAME)
    }
}

/// Without the tag that is meant where there is none.
fn plain(name: &str) -> &str {
    let name = name.trim();
    name.strip_suffix(":latest").unwrap_or(name)
}

/// The name of a recipe as it was written, for a name in any case.
fn written(recipes: &BTreeMap<String, Recipe>, name: &str) -> Option<String> {
    let name = plain(name);
    if recipes.contains_key(name) {
        return Some(name.to_owned());
    }
    recipes.keys().find(|known| known.eq_ignore_ascii_case(name)).cloned()
}

/// Whether a recipe may be called so: `name`, `owner/name:tag`, `host:port/owner/name:tag`.
fn check(name: &str) -> Result<(), HubError> {
    let bad = |problem: &str| {
        Err(HubError::BadReference { reference: name.to_owned(), problem: problem.to_owned() })
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts
        || name.len() > MAX_NAME
        || !name.chars().all(fits)
        || name.contains("..")
        || name.contains("//")
    {
        return bad(
            "a model of yours has letters, digits, `.`, `-`, `_`, `:` and `/` in its name, a letter or digit first",
        );
    }
    if let Some((scheme, rest)) = name.split_once(':')
        && source::parse(scheme, rest).is_some()
    {
        return bad("it is a place, and not a name; leave out what stands before the colon");
    }
    if name.ends_with(".gguf") { bad("it is the name of a file; leave out `.gguf`") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(Config::new(folder.path()))
    }

    #[track_caller]
    fn ok<T>(result: Result<T, HubError>) -> T {
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn many_may_write_at_the_same_time() {
        let folder = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let store = store(&folder);
                scope.spawn(move || {
                    for n in 0..20 {
                        ok(store.create(&format!("m-{writer}:{n}"), "base".to_owned(), Extras::default()));
                    }
                });
            }
        });
        assert_eq!(ok(store(&folder).recipes()).len(), 80);
    }

    #[test]
    fn names_are_found_in_any_case() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder);
        let make = |name: &str, from: &str| ok(store.create(name, from.to_owned(), Extras::default()));
        make("Poet", "a");
        make("poet:latest", "b");
        let found = ok(store.recipe(" POET:latest "));
        assert_eq!(
            found.map(|(name, recipe)| (name, recipe.from)),
            Some(("poet".to_owned(), "b".to_owned()))
        );
        assert_eq!(ok(store.recipes()).len(), 1);
        assert_eq!((ok(store.remove_recipe("POET")), ok(store.remove_recipe("POET"))), (Some(0), None));
    }

    #[test]
    fn an_upload_stays_while_a_recipe_needs_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder);
        let digest = Digest::of(b"weights");
        fs::create_dir_all(store.blobs()).expect("a folder");
        fs::write(store.blob(&digest), b"weights").expect("a file");
        for name in ["one", "two"] {
            ok(store.create(name, digest.to_string(), Extras::default()));
        }
        let reference: Reference = ok("one".parse());
        let made = ok(store.resolve(&reference)).expect("it is here");
        assert_eq!((made.path.as_path(), made.name.as_str()), (store.blob(&digest).as_path(), "one"));
        assert_eq!(made.manifest.map(|manifest| manifest.sha256), Some(digest.hex().to_owned()));
        assert_eq!(ok(store.list()).len(), 2);
        assert_eq!((ok(store.remove(&reference)), store.blob(&digest).is_file()), (0, true));
        assert_eq!((ok(store.remove(&ok("two".parse()))), store.blob(&digest).exists()), (7, false));
    }

    #[test]
    fn a_damaged_file_is_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE_NAME), "{").expect("a file");
        let store = store(&folder);
        let error = store.create("a", "b".to_owned(), Extras::default()).expect_err("it cannot be read");
        assert!(matches!(error, HubError::BadRecipes { .. }), "{error}");
        assert_eq!(fs::read(folder.path().join(FILE_NAME)).expect("a file"), b"{");
    }

    #[test]
    fn names_of_recipes() {
        for (name, expected) in [
            ("poet", true),
            ("Poet:1", true),
            ("me/poet:1.0", true),
            ("localhost:5000/me/poet:1", true),
            ("gpt-4o", true),
            ("", false),
            ("x y", false),
            ("../x", false),
            ("a/../b", false),
            ("/etc/x", false),
            ("a//b", false),
            ("-x", false),
            ("hf:a/b", false),
            ("hf:x", false),
            ("ollama:a", false),
            ("pip:a", false),
            ("a.gguf", false),
        ] {
            assert_eq!(check(name).is_ok(), expected, "{name}");
        }
    }
}
