//! What is wanted of a `tokenizer_config.json`: the special tokens by their parts, the chat template, and tokens that were
//! added without a word in the `tokenizer.json`.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::file::{AddedToken, Words};
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
    added_tokens_decoder: HashMap<String, Described>,
}

/// An added token, but for its id.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Described {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: Option<bool>,
    special: bool,
}

impl Config {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, TextError> {
        serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))
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

    /// Puts the tokens that are described here beside those of the `tokenizer.json`, as `transformers` does: what is said
    /// here of one holds, and one that is not there is added. It has the id that is given here, unless the vocabulary has
    /// its text elsewhere.
    pub(super) fn add_tokens(
        &mut self,
        words: &Words,
        tokens: &mut Vec<AddedToken>,
    ) -> Result<(), TextError> {
        let by_content: HashMap<String, usize> =
            tokens.iter().enumerate().map(|(i, token)| (token.content.clone(), i)).collect();
        let mut added: HashMap<String, AddedToken> = HashMap::new();
        for (id, described) in self.added_tokens_decoder.drain() {
            let id = id.parse().map_err(|_| broken(format!("`added_tokens_decoder` has the id {id:?}")))?;
            let Described { content, single_word, lstrip, rstrip, normalized, special } = described;
            let token =
                AddedToken { id, content: content.clone(), single_word, lstrip, rstrip, normalized, special };
            match by_content.get(&content) {
                Some(&known) => tokens[known] = AddedToken { id: tokens[known].id, ..token },
                None => {
                    added.insert(content, token);
                }
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        for (text, id) in words.iter() {
            if let Some(token) = added.get_mut(text) {
                token.id = id;
            }
        }
        let ids: HashSet<u32> = tokens.iter().map(|token| token.id).collect();
        let mut added: Vec<AddedToken> =
            added.into_values().filter(|token| !ids.contains(&token.id)).collect();
        added.sort_unstable_by_key(|token| token.id);
        tokens.append(&mut added);
        Ok(())
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

fn broken(what: String) -> TextError {
    TextError::BrokenTokenizerJson { file: "tokenizer_config.json", what }
}

/// A token given as a string, or as an object that describes it.
fn spelled(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content").and_then(Value::as_str))
}
