//! Pulling a model: its manifest, the small layers into memory, the weights into the partial file.

use serde_json::{Map, Value};
use ureq::http::header::{ACCEPT, HeaderName};

use super::{
    LICENSE, Layer, MANIFEST, MESSAGES, MODEL, PARAMS, Registry, RegistryManifest, RegistryName, SYSTEM,
    TEMPLATE, TEMPLATE_JINJA,
};
use crate::HubError;
use crate::digest::Digest;
use crate::extras::{Extras, MAX_EXTRA, MAX_LAYERS};
use crate::http::Request;
use crate::http::ranges::{Remote, Sum};
use crate::network::Network;
use crate::progress::Report;
use crate::staging::Staging;

/// A manifest of OCI's, which has the same fields.
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Weights and licences as Docker's own model packages name them (github.com/docker/model-spec).
const DOCKER_GGUF: &str = "application/vnd.docker.ai.gguf.v3";
const DOCKER_LICENSE: &str = "application/vnd.docker.ai.license";
const ADAPTER: &str = "application/vnd.ollama.image.adapter";
/// The most bytes of a manifest.
const MAX_MANIFEST: u64 = 4 << 20;
/// The most bytes of a list of sums.
const MAX_SUMS: u64 = 4 << 20;
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A model in a registry, found and ready to be fetched.
pub(crate) struct Found {
    registry: Registry,
    name: RegistryName,
    weights: Layer,
    pub(crate) extras: Extras,
}

impl Found {
    /// Asks the registry for a model.
    pub(crate) fn find(network: &Network, name: &RegistryName) -> Result<Found, HubError> {
        let registry = Registry::open(network, name, false, "pull")?;
        let manifest = registry.manifest(name)?;
        let bad = |problem: String| HubError::BadAnswer { place: name.to_string(), problem };
        let weights = weights(&manifest).map_err(bad)?.clone();
        let failed = std::cell::RefCell::new(None);
        let read = |layer: &Layer| {
            registry.small(layer).map_err(|error| {
                let problem = error.to_string();
                *failed.borrow_mut() = Some(error);
                problem
            })
        };
        let extras = extras(&manifest, &read);
        // What went wrong with a request is said as it was.
        let extras = extras.map_err(|problem| failed.borrow_mut().take().unwrap_or_else(|| bad(problem)))?;
        Ok(Found { registry, name: name.clone(), weights, extras })
    }

    /// The digest of the weights.
    pub(crate) fn digest(&self) -> &Digest {
        &self.weights.digest
    }

    pub(crate) fn size(&self) -> u64 {
        self.weights.size
    }

    /// Fetches the weights that `staging` lacks.
    pub(crate) fn fetch(&self, staging: &mut Staging, report: Report<'_>) -> Result<(), HubError> {
        let registry = &self.registry;
        let digest = &self.weights.digest;
        let remote = Remote {
            client: &registry.client,
            ask: &|request| registry.ask_once(request),
            url: registry.url("blobs", &digest.to_string())?,
            name: &self.name.to_string(),
            size: self.weights.size,
            digest: Some(digest.clone()),
            etag: None,
            sums: registry.sums(&self.weights),
        };
        remote.fetch(staging, report)
    }
}

/// The layer with the weights, if a model is one GGUF file without an adapter.
pub(crate) fn weights(manifest: &RegistryManifest) -> Result<&Layer, String> {
    if manifest.layers.len() > MAX_LAYERS {
        return Err(format!("it has more than {MAX_LAYERS} layers"));
    }
    if of(manifest, &[ADAPTER]).next().is_some() {
        return Err("it is an adapter on top of another model, which cannot be used yet".to_owned());
    }
    let mut found = of(manifest, &[MODEL, DOCKER_GGUF]);
    match (found.next(), found.next()) {
        (Some(weights), None) => Ok(weights),
        _ => {
            let kinds: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            Err(format!("it is not one GGUF file: it has the layers {}", kinds.join(", ").escape_debug()))
        }
    }
}

/// What comes with the weights. `read` gets a small layer.
pub(crate) fn extras(
    manifest: &RegistryManifest,
    read: &dyn Fn(&Layer) -> Result<Vec<u8>, String>,
) -> Result<Extras, String> {
    let text = |kinds: &'static [&'static str]| -> Result<Vec<String>, String> {
        let read =
            |layer| String::from_utf8(read(layer)?).map_err(|_| "one of its texts is not UTF-8".to_owned());
        of(manifest, kinds).map(read).collect()
    };
    let json = |kind: &'static [&'static str]| -> Result<Option<Value>, String> {
        let Some(text) = text(kind)?.pop() else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| format!("one of its layers is not JSON ({error})"))
    };
    Ok(Extras {
        system: text(&[SYSTEM])?.pop(),
        template: text(&[TEMPLATE_JINJA])?.pop(),
        go_template: text(&[TEMPLATE])?.pop(),
        parameters: json(&[PARAMS])?.map(parameters).unwrap_or_default(),
        messages: json(&[MESSAGES])?.map(messages).unwrap_or_default(),
        licenses: text(&[LICENSE, DOCKER_LICENSE])?,
    })
}

/// The layers of some kinds.
fn of<'a>(manifest: &'a RegistryManifest, kinds: &'static [&'static str]) -> impl Iterator<Item = &'a Layer> {
    manifest.layers.iter().filter(move |layer| kinds.contains(&layer.media_type.as_str()))
}

impl Registry {
    fn manifest(&self, name: &RegistryName) -> Result<RegistryManifest, HubError> {
        let request = Request::get(self.url("manifests", &name.version())?)
            .header(ACCEPT, format!("{MANIFEST}, {OCI_MANIFEST}"));
        let what = format!("pull as {}", name.rest());
        let (headers, bytes) = self.client.whole(MAX_MANIFEST, &what, || self.send(&request))?;
        let bad = |problem: String| HubError::BadAnswer { place: name.to_string(), problem };
        let stated = headers.get(&DOCKER_CONTENT_DIGEST).and_then(|text| text.to_str().ok()?.parse().ok());
        let expected = name.digest().cloned().or(stated);
        if expected.is_some_and(|digest| digest != Digest::of(&bytes)) {
            return Err(bad("its manifest is not the one that its digest says".to_owned()));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("its manifest is not that of a model ({error})")))
    }

    /// A layer of text.
    fn small(&self, layer: &Layer) -> Result<Vec<u8>, HubError> {
        let bad = |problem: String| HubError::BadAnswer { place: self.origin.to_string(), problem };
        if layer.size > MAX_EXTRA {
            return Err(bad(format!("a layer of text has {} bytes, more than {MAX_EXTRA}", layer.size)));
        }
        let request = Request::get(self.url("blobs", &layer.digest.to_string())?);
        let (_, bytes) = self.client.whole(layer.size, "pull a layer", || self.send(&request))?;
        if Digest::of(&bytes) != layer.digest {
            return Err(bad(format!("the layer {} is not what its digest says", layer.digest)));
        }
        Ok(bytes)
    }

    /// The sums of a blob's pieces, which Ollama's registry gives; others say 404, and none are used.
    fn sums(&self, layer: &Layer) -> Vec<Sum> {
        if layer.size <= self.client.network().piece {
            return Vec::new();
        }
        let ask = || {
            let request = Request::get(self.url("chunksums", &layer.digest.to_string())?);
            self.client.whole(MAX_SUMS, "pull sums", || self.send(&request)).map(|(_, bytes)| bytes)
        };
        // Without them it goes, too.
        let text = ask().unwrap_or_default();
        String::from_utf8(text).map(|text| sums(&text)).unwrap_or_default()
    }
}

/// Lines of `digest first-last`; none where one is something else.
fn sums(text: &str) -> Vec<Sum> {
    let line = |line: &str| {
        let (digest, range) = line.trim().split_once(' ')?;
        let (first, last) = range.split_once('-')?;
        let end = last.parse::<u64>().ok()?.checked_add(1)?;
        Some(Sum { start: first.parse().ok()?, end, digest: digest.parse().ok()? })
    };
    text.lines().map(line).collect::<Option<Vec<Sum>>>().unwrap_or_default()
}

/// Options: plain values, and lists of texts. Others are left out, as they would be refused with every request.
fn parameters(value: Value) -> Map<String, Value> {
    let plain = |value: &Value| match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(list) => list.iter().all(Value::is_string),
        _ => false,
    };
    match value {
        Value::Object(object) => object.into_iter().filter(|(_, value)| plain(value)).collect(),
        _ => Map::new(),
    }
}

/// Messages with a role and a text.
fn messages(value: Value) -> Vec<Value> {
    let is_message = |value: &Value| value["role"].is_string() && value["content"].is_string();
    match value {
        Value::Array(list) if list.iter().all(is_message) => list,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_sums_are_read() {
        let digest = Digest::of(b"ab");
        let expected = Sum { start: 0, end: 2, digest: digest.clone() };
        assert_eq!(sums(&format!("{digest} 0-1\n")), [expected]);
        for text in [
            "",
            "<html>",
            "sha256:x 0-1",
            &format!("{digest} 0-18446744073709551615"),
            &format!("{digest} 1"),
        ] {
            assert!(sums(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn only_plain_extras_are_taken() {
        let value = json!({"stop": ["a"], "temperature": 0.1, "x": {"y": 1}, "z": [1], "n": null});
        assert_eq!(Value::Object(parameters(value)), json!({"stop": ["a"], "temperature": 0.1}));
        assert!(parameters(json!([1])).is_empty());
        assert_eq!(messages(json!([{"role": "user", "content": "hi"}])).len(), 1);
        assert!(messages(json!([{"role": "user", "content": 1}])).is_empty());
    }
}
