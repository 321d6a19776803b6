//! A registry in memory: the distribution API for any number of repositories, with tokens, passwords, redirects to
//! another place and sums of chunks, as asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::server::{Asked, FakeServer, Reply};

/// A registry and what is in it.
pub(crate) struct FakeRegistry {
    pub(crate) server: FakeServer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    address: String,
    blobs: BTreeMap<String, Vec<u8>>,
    /// By `repository:tag`.
    manifests: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Vec<u8>>,
    rules: Rules,
}

/// How the registry behaves.
#[derive(Clone, Default)]
pub(crate) struct Rules {
    /// A token is needed, and this login for the token.
    pub(crate) bearer: Option<(&'static str, &'static str)>,
    /// A login is needed for everything.
    pub(crate) basic: Option<&'static str>,
    /// The realm, where it is not the registry's own.
    pub(crate) realm: Option<String>,
    /// Where blobs are, when not here.
    pub(crate) redirect: Option<String>,
    /// Bytes of the chunks that sums are given for.
    pub(crate) sums: Option<usize>,
    /// Ranges are not served.
    pub(crate) no_ranges: bool,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl FakeRegistry {
    pub(crate) fn new() -> FakeRegistry {
        FakeRegistry::with(Rules::default())
    }

    pub(crate) fn with(rules: Rules) -> FakeRegistry {
        let state = Arc::new(Mutex::new(State { rules, ..State::default() }));
        let shared = Arc::clone(&state);
        let server = FakeServer::new(move |asked| shared.lock().unwrap().answer(asked));
        state.lock().unwrap().address = server.url();
        FakeRegistry { server, state }
    }

    pub(crate) fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().blobs.get(digest).cloned()
    }

    pub(crate) fn add_blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.state.lock().unwrap().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Other bytes under a digest that is not theirs.
    pub(crate) fn replace_blob(&self, digest: &str, bytes: &[u8]) {
        self.state.lock().unwrap().blobs.insert(digest.to_owned(), bytes.to_vec());
    }

    /// A manifest, as it was put.
    pub(crate) fn manifest(&self, name: &str) -> Option<Value> {
        self.state.lock().unwrap().manifests.get(name).map(|bytes| serde_json::from_slice(bytes).unwrap())
    }

    pub(crate) fn add_manifest(&self, name: &str, manifest: &Value) {
        let bytes = serde_json::to_vec(manifest).unwrap();
        self.state.lock().unwrap().manifests.insert(name.to_owned(), bytes);
    }

    /// The content of the first layer of a type.
    pub(crate) fn layer(&self, name: &str, media_type: &str) -> Option<Vec<u8>> {
        let manifest = self.manifest(name)?;
        let layers = manifest["layers"].as_array()?;
        let layer = layers.iter().find(|layer| layer["mediaType"] == media_type)?;
        self.blob(layer["digest"].as_str()?)
    }

    /// A model of these layers: media types without their prefix, and contents.
    pub(crate) fn add_model(&self, name: &str, layers: &[(&str, &[u8])]) {
        let describe = |media_type: &str, bytes: &[u8]| {
            json!({
                "mediaType": media_type, "digest": self.add_blob(bytes), "size": bytes.len()
            })
        };
        let list: Vec<Value> = layers
            .iter()
            .map(|(kind, bytes)| describe(&format!("application/vnd.ollama.image.{kind}"), bytes))
            .collect();
        let config =
            describe("application/vnd.docker.container.image.v1+json", br#"{"model_format":"gguf"}"#);
        self.add_manifest(
            name,
            &json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": config,
                "layers": list,
            }),
        );
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let authorization = asked.header("authorization").unwrap_or_default();
        if path == "/token" {
            let (user, _) = self.rules.bearer.unwrap_or_default();
            return match authorization == user {
                true => Reply::new(200, json!({"token": format!("T-{}", query.len())}).to_string()),
                false => {
                    Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}"#)
                }
            };
        }
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let ["v2", rest @ ..] = parts.as_slice() else { return Reply::new(404, "") };
        if self.rules.bearer.is_some() && !authorization.starts_with("Bearer T-") {
            let realm = self.rules.realm.clone().unwrap_or_else(|| format!("{}/token", self.address));
            return Reply::new(401, "")
                .with("www-authenticate", format!(r#"Bearer realm="{realm}",service="fake""#));
        }
        if self.rules.basic.is_some_and(|login| login != authorization) {
            return Reply::new(401, "").with("www-authenticate", r#"Basic realm="fake""#);
        }
        match (asked.method.as_str(), rest) {
            ("POST", [.., "blobs", "uploads", ""]) => {
                let id = self.uploads.len().to_string();
                self.uploads.insert(id.clone(), Vec::new());
                Reply::new(202, "").with("location", format!("/v2/uploads/{id}?state=s"))
            }
            (_, ["uploads", id]) => self.upload(asked, id, query),
            (_, [.., "blobs", digest]) => self.get_blob(digest),
            (_, [.., "chunksums", digest]) => self.chunk_sums(rest, digest),
            ("PUT", [repository @ .., "manifests", tag]) => {
                self.manifests.insert(format!("{}:{tag}", repository.join("/")), asked.body.clone());
                Reply::new(201, "")
            }
            (_, [repository @ .., "manifests", tag]) => {
                let missing = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                match self.manifests.get(&format!("{}:{tag}", repository.join("/"))) {
                    Some(bytes) => Reply::new(200, bytes.clone()),
                    None => Reply::new(404, missing),
                }
            }
            _ => Reply::new(404, ""),
        }
    }

    fn get_blob(&self, digest: &str) -> Reply {
        let Some(bytes) = self.blobs.get(digest) else { return Reply::new(404, "") };
        match &self.rules.redirect {
            Some(place) => Reply::new(307, "").with("location", format!("{place}/store/{digest}")),
            None if self.rules.no_ranges => Reply::new(200, bytes.clone()),
            None => Reply::new(200, bytes.clone()).ranged(),
        }
    }

    /// Sums as Ollama's registry gives them: `digest start-end`, a line for each chunk.
    fn chunk_sums(&self, rest: &[&str], name: &str) -> Reply {
        let (Some(size), Some(bytes)) = (self.rules.sums, self.blobs.get(name)) else {
            return Reply::new(404, "");
        };
        let mut start = 0;
        let line = |chunk: &[u8]| {
            let line = format!("{} {start}-{}\n", digest(chunk), start + chunk.len() - 1);
            start += chunk.len();
            line
        };
        let text: String = bytes.chunks(size).map(line).collect();
        let place = format!("/v2/{}/blobs/{name}", rest[..rest.len() - 2].join("/"));
        Reply::new(200, text).with("content-location", place)
    }

    fn upload(&mut self, asked: &Asked, id: &str, query: &str) -> Reply {
        let Some(data) = self.uploads.get_mut(id) else { return Reply::new(404, "") };
        let place = format!("/v2/uploads/{id}?state={}", data.len());
        if asked.is("GET") {
            let reply = Reply::new(204, "").with("location", place);
            return if data.is_empty() {
                reply
            } else {
                reply.with("range", format!("0-{}", data.len() - 1))
            };
        }
        let start =
            asked.header("content-range").and_then(|range| range.split_once('-')?.0.parse::<usize>().ok());
        if start.unwrap_or(0) != data.len() {
            return Reply::new(416, "");
        }
        data.extend(&asked.body);
        if asked.is("PATCH") {
            let end = data.len() - 1;
            return Reply::new(202, "").with("location", place).with("range", format!("0-{end}"));
        }
        let wanted = query.split('&').find_map(|pair| pair.strip_prefix("digest=")).unwrap_or_default();
        let data = self.uploads.remove(id).unwrap_or_default();
        if digest(&data) != wanted {
            return Reply::new(400, r#"{"errors":[{"code":"DIGEST_INVALID","message":"digest invalid"}]}"#);
        }
        self.blobs.insert(wanted.to_owned(), data);
        Reply::new(201, "")
    }
}
