//! Pushing a model: each blob that the registry lacks, by digest, then the manifest that names them.
//!
//! A large blob goes in pieces, so that a connection that breaks off costs one piece: the registry is asked how far it
//! got, and the upload goes on there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::json;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use ureq::http::{Method, Uri};

use super::{
    CONFIG, LICENSE, Layer, MANIFEST, MESSAGES, MODEL, PARAMS, Registry, RegistryManifest, RegistryName,
    SYSTEM, TEMPLATE, TEMPLATE_JINJA,
};
use crate::digest::Digest;
use crate::extras::Extras;
use crate::http::{ATTEMPTS, Body, Request, join, place_of};
use crate::{HubError, Store};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// A model, ready to be pushed.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its weights.
    pub file: PathBuf,
    /// Their digest; calculated where it is not known.
    pub digest: Option<Digest>,
    /// What the registry's pages and clients show.
    pub facts: ModelFacts,
    /// The rest of it.
    pub extras: Extras,
}

/// What is said about a model in its registry's config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// `llama`.
    pub family: String,
    /// `135M`.
    pub parameters: String,
    /// `Q4_K_M`.
    pub quantization: String,
}

/// How far a push is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEvent {
    /// The model is read, and its blobs are named.
    Preparing,
    /// A blob is on its way, or was there.
    Blob {
        /// Its name.
        digest: Digest,
        /// Bytes sent.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All blobs are there; the manifest goes last.
    Manifest,
}

/// Where a blob's bytes are.
enum Content<'a> {
    File(&'a Path),
    Bytes(Vec<u8>),
}

impl Store {
    /// Pushes a model to a registry, under `name`. `insecure`: without encryption.
    pub fn push(
        &self,
        package: &Package,
        name: &RegistryName,
        insecure: bool,
        report: &mut dyn FnMut(PushEvent),
    ) -> Result<(), HubError> {
        let bad = |problem: &str| HubError::BadReference {
            reference: name.to_string(),
            problem: problem.to_owned(),
        };
        let tag = name.tag().ok_or_else(|| bad("a push is to a tag, not to a digest"))?;
        if package.file.is_dir() {
            return Err(bad(
                "the model is a folder; `whit convert` makes a file of it, as registries take them",
            ));
        }
        let registry = Registry::open(&self.config.network, name, insecure, "pull,push")?;
        report(PushEvent::Preparing);
        let (manifest, blobs) = describe(package)?;
        for (layer, content) in &blobs {
            registry.push_blob(layer, content, report)?;
        }
        report(PushEvent::Manifest);
        let text = serde_json::to_vec(&manifest)
            .map_err(|error| HubError::io(&package.file, "describe", error.into()))?;
        let request = Request::new(Method::PUT, registry.url("manifests", tag)?)
            .header(CONTENT_TYPE, MANIFEST)
            .body(Body::Bytes(&text));
        let response = registry.send(&request)?;
        if response.is_success() { Ok(()) } else { Err(response.failure("take the manifest")) }
    }
}

/// The manifest, and every blob that it names, the config last.
fn describe(package: &Package) -> Result<(RegistryManifest, Vec<(Layer, Content<'_>)>), HubError> {
    let (file, extras) = (package.file.as_path(), &package.extras);
    let size = std::fs::metadata(file).map_err(|error| HubError::io(file, "read", error))?.len();
    let digest = match &package.digest {
        Some(digest) => digest.clone(),
        None => Digest::of_file(file)?,
    };
    let model = Layer { media_type: MODEL.to_owned(), digest, size };
    let mut blobs = vec![(model, Content::File(file))];
    let mut add = |media_type: &str, bytes: Vec<u8>| {
        let layer =
            Layer { media_type: media_type.to_owned(), digest: Digest::of(&bytes), size: bytes.len() as u64 };
        blobs.push((layer, Content::Bytes(bytes)));
    };
    let json = |value: &serde_json::Value| {
        serde_json::to_vec(value).map_err(|error| HubError::io(file, "describe", error.into()))
    };
    for (media_type, text) in
        [(TEMPLATE, &extras.go_template), (TEMPLATE_JINJA, &extras.template), (SYSTEM, &extras.system)]
    {
        if let Some(text) = text {
            add(media_type, text.clone().into_bytes());
        }
    }
    if !extras.parameters.is_empty() {
        add(PARAMS, json(&extras.parameters.clone().into())?);
    }
    if !extras.messages.is_empty() {
        add(MESSAGES, json(&extras.messages.clone().into())?);
    }
    for license in &extras.licenses {
        add(LICENSE, license.clone().into_bytes());
    }
    let layers: Vec<Layer> = blobs.iter().map(|(layer, _)| layer.clone()).collect();
    let config = json(&json!({
        "model_format": "gguf",
        "model_family": package.facts.family,
        "model_families": [package.facts.family],
        "model_type": package.facts.parameters,
        "file_type": package.facts.quantization,
        // Image tools expect these of every config.
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>()},
    }))?;
    let config_layer =
        Layer { media_type: CONFIG.to_owned(), digest: Digest::of(&config), size: config.len() as u64 };
    blobs.push((config_layer.clone(), Content::Bytes(config)));
    let manifest =
        RegistryManifest { schema_version: 2, media_type: MANIFEST.to_owned(), config: config_layer, layers };
    Ok((manifest, blobs))
}

impl Registry {
    /// Puts a blob into the repository, if it is not there.
    fn push_blob(
        &self,
        layer: &Layer,
        content: &Content<'_>,
        report: &mut dyn FnMut(PushEvent),
    ) -> Result<(), HubError> {
        let mut tell = |done: u64| {
            report(PushEvent::Blob {
                digest: layer.digest.clone(),
                done: done.min(layer.size),
                total: layer.size,
            });
        };
        let there = self.send(&Request::new(Method::HEAD, self.url("blobs", &layer.digest.to_string())?))?;
        match there.status {
            200..300 => {
                tell(layer.size);
                return Ok(());
            }
            404 => {}
            _ => return Err(there.failure("look for a blob")),
        }
        tell(0);
        let sent = Arc::new(AtomicU64::new(0));
        let (ended, wait) = mpsc::channel();
        std::thread::scope(|scope| {
            let counter = Arc::clone(&sent);
            scope.spawn(move || {
                // The other side waits for nothing else.
                let _ = ended.send(self.upload(layer, content, &counter));
            });
            loop {
                match wait.recv_timeout(TICK) {
                    Ok(result) => return result,
                    Err(RecvTimeoutError::Timeout) => tell(sent.load(Ordering::Relaxed)),
                    Err(RecvTimeoutError::Disconnected) => {
                        let problem = "the upload ended without a word".to_owned();
                        return Err(HubError::Interrupted { place: self.origin.to_string(), problem });
                    }
                }
            }
        })?;
        tell(layer.size);
        Ok(())
    }

    /// Uploads a blob; begins again where the registry has lost what it had.
    fn upload(&self, layer: &Layer, content: &Content<'_>, sent: &Arc<AtomicU64>) -> Result<(), HubError> {
        let mut attempt = 1;
        loop {
            sent.store(0, Ordering::Relaxed);
            match self.upload_once(layer, content, sent) {
                Err(HubError::Interrupted { .. }) if attempt < ATTEMPTS => {
                    std::thread::sleep(self.client.wait(attempt, None));
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn upload_once(
        &self,
        layer: &Layer,
        content: &Content<'_>,
        sent: &Arc<AtomicU64>,
    ) -> Result<(), HubError> {
        let begin = Request::new(Method::POST, self.url("blobs", "uploads/")?).body(Body::Bytes(b""));
        let response = self.send(&begin)?;
        if !matches!(response.status, 201 | 202) {
            return Err(response.failure("begin an upload"));
        }
        let mut place = next_place(&response.url, response.header(&LOCATION))?;
        let mut start = 0;
        let mut broken = 0;
        let size = self.client.network().piece.max(1);
        // All but the last piece, which goes with the request that ends the upload.
        while layer.size - start > size {
            let request = Request::new(Method::PATCH, place.clone())
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_RANGE, format!("{start}-{}", start + size - 1))
                .body(piece(content, start, size, sent));
            let result = self.send_piece(&request);
            match result {
                Ok(response) if response.is_success() => {
                    place = next_place(&response.url, response.header(&LOCATION))?;
                    start += size;
                    broken = 0;
                }
                // It lost count, or we did.
                Ok(response) if response.status == 416 && broken < ATTEMPTS => {
                    (place, start) = self.how_far(&place, layer.size)?;
                    broken += 1;
                }
                Ok(response) => return Err(response.failure("take a piece of a blob")),
                Err(HubError::Interrupted { .. }) if broken < ATTEMPTS => {
                    broken += 1;
                    std::thread::sleep(self.client.wait(broken, None));
                    (place, start) = self.how_far(&place, layer.size)?;
                }
                Err(error) => return Err(error),
            }
            sent.store(start, Ordering::Relaxed);
        }
        let joint = if place.query().is_some() { '&' } else { '?' };
        let url = join(&place, &format!("{place}{joint}digest={}", layer.digest)).unwrap_or(place);
        let mut request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(piece(content, start, layer.size - start, sent));
        if start > 0 {
            request = request.header(CONTENT_RANGE, format!("{start}-{}", layer.size - 1));
        }
        let response = self.send_piece(&request)?;
        match response.status {
            200..300 => Ok(()),
            status if crate::http::is_busy(status) => Err(HubError::Interrupted {
                place: place_of(&response.url),
                problem: format!("an upload ended with status {status}"),
            }),
            _ => Err(response.failure("take a blob")),
        }
    }

    /// Sends a piece once: what may have arrived in part must not be sent again unasked.
    fn send_piece(&self, request: &Request<'_>) -> Result<crate::http::Response, HubError> {
        let request = request.clone().authorization(self.authorization());
        let response = self.client.once(&request)?;
        match response.status {
            // Tokens live for minutes, uploads for longer.
            401 => self.send(&request),
            status if crate::http::is_busy(status) && request.method == Method::PATCH => {
                Err(HubError::Interrupted {
                    place: place_of(&response.url),
                    problem: format!("an upload was refused with status {status}"),
                })
            }
            _ => Ok(response),
        }
    }

    /// Where an upload goes on, and at which byte.
    fn how_far(&self, place: &Uri, size: u64) -> Result<(Uri, u64), HubError> {
        let response = self.send(&Request::get(place.clone()))?;
        let lost = || HubError::Interrupted {
            place: place_of(place),
            problem: "it no longer knows of an upload".to_owned(),
        };
        if !response.is_success() {
            return Err(lost());
        }
        // `0-1023`: the last byte that it has. Nothing at all is `0-0` at some and no header at others.
        let range = response.header(&RANGE).map(|text| text.trim_start_matches("bytes=")).unwrap_or("0-0");
        let last: u64 = range.split_once('-').and_then(|(_, last)| last.parse().ok()).ok_or_else(lost)?;
        let start = if last == 0 { 0 } else { last + 1 };
        if start > size {
            return Err(lost());
        }
        let next = response.header(&LOCATION).map(|location| next_place(&response.url, Some(location)));
        Ok((next.transpose()?.unwrap_or_else(|| place.clone()), start))
    }
}

/// A piece of a blob.
fn piece<'a>(content: &'a Content<'_>, start: u64, len: u64, sent: &'a Arc<AtomicU64>) -> Body<'a> {
    match content {
        Content::File(path) => Body::File { path, start, len, sent },
        Content::Bytes(bytes) => {
            let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
            Body::Bytes(&bytes[at(start)..at(start.saturating_add(len))])
        }
    }
}

/// Where the registry wants what comes next.
fn next_place(from: &Uri, location: Option<&str>) -> Result<Uri, HubError> {
    location.and_then(|location| join(from, location)).ok_or_else(|| HubError::BadAnswer {
        place: place_of(from),
        problem: "it does not say where an upload goes on".to_owned(),
    })
}
