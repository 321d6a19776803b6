//! The big parts of a `tokenizer.json`, read in one pass: vocabulary, scores and merges go into arenas as they come, so
//! that half a million strings cost no allocation each.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The file. What is small stays a [`Value`], to be interpreted with its place in mind.
#[derive(Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) post_processor: Value,
    #[serde(default)]
    pub(super) decoder: Value,
    pub(super) model: Model,
}

/// A token that was added to the model's vocabulary, or that is matched in text before it.
#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    pub(super) normalized: Option<bool>,
    #[serde(default)]
    pub(super) special: bool,
}

/// The model with its settings; which of them count depends on `type`.
#[derive(Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) vocab: Words,
    #[serde(default)]
    pub(super) merges: Option<Merges>,
    pub(super) unk_token: Option<String>,
    pub(super) unk_id: Option<u32>,
    pub(super) byte_fallback: Option<bool>,
    pub(super) fuse_unk: Option<bool>,
    pub(super) ignore_merges: Option<bool>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    pub(super) max_input_chars_per_word: Option<usize>,
}

/// One text of a vocabulary: where it lies in the arena.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) id: u32,
}

/// A vocabulary: `{"text": id, ..}`, or `[["text", score], ..]` in the order of ids.
#[derive(Default)]
pub(super) struct Words {
    pub(super) arena: String,
    pub(super) words: Vec<Word>,
    /// By place in the list; empty where the file has no scores.
    pub(super) scores: Vec<f32>,
}

impl Words {
    /// Text and id of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> + '_ {
        self.words.iter().map(|word| (&self.arena[word.start as usize..word.end as usize], word.id))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts to ids, or a list of texts with scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
        let mut out = Words::default();
        while let Some((start, end)) = map.next_key_seed(Push(&mut out.arena))? {
            let id = map.next_value()?;
            out.words.push(Word { start, end, id });
        }
        Ok(out)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
        let mut out = Words::default();
        while seq.next_element_seed(Scored(&mut out))?.is_some() {}
        Ok(out)
    }
}

/// Appends a string to an arena and gives its place there.
struct Push<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Push<'_> {
    type Value = (u32, u32);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Push<'_> {
    type Value = (u32, u32);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        push(self.0, text)
    }
}

fn push<E: de::Error>(arena: &mut String, text: &str) -> Result<(u32, u32), E> {
    let start = arena.len();
    arena.push_str(text);
    let end = u32::try_from(arena.len()).map_err(|_| E::custom("texts are over 4 GiB together"))?;
    Ok((start as u32, end))
}

/// Reads `["text", score]`.
struct Scored<'a>(&'a mut Words);

impl<'de> DeserializeSeed<'de> for Scored<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Scored<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text with its score")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Words { arena, words, scores } = self.0;
        let (start, end) =
            seq.next_element_seed(Push(arena))?.ok_or_else(|| A::Error::invalid_length(0, &self_name()))?;
        let score: f64 = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self_name()))?;
        let id = u32::try_from(words.len()).map_err(|_| A::Error::custom("too many texts"))?;
        words.push(Word { start, end, id });
        scores.push(score as f32);
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

fn self_name() -> &'static str {
    "a text with its score"
}

/// Merges, best first: `"left right"`, or `["left", "right"]`.
#[derive(Default)]
pub(super) struct Merges {
    pub(super) arena: String,
    /// Start, middle and end of each.
    pub(super) places: Vec<(u32, u32, u32)>,
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MergesVisitor)
    }
}

struct MergesVisitor;

impl<'de> Visitor<'de> for MergesVisitor {
    type Value = Merges;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merges, A::Error> {
        let mut out = Merges::default();
        while let Some(place) = seq.next_element_seed(MergeSeed(&mut out.arena))? {
            out.places.push(place);
        }
        Ok(out)
    }
}

struct MergeSeed<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for MergeSeed<'_> {
    type Value = (u32, u32, u32);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MergeSeed<'_> {
    type Value = (u32, u32, u32);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge of two texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let (left, right) = text
            .split_once(' ')
            .filter(|(_, right)| !right.contains(' '))
            .ok_or_else(|| E::custom(format!("the merge {text:?} is not two texts with a space between")))?;
        let (start, middle) = push(self.0, left)?;
        let (_, end) = push(self.0, right)?;
        Ok((start, middle, end))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let missing = |n| A::Error::invalid_length(n, &"a merge of two texts");
        let (start, middle) = seq.next_element_seed(Push(self.0))?.ok_or_else(|| missing(0))?;
        let (_, end) = seq.next_element_seed(Push(self.0))?.ok_or_else(|| missing(1))?;
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(missing(3));
        }
        Ok((start, middle, end))
    }
}

impl Merges {
    /// Left and right part of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.places.iter().map(|&(start, middle, end)| {
            (&self.arena[start as usize..middle as usize], &self.arena[middle as usize..end as usize])
        })
    }
}
