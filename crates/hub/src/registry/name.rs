//! Names of models in registries. Every part is checked here, before it becomes part of an address or a folder.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::http::Origin;
use crate::network::Network;

/// The longest part of a name.
const MAX_PART: usize = 80;
/// The longest host.
const MAX_HOST: usize = 350;
/// The most parts of a repository.
const MAX_PARTS: usize = 8;
/// Where Ollama's registry keeps what has no owner.
const LIBRARY: &str = "library";

/// A model in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName {
    /// `None`: the registry that the settings name for `ollama:`.
    host: Option<String>,
    /// `library/smollm2`.
    repository: String,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    Tag(String),
    Digest(Digest),
}

impl RegistryName {
    /// What follows `ollama:`: `name`, `name:tag`, `owner/name:tag`.
    pub(crate) fn ollama(text: &str) -> Result<RegistryName, String> {
        let (path, version) = split(text)?;
        let repository = match path.split('/').count() {
            1 => format!("{LIBRARY}/{path}"),
            2 => path.to_owned(),
            _ => return Err("write it as `ollama:name:tag`, or `ollama:owner/name:tag`".to_owned()),
        };
        RegistryName::new(None, repository, version)
    }

    /// What follows `oci:`: `host/name:tag`, `host:port/owner/name@sha256:…`.
    pub(crate) fn oci(text: &str) -> Result<RegistryName, String> {
        let (path, version) = split(text)?;
        let (host, repository) = path
            .split_once('/')
            .ok_or("write it as `oci:host/owner/name:tag`, with the registry's host in front")?;
        RegistryName::new(Some(host.to_owned()), repository.to_owned(), version)
    }

    /// As clients of Ollama write it: `name`, `owner/name:tag`, `host/owner/name:tag`; `http://` in front asks for no
    /// encryption, which the second value says.
    pub fn from_client(text: &str) -> Result<(RegistryName, bool), String> {
        let (text, plain) = match text.strip_prefix("http://") {
            Some(rest) => (rest, true),
            None => (text.strip_prefix("https://").unwrap_or(text), false),
        };
        let (first, rest) = text.split_once('/').unwrap_or(("", text));
        let is_host = first.contains(['.', ':']) || first == "localhost" || rest.contains('/');
        let name = if is_host { RegistryName::oci(text)? } else { RegistryName::ollama(text)? };
        Ok((name, plain))
    }

    fn new(host: Option<String>, repository: String, version: Version) -> Result<RegistryName, String> {
        if let Some(host) = &host
            && (host.len() > MAX_HOST || Origin::parse(&format!("https://{host}")).is_none())
        {
            return Err(format!("`{}` is not a host", host.escape_debug()));
        }
        let parts: Vec<&str> = repository.split('/').collect();
        if let Some(part) = parts.iter().find(|part| !is_part(part)) {
            return Err(format!(
                "`{}` cannot be a part of a name: letters, digits, `.`, `-` and `_`, a letter or digit first",
                part.escape_debug()
            ));
        }
        if parts.len() > MAX_PARTS {
            return Err(format!("it has more than {MAX_PARTS} parts"));
        }
        Ok(RegistryName { host, repository, version })
    }

    /// `https://host:port` of the registry.
    pub(crate) fn base(&self, network: &Network, insecure: bool) -> String {
        let Some(host) = &self.host else { return network.ollama.clone() };
        let plain = format!("http://{host}");
        let origin = Origin::parse(&plain);
        // Listed without encryption is meant without encryption.
        let listed = network.trusted.iter().any(|place| Origin::parse(place) == origin);
        if insecure || listed { plain } else { format!("https://{host}") }
    }

    /// The host, where the name says one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// `owner/name`.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag or the digest, as it is asked for.
    pub(crate) fn version(&self) -> String {
        match &self.version {
            Version::Tag(tag) => tag.clone(),
            Version::Digest(digest) => digest.to_string(),
        }
    }

    /// The tag, which alone can be pushed to.
    pub(crate) fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The digest that the manifest must have, where the name says it.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }

    /// What stands before the colon of a reference.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.host.is_some() { "oci" } else { "ollama" }
    }

    /// What stands behind it.
    pub(crate) fn rest(&self) -> String {
        let path = match &self.host {
            Some(host) => format!("{host}/{}", self.repository),
            None => match self.repository.strip_prefix(LIBRARY).and_then(|rest| rest.strip_prefix('/')) {
                Some(name) => name.to_owned(),
                None => self.repository.clone(),
            },
        };
        match &self.version {
            Version::Tag(tag) => format!("{path}:{tag}"),
            Version::Digest(digest) => format!("{path}@{digest}"),
        }
    }
}

impl FromStr for RegistryName {
    type Err = String;

    /// `ollama:…` or `oci:…`.
    fn from_str(text: &str) -> Result<RegistryName, String> {
        match text.split_once(':') {
            Some(("ollama", rest)) => RegistryName::ollama(rest),
            Some(("oci", rest)) => RegistryName::oci(rest),
            _ => Err("write it as `ollama:owner/name:tag`, or `oci:host/owner/name:tag`".to_owned()),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme(), self.rest())
    }
}

/// The path, and the tag or digest behind it; `latest` where there is none.
fn split(text: &str) -> Result<(&str, Version), String> {
    if let Some((path, digest)) = text.split_once('@') {
        return Ok((path, Version::Digest(digest.parse()?)));
    }
    let name = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[name..].split_once(':') {
        None => Ok((text, Version::Tag("latest".to_owned()))),
        Some((_, tag)) if is_part(tag) => {
            Ok((&text[..text.len() - tag.len() - 1], Version::Tag(tag.to_owned())))
        }
        Some((_, tag)) => Err(format!("`{}` cannot be a tag", tag.escape_debug())),
    }
}

/// Whether `text` can stand between slashes: nothing that leads elsewhere in an address or on a disk.
fn is_part(text: &str) -> bool {
    text.len() <= MAX_PART
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !text.contains("..")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn names_parse() {
        let by_digest = format!("oci:h.example/a/b@sha256:{HEX}");
        for (text, expected) in [
            ("ollama:smollm2", Some("ollama:smollm2:latest library/smollm2 latest")),
            ("ollama:smollm2:135m", Some("ollama:smollm2:135m library/smollm2 135m")),
            ("ollama:me/own:1", Some("ollama:me/own:1 me/own 1")),
            ("oci:reg.example/me/own", Some("oci:reg.example/me/own:latest me/own latest")),
            ("oci:localhost:5000/own:1", Some("oci:localhost:5000/own:1 own 1")),
            ("oci:[::1]:5000/a/b/c:1", Some("oci:[::1]:5000/a/b/c:1 a/b/c 1")),
            (&*by_digest, Some(&*format!("{by_digest} a/b sha256:{HEX}"))),
            ("ollama:a/b/c", None),
            ("ollama:", None),
            ("ollama:../x", None),
            ("ollama:a..b", None),
            ("ollama:a:..", None),
            ("ollama:a:b/c", None),
            ("ollama:a:b:c", None),
            ("ollama:a?b", None),
            ("ollama:a%2fb", None),
            ("ollama:-a", None),
            ("oci:own", None),
            ("oci:/own", None),
            ("oci:user@host/own", None),
            ("oci:host/../own", None),
            ("oci:host//own", None),
            ("oci:host/own@sha256:abc", None),
            ("oci:host/a/b/c/d/e/f/g/h/i", None),
            ("smollm2", None),
        ] {
            let got = text.parse::<RegistryName>().ok();
            let got = got.map(|name| format!("{name} {} {}", name.repository(), name.version()));
            assert_eq!(got.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_as_clients_write_them() {
        for (text, expected, plain) in [
            ("smollm2", "ollama:smollm2:latest", false),
            ("me/own:1", "ollama:me/own:1", false),
            ("localhost:5000/own:1", "oci:localhost:5000/own:1", false),
            ("http://localhost:5000/me/own", "oci:localhost:5000/me/own:latest", true),
            ("https://reg.example/me/own", "oci:reg.example/me/own:latest", false),
            ("reg/me/own", "oci:reg/me/own:latest", false),
        ] {
            let (name, is_plain) = RegistryName::from_client(text).expect("a name");
            assert_eq!((name.to_string().as_str(), is_plain), (expected, plain), "{text}");
        }
    }

    #[test]
    fn where_a_registry_is() {
        let network = Network {
            ollama: "https://mirror.example".to_owned(),
            trusted: vec!["http://127.0.0.1:5000".to_owned(), "https://reg.home".to_owned()],
            ..Network::default()
        };
        for (name, insecure, expected) in [
            ("ollama:a", false, "https://mirror.example"),
            ("oci:127.0.0.1:5000/a", false, "http://127.0.0.1:5000"),
            ("oci:127.0.0.1:5001/a", false, "https://127.0.0.1:5001"),
            ("oci:reg.home/a", false, "https://reg.home"),
            ("oci:reg.home/a", true, "http://reg.home"),
        ] {
            let name: RegistryName = name.parse().expect("a name");
            assert_eq!(name.base(&network, insecure), expected, "{name}");
        }
    }
}
