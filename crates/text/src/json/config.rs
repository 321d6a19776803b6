//! What is wanted of a `tokenizer_config.json`: the special tokens by their parts, and the chat template.

use serde::Deserialize;
use serde_json::Value;

use crate::TextError;

/// The fields that are read; each may be absent.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    bos_token: Value,
    cls_token: Value,
    eos_token: Value,
    unk_token: Value,
    sep_token: Value,
    pad_token: Value,
    mask_token: Value,
    pub(super) add_bos_token: Option<bool>,
    pub(super) add_eos_token: Option<bool>,
    chat_template: Value,
}

impl Config {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, TextError> {
        serde_json::from_slice(bytes).map_err(|e| TextError::BrokenTokenizerJson {
            file: "tokenizer_config.json",
            what: e.to_string(),
        })
    }

    /// The spellings of BOS, EOS, UNK, SEP, PAD and MASK.
    pub(super) fn tokens(&self) -> [Option<&str>; 6] {
        // An encoder opens its input with what BERT calls the class token.
        let bos = spelled(&self.bos_token).or_else(|| spelled(&self.cls_token));
        let [eos, unk, sep, pad, mask] =
            [&self.eos_token, &self.unk_token, &self.sep_token, &self.pad_token, &self.mask_token]
                .map(spelled);
        [bos, eos, unk, sep, pad, mask]
    }

    /// The chat template; of several with names the one called `default`.
    pub(super) fn chat_template(&self) -> Option<&str> {
        match &self.chat_template {
            Value::String(template) => Some(template),
            Value::Array(named) => {
                let default = named.iter().find(|one| one["name"] == "default").or_else(|| named.first());
                default.and_then(|one| one["template"].as_str())
            }
            Value::Object(named) => named.get("default").and_then(Value::as_str),
            _ => None,
        }
    }
}

/// The chat template in a `tokenizer_config.json`, or in a `chat_template.json`, which has no more than that; of several with
/// names the one called `default`.
///
/// # Errors
/// What is not valid JSON.
pub fn chat_template_in(json: &[u8]) -> Result<Option<String>, TextError> {
    Ok(Config::read(json)?.chat_template().map(str::to_owned))
}

/// A token given as a string, or as an object that describes it.
fn spelled(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content").and_then(Value::as_str))
}
