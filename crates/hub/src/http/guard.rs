//! Finding the address of a host, and refusing those that only this machine's neighbourhood can reach. The check stands
//! behind the resolver, so that a name that changes its address between two questions gains nothing.

use std::fmt;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::origin::is_public;

/// Resolves names.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Only public addresses are answers.
    pub(super) public_only: bool,
    /// The user's own proxy, which may be anywhere: its host and port.
    pub(super) proxy: Option<(String, u16)>,
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found =
            DefaultResolver::default().resolve(uri, config, timeout).map_err(|error| match error {
                // The system's resolver says it in a way that looks like any other input or output error.
                Error::Io(_) => Error::HostNotFound,
                error => error,
            })?;
        let is_proxy = |(host, port): &(String, u16)| {
            uri.host() == Some(host) && uri.port_u16().is_none_or(|given| given == *port)
        };
        if !self.public_only || self.proxy.as_ref().is_some_and(is_proxy) {
            return Ok(found);
        }
        let mut public = self.empty();
        for address in found.iter().filter(|address| is_public(address.ip())) {
            public.push(*address);
        }
        if public.is_empty() { Err(Error::Other(Box::new(NotPublic))) } else { Ok(public) }
    }
}

/// A host with private addresses only.
#[derive(Debug)]
pub(super) struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is at an address of a private network")
    }
}

impl std::error::Error for NotPublic {}
