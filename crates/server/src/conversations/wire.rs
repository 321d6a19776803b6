//! A conversation of the web chat as JSON: on the wire, in an export, and as it is kept.
//!
//! It is a tree of messages: editing or asking again adds a branch, nothing is ever taken away. So two copies of one
//! conversation can always be brought together ([`merge`]). Times are milliseconds since 1970, as browsers count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;

/// What an export calls itself.
pub(super) const KIND: &str = "whit-conversations";
pub(super) const VERSION: u32 = 1;
const MAX_MESSAGES: usize = 10_000;
/// Of an id or a name; of a title.
const MAX_NAME: usize = 256;
const MAX_TITLE: usize = 1000;
/// Characters of a snippet before and after what was found.
const AROUND: usize = 40;

/// A conversation, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Conversation {
    /// 8 to 80 of `a-z`, `0-9`, `-` and `_`; chosen by the client.
    pub(super) id: String,
    #[serde(default)]
    pub(super) title: String,
    pub(super) created: u64,
    pub(super) updated: u64,
    /// The model that answers next.
    #[serde(default)]
    pub(super) model: String,
    #[serde(default)]
    pub(super) sampling: Sampling,
    /// By their ids.
    pub(super) messages: BTreeMap<String, Message>,
    /// The last message of the branch that is shown.
    #[serde(default)]
    pub(super) leaf: Option<String>,
}

/// How answers of a conversation are made. What is absent is the model's or the server's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ConversationSampling)]
pub(crate) struct Sampling {
    /// The system prompt.
    system: String,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<f64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    num_predict: Option<f64>,
    num_ctx: Option<f64>,
    seed: Option<f64>,
    /// Texts that end an answer, one per line.
    stop: String,
    format: Format,
    /// The JSON schema, as it was typed, for `format` `schema`.
    schema: String,
    /// The functions that the model may call, as they were typed: a JSON array in the shape of OpenAI's `tools`.
    tools: String,
}

/// What an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ConversationFormat)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
    Schema,
}

/// One message of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConversationMessage)]
pub(crate) struct Message {
    pub(super) id: String,
    /// The message that it follows; none for a first one.
    pub(super) parent: Option<String>,
    pub(super) role: Role,
    #[serde(default)]
    pub(super) content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) attachments: Vec<Attachment>,
    /// The functions that an answer calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    calls: Vec<Call>,
    /// The function whose result a message of role `tool` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
    /// Why there is no answer, or not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Still being written.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) live: bool,
    /// Ended by the user, or by a page that went away.
    #[serde(default, skip_serializing_if = "is_false")]
    stopped: bool,
    pub(super) at: u64,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ConversationRole)]
pub(crate) enum Role {
    User,
    Assistant,
    Tool,
}

/// A file that was attached, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConversationAttachment)]
pub(crate) struct Attachment {
    pub(super) name: String,
    pub(super) text: String,
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConversationCall)]
pub(crate) struct Call {
    name: String,
    #[schema(value_type = Object)]
    arguments: serde_json::Map<String, serde_json::Value>,
}

/// What an answer cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConversationStats)]
pub(crate) struct Stats {
    prompt_tokens: f64,
    tokens: f64,
    /// Tokens per second.
    rate: f64,
    /// Seconds until the first token.
    first: f64,
    reason: String,
}

/// An export: any number of conversations.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ConversationExport)]
pub(crate) struct Export {
    /// `whit-conversations`.
    pub(super) kind: String,
    /// 1.
    pub(super) version: u32,
    pub(super) conversations: Vec<Conversation>,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ConversationSummary)]
pub(crate) struct Summary {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) model: String,
    pub(super) n_messages: usize,
    /// Changes with every change; the conversation's entity tag.
    pub(super) revision: u64,
    /// Where a search found its first word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snippet: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Conversation {
    /// Whether it is of one piece and within bounds. Ids that become file names are looked at where they do.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let bad = |what: String| Err(ApiError::BadRequest(format!("conversation `{}`: {what}", self.id)));
        if self.messages.len() > MAX_MESSAGES {
            return bad(format!("more than {MAX_MESSAGES} messages"));
        }
        if self.title.len() > MAX_TITLE || self.model.len() > MAX_NAME {
            return bad("its title or its model's name is too long".to_owned());
        }
        let is_known = |id: &Option<String>| id.as_ref().is_none_or(|id| self.messages.contains_key(id));
        for (id, message) in &self.messages {
            if *id != message.id || id.is_empty() || id.len() > MAX_NAME {
                return bad(format!("message `{id}` has another id, or too long a one"));
            }
            if !is_known(&message.parent) {
                return bad(format!("message `{id}` follows one that is not there"));
            }
        }
        if !is_known(&self.leaf) {
            return bad("`leaf` names no message of it".to_owned());
        }
        Ok(())
    }

    pub(super) fn summary(&self, revision: u64) -> Summary {
        Summary {
            id: self.id.clone(),
            title: self.title.clone(),
            created: self.created,
            updated: self.updated,
            model: self.model.clone(),
            n_messages: self.messages.len(),
            revision,
            snippet: None,
        }
    }

    /// Whether every word is somewhere in it, and the surroundings of the first where that is in a message. `words` are in
    /// lower case.
    pub(super) fn search(&self, words: &[String]) -> Option<Option<String>> {
        let contents = self.messages.values().map(|message| message.content.as_str());
        let files = self.messages.values().flat_map(|message| &message.attachments);
        let files = files.flat_map(|file| [file.name.as_str(), file.text.as_str()]);
        let texts: Vec<&str> = contents.chain(files).collect();
        let folded: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
        let title = self.title.to_lowercase();
        let is_there = |word: &String| title.contains(word) || folded.iter().any(|text| text.contains(word));
        if !words.iter().all(is_there) {
            return None;
        }
        let first = words.first()?;
        Some(texts.iter().zip(&folded).find_map(|(text, folded)| {
            let at = folded.find(first)?;
            // Folding may change lengths; counted in characters, the place is near enough.
            Some(excerpt(text, folded[..at].chars().count(), first.chars().count()))
        }))
    }
}

/// `len` characters from the character `at`, with some before and after, on one line.
fn excerpt(text: &str, at: usize, len: usize) -> String {
    let from = at.saturating_sub(AROUND);
    let mut rest = text.chars().skip(from);
    let shown: String = rest.by_ref().take(at - from + len + AROUND).collect();
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let (before, after) = (if from > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
    format!("{before}{shown}{after}")
}

/// Two copies of one conversation as one: every message of both. An answer only grows, so of two versions of a message the
/// longer is the later. What there is one of (title, model, settings, the branch shown) is of the copy changed last.
pub(super) fn merge(kept: Conversation, brought: Conversation) -> Conversation {
    let (mut newer, older) = if brought.updated > kept.updated { (brought, kept) } else { (kept, brought) };
    newer.created = newer.created.min(older.created);
    for (id, message) in older.messages {
        let weight = |message: &Message| {
            (message.content.len() + message.thinking.as_ref().map_or(0, String::len), !message.live)
        };
        match newer.messages.get_mut(&id) {
            Some(mine) if weight(mine) >= weight(&message) => {}
            Some(mine) => *mine = message,
            None => {
                newer.messages.insert(id, message);
            }
        }
    }
    newer
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn talk(updated: u64, messages: &[(&str, Option<&str>, &str, bool)]) -> Conversation {
        let messages: serde_json::Map<_, _> = messages
            .iter()
            .map(|(id, parent, content, live)| {
                let message = json!({"id": id, "parent": parent, "role": "user", "content": content, "live": live, "at": 1});
                ((*id).to_owned(), message)
            })
            .collect();
        let json = json!({"id": "talk0001", "title": format!("as of {updated}"), "created": updated, "updated": updated, "messages": messages});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn nothing_is_lost_by_merging() {
        let one = talk(1, &[("a", None, "question", false), ("b", Some("a"), "half of it", true)]);
        let other = talk(2, &[("a", None, "question", false), ("c", Some("a"), "another", false)]);
        let whole = talk(3, &[("a", None, "question", false), ("b", Some("a"), "half of it and all", false)]);
        for (kept, brought, title, b) in [
            (&one, &other, "as of 2", "half of it"),
            (&other, &one, "as of 2", "half of it"),
            (&other, &whole, "as of 3", "half of it and all"),
            (&whole, &other, "as of 3", "half of it and all"),
        ] {
            let merged = merge(kept.clone(), brought.clone());
            assert_eq!((merged.title.as_str(), merged.messages["b"].content.as_str()), (title, b));
            assert_eq!(merged.messages.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
            merged.check().unwrap();
        }
        let ended = talk(0, &[("a", None, "question", false), ("b", Some("a"), "half of it", false)]);
        assert!(!merge(one, ended).messages["b"].live);
    }

    #[test]
    fn what_is_not_of_one_piece_is_refused() {
        let good = talk(1, &[("a", None, "x", false), ("b", Some("a"), "y", false)]);
        good.check().unwrap();
        type Spoil = fn(&mut Conversation);
        let spoils: [Spoil; 5] = [
            |talk| talk.leaf = Some("z".to_owned()),
            |talk| talk.messages.get_mut("a").unwrap().parent = Some("z".to_owned()),
            |talk| talk.messages.get_mut("a").unwrap().id = "z".to_owned(),
            |talk| talk.title = "x".repeat(MAX_TITLE + 1),
            |talk| talk.model = "x".repeat(MAX_NAME + 1),
        ];
        for (case, spoil) in spoils.into_iter().enumerate() {
            let mut talk = good.clone();
            spoil(&mut talk);
            assert!(talk.check().is_err(), "{case}");
        }
    }

    #[test]
    fn search() {
        let mut talk =
            talk(1, &[("a", None, &format!("{} Hash\n  TABLES {}", "x".repeat(60), "y".repeat(60)), false)]);
        talk.title = "Maps".to_owned();
        let file = Attachment { name: "notes.md".to_owned(), text: "İstanbul straße".to_owned() };
        talk.messages.get_mut("a").unwrap().attachments.push(file);
        for (query, found) in [
            ("hash maps", Some(Some(format!("…{} Hash TABLES {}…", "x".repeat(39), "y".repeat(30))))),
            ("maps", Some(None)),
            ("maps trees", None),
            ("notes.md", Some(Some("notes.md".to_owned()))),
            ("straße", Some(Some("İstanbul straße".to_owned()))),
        ] {
            let words: Vec<String> = query.split_whitespace().map(str::to_owned).collect();
            assert_eq!(talk.search(&words), found, "{query}");
        }
    }
}
