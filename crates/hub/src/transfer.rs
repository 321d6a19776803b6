//! Models on their way to a machine without a network: a folder with the file and its manifest, which is what a store keeps.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::progress::{Phase, Progress, throttle};
use crate::source::hub::split;
use crate::staging::Staging;
use crate::store::Origin;
use crate::{Extras, HubError, Manifest, Reference, Resolved, Store, manifest};

/// Bytes between two records of an import under way.
const PIECE: u64 = 64 << 20;

impl Store {
    /// Copies a model that is here into a folder, which is made, or empty.
    pub fn export(
        &self,
        reference: &Reference,
        folder: &Path,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Manifest, HubError> {
        let report = &mut throttle(report);
        let found =
            self.resolve(reference)?.ok_or_else(|| HubError::NotStored { name: reference.to_string() })?;
        let bad = |problem: &str| HubError::BadReference {
            reference: reference.to_string(),
            problem: problem.to_owned(),
        };
        if found.path.is_dir() {
            return Err(bad("it is a folder; copy it as it is, `whit run ./FOLDER` uses it anywhere"));
        }
        let file_name = found.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if split(&file_name).is_some() {
            return Err(bad("it is a model in several files, which cannot be exported yet; copy its files"));
        }
        let size = fs::metadata(&found.path).map_err(|error| HubError::io(&found.path, "read", error))?.len();
        let known = found.manifest.unwrap_or_else(|| of_file(&file_name, size));
        let stem = file_name.strip_suffix(".gguf").unwrap_or(&file_name);
        let file =
            if file_name.ends_with(".gguf") { file_name.clone() } else { format!("{}.gguf", plain(stem)) };

        let fail = |error| HubError::io(folder, "create the folder", error);
        fs::create_dir_all(folder).map_err(fail)?;
        if fs::read_dir(folder).map_err(fail)?.next().is_some() {
            return Err(bad("the folder to export to is not empty"));
        }
        let place = folder.join(&file);
        let digest = copy(&found.path, &place, size, report)?;
        if !known.sha256.is_empty() && known.sha256 != digest.hex() {
            let _ = fs::remove_file(&place);
            let problem = "its content is not what its digest says".to_owned();
            return Err(HubError::Damaged { path: found.path, name: known.name, problem });
        }
        let exported = Manifest { file, size, sha256: digest.hex().to_owned(), ..known };
        exported.write(folder)?;
        Ok(exported)
    }

    /// Copies a model out of a folder that [`Store::export`] made into the store.
    pub fn import(&self, folder: &Path, report: &mut dyn FnMut(Progress)) -> Result<Resolved, HubError> {
        let report = &mut throttle(report);
        let bad =
            |problem: String| HubError::BadReference { reference: folder.display().to_string(), problem };
        let manifest = Manifest::read(folder)?.ok_or_else(|| {
            bad("there is no manifest.json in it; `whit export` makes such a folder".to_owned())
        })?;
        let reference: Reference = manifest.name.parse()?;
        if matches!(reference, Reference::Path(_)) {
            return Err(bad(format!("its manifest calls the model `{}`, which is no name", manifest.name)));
        }
        let target = self.target(&reference);
        let expected =
            Digest::from_hex(&manifest.sha256).ok_or_else(|| bad("its manifest has no digest".to_owned()))?;
        if let Origin::Catalog(entry) = &target.origin
            && entry.sha256.is_some_and(|sha256| sha256 != expected.hex())
        {
            return Err(bad(format!("its file is not the one that the catalog knows as {}", target.name)));
        }
        let _lock = self.lock(&target, report)?;
        if let Some(found) = self.stored(&target)?
            && found.manifest.as_ref().is_some_and(|known| known.sha256 == manifest.sha256)
        {
            return Ok(found);
        }
        let path = folder.join(&manifest.file);
        let mut staging =
            Staging::open(&self.partial(&target), &expected.to_string(), Some(manifest.size), report)?;
        append(&path, manifest.size, &mut staging, report)?;
        let (got, got_size, head) = staging.facts()?;
        if got != manifest.sha256 || got_size != manifest.size {
            staging.discard()?;
            return Err(HubError::WrongContent {
                name: manifest.name,
                expected: manifest.sha256,
                expected_size: manifest.size,
                got,
                got_size,
            });
        }
        if head != b"GGUF" {
            staging.discard()?;
            return Err(bad("the file in it is not a GGUF model".to_owned()));
        }
        self.keep(&target, staging, &[], Manifest { name: target.name.clone(), ..manifest })
    }
}

/// Appends what `staging` lacks of a file.
fn append(
    path: &Path,
    size: u64,
    staging: &mut Staging,
    report: &mut dyn FnMut(Progress),
) -> Result<(), HubError> {
    let fail = |error| HubError::io(path, "read", error);
    let mut file = File::open(path).map_err(fail)?;
    file.seek(SeekFrom::Start(staging.len())).map_err(fail)?;
    let kept = staging.len();
    let mut buffer = vec![0; 1 << 20];
    while staging.len() < size {
        let mut left = PIECE.min(size - staging.len());
        let mut part = staging.part()?;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let n = file.read(&mut buffer[..want]).map_err(fail)?;
            if n == 0 {
                return Err(fail(io::ErrorKind::UnexpectedEof.into()));
            }
            part.write(&buffer[..n])?;
            left -= n as u64;
        }
        part.settle(0)?;
        report(Progress { done: staging.len(), total: Some(size), kept, ..Progress::new(Phase::Copying) });
    }
    Ok(())
}

/// Copies a file, and hashes what it copies.
fn copy(from: &Path, to: &Path, size: u64, report: &mut dyn FnMut(Progress)) -> Result<Digest, HubError> {
    let partial = to.with_extension("partial");
    let mut copy = || -> io::Result<Digest> {
        let (mut from, mut to) = (File::open(from)?, File::create(&partial)?);
        let (mut hasher, mut done) = (Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = from.read(&mut buffer)?;
            if n == 0 {
                to.sync_all()?;
                return Ok(Digest::finished(hasher));
            }
            hasher.update(&buffer[..n]);
            to.write_all(&buffer[..n])?;
            done += n as u64;
            report(Progress { done, total: Some(size.max(done)), ..Progress::new(Phase::Copying) });
        }
    };
    let copied = copy().and_then(|digest| fs::rename(&partial, to).map(|()| digest));
    copied.map_err(|error| {
        // Half a file is of no use; the error is what there is to say.
        let _ = fs::remove_file(&partial);
        HubError::io(to, "write", error)
    })
}

/// What is known of a file of the user's.
fn of_file(file_name: &str, size: u64) -> Manifest {
    let name = plain(file_name.strip_suffix(".gguf").unwrap_or(file_name)).to_lowercase();
    Manifest {
        source: format!("the file {file_name}"),
        name,
        file: file_name.to_owned(),
        size,
        sha256: String::new(),
        licence: None,
        parameters: None,
        description: None,
        pulled: manifest::now(),
        extras: Extras::default(),
    }
}

/// A text that can be a name of the store and of a file.
fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let plain: String = text.chars().map(|c| if fits(c) { c } else { '-' }).take(80).collect();
    let plain = plain.trim_matches(['.', '-', '_']);
    if plain.is_empty() { "model".to_owned() } else { plain.to_owned() }
}
