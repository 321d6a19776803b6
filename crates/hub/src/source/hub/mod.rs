//! The Hugging Face Hub: `hf:owner/repo`, and behind it `:file.gguf` or `:Q4_K_M`, and `@revision`.
//!
//! One question to its API says which files a revision has, with sizes and digests; what is fetched goes into the cache
//! that other tools of the Hub share (`cache.rs`). Left out: its Xet protocol, as its plain addresses serve the same
//! files; repositories that are neither GGUF nor safetensors; writing to the Hub.

pub(crate) mod cache;
mod choose;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use ureq::http::Uri;

use self::cache::HubCache;
pub(crate) use self::choose::split;
use crate::digest::Digest;
use crate::http::ranges::Remote;
use crate::http::{Authorization, Client, Origin, Request, Response, encode};
use crate::network::Network;
use crate::progress::Report;
use crate::{HubError, Resolved};

/// The most bytes of the API's answer about a repository.
const MAX_INFO: u64 = 16 << 20;
/// The longest owner, repository or revision.
const MAX_PART: usize = 96;
/// The usual revision.
const MAIN: &str = "main";

/// Something in a repository of the Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    owner: String,
    repo: String,
    /// A file, or a quantization.
    which: Option<String>,
    revision: Option<String>,
}

impl HubName {
    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// The same repository and revision, and this file.
    fn with_file(&self, file: &str) -> HubName {
        HubName { which: Some(file.to_owned()), ..self.clone() }
    }
}

impl FromStr for HubName {
    type Err = String;

    fn from_str(text: &str) -> Result<HubName, String> {
        let help = || {
            "write it as `hf:owner/repo`, with `:file.gguf` or `:Q4_K_M` and `@revision` behind it if need be"
                .to_owned()
        };
        let (rest, revision) = match text.rsplit_once('@') {
            Some((rest, revision)) => (rest, Some(revision)),
            None => (text, None),
        };
        let (path, which) = match rest.split_once(':') {
            Some((path, which)) => (path, Some(which)),
            None => (rest, None),
        };
        let (owner, repo) = path.split_once('/').ok_or_else(help)?;
        let is_sound = is_name(owner)
            && is_name(repo)
            && which.is_none_or(is_path)
            && revision.is_none_or(|revision| revision.len() <= MAX_PART && revision.split('/').all(is_name));
        if !is_sound {
            return Err(help());
        }
        Ok(HubName {
            owner: owner.to_owned(),
            repo: repo.to_owned(),
            which: which.map(str::to_owned),
            revision: revision.map(str::to_owned),
        })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.repo)?;
        if let Some(which) = &self.which {
            write!(f, ":{which}")?;
        }
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// Whether `text` can be an owner, a repository or a part of a revision: one plain part of an address and of a path.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_PART
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !text.contains("..")
        // What separates owner and repository in the cache.
        && !text.contains("--")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// Whether `text` is a path inside a repository that is one inside a folder, too.
pub(crate) fn is_path(text: &str) -> bool {
    let is_part = |part: &str| {
        part.len() <= 200
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !part.ends_with(['.', ' '])
            && part.chars().all(|c| {
                c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '=' | ',' | ' ' | '(' | ')')
            })
    };
    text.split('/').count() <= 4 && text.split('/').all(is_part)
}

/// What the API says of a revision.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: Option<u64>,
}

/// A file to fetch.
struct Wanted {
    path: String,
    size: u64,
    /// The name of its blob in the cache.
    etag: String,
    digest: Option<Digest>,
}

/// Gets a model into the shared cache, or finds that it is there.
pub(crate) fn pull(
    network: &Network,
    cache: &HubCache,
    name: &HubName,
    report: Report<'_>,
) -> Result<Resolved, HubError> {
    let hub = Hub::open(network, name)?;
    let info = hub.info()?;
    let commit = info.sha.clone();
    for file in hub.choose(info)? {
        if !cache.has_blob(name, &file.etag, file.size) {
            let lock = cache.lock(name, &file.etag, report)?;
            if !cache.has_blob(name, &file.etag, file.size) {
                let mut staging = cache.staging(name, &file.etag, file.size, report)?;
                if let Err(error) = hub.fetch(&commit, &file, &mut staging, report) {
                    if staging.n_parts() == 0 {
                        staging.discard()?;
                    }
                    return Err(error);
                }
                let (_, _, head) = staging.facts()?;
                if file.path.ends_with(".gguf") && head != b"GGUF" {
                    staging.discard()?;
                    let problem = format!("`{}` is not a GGUF model", file.path);
                    return Err(HubError::BadPackage { package: format!("hf:{name}"), problem });
                }
                cache.install(name, &file.etag, staging)?;
            }
            drop(lock);
        }
        cache.link(name, &commit, &file.path, &file.etag)?;
    }
    cache.set_revision(name, &commit)?;
    cache.find(name)?.ok_or_else(|| HubError::NotStored { name: format!("hf:{name}") })
}

/// The Hub, asked about one repository.
struct Hub<'a> {
    client: Client,
    base: &'a str,
    name: &'a HubName,
    authorization: Option<Authorization>,
}

impl Hub<'_> {
    fn open<'a>(network: &'a Network, name: &'a HubName) -> Result<Hub<'a>, HubError> {
        let base = network.hugging_face.as_str();
        let client = Client::new(network, None)?;
        // The token is the configured hub's, and goes to no other place, wherever that one redirects.
        let authorization = network.hf_token.as_ref().zip(Origin::parse(base));
        let authorization = authorization
            .map(|(token, origin)| Authorization { origin, value: format!("Bearer {}", token.0) });
        Ok(Hub { client, base, name, authorization })
    }

    fn url(&self, rest: &str) -> Result<Uri, HubError> {
        let text = format!("{}/{rest}", self.base);
        text.parse().map_err(|_| HubError::BadReference {
            reference: text,
            problem: "no address can be made of it".to_owned(),
        })
    }

    fn ask_once(&self, request: &Request<'_>) -> Result<Response, HubError> {
        self.client.once(&request.clone().authorization(self.authorization.clone()))
    }

    fn bad(&self, problem: String) -> HubError {
        HubError::BadAnswer { place: format!("hf:{}", self.name), problem }
    }

    fn info(&self) -> Result<Info, HubError> {
        let HubName { owner, repo, .. } = self.name;
        let revision = encode(self.name.revision());
        let url = self.url(&format!("api/models/{owner}/{repo}/revision/{revision}?blobs=true"))?;
        let request = Request::get(url).authorization(self.authorization.clone());
        let what = format!("pull as {}", self.name);
        let (_, bytes) = self.client.whole(MAX_INFO, &what, || self.client.send(&request))?;
        let info: Info = serde_json::from_slice(&bytes)
            .map_err(|error| self.bad(format!("the hub's answer is not what its API says ({error})")))?;
        if !cache::is_commit(&info.sha) {
            return Err(self.bad(format!("`{}` is not a commit", info.sha.escape_debug())));
        }
        Ok(info)
    }

    /// The files that the name means.
    fn choose(&self, info: Info) -> Result<Vec<Wanted>, HubError> {
        let files: Vec<Sibling> = info.siblings.into_iter().filter(|file| is_path(&file.rfilename)).collect();
        let paths: Vec<&str> = files.iter().map(|file| file.rfilename.as_str()).collect();
        let chosen =
            choose::choose(&paths, self.name.which.as_deref()).map_err(|problem| self.bad(problem))?;
        let wanted = |path: &&str| {
            let file = files.iter().find(|file| file.rfilename == *path)?;
            let digest = file.lfs.as_ref().and_then(|lfs| Digest::from_hex(&lfs.sha256));
            let etag = match &digest {
                Some(digest) => digest.hex().to_owned(),
                None => file.blob_id.clone().filter(|id| cache::is_commit(id))?,
            };
            let size = file.lfs.as_ref().and_then(|lfs| lfs.size).or(file.size)?;
            Some(Wanted { path: file.rfilename.clone(), size, etag, digest })
        };
        let all: Option<Vec<Wanted>> = chosen.files().iter().map(wanted).collect();
        all.ok_or_else(|| self.bad("the hub does not say how long a file is, or what is in it".to_owned()))
    }

    fn fetch(
        &self,
        commit: &str,
        file: &Wanted,
        staging: &mut crate::staging::Staging,
        report: Report<'_>,
    ) -> Result<(), HubError> {
        let HubName { owner, repo, .. } = self.name;
        let path: Vec<String> = file.path.split('/').map(encode).collect();
        let remote = Remote {
            client: &self.client,
            ask: &|request| self.ask_once(request),
            url: self.url(&format!("{owner}/{repo}/resolve/{commit}/{}", path.join("/")))?,
            name: &format!("hf:{}", self.name.with_file(&file.path)),
            size: file.size,
            digest: file.digest.clone(),
            etag: None,
            sums: Vec::new(),
        };
        remote.fetch(staging, report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse() {
        for (text, expected) in [
            ("owner/repo", Some("owner/repo")),
            ("owner/repo:Q4_K_M", Some("owner/repo:Q4_K_M")),
            ("owner/re.po-1:sub/a b.gguf@refs/pr/1", Some("owner/re.po-1:sub/a b.gguf@refs/pr/1")),
            ("owner/repo@v1.0", Some("owner/repo@v1.0")),
            ("repo", None),
            ("a/b/c", None),
            ("../b", None),
            ("a/..", None),
            ("a/b:../c.gguf", None),
            ("a/b:/c.gguf", None),
            ("a/b:c\\d.gguf", None),
            ("a/b:c//d.gguf", None),
            ("a/b@../main", None),
            ("a/b@", None),
            ("a/b:", None),
            ("a--b/c", None),
            ("a/b?c", None),
        ] {
            assert_eq!(
                text.parse::<HubName>().ok().map(|name| name.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
    }
}
