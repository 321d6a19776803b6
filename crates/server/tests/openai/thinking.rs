//! Thoughts in all three APIs: apart from the answer, whole and streamed.
//!
//! The template ends prompts within thoughts, so that all of a short answer is thought. What is thought is what the model
//! writes after the same prompt as plain text.

use serde_json::{Value, json};

use crate::client::{Tested, rewrite};
use crate::{events, with_braces};

const THINKS: &str =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{# </think> #}<think>";

#[test]
fn thoughts_come_apart_from_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thinks.gguf");
    rewrite("llama-gqa-llama3", &path, |writer| with_braces(writer, THINKS));
    let tested = Tested::with(|config| config.files.push(("thinks".to_owned(), path.clone())));
    let plain = json!({"model": "thinks", "prompt": "user: hi\n<think>", "temperature": 0, "max_tokens": 12});
    let expected = tested.post("/v1/completions", &plain).ok().json()["choices"][0]["text"].clone();
    assert!(!expected.as_str().unwrap().contains("</think>"), "{expected}");
    let asks = |more: Value| {
        let mut request =
            json!({"model": "thinks", "messages": [{"role": "user", "content": "hi"}], "temperature": 0});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let joined = |texts: Vec<Value>| Value::String(texts.iter().filter_map(Value::as_str).collect());

    let openai = tested.post("/v1/chat/completions", &asks(json!({"max_tokens": 12}))).ok().json();
    let message = &openai["choices"][0]["message"];
    assert_eq!((&message["reasoning_content"], &message["content"]), (&expected, &json!("")));
    let streamed =
        events(&tested.post("/v1/chat/completions", &asks(json!({"max_tokens": 12, "stream": true}))).ok());
    let deltas = streamed.iter().map(|(_, event)| event["choices"][0]["delta"]["reasoning_content"].clone());
    assert_eq!(joined(deltas.collect()), expected);

    let ollama = asks(json!({"options": {"temperature": 0, "num_predict": 12}}));
    let lines = tested.post("/api/chat", &ollama).ok().lines();
    assert_eq!(joined(lines.iter().map(|line| line["message"]["thinking"].clone()).collect()), expected);
    assert_eq!(joined(lines.iter().map(|line| line["message"]["content"].clone()).collect()), json!(""));

    let anthropic = tested.post("/v1/messages", &asks(json!({"max_tokens": 12}))).ok().json();
    assert_eq!(
        anthropic["content"],
        json!([{"type": "thinking", "thinking": expected, "signature": ""}]),
        "{anthropic}"
    );
    let streamed =
        events(&tested.post("/v1/messages", &asks(json!({"max_tokens": 12, "stream": true}))).ok());
    let deltas: Vec<&Value> = streamed
        .iter()
        .filter(|(name, _)| name == "content_block_delta")
        .map(|(_, event)| &event["delta"])
        .collect();
    let (signature, thoughts) = deltas.split_last().unwrap();
    assert_eq!(**signature, json!({"type": "signature_delta", "signature": ""}));
    assert!(thoughts.iter().all(|delta| delta["type"] == "thinking_delta"));
    assert_eq!(joined(thoughts.iter().map(|delta| delta["thinking"].clone()).collect()), expected);
}
