//! `tokenizer.json`, the tokenizer file of a Hugging Face model folder, with its `tokenizer_config.json`.
//!
//! Reading one gives a [`VocabSpec`]: for [`Tokenizer::new`](crate::Tokenizer::new) with the file's own [`Rules`], or in the
//! names and spellings of a GGUF where those say the same. Format: the serde types of the `tokenizers` library. Left out:
//! truncation and padding, which are the caller's; dropout, which is for training.

mod config;
mod file;
mod names;
mod parts;
mod write;

use std::collections::HashMap;
use std::sync::OnceLock;

pub use config::chat_template_in;
pub use write::{FolderFiles, folder_files};

use config::Config;
use file::{File, Merges, Words};
use names::Names;
use parts::At;

use crate::TextError;
use crate::pre::steps::Step;
use crate::rules::{Added, ModelRules, Rules};
use crate::spec::{SpecialIds, TokenKind, VocabSpec};
use crate::spm;
use crate::template::{Slot, Template};
use crate::vocab::Vocab;
use crate::wordpiece::MAX_WORD_CHARS;

/// Ids may leave gaps, but the file must justify the table that they need.
const MAX_GAPS: usize = 1 << 16;

const NO_SCORE: f32 = -1000.0;

/// WordPiece takes time by the square of a word; all published models split up words of up to 100 characters.
const MOST_WORD_CHARS: usize = 256;

/// A `tokenizer.json` that was read.
///
/// ```
/// # use whit_text::{EncodeOptions, Tokenizer, TokenizerJson};
/// let json = br#"{
///     "added_tokens": [{"id": 0, "content": "[UNK]", "special": true}],
///     "pre_tokenizer": {"type": "Whitespace"},
///     "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "hello": 1, "world": 2}, "unk_token": "[UNK]"}
/// }"#;
/// let file = TokenizerJson::read(json, None)?;
/// let tokenizer = Tokenizer::new(file.spec())?;
/// assert_eq!(tokenizer.encode("hello big world", EncodeOptions::TEXT)?, [1, 0, 2]);
/// # Ok::<(), whit_text::TextError>(())
/// ```
pub struct TokenizerJson {
    arena: String,
    /// Where the text of each id lies in the arena; empty for an id without a token.
    texts: Vec<(u32, u32)>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
    merges: Merges,
    rules: Rules,
    names: Names,
    special: SpecialIds,
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
    strips_left: Vec<u32>,
    strips_right: Vec<u32>,
    chat_template: Option<String>,
    gguf: OnceLock<InGguf>,
}

/// Texts and scores as GGUF files have them.
struct InGguf {
    texts: Vec<String>,
    scores: Vec<f32>,
}

impl std::fmt::Debug for TokenizerJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenizerJson")
            .field("n_tokens", &self.texts.len())
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

fn broken(what: impl Into<String>) -> TextError {
    TextError::BrokenTokenizerJson { file: "tokenizer.json", what: what.into() }
}

impl TokenizerJson {
    /// Reads the bytes of a `tokenizer.json`, and those of a `tokenizer_config.json` where there is one: that says which
    /// tokens are BOS, EOS and so on, often has the chat template, and sometimes tokens that the other file lacks.
    ///
    /// # Errors
    /// What is not valid JSON or not of this format, and what this crate does not have, each with its place.
    pub fn read(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Self, TextError> {
        let mut file: File = serde_json::from_slice(tokenizer_json).map_err(|e| broken(e.to_string()))?;
        let mut config = tokenizer_config.map_or_else(|| Ok(Config::default()), Config::read)?;
        config.add_tokens(&file.model.vocab, &mut file.added_tokens)?;
        let steps = parts::pre_tokenizer(&At::new(&file.pre_tokenizer, "pre_tokenizer"))?;
        let spells = steps.iter().any(|step| matches!(step, Step::Spell));
        let (spelling, space_prefix) = parts::decoder(&At::new(&file.decoder, "decoder"), spells)?;
        let template = parts::post_processor(&At::new(&file.post_processor, "post_processor"))?;
        let normal = parts::normalizer(&At::new(&file.normalizer, "normalizer"))?;
        let model = model_rules(&file)?;

        let mut words = file.model.vocab;
        let mut texts = places(&words, &file.added_tokens)?;
        for added in &file.added_tokens {
            let start = words.arena.len() as u32;
            words.arena.push_str(&added.content);
            let end =
                u32::try_from(words.arena.len()).map_err(|_| broken("texts are over 4 GiB together"))?;
            texts[added.id as usize] = (start, end);
        }
        let arena = words.arena;
        let text = |id: usize| &arena[texts[id].0 as usize..texts[id].1 as usize];

        let unk_token = file.model.unk_token.as_deref();
        let mut wanted: HashMap<&str, Option<u32>> =
            config.tokens().into_iter().chain([unk_token]).flatten().map(|text| (text, None)).collect();
        for id in 0..texts.len() {
            if let Some(found @ None) = wanted.get_mut(text(id)) {
                *found = Some(id as u32);
            }
        }
        let find = |token: Option<&str>| token.and_then(|token| wanted.get(token).copied().flatten());
        let [bos, eos, unk, sep, pad, mask] = config.tokens().map(find);
        let model_unk = match file.model.unk_id {
            Some(id) if (id as usize) < texts.len() => Some(id),
            Some(id) => {
                return Err(broken(format!("`model.unk_id` is {id}, and there are {} tokens", texts.len())));
            }
            None => find(unk_token),
        };
        let mut special =
            SpecialIds { bos, eos, unk: unk.or(model_unk), sep, pad, mask, ..SpecialIds::default() };
        let is_wordpiece = matches!(model, ModelRules::WordPiece { .. });
        let frame = frame(template.as_ref(), &config, is_wordpiece, &mut special);

        let byte_fallback = matches!(
            model,
            ModelRules::Bpe { byte_fallback: true, .. } | ModelRules::Unigram { byte_fallback: true }
        );
        let mut kinds: Vec<i32> = (0..texts.len())
            .map(|id| match text(id) {
                "" => TokenKind::Unused,
                text if byte_fallback && is_byte(text) => TokenKind::Byte,
                _ => TokenKind::Normal,
            } as i32)
            .collect();
        let (mut added, mut strips_left, mut strips_right) = (Vec::new(), Vec::new(), Vec::new());
        for token in file.added_tokens.iter().filter(|token| !token.content.is_empty()) {
            let kind = if token.special { TokenKind::Control } else { TokenKind::UserDefined };
            kinds[token.id as usize] = kind as i32;
            strips_left.extend(Some(token.id).filter(|_| token.lstrip));
            strips_right.extend(Some(token.id).filter(|_| token.rstrip));
            let normalized = token.normalized.unwrap_or(!token.special);
            added.push(Added { id: token.id, normalized, single_word: token.single_word });
        }
        // What stands for unknown text must not steer the model: where it does, such text is dropped.
        let model_unk = model_unk.filter(|&id| Some(id) != special.bos && Some(id) != special.eos);
        // One that was not added is text as well: some files name any token, for texts never lack one.
        if let Some(id) = model_unk.filter(|&id| added.iter().any(|added| added.id == id)) {
            kinds[id as usize] = TokenKind::Unknown as i32;
        }
        let rules = Rules { normal, steps, model, unk: model_unk, template, added, spelling, space_prefix };
        Ok(Self {
            scores: scores(&words.scores, texts.len()),
            arena,
            texts,
            kinds,
            merges: file.model.merges.unwrap_or_default(),
            names: Names::new(&rules),
            rules,
            special,
            add_bos: frame.0,
            add_eos: frame.1,
            add_sep: frame.2,
            strips_left,
            strips_right,
            chat_template: config.chat_template().map(str::to_owned),
            gguf: OnceLock::new(),
        })
    }

    /// The vocabulary for [`Tokenizer::new`](crate::Tokenizer::new), which follows the file to the letter. An id without a
    /// token has an empty text and is of the kind [`TokenKind::Unused`].
    pub fn spec(&self) -> VocabSpec<'_> {
        let texts = (0..self.texts.len()).map(|id| self.text(id).as_bytes());
        let mut spec = VocabSpec::new(self.names.model, texts);
        spec.pre = self.names.pre;
        spec.scores.clone_from(&self.scores);
        spec.kinds.clone_from(&self.kinds);
        spec.merges = Box::new(self.merges.iter().map(|(left, right)| (left.as_bytes(), right.as_bytes())));
        spec.special = self.special.clone();
        spec.add_bos = Some(self.add_bos);
        spec.add_eos = Some(self.add_eos);
        spec.add_sep = Some(self.add_sep);
        spec.add_space_prefix = self.names.add_space_prefix;
        spec.remove_extra_whitespaces = self.names.remove_extra_whitespaces;
        spec.lowercase = self.names.lowercase;
        spec.strip_accents = self.names.strip_accents;
        spec.ignore_merges = match self.rules.model {
            ModelRules::Bpe { ignore_merges, .. } => Some(ignore_merges),
            _ => None,
        };
        spec.strips_left.clone_from(&self.strips_left);
        spec.strips_right.clone_from(&self.strips_right);
        spec.rules = Some(&self.rules);
        spec
    }

    /// The vocabulary as a GGUF carries it: by names and flags alone, with texts and scores spelled as the `model` it names
    /// wants them.
    ///
    /// # Errors
    /// [`TextError::NotInGguf`] if no names say what the file says.
    pub fn gguf_spec(&self) -> Result<VocabSpec<'_>, TextError> {
        if let Some(what) = &self.names.differs {
            return Err(TextError::NotInGguf { what: what.clone() });
        }
        let form = match self.gguf.get() {
            Some(form) => form,
            None => {
                let form = self.in_gguf()?;
                self.gguf.get_or_init(|| form)
            }
        };
        let mut spec = self.spec();
        spec.rules = None;
        spec.tokens = Box::new(form.texts.iter().map(|text| text.as_bytes()));
        spec.scores.clone_from(&form.scores);
        spec.charsmap = self.rules.normal.iter().find_map(|step| match step {
            crate::normalize::Normal::Charsmap(map) => Some(map.to_bytes().into()),
            _ => None,
        });
        Ok(spec)
    }

    /// The chat template in `tokenizer_config.json`; of several the one called `default`.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Number of ids, those without a token included.
    pub fn n_tokens(&self) -> usize {
        self.texts.len()
    }

    fn text(&self, id: usize) -> &str {
        let (start, end) = self.texts[id];
        &self.arena[start as usize..end as usize]
    }

    fn in_gguf(&self) -> Result<InGguf, TextError> {
        let ids = 0..self.texts.len();
        let plain = |id: usize| self.kinds[id] == TokenKind::Normal as i32;
        let mut scores = self.scores.clone();
        let texts = match &self.rules.model {
            ModelRules::WordPiece { prefix, .. } => ids
                .map(|id| match (self.text(id), self.text(id).strip_prefix(prefix.as_str())) {
                    (text, _) if !plain(id) || text.starts_with('[') && text.ends_with(']') => {
                        text.to_owned()
                    }
                    (_, Some(rest)) => rest.to_owned(),
                    (text, None) => format!("{}{text}", spm::SPACE),
                })
                .collect(),
            ModelRules::Bpe { byte_fallback: true, .. } => {
                // Whose merges are listed has no use for scores; its converter writes these.
                scores = match self.names.model {
                    "gemma4" => vec![NO_SCORE; self.texts.len()],
                    _ => self.scores_by_merges()?,
                };
                // Spaces in tokens that are matched before all else are looked for in text, where they are spaces.
                let user_defined = |id: usize| self.kinds[id] == TokenKind::UserDefined as i32;
                ids.map(|id| match self.text(id) {
                    text if user_defined(id) => text.replace(spm::SPACE, " "),
                    text => text.to_owned(),
                })
                .collect()
            }
            _ => ids.map(|id| self.text(id).to_owned()).collect(),
        };
        Ok(InGguf { texts, scores })
    }

    /// SentencePiece merges by score: the later the merge that makes a token, the lower.
    fn scores_by_merges(&self) -> Result<Vec<f32>, TextError> {
        let texts = (0..self.texts.len()).map(|id| self.text(id).as_bytes());
        let vocab = Vocab::new(texts, Vec::new(), &self.kinds)?;
        let mut scores = vec![f32::NAN; self.texts.len()];
        let mut made = Vec::new();
        for (rank, (left, right)) in self.merges.iter().enumerate() {
            made.clear();
            made.extend_from_slice(left.as_bytes());
            made.extend_from_slice(right.as_bytes());
            if let Some(id) = vocab.find_plain(&made)
                && scores[id as usize].is_nan()
            {
                scores[id as usize] = -(rank as f32);
            }
        }
        // What no merge makes comes last.
        let last = -(self.merges.places.len() as f32);
        scores.iter_mut().filter(|score| score.is_nan()).for_each(|score| *score = last);
        Ok(scores)
    }
}

/// Where the text of each id lies.
fn places(words: &Words, added: &[file::AddedToken]) -> Result<Vec<(u32, u32)>, TextError> {
    let ids = words.words.iter().map(|word| word.id).chain(added.iter().map(|token| token.id));
    let n_words = words.words.len() + added.len();
    let n = ids.max().map_or(0, |id| id as usize + 1);
    if n == 0 || n > n_words.saturating_mul(4).saturating_add(MAX_GAPS) {
        return Err(broken(format!("it has {n_words} tokens, with ids below {n}")));
    }
    let mut texts = vec![(0, 0); n];
    for word in &words.words {
        texts[word.id as usize] = (word.start, word.end);
    }
    Ok(texts)
}

/// A score for every id, or none at all.
fn scores(listed: &[f32], n: usize) -> Vec<f32> {
    if listed.is_empty() {
        return Vec::new();
    }
    let mut scores = listed.to_vec();
    scores.resize(n, 0.0);
    scores
}

fn model_rules(file: &File) -> Result<ModelRules, TextError> {
    let model = &file.model;
    let has_scores = !model.vocab.scores.is_empty();
    // Older files do not say.
    let kind = model.kind.as_deref().unwrap_or(match () {
        () if model.merges.is_some() => "BPE",
        () if has_scores => "Unigram",
        () if model.continuing_subword_prefix.is_some() => "WordPiece",
        () => "WordLevel",
    });
    let byte_fallback = model.byte_fallback.unwrap_or(false);
    Ok(match kind {
        "BPE" => ModelRules::Bpe {
            byte_fallback,
            fuse_unk: model.fuse_unk.unwrap_or(false),
            ignore_merges: model.ignore_merges.unwrap_or(false),
            prefix: model.continuing_subword_prefix.clone().unwrap_or_default(),
            suffix: model.end_of_word_suffix.clone().unwrap_or_default(),
        },
        "Unigram" if has_scores => ModelRules::Unigram { byte_fallback },
        "Unigram" => return Err(broken("`model.vocab` should be a list of texts with scores")),
        "WordPiece" if model.max_input_chars_per_word > Some(MOST_WORD_CHARS) => {
            return Err(TextError::UnsupportedTokenizer {
                place: "model.max_input_chars_per_word".to_owned(),
                what: format!("more than {MOST_WORD_CHARS}"),
            });
        }
        "WordPiece" => ModelRules::WordPiece {
            prefix: model.continuing_subword_prefix.clone().unwrap_or_else(|| "##".to_owned()),
            max_chars: model.max_input_chars_per_word.unwrap_or(MAX_WORD_CHARS),
        },
        "WordLevel" => ModelRules::WordLevel,
        other => {
            return Err(TextError::UnsupportedTokenizer {
                place: "model.type".to_owned(),
                what: other.to_owned(),
            });
        }
    })
}

/// Whether BOS, EOS and SEP are put around a text. Tokens of the frame that the configuration does not name are named here.
fn frame(
    template: Option<&Template>,
    config: &Config,
    is_wordpiece: bool,
    special: &mut SpecialIds,
) -> (bool, bool, bool) {
    let Some(template) = template else {
        return (config.add_bos_token == Some(true), config.add_eos_token == Some(true), false);
    };
    let (first, last) = (template.opening().next(), template.closing().last());
    if let Some(first) = first {
        special.bos.get_or_insert(first);
    }
    if let Some(last) = last
        && special.sep.or(special.eos).is_none()
    {
        // BERT ends a text with what parts two.
        *(if is_wordpiece { &mut special.sep } else { &mut special.eos }) = Some(last);
    }
    let closes_with = |id: Option<u32>| last.is_some() && last == id;
    let add_eos = closes_with(special.eos);
    // Two tokens between the texts of a pair: the first ends a text, the second parts them.
    let between = template.pair.iter().skip_while(|part| part.slot != Slot::A);
    let n_between = between.skip(1).take_while(|part| matches!(part.slot, Slot::Token(_))).count();
    let add_sep = if add_eos { n_between > 1 } else { closes_with(special.sep) };
    (first.is_some() && first == special.bos, add_eos, add_sep)
}

/// Whether the text is `<0x0A>` or alike.
fn is_byte(text: &str) -> bool {
    text.strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}
