//! `/infill`: what it reads and how it answers. What the model reads is checked by asking for the same in tokens.

use serde_json::{Value, json};

use crate::client::{Tested, rewrite};

/// The golden model with tokens for filling in the middle, as `code`.
fn start() -> (Tested, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("code.gguf");
    let gguf = whit_files::Gguf::open(crate::client::golden("llama-gqa-llama3.gguf")).unwrap();
    let tokens: Vec<Vec<u8>> = gguf
        .metadata()
        .strings("tokenizer.ggml.tokens")
        .unwrap()
        .map(|token| match token {
            b"<|bos|>" => b"<|fim_prefix|>".to_vec(),
            b"<|pad|>" => b"<|fim_suffix|>".to_vec(),
            b"<|unused|>" => b"<|fim_middle|>".to_vec(),
            other => other.to_vec(),
        })
        .collect();
    rewrite("llama-gqa-llama3", &path, |writer| writer.set_strings("tokenizer.ggml.tokens", &tokens));
    let tested = Tested::with(|config| config.files.push(("code".to_owned(), path.clone())));
    (tested, folder)
}

const PREFIX: u32 = 0;
const SUFFIX: u32 = 2;
const MIDDLE: u32 = 3;

fn tokens(tested: &Tested, text: &str) -> Vec<u32> {
    let answer = tested.post("/api/tokenize", &json!({"model": "code", "text": text})).ok().json();
    answer["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// What comes after these tokens.
fn completion(tested: &Tested, prompt: &[u32]) -> Value {
    let request = json!({"model": "code", "prompt": prompt, "temperature": 0, "max_tokens": 8});
    tested.post("/v1/completions", &request).ok().json()["choices"][0]["text"].clone()
}

#[test]
fn gaps_are_filled() {
    let (tested, _folder) = start();
    let (before, after) = (tokens(&tested, "let x = "), tokens(&tested, "; end"));
    let prompt = [&[PREFIX], &before[..], &[SUFFIX], &after, &[MIDDLE]].concat();
    let expected = completion(&tested, &prompt);
    let request = json!({"model": "code", "input_prefix": "let ", "prompt": "x = ", "input_suffix": "; end",
        "temperature": 0, "n_predict": 8, "samplers": ["top_k"], "t_max_predict_ms": 500});
    let answer = tested.post("/infill", &request).ok().json();
    assert_eq!(answer["content"], expected);
    assert_eq!((&answer["stop"], &answer["stop_type"]), (&json!(true), &json!("limit")));
    assert_eq!((&answer["tokens_evaluated"], &answer["tokens_predicted"]), (&json!(prompt.len()), &json!(8)));
    assert_eq!(answer["timings"]["predicted_n"], 8);
    assert!(answer["timings"]["prompt_ms"].is_number());

    // Drafting is told of where there was any.
    let mut long = request.clone();
    (long["n_predict"], long["input_prefix"]) = (json!(60), json!("o o o o o o o o o "));
    let drafted = tested.post("/infill", &long).ok().json();
    long["speculative.n_max"] = json!(0);
    let plain = tested.post("/infill", &long).ok().json();
    assert_eq!(drafted["content"], plain["content"]);
    assert!(drafted["timings"]["draft_n"].as_u64() >= Some(1), "{}", drafted["timings"]);
    assert!(drafted["timings"]["draft_n_accepted"].is_u64());
    assert!(plain["timings"]["draft_n"].is_null(), "{}", plain["timings"]);

    // Without files' tokens, other files stand before the gap as they are.
    let file = tokens(&tested, "a.rs\nfn a\n");
    let prompt = [&file[..], &prompt].concat();
    let mut with_files = request.clone();
    with_files["input_extra"] = json!([{"filename": "a.rs", "text": "fn a"}]);
    assert_eq!(tested.post("/infill", &with_files).ok().json()["content"], completion(&tested, &prompt));

    let mut streamed = request.clone();
    streamed["stream"] = json!(true);
    // The only model that is loaded need not be named.
    streamed.as_object_mut().unwrap().remove("model");
    let text = tested.post("/infill", &streamed).ok().text();
    let parts: Vec<Value> = text
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    assert_eq!(parts.len(), 9);
    let content: String = parts.iter().map(|part| part["content"].as_str().unwrap()).collect();
    assert_eq!(json!(content), expected);
    assert!(parts[..8].iter().all(|part| part["stop"] == false && part.get("timings").is_none()));
    assert_eq!((&parts[8]["stop"], &parts[8]["model"]), (&json!(true), &json!("code")));

    // 0 reads the prompt, for its prefix to be there.
    let mut read = request;
    read["n_predict"] = json!(0);
    assert_eq!(tested.post("/infill", &read).ok().json()["content"], "");
}

#[test]
fn refusals() {
    let (tested, _folder) = start();
    for (request, status, says) in [
        (json!({"model": "tiny", "input_prefix": "a", "input_suffix": "b"}), 400, "filling in the middle"),
        (json!({"model": "none", "input_prefix": "a", "input_suffix": "b"}), 404, "not found"),
        (json!({"model": "code", "input_prefix": "a"}), 400, "input_suffix"),
        (
            json!({"model": "code", "input_prefix": "a", "input_suffix": "b", "input_extra": [{}]}),
            400,
            "text",
        ),
        (json!({"model": "code", "input_prefix": "a ".repeat(400), "input_suffix": "b"}), 400, "context"),
    ] {
        let answer = tested.post("/infill", &request);
        assert_eq!(answer.status, status, "{}", answer.text());
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{message}");
    }
}
