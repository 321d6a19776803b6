//! Writes the folder that `transformers` saved for a golden model, from the description beside its GGUF file (see
//! `tests/golden/hf_folder.py`). The weights are proved to be what was saved, to the last bit.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use whit_files::Gguf;

/// The models in the folder `golden` of which there is a file with this ending, in order.
pub(crate) fn names(golden: &Path, ending: &str) -> Vec<String> {
    let files =
        std::fs::read_dir(golden).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.strip_suffix(ending)?.to_owned())).collect();
    names.sort();
    assert!(!names.is_empty(), "{}: no {ending}", golden.display());
    names
}

/// Writes the folder of the model `name` to `to`.
pub(crate) fn write(name: &str, golden: &Path, to: &Path) {
    let text = std::fs::read(golden.join(format!("{name}.hf.json"))).unwrap();
    let told: Value = serde_json::from_slice(&text).unwrap();
    let gguf = Gguf::open(golden.join(format!("{name}.gguf"))).unwrap();

    let mut tensors: HashMap<&str, (Vec<usize>, Vec<u8>)> = HashMap::new();
    for (name, tensor) in told["tensors"].as_object().unwrap() {
        let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        let bytes = values(&gguf, tensor, &shape);
        let digest = Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        assert_eq!(digest[..16], tensor["sha256"], "{name}: not what was saved");
        tensors.insert(name, (shape, bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::create_dir_all(to).unwrap();
    safetensors::serialize_to_file(views, None, &to.join("model.safetensors")).unwrap();
    std::fs::write(to.join("config.json"), told["config"].to_string()).unwrap();
    std::fs::write(to.join("tokenizer.json"), tokenizer(&gguf).to_string()).unwrap();
}

/// The stub vocabulary of the GGUF file as a `tokenizer.json`: byte-level BPE, whose first tokens are control tokens.
fn tokenizer(gguf: &Gguf) -> Value {
    let strings = |key: &str| -> Vec<String> {
        let strings = gguf.metadata().strings(key).unwrap();
        strings.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    };
    let (tokens, merges) = (strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges"));
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), Value::from(id))).collect();
    let added: Vec<Value> = (0..4)
        .map(|id| json!({ "id": id, "content": tokens[id], "special": true, "normalized": false }))
        .collect();
    json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "use_regex": true },
        "decoder": { "type": "ByteLevel" },
        "model": { "type": "BPE", "vocab": vocab, "merges": merges },
    })
}

/// The bytes of a tensor as the folder has them.
fn values(gguf: &Gguf, tensor: &Value, shape: &[usize]) -> Vec<u8> {
    let way = tensor["way"].as_str().unwrap();
    if way == "values" {
        let hex = tensor["hex"].as_str().unwrap().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        return hex.chunks_exact(2).map(byte).collect();
    }
    let stored = gguf.tensor_bytes(gguf.tensor(tensor["from"].as_str().unwrap()).unwrap());
    let (n_rows, n_cols) = (shape[0], shape[1..].iter().product::<usize>());
    let n_bytes = 4 * n_rows * n_cols;
    if way == "part" {
        let at = tensor["at"].as_u64().unwrap() as usize;
        return stored[at * n_bytes..(at + 1) * n_bytes].to_vec();
    }
    if way == "beside" || way == "below" {
        let n_rows = if way == "below" { 1 } else { n_rows };
        let second = gguf.tensor_bytes(gguf.tensor(tensor["and"].as_str().unwrap()).unwrap());
        let half = n_bytes / n_rows / 2;
        let halves = stored.chunks_exact(half).zip(second.chunks_exact(half));
        return halves.flat_map(|(first, second)| [first, second].concat()).collect();
    }
    // Which of the stored values each one is.
    let from: Vec<usize> = match way {
        "same" => (0..n_rows * n_cols).collect(),
        "turned" => (0..n_rows * n_cols).map(|i| i % n_cols * n_rows + i / n_cols).collect(),
        "pairs" => {
            let head = n_rows / tensor["heads"].as_u64().unwrap() as usize;
            let row = |row: usize| {
                let (start, at, half) = (row - row % head, row % head, head / 2);
                start + at % half * 2 + at / half
            };
            (0..n_rows * n_cols).map(|i| row(i / n_cols) * n_cols + i % n_cols).collect()
        }
        other => panic!("an unknown way: {other}"),
    };
    from.into_iter().flat_map(|i| stored[4 * i..4 * i + 4].to_vec()).collect()
}
