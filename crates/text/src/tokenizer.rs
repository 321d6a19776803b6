//! The tokenizer: text to ids and back.
//!
//! Ties the algorithms together: special tokens first, then the family's own splitting and merging. Building one costs
//! milliseconds (the tables are arenas, not maps of strings); it is shared by reference between threads.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError, TryLockError};

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::TextError;
use crate::bpe::Merges;
use crate::byte_bpe::ByteBpe;
use crate::byte_level;
use crate::char_bpe::CharBpe;
use crate::charsmap::Charsmap;
use crate::normalize::Bert;
use crate::pre::PreTokenizer;
use crate::ruled::Ruled;
use crate::rules::Spelling;
use crate::spec::{SpecialIds, TokenKind, VocabSpec};
use crate::special::{Fragment, Special};
use crate::spm::{self, Spm};
use crate::template::{Slot, Template};
use crate::unigram::Unigram;
use crate::vocab::{Vocab, broken};
use crate::wordpiece::{self, MAX_WORD_CHARS, WordPiece};
use crate::work::Work;

/// Spellings of tokens at which generation ends whether or not the file says so, as in llama.cpp's list. A spelling counts
/// only where the file marks it as a control or user-defined token.
const END_OF_GENERATION: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];
/// The first of these that exists ends a turn, where the file names no such token.
const END_OF_TURN: [&str; 6] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<turn|>", "<end_of_utterance>"];

/// What to do with special tokens while encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add BOS, EOS or SEP as the model wants them. What a text already begins with is not doubled.
    pub add_special: bool,
    /// Read control tokens spelled out in the text as what they are. Off for anything that a user wrote.
    pub parse_special: bool,
}

impl EncodeOptions {
    /// A text of its own, from anywhere: special tokens are added, none is read from it.
    pub const TEXT: Self = Self { add_special: true, parse_special: false };
    /// A piece of text: nothing added, nothing read.
    pub const PIECE: Self = Self { add_special: false, parse_special: false };
    /// A trusted prompt that spells its control tokens out.
    pub const PROMPT: Self = Self { add_special: true, parse_special: true };
}

/// How ids become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Leave control and unknown tokens out.
    pub skip_special: bool,
    /// Drop the space that the tokenizer itself put before the text (SentencePiece). On for a whole text, off for the
    /// continuation of one.
    pub strip_space_prefix: bool,
}

impl DecodeOptions {
    /// A whole text, as a person reads it.
    pub const TEXT: Self = Self { skip_special: true, strip_space_prefix: true };
    /// The continuation of a text.
    pub const CONTINUATION: Self = Self { skip_special: true, strip_space_prefix: false };
    /// Everything, control tokens spelled out.
    pub const RAW: Self = Self { skip_special: false, strip_space_prefix: false };
}

enum Model {
    /// BPE over bytes, within the words of a pre-tokenizer.
    ByteBpe {
        bytes: ByteBpe,
        pre: PreTokenizer,
    },
    /// BPE over characters with `▁` for spaces and byte fallback.
    CharBpe(CharBpe),
    /// SentencePiece BPE by scores.
    Spm {
        spm: Spm,
        joined: Box<[bool; 256]>,
    },
    /// SentencePiece unigram.
    Unigram {
        unigram: Unigram,
        charsmap: Option<Charsmap>,
        joined: Box<[bool; 256]>,
    },
    WordPiece {
        wordpiece: WordPiece,
        bert: Bert,
    },
    /// As a `tokenizer.json` says.
    Ruled(Box<Ruled>),
}

/// Where a piece of text stands.
#[derive(Clone, Copy)]
struct Place {
    /// Nothing, or a special token, is before it.
    after_special: bool,
    /// The text begins with it.
    at_start: bool,
}

/// A model's tokenizer. See the crate's front page for an example.
pub struct Tokenizer {
    vocab: Vocab,
    model: Model,
    special: Special,
    ids: SpecialIds,
    template: Template,
    spelling: Spelling,
    /// A text's first token carries a space that is not the text's own.
    space_prefix: bool,
    add_space_prefix: bool,
    remove_extra_whitespaces: bool,
    /// Words seen lately. A second thread that encodes at the same time works without.
    work: Mutex<Work>,
}

impl Place {
    /// After other text.
    const WITHIN: Self = Self { after_special: false, at_start: false };
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("n_tokens", &self.vocab.len())
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tables.
    pub fn new(spec: VocabSpec<'_>) -> Result<Self, TextError> {
        let mut vocab = Vocab::new(spec.tokens, spec.scores, &spec.kinds)?;
        let n_tokens = vocab.len();
        let mut ids = spec.special;
        if spec.rules.is_none() {
            ids.set_usual(spec.model);
        }
        let SpecialIds { bos, eos, eot, eom, unk, sep, pad, mask, .. } = &mut ids;
        for id in [bos, eos, eot, eom, unk, sep, pad, mask] {
            *id = id.filter(|&id| (id as usize) < n_tokens);
        }
        find_ends(&mut vocab, &mut ids);

        // For what text cannot be spelled with; not if it would steer the model.
        let unk = ids.unk.filter(|&id| vocab.kind(id) != TokenKind::Control);
        let strips = (spec.strips_left.as_slice(), spec.strips_right.as_slice());
        if let Some(rules) = spec.rules {
            let in_range = |id: u32| (id as usize) < n_tokens;
            let named = rules.added.iter().map(|added| added.id).chain(rules.unk);
            if !named.chain(rules.template.iter().flat_map(Template::tokens)).all(in_range) {
                return Err(broken("its rules name tokens that it does not have"));
            }
            let model = Model::Ruled(Box::new(Ruled::new(rules, &vocab, spec.merges, strips)?));
            let flagged = |flag: Option<bool>, id: Option<u32>| id.filter(|_| flag == Some(true));
            let template = rules.template.clone().unwrap_or_else(|| {
                let close = flagged(spec.add_eos, ids.eos).or(flagged(spec.add_sep, ids.sep));
                Template::new(flagged(spec.add_bos, ids.bos), None, close, 1)
            });
            return Ok(Self {
                model,
                special: Special::in_text(&vocab, rules, strips.0, strips.1),
                template,
                spelling: rules.spelling.clone(),
                space_prefix: rules.space_prefix,
                add_space_prefix: false,
                remove_extra_whitespaces: false,
                vocab,
                ids,
                work: Mutex::new(Work::new()),
            });
        }
        let add_bos;
        let (mut add_sep, mut add_eos, mut add_space_prefix) = (false, false, false);
        let model = match spec.model {
            "gpt2" => {
                let pre = PreTokenizer::by_name(spec.pre)?;
                let ignore_merges = spec.ignore_merges.unwrap_or(pre.ignore_merges);
                add_bos = pre.add_bos;
                add_sep = pre.add_sep;
                Model::ByteBpe { bytes: ByteBpe::new(&vocab, spec.merges, ignore_merges)?, pre }
            }
            "gemma4" => {
                add_bos = true;
                let merges = Merges::new(&vocab, spec.merges, 0)?;
                Model::CharBpe(CharBpe::new(&vocab, merges, unk, false, true, false, Default::default()))
            }
            "llama" => {
                add_bos = true;
                add_space_prefix = true;
                Model::Spm { spm: Spm::new(&vocab, unk), joined: spm::bytes_before_space(&vocab) }
            }
            "t5" => {
                add_bos = false;
                add_eos = true;
                add_space_prefix = true;
                let charsmap = spec.charsmap.filter(|bytes| !bytes.is_empty());
                Model::Unigram {
                    unigram: Unigram::new(&vocab, unk, true),
                    charsmap: charsmap.map(|bytes| Charsmap::new(&bytes)).transpose()?,
                    joined: spm::bytes_before_space(&vocab),
                }
            }
            "bert" => {
                add_bos = true;
                add_sep = true;
                let lowercase = spec.lowercase.unwrap_or(true);
                Model::WordPiece {
                    wordpiece: WordPiece::new(&vocab, spm::SPACE, "", MAX_WORD_CHARS, ids.unk),
                    bert: Bert {
                        clean_text: true,
                        handle_chinese_chars: true,
                        strip_accents: spec.strip_accents.unwrap_or(lowercase),
                        lowercase,
                    },
                }
            }
            other => return Err(TextError::UnknownModel { model: other.to_owned() }),
        };
        let special = Special::new(&vocab, strips.0, strips.1);
        let add_space_prefix = spec.add_space_prefix.unwrap_or(add_space_prefix);
        let bos = ids.bos.filter(|_| spec.add_bos.unwrap_or(add_bos));
        let eos = ids.eos.filter(|_| spec.add_eos.unwrap_or(add_eos));
        let sep = ids.sep.filter(|_| spec.add_sep.unwrap_or(add_sep));
        let is_bert = matches!(model, Model::WordPiece { .. });
        let template = Template::usual(is_bert, bos, sep, eos);
        let spelling = match &model {
            Model::ByteBpe { .. } => Spelling::Bytes,
            _ => Spelling::Spaces,
        };
        Ok(Self {
            model,
            special,
            template,
            spelling,
            space_prefix: add_space_prefix || is_bert,
            add_space_prefix,
            remove_extra_whitespaces: spec.remove_extra_whitespaces.unwrap_or(false),
            vocab,
            ids,
            work: Mutex::new(Work::new()),
        })
    }

    /// Encodes `text`.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TextError> {
        self.encode_with(text, options, |tokenizer, part, place, work, out| {
            tokenizer.encode_plain(part, place, work, out)
        })
    }

    /// Encodes two texts that a model judges together, as its frame for pairs has it: ids, and the token type of each.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pair(
        &self,
        a: &str,
        b: &str,
        options: EncodeOptions,
    ) -> Result<(Vec<u32>, Vec<u32>), TextError> {
        let piece = EncodeOptions { add_special: false, ..options };
        let (a, b) = (self.encode(a, piece)?, self.encode(b, piece)?);
        Ok(if options.add_special {
            self.join_pair(&a, &b)
        } else {
            ([a.as_slice(), &b].concat(), [vec![0; a.len()], vec![1; b.len()]].concat())
        })
    }

    /// Puts two texts that are tokens already (and may have been cut short) into the model's frame for pairs: ids, and the
    /// token type of each.
    pub fn join_pair(&self, a: &[u32], b: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let (mut ids, mut kinds) = (Vec::with_capacity(a.len() + b.len() + 4), Vec::new());
        for part in &self.template.pair {
            match &part.slot {
                Slot::Token(id) => ids.push(*id),
                Slot::A => ids.extend_from_slice(a),
                Slot::B => ids.extend_from_slice(b),
            }
            kinds.resize(ids.len(), part.kind);
        }
        (ids, kinds)
    }

    /// Encodes a prompt in which `mark` stands after the first character of spellings that are text; `lift` takes the
    /// marks away again.
    pub(crate) fn encode_guarded(
        &self,
        text: &str,
        mark: char,
        lift: impl for<'t> Fn(&'t str) -> Cow<'t, str>,
    ) -> Result<Vec<u32>, TextError> {
        let mut out =
            self.encode_with(text, EncodeOptions::PROMPT, |tokenizer, part, place, work, out| {
                if !part.contains(mark) {
                    return tokenizer.encode_plain(part, place, work, out);
                }
                let part = lift(part);
                let mut place = place;
                // A mark may have parted a user-defined token as well; those are matched in any text.
                tokenizer.special.split(&tokenizer.vocab, &part, false, |fragment| match fragment {
                    Fragment::Token(id) => {
                        out.push(id);
                        place = Place { after_special: true, at_start: false };
                        Ok(())
                    }
                    Fragment::Text(part) => {
                        let here = std::mem::replace(&mut place, Place::WITHIN);
                        tokenizer.encode_plain(part, here, work, out)
                    }
                })
            })?;
        out.truncate(out.len() - self.template.closing().count());
        Ok(out)
    }

    /// The frame of every encoding: special tokens around and between, `plain` for the text between them.
    fn encode_with(
        &self,
        text: &str,
        options: EncodeOptions,
        mut plain: impl FnMut(&Self, &str, Place, &mut Work, &mut Vec<u32>) -> Result<(), TextError>,
    ) -> Result<Vec<u32>, TextError> {
        let mut fresh;
        let mut shared;
        let work: &mut Work = match self.work.try_lock() {
            Ok(guard) => {
                shared = guard;
                &mut shared
            }
            Err(TryLockError::Poisoned(poisoned)) => {
                shared = PoisonError::into_inner(poisoned);
                &mut shared
            }
            Err(TryLockError::WouldBlock) => {
                fresh = Work::new();
                &mut fresh
            }
        };
        let mut out = Vec::with_capacity(text.len() / 4 + 8);
        if options.add_special {
            out.extend(self.template.opening());
        }
        let n_opening = out.len();
        let mut place = Place { after_special: true, at_start: true };
        self.special.split(&self.vocab, text, options.parse_special, |fragment| match fragment {
            Fragment::Token(id) => {
                out.push(id);
                place = Place { after_special: true, at_start: false };
                Ok(())
            }
            Fragment::Text(part) => {
                let here = std::mem::replace(&mut place, Place::WITHIN);
                plain(self, part, here, work, &mut out)
            }
        })?;
        let (opening, rest) = out.split_at(n_opening);
        if rest.starts_with(opening) {
            out.drain(..n_opening);
        }
        if options.add_special {
            out.extend(self.template.closing());
        }
        Ok(out)
    }

    /// Appends the tokens of a text without special tokens in it.
    fn encode_plain(
        &self,
        text: &str,
        place: Place,
        work: &mut Work,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let vocab = &self.vocab;
        match &self.model {
            Model::Ruled(ruled) => return ruled.encode(vocab, text, place.at_start, work, out),
            Model::ByteBpe { bytes, pre } => {
                return pre.split(&composed(text, pre.nfc), |word| {
                    work.cached(word.as_bytes(), out, |work, out| {
                        let Work { symbols, spelled, bpe, .. } = work;
                        bytes.encode(vocab, word, (symbols, spelled), bpe, out);
                    });
                });
            }
            Model::CharBpe(chars) => {
                let escaped = text.replace(' ', spm::SPACE);
                split_newlines(&escaped, |line| {
                    spm::split_words(line, &chars.joined, |word| {
                        work.cached(word.as_bytes(), out, |work, out| {
                            if word.starts_with('\n')
                                && let Some(id) = vocab.find_plain(word.as_bytes())
                            {
                                out.push(id);
                                return;
                            }
                            chars.encode(vocab, word, &mut work.symbols, &mut work.bpe, out);
                        });
                    });
                });
            }
            Model::Spm { spm, joined } => {
                let escaped = self.spm_text(text, place.after_special);
                spm::split_words(&escaped, joined, |word| {
                    work.cached(word.as_bytes(), out, |work, out| {
                        spm.encode(vocab, word, &mut work.spm, out);
                    });
                });
            }
            Model::Unigram { unigram, charsmap, joined } => {
                let mapped =
                    charsmap.as_ref().map_or(Cow::Borrowed(text), |map| Cow::Owned(map.by_longest(text)));
                let escaped = self.spm_text(&mapped, place.after_special);
                spm::split_words(&escaped, joined, |word| {
                    work.cached(word.as_bytes(), out, |work, out| {
                        unigram.encode(vocab, word, &mut work.unigram, out);
                    });
                });
            }
            Model::WordPiece { wordpiece, bert } => wordpiece::split_words(&bert.apply(text), |word| {
                work.cached(word.as_bytes(), out, |_, out| wordpiece.encode_word(vocab, word, out));
            }),
        }
        Ok(())
    }

    /// `text` with spaces written `▁`, one before it where the model wants that.
    fn spm_text(&self, text: &str, after_special: bool) -> String {
        let mut escaped = String::with_capacity(text.len() + text.len() / 2 + 3);
        if self.add_space_prefix && after_special {
            escaped.push_str(spm::SPACE);
        }
        let mut skip_space = self.remove_extra_whitespaces;
        for c in text.chars() {
            if c != ' ' {
                escaped.push(c);
                skip_space = false;
            } else if !skip_space {
                escaped.push_str(spm::SPACE);
                skip_space = self.remove_extra_whitespaces;
            }
        }
        if self.remove_extra_whitespaces && escaped.ends_with(spm::SPACE) {
            escaped.truncate(escaped.len() - spm::SPACE.len());
        }
        escaped
    }

    /// Appends the bytes for which a token stands: for a control token its spelling.
    pub fn token_bytes(&self, id: u32, out: &mut Vec<u8>) -> Result<(), TextError> {
        self.check(id)?;
        let text = self.vocab.text(id);
        match (self.vocab.kind(id), &self.spelling) {
            (TokenKind::Byte, _) if self.vocab.byte_of(id).is_some() => out.extend(self.vocab.byte_of(id)),
            (_, Spelling::Aligned { blank, delimiter, cleans }) => {
                let text = String::from_utf8_lossy(text).replace(blank.as_str(), "");
                let text = if *cleans { cleaned(text).replace(delimiter.as_str(), " ") } else { text };
                out.extend_from_slice(text.as_bytes());
            }
            (TokenKind::Control | TokenKind::Unknown, _) | (TokenKind::UserDefined, Spelling::Bytes) => {
                out.extend_from_slice(text);
            }
            (_, Spelling::Bytes) => byte_level::decode_into(text, out),
            (_, Spelling::Spaces) => unescape_spaces(text, out),
            (_, Spelling::Words(tail)) => match text.strip_prefix(tail.as_bytes()) {
                Some(rest) if !tail.is_empty() => out.extend_from_slice(rest),
                _ => {
                    out.push(b' ');
                    out.extend_from_slice(text);
                }
            },
            (_, Spelling::Suffix(suffix)) => match text.strip_suffix(suffix.as_bytes()) {
                Some(word) => {
                    out.extend_from_slice(word);
                    out.push(b' ');
                }
                None => out.extend_from_slice(text),
            },
        }
        Ok(())
    }

    /// The bytes that `ids` stand for. They need not be UTF-8: a model may stop within a character.
    pub fn decode_bytes(&self, ids: &[u32], options: DecodeOptions) -> Result<Vec<u8>, TextError> {
        let mut out = Vec::with_capacity(ids.len() * 4);
        let mut strip = options.strip_space_prefix && self.has_space_prefix();
        let mut before = None;
        for &id in ids {
            self.check(id)?;
            if options.skip_special && self.is_control(id) {
                continue;
            }
            if self.repeats(before.replace(id), id) {
                continue;
            }
            let start = out.len();
            self.token_bytes(id, &mut out)?;
            if strip && out.len() > start {
                if out[start] == b' ' && !self.is_control(id) {
                    out.remove(start);
                }
                strip = self.is_control(id);
            }
        }
        Ok(out)
    }

    /// The text that `ids` stand for; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32], options: DecodeOptions) -> Result<String, TextError> {
        let bytes = self.decode_bytes(ids, options)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// Whether a token says no more than the one before it.
    pub(crate) fn repeats(&self, before: Option<u32>, id: u32) -> bool {
        before == Some(id) && matches!(self.spelling, Spelling::Aligned { .. })
    }

    /// Whether a text's first token carries a space that is not the text's own.
    pub(crate) fn has_space_prefix(&self) -> bool {
        self.space_prefix
    }

    pub(crate) fn check(&self, id: u32) -> Result<(), TextError> {
        if (id as usize) < self.vocab.len() {
            Ok(())
        } else {
            Err(TextError::TokenOutOfRange { id, n_tokens: self.vocab.len() })
        }
    }

    /// Whether a token is one that text is shown without. False for an id outside of the vocabulary.
    pub fn is_control(&self, id: u32) -> bool {
        self.kind(id).is_some_and(|kind| matches!(kind, TokenKind::Control | TokenKind::Unknown))
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.vocab.len()
    }

    /// The token's spelling in the file.
    pub fn token_text(&self, id: u32) -> Option<&[u8]> {
        self.check(id).ok().map(|()| self.vocab.text(id))
    }

    /// The token's kind.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.check(id).ok().map(|()| self.vocab.kind(id))
    }

    /// The id of the token with this spelling in the file.
    pub fn find(&self, spelling: &str) -> Option<u32> {
        self.vocab.find(spelling.as_bytes())
    }

    /// The special tokens.
    pub fn special_ids(&self) -> &SpecialIds {
        &self.ids
    }

    /// Whether generation ends at this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ids.end_of_generation.binary_search(&id).is_ok()
    }

    /// Whether a text gets BOS before it.
    pub fn adds_bos(&self) -> bool {
        self.ids.bos.is_some_and(|bos| self.template.opening().any(|id| id == bos))
    }

    /// Whether a text gets EOS after it.
    pub fn adds_eos(&self) -> bool {
        self.ids.eos.is_some_and(|eos| self.template.closing().any(|id| id == eos))
    }

    pub(crate) fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    pub(crate) fn special(&self) -> &Special {
        &self.special
    }
}

/// A text without the spaces that tokenizers leave in English.
fn cleaned(text: String) -> String {
    const CLEANED: [(&str, &str); 11] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    CLEANED
        .iter()
        .fold(text, |text, (from, to)| if text.contains(from) { text.replace(from, to) } else { text })
}

/// Completes the list of tokens at which generation ends, and marks them as control tokens: a file that calls
/// `<end_of_turn>` ordinary text would otherwise let a user's text end a turn.
fn find_ends(vocab: &mut Vocab, ids: &mut SpecialIds) {
    let marked = |vocab: &Vocab, spelling: &str| {
        vocab
            .find(spelling.as_bytes())
            .filter(|&id| matches!(vocab.kind(id), TokenKind::Control | TokenKind::UserDefined))
    };
    let mut ends = std::mem::take(&mut ids.end_of_generation);
    ends.retain(|&id| (id as usize) < vocab.len());
    for spelling in END_OF_GENERATION {
        ends.extend(marked(vocab, spelling));
    }
    if ids.eot.is_none() {
        ids.eot = END_OF_TURN.iter().find_map(|spelling| marked(vocab, spelling));
    }
    ends.extend([ids.eos, ids.eot, ids.eom].into_iter().flatten());
    // The harmony format ends messages, not generation, with <|end|>.
    let harmony = |a: &str, b: &str| vocab.find(a.as_bytes()).is_some() && vocab.find(b.as_bytes()).is_some();
    if (harmony("<|return|>", "<|call|>") || harmony("<|flush|>", "<|calls|>"))
        && let Some(end) = vocab.find(b"<|end|>")
    {
        ends.retain(|&id| id != end);
    }
    ends.sort_unstable();
    ends.dedup();
    for &id in &ends {
        // A model may end at what is ordinary text elsewhere (a newline): that stays text.
        if vocab.kind(id) == TokenKind::UserDefined {
            vocab.set_kind(id, TokenKind::Control);
        }
    }
    ids.end_of_generation = ends;
}

/// `text` in composed form, if that is wanted and it is not already.
fn composed(text: &str, nfc: bool) -> Cow<'_, str> {
    if !nfc || text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

/// Calls `part` with the runs of newlines and the runs of all else.
fn split_newlines<'t>(text: &'t str, mut part: impl FnMut(&'t str)) {
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let newline = first == b'\n';
        let end = rest.bytes().position(|byte| (byte == b'\n') != newline).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        part(head);
        rest = tail;
    }
}

/// Appends `text` with spaces for `▁`.
fn unescape_spaces(text: &[u8], out: &mut Vec<u8>) {
    let space = spm::SPACE.as_bytes();
    let mut rest = text;
    while let Some(at) = rest.windows(space.len()).position(|window| window == space) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at + space.len()..];
    }
    out.extend_from_slice(rest);
}

/// Checks what callers outside rely on at compile time: a tokenizer is shared between threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Tokenizer>();
};
