//! `whit run` of names that nobody here knows: Ollama's registry is asked, as its own `run` does.

use std::path::Path;

use crate::common::{Golden, Run, command, finish, golden};
use crate::registry::FakeRegistry;

/// `whit run` with that registry for Ollama's.
fn run(home: &Path, registry: &str, arguments: &[&str]) -> Run {
    let mut command = command(home);
    command.arg("run").args(arguments).env("WHIT_OLLAMA_REGISTRY", registry).env("WHIT_REGISTRIES", registry);
    finish(command, None)
}

/// Whether something was put into a store.
fn holds_models(home: &Path) -> bool {
    home.join("models").exists()
}

#[test]
fn an_unknown_name_is_pulled_and_run() {
    let model = Golden::new("qwen2-gqa7");
    let bytes = std::fs::read(golden("qwen2-gqa7.gguf")).expect("a golden model");
    let registry = FakeRegistry::new();
    registry.add_model("library/other:latest", &[("model", &bytes)]);
    let home = tempfile::tempdir().expect("a temporary folder");
    let (prompt, most) = (model.prompt_text(), model.greedy.len().to_string());
    let arguments = ["other", &*prompt, "--raw", "--temperature", "0", "--max-tokens", &*most];
    let got = run(home.path(), &registry.server.url(), &arguments);
    assert!(got.stderr.contains("pulled ollama:other"), "{}", got.stderr);
    assert_eq!(got.ok().trim_end_matches('\n'), model.answer());
    assert!(!registry.server.take_log().is_empty());
    // It is here now, and nobody is asked again.
    let got = run(home.path(), &registry.server.url(), &arguments);
    assert_eq!(got.ok().trim_end_matches('\n'), model.answer());
    assert!(registry.server.take_log().is_empty());
}

#[test]
fn what_the_registry_does_not_know_either_leaves_nothing() {
    let registry = FakeRegistry::new();
    let home = tempfile::tempdir().expect("a temporary folder");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let gone = format!("http://{}", gone.expect("a port"));
    for (address, line) in [
        (
            registry.server.url(),
            "error: there is no model called `smolm2`\n\nhint: did you mean `smollm2:".to_owned(),
        ),
        (
            gone.clone(),
            format!(
                "error: there is no model called `smolm2`\n{gone} may know it, but could not be reached: "
            ),
        ),
    ] {
        let got = run(home.path(), &address, &["smolm2", "a"]);
        assert_eq!(got.code, Some(1));
        assert!(got.stderr.contains(&line), "{}", got.stderr);
        assert!(!holds_models(home.path()));
    }
    let asked: Vec<String> = registry.server.take_log().iter().map(|asked| asked.line()).collect();
    assert_eq!(asked, ["GET /v2/library/smolm2/manifests/latest"]);
    let got = run(home.path(), &registry.server.url(), &["smolm2", "a", "--offline"]);
    assert!(got.stderr.contains("hint: did you mean `smollm2:"), "{}", got.stderr);
    assert!(registry.server.take_log().is_empty() && !holds_models(home.path()));
}
