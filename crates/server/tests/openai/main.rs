//! The OpenAI and Anthropic APIs as their clients meet them: over sockets, with tiny models. Expected texts are greedy
//! continuations by the reference library, or follow from a grammar that leaves one choice.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anthropic;
mod batches;
mod chat;
#[path = "../http/client.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod client;
mod completions;
mod files;
mod responses;
mod thinking;

use serde_json::Value;
use whit_files::{Gguf, GgufWriter};

use crate::client::{Answer, Tested, golden, rewrite};

/// The prompt of a conversation with one turn, written out by hand.
const PROMPT: &str = "user: hi\nassistant: ";

const TEMPLATE: &str = "{# <tool_call> #}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                        {% if tools %}tools\n{% endif %}{% if add_generation_prompt %}assistant: {% endif %}";

/// A server with the model `json`, whose vocabulary has what JSON and tags need, beside those of [`Tested::new`].
fn start() -> (Tested, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("json.gguf");
    rewrite("llama-gqa-llama3", &path, |writer| with_braces(writer, TEMPLATE));
    (Tested::with(|config| config.files.push(("json".to_owned(), path.clone()))), folder)
}

/// Gives the golden model `{}[]<>` where the stub vocabulary has `#@&=*+`, and a template.
fn with_braces(writer: &mut GgufWriter, template: &str) {
    let gguf = Gguf::open(golden("llama-gqa-llama3.gguf")).unwrap();
    let tokens: Vec<Vec<u8>> = gguf
        .metadata()
        .strings("tokenizer.ggml.tokens")
        .unwrap()
        .map(|token| match token {
            b"#" => b"{".to_vec(),
            b"@" => b"}".to_vec(),
            b"&" => b"[".to_vec(),
            b"=" => b"]".to_vec(),
            b"*" => b"<".to_vec(),
            b"+" => b">".to_vec(),
            other => other.to_vec(),
        })
        .collect();
    writer.set_strings("tokenizer.ggml.tokens", &tokens);
    writer.set("tokenizer.chat_template", template);
}

/// The events of a stream: name and data. The end of OpenAI's streams is `[DONE]`, given as a string.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let text = answer.text();
    let blocks = text.split("\n\n").filter(|block| !block.is_empty());
    blocks
        .map(|block| {
            let (mut name, mut data) = (String::new(), Value::Null);
            for line in block.lines() {
                match line.split_once(": ").unwrap() {
                    ("event", value) => name = value.to_owned(),
                    ("data", "[DONE]") => data = "[DONE]".into(),
                    ("data", value) => data = serde_json::from_str(value).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            (name, data)
        })
        .collect()
}
