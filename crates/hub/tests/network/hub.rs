//! The Hugging Face Hub, and addresses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use whit_hub::{HubError, Resolved, Secret};

use crate::common::{Home, model};
use crate::registry::digest;
use crate::server::{Asked, FakeServer, Reply, Wrong};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn hex(bytes: &[u8]) -> String {
    digest(bytes).trim_start_matches("sha256:").to_owned()
}

/// A hub with one repository, whose files lie at another place, as the real one's do.
pub(crate) struct FakeHub {
    pub(crate) hub: FakeServer,
    pub(crate) store: FakeServer,
}

pub(crate) fn hub(files: &[(&str, Vec<u8>)], token: Option<&'static str>) -> FakeHub {
    let files: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
    let stored = files.clone();
    let store = FakeServer::new(move |asked| {
        let name = asked.path.trim_start_matches("/cdn/").split('?').next().unwrap_or_default();
        stored.get(name).map_or(Reply::new(404, ""), |bytes| Reply::new(200, bytes.clone()).ranged())
    });
    let cdn = store.url();
    let hub = FakeServer::new(move |asked| {
        if token.is_some_and(|token| asked.header("authorization") != Some(token)) {
            return Reply::new(401, "Invalid username or password.")
                .with("x-error-message", "Access to model is restricted");
        }
        answer(&files, &cdn, asked)
    });
    FakeHub { hub, store }
}

fn answer(files: &BTreeMap<String, Vec<u8>>, cdn: &str, asked: &Asked) -> Reply {
    let path = asked.path.split('?').next().unwrap_or_default();
    if ["main", "v1", "refs%2Fpr%2F1", COMMIT]
        .iter()
        .any(|r| path == format!("/api/models/me/repo/revision/{r}"))
    {
        let siblings: Vec<_> = files
            .iter()
            .map(|(name, bytes)| match name.ends_with(".gguf") || name.ends_with(".safetensors") {
                true => json!({"rfilename": name, "size": bytes.len(), "blobId": "0".repeat(40),
                               "lfs": {"sha256": hex(bytes), "size": bytes.len(), "pointerSize": 134}}),
                false => json!({"rfilename": name, "size": bytes.len(), "blobId": &hex(bytes)[..40]}),
            })
            .collect();
        return Reply::new(200, json!({"id": "me/repo", "sha": COMMIT, "siblings": siblings}).to_string());
    }
    match path.strip_prefix(&format!("/me/repo/resolve/{COMMIT}/")) {
        Some(name) => Reply::new(302, "").with("location", format!("{cdn}/cdn/{name}?sign=x")),
        None => Reply::new(404, "").with("x-error-message", "Repository not found"),
    }
}

impl FakeHub {
    fn home(&self) -> Home {
        let mut home = Home::new(&[self.store.url()]);
        home.config.network.hugging_face = self.hub.url();
        home.config.elsewhere.hugging_face = Some(home.folder.path().join("hub"));
        home
    }
}

fn pull(home: &Home, name: &str) -> Result<Resolved, HubError> {
    home.store().pull(&name.parse().unwrap(), &mut |_| {})
}

fn repo(home: &Home) -> PathBuf {
    home.folder.path().join("hub/models--me--repo")
}

#[test]
fn a_model_goes_into_the_shared_cache() {
    let bytes = model(4500);
    let fake = hub(
        &[("README.md", b"text".to_vec()), ("sub/m-Q4_K_M.gguf", bytes.clone()), ("m-Q8_0.gguf", model(99))],
        None,
    );
    let home = fake.home();
    let pulled = pull(&home, "hf:me/repo").unwrap();
    assert!(std::fs::read(&pulled.path).unwrap() == bytes);
    let manifest = pulled.manifest.unwrap();
    assert_eq!((manifest.size, &manifest.sha256), (4500, &hex(&bytes)));

    // As huggingface_hub lays it out.
    let repo = repo(&home);
    let link = repo.join(format!("snapshots/{COMMIT}/sub/m-Q4_K_M.gguf"));
    assert_eq!(pulled.path, link);
    #[cfg(unix)]
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(&format!("../../../blobs/{}", hex(&bytes))));
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let mut there: Vec<_> = std::fs::read_dir(&repo).unwrap().map(|e| e.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["blobs", "refs", "snapshots"]);

    // It is found by every name that means it, listed once, and not ours to remove.
    for name in ["hf:me/repo", "hf:me/repo:Q4_K_M", "hf:me/repo:sub/m-Q4_K_M.gguf", "hf:me/repo@main"] {
        assert_eq!(home.store().resolve(&name.parse().unwrap()).unwrap().unwrap().path, link, "{name}");
    }
    for name in ["hf:me/repo:Q8_0", "hf:me/repo@v1", "hf:me/other"] {
        assert!(home.store().resolve(&name.parse().unwrap()).unwrap().is_none(), "{name}");
    }
    let list: Vec<String> = home.store().list().unwrap().into_iter().map(|manifest| manifest.name).collect();
    assert_eq!(list, ["hf:me/repo:sub/m-Q4_K_M.gguf"]);
    let error = home.store().remove(&"hf:me/repo".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("is kept by another program") && link.exists(), "{error}");

    // Another revision of the same content fetches nothing.
    fake.store.take_log();
    assert_eq!(pull(&home, "hf:me/repo@v1").unwrap().path, link);
    assert_eq!(pull(&home, "hf:me/repo@refs/pr/1").unwrap().path, link);
    assert!(fake.store.take_log().is_empty());
    assert_eq!(std::fs::read_to_string(repo.join("refs/refs/pr/1")).unwrap(), COMMIT);
    // Without the network what is here is enough.
    let mut home = home;
    home.config.network.offline = true;
    assert_eq!(pull(&home, "hf:me/repo").unwrap().path, link);
    assert!(matches!(pull(&home, "hf:me/repo:Q8_0").unwrap_err(), HubError::NetworkOff { .. }));
}

#[test]
fn a_split_model_is_all_of_its_files() {
    let (first, second) = (model(1500), model(700));
    let fake =
        hub(&[("m-00001-of-00002.gguf", first.clone()), ("m-00002-of-00002.gguf", second.clone())], None);
    let home = fake.home();
    let pulled = pull(&home, "hf:me/repo").unwrap();
    assert!(std::fs::read(&pulled.path).unwrap() == first);
    assert!(std::fs::read(pulled.path.with_file_name("m-00002-of-00002.gguf")).unwrap() == second);
    // With one of them gone, the model is not here, and is pulled again.
    std::fs::remove_file(repo(&home).join("blobs").join(hex(&second))).unwrap();
    assert!(home.store().resolve(&"hf:me/repo".parse().unwrap()).unwrap().is_none());
    pull(&home, "hf:me/repo").unwrap();
}

#[test]
fn a_model_folder_is_all_that_belongs_to_it() {
    let (first, second) = (model(1500), model(700));
    let [one, two] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index = "model.safetensors.index.json";
    let files = [
        (".gitattributes", b"x".to_vec()),
        ("README.md", b"---\nlicense: mit\n---".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("onnx/model.onnx", model(300)),
        ("pytorch_model.bin", model(400)),
        ("tokenizer.json", b"{ }".to_vec()),
        (index, b"{  }".to_vec()),
        (one, first.clone()),
        (two, second.clone()),
    ];
    let fake = hub(&files, None);
    let home = fake.home();
    let pulled = pull(&home, "hf:me/repo").unwrap();
    let snapshot = repo(&home).join(format!("snapshots/{COMMIT}"));
    assert_eq!(pulled.path, snapshot);
    assert!(std::fs::read(snapshot.join(one)).unwrap() == first);
    assert!(std::fs::read(snapshot.join(two)).unwrap() == second);
    let mut there: Vec<_> = std::fs::read_dir(&snapshot).unwrap().map(|e| e.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["README.md", "config.json", one, two, index, "tokenizer.json"]);

    // It is found and listed once, with the bytes of all its files; a quantization of it is not there.
    assert_eq!(home.store().resolve(&"hf:me/repo".parse().unwrap()).unwrap().unwrap().path, snapshot);
    let list = home.store().list().unwrap();
    let total: u64 =
        files.iter().filter(|(name, _)| there.contains(&(*name).into())).map(|(_, b)| b.len() as u64).sum();
    assert_eq!(list.iter().map(|m| (m.name.as_str(), m.size)).collect::<Vec<_>>(), [("hf:me/repo", total)]);
    let error = pull(&home, "hf:me/repo:Q8_0").unwrap_err();
    assert!(error.to_string().contains("it holds no GGUF file"), "{error}");
    let error =
        home.store().export(&"hf:me/repo".parse().unwrap(), &home.folder.path().join("out"), &mut |_| {});
    assert!(error.unwrap_err().to_string().contains("it is a folder"));

    // With a part gone, the model is not here, and is pulled again.
    std::fs::remove_file(repo(&home).join("blobs").join(hex(&second))).unwrap();
    assert!(home.store().resolve(&"hf:me/repo".parse().unwrap()).unwrap().is_none());
    pull(&home, "hf:me/repo").unwrap();

    // Where there is a GGUF file, that is the model.
    let fake = hub(&[&files[..], &[("m.gguf", model(900))]].concat(), None);
    let home = fake.home();
    assert_eq!(
        pull(&home, "hf:me/repo").unwrap().path,
        repo(&home).join(format!("snapshots/{COMMIT}/m.gguf"))
    );
}

#[test]
fn a_token_goes_to_the_hub_alone() {
    let fake = hub(&[("m.gguf", model(2500))], Some("Bearer hf_secret"));
    let mut home = fake.home();
    let error = pull(&home, "hf:me/repo").unwrap_err();
    assert!(matches!(error, HubError::Unauthorized { status: 401, .. }), "{error}");
    assert!(error.to_string().ends_with("it said: Access to model is restricted"), "{error}");
    home.config.network.hf_token = Some(Secret("hf_secret".to_owned()));
    pull(&home, "hf:me/repo").unwrap();
    let elsewhere = fake.store.take_log();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn faults_of_the_hub() {
    let good = model(3500);
    let cases: Vec<(&str, Wrong)> = vec![
        ("/cdn/", Wrong::Says(Reply::new(503, "").with("retry-after", "0"))),
        ("bytes=1000-1999", Wrong::Cuts(10)),
        ("bytes=1000-1999", Wrong::Stalls(10)),
        ("bytes=1000-1999", Wrong::Flips(10)),
        ("/api/models", Wrong::Says(Reply::new(429, ""))),
    ];
    for (on, wrong) in cases {
        let fake = hub(&[("m.gguf", good.clone())], None);
        let home = fake.home();
        let server = if on.contains("api") { &fake.hub } else { &fake.store };
        server.fault(on, 1, wrong);
        assert!(std::fs::read(pull(&home, "hf:me/repo").unwrap().path).unwrap() == good, "{on}");
    }

    // Names that lead elsewhere are not names; nothing is written outside of the cache.
    let evil = hub(&[("../../../evil.gguf", good.clone()), ("/etc/evil.gguf", good.clone())], None);
    let home = evil.home();
    let error = pull(&home, "hf:me/repo").unwrap_err();
    assert!(error.to_string().contains("it holds no GGUF file"), "{error}");
    let info = |sha: &str, lfs: &str, size: u64| {
        json!({"sha": sha, "siblings": [{"rfilename": "m.gguf", "size": size, "lfs": {"sha256": lfs, "size": size}}]})
            .to_string()
    };
    for (answer, expected) in [
        (info("../../x", &hex(&good), 3500), "is not a commit"),
        (info(COMMIT, "../../x", 3500), "does not say how long a file is, or what is in it"),
        (info(COMMIT, &hex(b"other"), 3500), "arrived with the wrong content"),
        (info(COMMIT, &hex(&good), 3499), "/3500`"),
        ("[]".to_owned(), "is not what its API says"),
    ] {
        let fake = hub(&[("m.gguf", good.clone())], None);
        let home = fake.home();
        fake.hub.fault("/api/models", 1, Wrong::Says(Reply::new(200, answer)));
        let error = pull(&home, "hf:me/repo").unwrap_err();
        assert!(error.to_string().contains(expected), "expected \"{expected}\" in: {error}");
        assert!(home.store().list().unwrap().is_empty());
    }
    let fake = hub(&[("m.gguf", b"#!/bin/sh\n".to_vec())], None);
    let error = pull(&fake.home(), "hf:me/repo").unwrap_err();
    assert!(error.to_string().contains("is not a GGUF model"), "{error}");
    let error = pull(&fake.home(), "hf:me/nothing").unwrap_err();
    assert!(error.to_string().ends_with("it said: Repository not found"), "{error}");
}

#[test]
fn two_pulls_of_one_blob_share_it() {
    let bytes = model(5500);
    let fake = hub(&[("m.gguf", bytes.clone())], None);
    let home = fake.home();
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..3).map(|_| scope.spawn(|| pull(&home, "hf:me/repo").unwrap())).collect();
        for pulled in pulls {
            assert!(std::fs::read(pulled.join().unwrap().path).unwrap() == bytes);
        }
    });
    assert_eq!(fake.store.take_log().len(), 6, "each piece once");
}

#[test]
fn a_file_at_an_address() {
    let bytes = model(3500);
    let served = bytes.clone();
    let server = FakeServer::new(move |_| Reply::new(200, served.clone()).ranged().with("etag", "\"one\""));
    let home = Home::new(&[server.url()]);
    let plain = format!("https://{}/m.gguf", server.host());
    let named = format!("{plain}#{}", digest(&bytes));
    for name in [&plain, &named] {
        let pulled = pull(&home, name).unwrap();
        assert!(std::fs::read(&pulled.path).unwrap() == bytes);
        let manifest = pulled.manifest.unwrap();
        assert_eq!((&manifest.name, &manifest.sha256), (name, &hex(&bytes)));
        assert_eq!(home.store().resolve(&name.parse().unwrap()).unwrap().unwrap().path, pulled.path);
    }
    let wrong = format!("{plain}#{}", digest(b"other"));
    assert!(matches!(pull(&home, &wrong).unwrap_err(), HubError::WrongContent { .. }));

    // Another file from the middle on.
    let server = FakeServer::new(move |_| Reply::new(200, model(3500)).ranged().with("etag", "\"one\""));
    let home = Home::new(&[server.url()]);
    let changed = Reply::new(200, model(4000)).with("etag", "\"two\"");
    server.fault("bytes=2000-2999", 9, Wrong::Says(changed));
    let error = pull(&home, &format!("https://{}/m.gguf", server.host())).unwrap_err();
    assert!(error.to_string().contains("the file changed while it was fetched"), "{error}");
}

/// A store of Ollama's and a folder of LM Studio's, as they lay them out.
#[test]
fn what_other_programs_keep_is_used_in_place() {
    let mut home = Home::new(&[]);
    let (ollama, studio) = (home.folder.path().join("ollama"), home.folder.path().join("studio"));
    let bytes = model(1234);
    let put = |path: PathBuf, bytes: &[u8]| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let blob = |bytes: &[u8]| put(ollama.join("blobs").join(format!("sha256-{}", hex(bytes))), bytes);
    blob(&bytes);
    blob(b"be brief");
    let manifest = json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest(b"c"), "size": 1},
        "layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": digest(&bytes), "size": bytes.len()},
            {"mediaType": "application/vnd.ollama.image.system", "digest": digest(b"be brief"), "size": 8},
        ],
    });
    for place in
        ["registry.ollama.ai/library/tiny/1m", "registry.ollama.ai/me/own/latest", "reg.example/a/b/2"]
    {
        put(ollama.join("manifests").join(place), manifest.to_string().as_bytes());
    }
    put(ollama.join("manifests/registry.ollama.ai/library/broken/1"), b"{");
    put(studio.join("pub/repo/m-Q4.gguf"), &bytes);
    put(studio.join("pub/repo/mmproj-m.gguf"), &bytes);
    home.config.elsewhere.ollama = vec![home.folder.path().join("nowhere"), ollama.clone()];
    home.config.elsewhere.lm_studio = vec![studio];
    let store = home.store();
    let list: Vec<String> = store.list().unwrap().into_iter().map(|manifest| manifest.name).collect();
    assert_eq!(
        list,
        ["lmstudio:pub/repo/m-Q4.gguf", "oci:reg.example/a/b:2", "ollama:me/own:latest", "ollama:tiny:1m"]
    );
    for name in list.iter().map(String::as_str).chain(["tiny:1m"]) {
        let found = store.resolve(&name.parse().unwrap()).unwrap().unwrap();
        assert!(
            std::fs::read(&found.path).unwrap() == bytes && found.path.starts_with(home.folder.path()),
            "{name}"
        );
        if !name.starts_with("lmstudio") {
            assert_eq!(found.manifest.unwrap().extras.system.as_deref(), Some("be brief"));
        }
        assert!(matches!(store.remove(&name.parse().unwrap()), Err(HubError::NotOurs { .. })), "{name}");
    }
    assert!(store.resolve(&"tiny:2m".parse().unwrap()).is_err());
    // A blob that is cut short is not a model.
    std::fs::write(ollama.join("blobs").join(format!("sha256-{}", hex(&bytes))), b"GGUF").unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
}
