//! Registries of models: the distribution API of Docker and OCI (github.com/opencontainers/distribution-spec), with the
//! media types of Ollama's registry. A model is a manifest, which names its blobs by digest: the weights in one layer,
//! template, system message, parameters and licences in others.
//!
//! Left out: signing in at Ollama's own registry by account key, as its pushes need; cross-repository mounts.

mod auth;
mod name;
mod pull;
mod push;

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use ureq::http::Uri;
use ureq::http::header::WWW_AUTHENTICATE;

pub use self::name::RegistryName;
pub(crate) use self::pull::{Found, extras, weights};
pub use self::push::{ModelFacts, Package, PushEvent};
use crate::HubError;
use crate::digest::Digest;
use crate::http::{Authorization, Client, Origin, Request, Response};
use crate::network::Network;

/// The manifest's own media type: Docker's version 2, which Ollama's clients and all registries know.
pub(crate) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const MODEL: &str = "application/vnd.ollama.image.model";
const TEMPLATE: &str = "application/vnd.ollama.image.template";
/// A template in Jinja: not what others take a template layer to be, so it has a name of its own, which they skip.
const TEMPLATE_JINJA: &str = "application/vnd.whit.image.template.jinja";
const SYSTEM: &str = "application/vnd.ollama.image.system";
const PARAMS: &str = "application/vnd.ollama.image.params";
const MESSAGES: &str = "application/vnd.ollama.image.messages";
const LICENSE: &str = "application/vnd.ollama.image.license";

/// A manifest, as it is on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RegistryManifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Layer,
    layers: Vec<Layer>,
}

/// A blob of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Layer {
    media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// One repository of a registry, spoken to with the least rights that do.
pub(crate) struct Registry {
    client: Client,
    /// `https://host:port`.
    base: String,
    origin: Origin,
    repository: String,
    /// What a token is asked for: `pull`, or `pull,push`.
    actions: &'static str,
    authorization: Mutex<Option<Authorization>>,
}

impl Registry {
    /// The repository that `name` is in. `insecure`: without encryption.
    pub(crate) fn open(
        network: &Network,
        name: &RegistryName,
        insecure: bool,
        actions: &'static str,
    ) -> Result<Registry, HubError> {
        let base = name.base(network, insecure);
        let bad = || HubError::BadReference {
            reference: name.to_string(),
            problem: "its host is not one".to_owned(),
        };
        let origin = Origin::parse(&base).ok_or_else(bad)?;
        // One that only the reference names: without encryption where the user says so, or lists it so.
        let named = network.trust_named.then(|| origin.clone());
        let client = Client::new(network, named)?;
        let repository = name.repository().to_owned();
        Ok(Registry { client, base, origin, repository, actions, authorization: Mutex::new(None) })
    }

    /// The address of something in the repository.
    fn url(&self, kind: &str, rest: &str) -> Result<Uri, HubError> {
        let text = format!("{}/v2/{}/{kind}/{rest}", self.base, self.repository);
        text.parse().map_err(|_| HubError::BadReference {
            reference: text,
            problem: "no address can be made of it".to_owned(),
        })
    }

    /// Asks, and asks again where that may help.
    fn send(&self, request: &Request<'_>) -> Result<Response, HubError> {
        self.with_login(request, |request| self.client.send(request))
    }

    /// Asks once.
    fn ask_once(&self, request: &Request<'_>) -> Result<Response, HubError> {
        self.with_login(request, |request| self.client.once(request))
    }

    /// Asks with the token that there is, and with a new one where the registry demands it.
    fn with_login(
        &self,
        request: &Request<'_>,
        ask: impl Fn(&Request<'_>) -> Result<Response, HubError>,
    ) -> Result<Response, HubError> {
        let with = |authorization| Request { authorization, ..request.clone() };
        let response = ask(&with(self.authorization()))?;
        if response.status != 401 {
            return Ok(response);
        }
        let challenges: Vec<String> = response
            .headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        // Only the registry itself may ask for what is its own.
        if Origin::of(&response.url).as_ref() != Some(&self.origin) {
            return Ok(response);
        }
        let scope = format!("repository:{}:{}", self.repository, self.actions);
        let Some(authorization) = auth::answer(&self.client, &self.origin, &challenges, &scope)? else {
            return Ok(response);
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization.clone());
        ask(&with(Some(authorization)))
    }

    fn authorization(&self) -> Option<Authorization> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
