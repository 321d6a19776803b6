//! Models as things: listing, describing, copying, making, deleting.

use serde_json::{Value, json};

use crate::client::{Call, Tested, golden};

fn names(tested: &Tested) -> Vec<String> {
    let list = tested.get("/api/tags").ok().json();
    let mut names: Vec<String> = list["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn delete(tested: &Tested, name: &str) -> u16 {
    let body = json!({"model": name}).to_string();
    Call::new("DELETE", "/api/delete").body(body).send(tested.server.address()).status
}

#[test]
fn models_are_listed_and_shown() {
    let tested = Tested::new();
    let list = tested.get("/api/tags").ok().json();
    let model = list["models"].as_array().unwrap().iter().find(|model| model["name"] == "chatty").unwrap();
    for pointer in ["/model", "/modified_at", "/digest", "/details/family", "/details/parameter_size"] {
        assert!(model.pointer(pointer).is_some_and(Value::is_string), "{pointer} in {model}");
    }
    assert_eq!(model["digest"].as_str().unwrap().len(), 64);
    assert_eq!(model["capabilities"], json!(["completion", "tools"]));
    assert!(model["size"].as_u64().unwrap() > 0);

    let shown = tested.post("/api/show", &json!({"model": "chatty:latest"})).ok().json();
    let info = &shown["model_info"];
    assert_eq!(info["general.architecture"], "llama");
    assert!(info["llama.context_length"].is_u64() && info["general.parameter_count"].is_u64());
    assert!(info["tokenizer.ggml.tokens"].is_null());
    assert!(shown["template"].as_str().unwrap().contains("tools"));
    assert_eq!(shown["details"], model["details"]);
    assert!(!shown.to_string().contains(tested.home.path().to_str().unwrap()), "a path in {shown}");
    let verbose = tested.post("/api/show", &json!({"model": "chatty", "verbose": true})).ok().json();
    assert!(verbose["model_info"]["tokenizer.ggml.tokens"].is_array() && verbose["tensors"].is_array());
    assert_eq!(tested.post("/api/show", &json!({"model": "none"})).status, 404);

    tested.post("/api/generate", &json!({"model": "tiny", "keep_alive": -1})).ok();
    let loaded = &tested.get("/api/ps").ok().json()["models"][0];
    assert_eq!((&loaded["name"], &loaded["context_length"]), (&json!("tiny"), &json!(256)));
    assert!(loaded["expires_at"].as_str().unwrap() > "2100");
}

#[test]
fn copies_are_names() {
    let tested = Tested::new();
    let copy =
        |from: &str, to: &str| tested.post("/api/copy", &json!({"source": from, "destination": to})).status;
    assert_eq!((copy("tiny", "gpt-4o"), copy("none", "x"), copy("tiny", "../x")), (200, 404, 400));
    assert_eq!(names(&tested), ["chatty", "gpt-4o", "tiny"]);
    let request = json!({"model": "gpt-4o", "prompt": "a", "stream": false, "options": {"num_predict": 1}});
    assert_eq!(tested.post("/api/generate", &request).ok().json()["model"], "gpt-4o");
    assert_eq!((delete(&tested, "gpt-4o"), delete(&tested, "gpt-4o")), (200, 404));
    // A file of the user's is not deleted.
    assert_eq!(delete(&tested, "tiny"), 400);
    assert_eq!(names(&tested), ["chatty", "tiny"]);
}

#[test]
fn recipes_bring_their_own() {
    let tested = Tested::new();
    let create = |body: Value| tested.post("/api/create", &body);
    let made = create(json!({"model": "poet", "from": "chatty", "system": "be brief",
                             "parameters": {"temperature": 0, "num_predict": 4}}));
    assert_eq!(made.ok().lines().last().unwrap()["status"], "success");
    let ask = |request: Value| tested.post("/api/chat", &request).ok().json()["message"]["content"].clone();
    let user = json!({"role": "user", "content": "hi"});
    let by_recipe = ask(json!({"model": "poet", "messages": [user], "stream": false}));
    let by_hand =
        ask(json!({"model": "chatty", "messages": [{"role": "system", "content": "be brief"}, user],
                             "stream": false, "options": {"temperature": 0, "num_predict": 4}}));
    assert_eq!(by_recipe, by_hand);
    let shown = tested.post("/api/show", &json!({"model": "poet"})).ok().json();
    assert_eq!((&shown["system"], &shown["details"]["parent_model"]), (&json!("be brief"), &json!("chatty")));
    for (body, error) in [
        (json!({"model": "x"}), "neither 'from' or 'files'"),
        (json!({"model": "x", "from": "none"}), "not found"),
        (json!({"model": "x y", "from": "tiny"}), "invalid model name"),
        (json!({"model": "x", "from": "tiny", "quantize": "q4_K_M"}), "does not quantize"),
        (json!({"model": "x", "from": "tiny", "parameters": {"temperature": []}}), "must be of type float32"),
        (json!({"model": "x", "files": {"a.gguf": "sha256:../../etc/passwd"}}), "invalid digest format"),
    ] {
        let answer = create(body.clone());
        let text = answer.text();
        assert!(answer.status >= 400 && text.contains(error), "{body}: {text}");
    }
}

#[test]
fn recipes_hold_in_every_api() {
    let tested = Tested::new();
    let parameters = json!({"temperature": 0, "num_predict": 4});
    let recipe = json!({"model": "poet", "from": "chatty", "system": "be brief", "parameters": parameters,
                        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    tested.post("/api/create", &recipe).ok();
    let user = json!({"role": "user", "content": "hi"});
    let whole = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"},
                       {"role": "assistant", "content": "b"}, user]);
    let plain = json!({"model": "chatty", "messages": whole, "temperature": 0, "max_tokens": 4});
    let by_hand = tested.post("/v1/chat/completions", &plain).ok().json();
    let text = &by_hand["choices"][0]["message"]["content"];
    assert_eq!(by_hand["usage"]["completion_tokens"], 4);

    let ask = json!({"model": "poet", "messages": [user]});
    let chat = tested.post("/v1/chat/completions", &ask).ok().json();
    assert_eq!(&chat["choices"][0]["message"]["content"], text);
    assert_eq!(chat["usage"]["total_tokens"], by_hand["usage"]["total_tokens"]);
    let ask = json!({"model": "poet", "messages": [user], "max_tokens": 4});
    assert_eq!(&tested.post("/v1/messages", &ask).ok().json()["content"][0]["text"], text);
    let response = tested.post("/v1/responses", &json!({"model": "poet", "input": "hi"})).ok().json();
    assert_eq!(&response["output"][0]["content"][0]["text"], text);
    assert_eq!(response["temperature"], 0.0);
    // What is asked for comes first.
    let ask = json!({"model": "poet", "messages": [user], "max_tokens": 2});
    assert_eq!(tested.post("/v1/chat/completions", &ask).ok().json()["usage"]["completion_tokens"], 2);
}

#[test]
fn a_modelfile_makes_the_model_that_it_shows() {
    let tested = Tested::new();
    let recipe = json!({"model": "Poet", "from": "tiny", "system": "two\nlines", "license": ["MIT", "and more"],
                        "template": "{{- if .System }}{{ .System }}{{ end }}{{ .Prompt }}",
                        "parameters": {"stop": ["a", "b c"], "top_k": 3},
                        "messages": [{"role": "user", "content": "hi"}]});
    let made = tested.post("/api/create", &recipe).ok();
    assert!(made.text().contains("language of Go"), "{}", made.text());
    // Names are found in any case, and replaced in it, too.
    let shown = tested.post("/api/show", &json!({"model": "poet:latest"})).ok().json();
    let expected = "FROM tiny\nTEMPLATE \"\"\"{{- if .System }}{{ .System }}{{ end }}{{ .Prompt }}\"\"\"\n\
                    SYSTEM \"\"\"two\nlines\"\"\"\nPARAMETER stop a\nPARAMETER stop b c\nPARAMETER top_k 3\n\
                    MESSAGE user hi\nLICENSE \"\"\"MIT\"\"\"\nLICENSE \"\"\"and more\"\"\"\n";
    assert_eq!(shown["modelfile"], expected);
    assert_eq!((&shown["license"], &shown["template"]), (&json!("MIT\n\nand more"), &json!("")));
    tested.post("/api/create", &json!({"model": "poet", "from": "Poet", "system": ""})).ok();
    assert_eq!(names(&tested), ["chatty", "poet", "tiny"]);
    let shown = tested.post("/api/show", &json!({"model": "poet"})).ok().json();
    assert!(
        shown["system"].is_null() && shown["modelfile"].as_str().unwrap().contains("PARAMETER top_k 3"),
        "{shown}"
    );
}

#[test]
fn recipes_of_another_process_are_found() {
    let tested = Tested::new();
    let path = tested.home.path().join("mine.gguf");
    std::fs::copy(golden("qwen2-gqa7.gguf"), &path).unwrap();
    let store = whit_hub::Store::open(whit_hub::Config::new(tested.home.path()));
    let from = path.display().to_string();
    let extras = whit_hub::Extras { system: Some("be brief".to_owned()), ..whit_hub::Extras::default() };
    store.create("mine", from, extras).unwrap();
    assert_eq!(names(&tested), ["chatty", "mine", "tiny"]);
    let request = json!({"model": "mine", "prompt": "a", "stream": false, "options": {"num_predict": 1}});
    tested.post("/api/generate", &request).ok();
    let made = tested.post("/api/create", &json!({"model": "yours", "from": "mine"})).ok();
    let shown = tested.post("/api/show", &json!({"model": "yours"})).ok();
    for text in [made.text(), shown.text()] {
        assert!(!text.contains(tested.home.path().to_str().unwrap()), "a path in {text}");
    }
    assert_eq!((delete(&tested, "yours"), names(&tested).len()), (200, 3));
    assert_eq!(delete(&tested, "mine"), 200);
    assert!(path.is_file(), "a file of the user's stays");
}

#[test]
fn files_are_uploaded_and_made_models() {
    let tested = Tested::new();
    let bytes = std::fs::read(golden("qwen2-gqa7.gguf")).unwrap();
    let digest = sha256(&bytes);
    let path = format!("/api/blobs/sha256:{digest}");
    let call = |method, path: &str, body: &[u8]| {
        Call::new(method, path).body(body).send(tested.server.address()).status
    };
    assert_eq!(call("HEAD", &path, b""), 404);
    assert_eq!(call("POST", &path, b"something else"), 400);
    assert_eq!(call("POST", "/api/blobs/sha256:..%2f..%2fx", &bytes), 400);
    assert_eq!(
        (call("POST", &path, &bytes), call("POST", &path, &bytes), call("HEAD", &path, b"")),
        (201, 200, 200)
    );
    // Nothing half stays behind.
    assert_eq!(std::fs::read_dir(tested.home.path().join("blobs")).unwrap().count(), 1);
    let create =
        json!({"model": "mine", "files": {"mine.gguf": format!("sha256:{digest}")}, "stream": false});
    assert_eq!(tested.post("/api/create", &create).ok().json(), json!({"status": "success"}));
    let request = json!({"model": "mine", "prompt": "a", "stream": false, "options": {"num_predict": 1}});
    tested.post("/api/generate", &request).ok();
    assert_eq!(delete(&tested, "mine"), 200);
    assert_eq!(call("HEAD", &path, b""), 404);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_not_there_says_so() {
    let tested = Tested::new();
    let status = |path: &str, body: Value| tested.post(path, &body).status;
    assert_eq!(status("/api/push", json!({"model": "reg.example/me/nosuchmodel"})), 404);
    assert_eq!(status("/api/push", json!({"model": "../tiny"})), 400);
    assert_eq!(status("/api/push", json!({"model": "http://reg.example/tiny"})), 400);
    assert_eq!(status("/api/pull", json!({"model": "/etc/passwd"})), 400);
    assert_eq!(status("/api/pull", json!({"model": "nosuchmodel", "stream": false})), 404);
}
