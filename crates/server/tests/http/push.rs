//! `/api/push`, to a registry in this process.

use serde_json::{Value, json};
use whit_hub::{Config, Network, Store};

use crate::client::{Tested, golden};
use crate::registry::FakeRegistry;

#[test]
fn a_recipe_is_pushed_with_all_that_it_has() {
    let registry = FakeRegistry::new();
    let host = registry.server.host();
    let tested = Tested::with_store(|home| {
        let network = Network { trusted: vec![registry.server.url()], ..Network::default() };
        Store::open(Config { network, ..Config::new(home) })
    });
    let name = format!("{host}/me/poet:1");
    let recipe = json!({"model": name, "from": "tiny", "system": "be brief", "license": "MIT",
                        "parameters": {"temperature": 0.5}});
    assert_eq!(tested.post("/api/create", &recipe).status, 200);

    // As Ollama's server says it: images.go, PushModel.
    let answer = tested.post("/api/push", &json!({"model": name})).ok();
    let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let status = |line: &Value| line["status"].as_str().unwrap_or_default().to_owned();
    assert_eq!(status(&lines[0]), "retrieving manifest");
    assert_eq!(status(&lines[lines.len() - 2]), "pushing manifest");
    assert_eq!(lines[lines.len() - 1], json!({"status": "success"}));
    let bytes = std::fs::read(golden("llama-gqa-llama3.gguf")).unwrap();
    let digest = crate::registry::digest(&bytes);
    let of_model: Vec<&Value> = lines.iter().filter(|line| line["digest"] == digest).collect();
    assert_eq!(status(of_model[0]), format!("pushing {}", &digest["sha256:".len()..][..12]));
    assert!(of_model.iter().all(|line| line["total"] == bytes.len()), "{lines:?}");
    assert_eq!(of_model[of_model.len() - 1]["completed"], bytes.len());

    let layer =
        |kind: &str| registry.layer("me/poet:1", &format!("application/vnd.ollama.image.{kind}")).unwrap();
    assert!(layer("model") == bytes);
    assert_eq!((layer("system"), layer("license")), (b"be brief".to_vec(), b"MIT".to_vec()));
    assert_eq!(serde_json::from_slice::<Value>(&layer("params")).unwrap(), json!({"temperature": 0.5}));
    let config = registry.manifest("me/poet:1").unwrap()["config"]["digest"].as_str().unwrap().to_owned();
    let config: Value = serde_json::from_slice(&registry.blob(&config).unwrap()).unwrap();
    assert_eq!(config["model_family"], "llama");

    let answer = tested.post("/api/push", &json!({"model": name, "stream": false})).ok();
    assert_eq!(answer.json(), json!({"status": "success"}));
}

#[test]
fn a_client_cannot_send_the_server_into_its_own_network() {
    let registry = FakeRegistry::new();
    let tested = Tested::with_store(|home| Store::open(Config::new(home)));
    let name = format!("{}/tiny", registry.server.host());
    assert_eq!(tested.post("/api/copy", &json!({"source": "tiny", "destination": name})).status, 200);
    for insecure in [false, true] {
        let answer = tested.post("/api/push", &json!({"model": name, "insecure": insecure, "stream": false}));
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("is not asked"), "{}", answer.text());
    }
    assert!(registry.server.take_log().is_empty());
}

#[test]
fn models_are_pulled_as_clients_of_ollama_call_them() {
    let registry = FakeRegistry::new();
    let host = registry.server.host();
    let bytes = std::fs::read(golden("llama-gqa-llama3.gguf")).unwrap();
    for name in ["library/other:latest", "me/own:1"] {
        registry.add_model(name, &[("model", &bytes)]);
    }
    let ollama = registry.server.url();
    let tested = Tested::with_store(|home| {
        let network = Network { ollama: ollama.clone(), trusted: vec![ollama], ..Network::default() };
        Store::open(Config { network, ..Config::new(home) })
    });
    let pull = |body: Value| tested.post("/api/pull", &body);
    for name in ["other", "me/own:1", &*format!("{host}/me/own:1")] {
        let answer = pull(json!({"model": name, "stream": false})).ok();
        assert_eq!(answer.json(), json!({"status": "success"}), "{name}");
        let ask = json!({"model": name, "prompt": "a", "stream": false, "options": {"num_predict": 1}});
        assert_eq!(tested.post("/api/generate", &ask).ok().json()["model"], name);
    }
    assert_eq!(pull(json!({"model": "nobody", "stream": false})).status, 404);
    // Without encryption: the user has listed this registry so; another is refused.
    let plain = format!("http://{host}/me/own:1");
    assert_eq!(pull(json!({"model": plain, "stream": false})).status, 400);
    pull(json!({"model": plain, "insecure": true, "stream": false})).ok();
    let other = pull(json!({"model": "127.0.0.1:1/me/own", "insecure": true, "stream": false}));
    assert!(
        other.status == 400 && other.text().contains("WHIT_REGISTRIES=http://127.0.0.1:1"),
        "{}",
        other.text()
    );
}
