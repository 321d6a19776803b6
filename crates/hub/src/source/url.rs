//! One file at an address: `https://host/path/model.gguf`, and behind it `#sha256:…` where its digest is known; else the
//! digest of what arrived is written down. A file that changes while it is fetched is noticed by its entity tag.

use std::fmt;

use ureq::http::Uri;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, RANGE};

use crate::HubError;
use crate::digest::Digest;
use crate::http::ranges::Remote;
use crate::http::{Client, Origin, Request};
use crate::network::Network;
use crate::progress::Report;
use crate::staging::Staging;

/// The longest address.
const MAX_URL: usize = 2000;

/// A file at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlName {
    /// Without `https:`.
    rest: String,
    digest: Option<Digest>,
}

impl UrlName {
    /// What follows `https:`.
    pub(crate) fn parse(text: &str) -> Result<UrlName, String> {
        let (rest, digest) = match text.split_once('#') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let url: Option<Uri> = format!("https:{rest}").parse().ok();
        match url.as_ref().and_then(Origin::of) {
            Some(_) if rest.starts_with("//") && text.len() <= MAX_URL => {
                Ok(UrlName { rest: rest.to_owned(), digest })
            }
            _ => Err("write it as `https://host/path/model.gguf`, with `#sha256:…` behind it if you know its digest".to_owned()),
        }
    }
}

impl fmt::Display for UrlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rest)?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "#{digest}"))
    }
}

/// A file that was found and is ready to be fetched.
pub(crate) struct Found {
    client: Client,
    url: Uri,
    pub(crate) size: u64,
    etag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

impl Found {
    /// Asks for the length of the file.
    pub(crate) fn find(network: &Network, name: &UrlName) -> Result<Found, HubError> {
        let bad = |problem: &str| HubError::BadAnswer {
            place: format!("https:{}", name.rest),
            problem: problem.to_owned(),
        };
        let url: Uri = format!("https:{}", name.rest).parse().map_err(|_| bad("it is no address"))?;
        // Listed without encryption, the same host is asked without.
        let plain = Origin::parse(&format!("http:{}", name.rest));
        let listed = network.trusted.iter().any(|place| Origin::parse(place) == plain);
        let url = if listed { format!("http:{}", name.rest).parse().unwrap_or(url) } else { url };
        let named = Origin::of(&url).filter(|_| network.trust_named);
        let client = Client::new(network, named)?;
        let response = client.send(&Request::get(url.clone()).header(RANGE, "bytes=0-0"))?;
        let size = match response.status {
            206 => response.header(&CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse().ok()),
            200 => response.header(&CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            _ => return Err(response.failure("pull")),
        };
        let size = size.ok_or_else(|| bad("it does not say how long the file is"))?;
        // A weak tag does not tell bytes apart.
        let etag = response.header(&ETAG).filter(|tag| !tag.starts_with("W/")).map(str::to_owned);
        Ok(Found { client, url, size, etag, digest: name.digest.clone() })
    }

    /// What tells this file from others at the same address.
    pub(crate) fn id(&self) -> String {
        let tag = self.etag.as_deref().unwrap_or_default();
        let digest = self.digest.as_ref().map(Digest::to_string).unwrap_or_default();
        format!("{} {} {tag} {digest}", self.url, self.size)
    }

    pub(crate) fn fetch(&self, staging: &mut Staging, report: Report<'_>) -> Result<(), HubError> {
        let remote = Remote {
            client: &self.client,
            ask: &|request| self.client.once(request),
            url: self.url.clone(),
            name: &self.url.to_string(),
            size: self.size,
            digest: self.digest.clone(),
            etag: self.etag.clone(),
            sums: Vec::new(),
        };
        remote.fetch(staging, report)
    }
}

#[cfg(test)]
mod tests {
    use super::UrlName;

    #[test]
    fn addresses_parse() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (text, sound) in [
            ("//host.example/a/b.gguf", true),
            (&*format!("//host.example/b.gguf#sha256:{hex}"), true),
            ("//host.example/b.gguf#sha256:1", false),
            ("//host.example/b.gguf#x", false),
            ("//user@host.example/b.gguf", false),
            ("/host.example/b.gguf", false),
            ("//", false),
            ("//host.example/a b", false),
        ] {
            assert_eq!(UrlName::parse(text).is_ok(), sound, "{text}");
        }
    }
}
