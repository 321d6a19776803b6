//! The tokenizer: text to ids and back.
//!
//! Ties the algorithms together: special tokens first, then the family's own splitting and merging. Building one costs
//! milliseconds (the tables are arenas, not maps of strings); it is shared by reference between threads.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError, TryLockError};

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::TextError;
use crate::bpe::{self, Merges};
use crate::byte_level;
use crate::cache::WordCache;
use crate::pre::PreTokenizer;
use crate::spec::{SpecialIds, TokenKind, VocabSpec};
use crate::special::{Fragment, Special};
use crate::spm::{self, Spm};
use crate::vocab::Vocab;
use crate::wordpiece::WordPiece;

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
    /// Add BOS, EOS or SEP as the model wants them. A BOS that the text already begins with is not doubled.
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
        merges: Merges,
        pre: PreTokenizer,
        byte_ids: Box<[Option<u32>; 256]>,
    },
    /// BPE over characters with `▁` for spaces and byte fallback.
    CharBpe {
        unk: Option<u32>,
        merges: Merges,
        byte_ids: Box<[Option<u32>; 256]>,
        joined: Box<[bool; 256]>,
    },
    /// SentencePiece BPE by scores.
    Spm {
        spm: Spm,
        joined: Box<[bool; 256]>,
    },
    WordPiece(WordPiece),
}

/// Scratch memory of one encoding.
struct Work {
    cache: WordCache,
    bpe: bpe::Scratch,
    spm: spm::Scratch,
    symbols: Vec<u32>,
    spelled: Vec<u8>,
}

impl Work {
    fn new() -> Self {
        Self {
            cache: WordCache::new(),
            bpe: bpe::Scratch::default(),
            spm: spm::Scratch::default(),
            symbols: Vec::new(),
            spelled: Vec::new(),
        }
    }
}

/// A model's tokenizer. See the crate's front page for an example.
pub struct Tokenizer {
    vocab: Vocab,
    model: Model,
    special: Special,
    ids: SpecialIds,
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
    add_space_prefix: bool,
    remove_extra_whitespaces: bool,
    /// Words seen lately. A second thread that encodes at the same time works without.
    work: Mutex<Work>,
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
        let in_range =
            |id: Option<u32>, default: Option<u32>| id.or(default).filter(|&id| (id as usize) < n_tokens);
        // Ids that hold where a file names none: those of the first models of each kind.
        let (bos, eos, unk, sep, pad, mask) = match spec.model {
            "llama" => (Some(1), Some(2), Some(0), None, None, None),
            "bert" => (Some(101), None, Some(100), Some(102), Some(0), Some(103)),
            _ => (None, None, None, None, None, None),
        };
        ids.bos = in_range(ids.bos, bos);
        ids.eos = in_range(ids.eos, eos);
        ids.unk = in_range(ids.unk, unk);
        ids.sep = in_range(ids.sep, sep);
        ids.pad = in_range(ids.pad, pad);
        ids.mask = in_range(ids.mask, mask);
        ids.eot = in_range(ids.eot, None);
        ids.eom = in_range(ids.eom, None);
        find_ends(&mut vocab, &mut ids);

        // For what text cannot be spelled with; not if it would steer the model.
        let unk = ids.unk.filter(|&id| vocab.kind(id) != TokenKind::Control);
        let add_bos;
        let (mut add_sep, mut add_space_prefix) = (false, false);
        let model = match spec.model {
            "gpt2" => {
                let mut pre = PreTokenizer::by_name(spec.pre)?;
                pre.ignore_merges = spec.ignore_merges.unwrap_or(pre.ignore_merges);
                add_bos = pre.add_bos;
                add_sep = pre.add_sep;
                let mut byte_ids = Box::new([None; 256]);
                let mut spelled = Vec::new();
                for byte in 0..=255u8 {
                    spelled.clear();
                    byte_level::encode_into(&[byte], &mut spelled);
                    byte_ids[byte as usize] = vocab.find_plain(&spelled);
                }
                Model::ByteBpe { merges: Merges::new(&vocab, spec.merges)?, pre, byte_ids }
            }
            "gemma4" => {
                add_bos = true;
                Model::CharBpe {
                    unk,
                    merges: Merges::new(&vocab, spec.merges)?,
                    byte_ids: vocab.byte_tokens(),
                    joined: spm::bytes_before_space(&vocab),
                }
            }
            "llama" => {
                add_bos = true;
                add_space_prefix = true;
                Model::Spm { spm: Spm::new(&vocab, unk), joined: spm::bytes_before_space(&vocab) }
            }
            "bert" => {
                add_bos = true;
                add_sep = true;
                let lowercase = spec.lowercase.unwrap_or(true);
                let strip_accents = spec.strip_accents.unwrap_or(lowercase);
                Model::WordPiece(WordPiece::new(&vocab, lowercase, strip_accents, ids.unk))
            }
            other => return Err(TextError::UnknownModel { model: other.to_owned() }),
        };
        let special = Special::new(&vocab, spec.strips_left, spec.strips_right);
        Ok(Self {
            model,
            special,
            add_bos: spec.add_bos.unwrap_or(add_bos) && ids.bos.is_some(),
            add_eos: spec.add_eos.unwrap_or(false) && ids.eos.is_some(),
            add_sep: spec.add_sep.unwrap_or(add_sep) && ids.sep.is_some(),
            add_space_prefix: spec.add_space_prefix.unwrap_or(add_space_prefix),
            remove_extra_whitespaces: spec.remove_extra_whitespaces.unwrap_or(false),
            vocab,
            ids,
            work: Mutex::new(Work::new()),
        })
    }

    /// Encodes `text`.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TextError> {
        self.encode_with(text, options, |tokenizer, part, after_special, work, out| {
            tokenizer.encode_plain(part, after_special, work, out)
        })
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
            self.encode_with(text, EncodeOptions::PROMPT, |tokenizer, part, after_special, work, out| {
                if !part.contains(mark) {
                    return tokenizer.encode_plain(part, after_special, work, out);
                }
                let part = lift(part);
                let mut after_special = after_special;
                // A mark may have parted a user-defined token as well; those are matched in any text.
                tokenizer.special.split(&tokenizer.vocab, &part, false, |fragment| match fragment {
                    Fragment::Token(id) => {
                        out.push(id);
                        after_special = true;
                        Ok(())
                    }
                    Fragment::Text(part) => {
                        tokenizer.encode_plain(part, std::mem::take(&mut after_special), work, out)
                    }
                })
            })?;
        out.truncate(out.len() - self.n_closing());
        Ok(out)
    }

    /// How many tokens close a text.
    fn n_closing(&self) -> usize {
        usize::from(self.add_sep) + usize::from(self.add_eos)
    }

    /// The frame of every encoding: special tokens around and between, `plain` for the text between them.
    fn encode_with(
        &self,
        text: &str,
        options: EncodeOptions,
        mut plain: impl FnMut(&Self, &str, bool, &mut Work, &mut Vec<u32>) -> Result<(), TextError>,
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
        let bos = self.ids.bos.filter(|_| options.add_special && self.add_bos);
        out.extend(bos);
        let mut after_special = true;
        self.special.split(&self.vocab, text, options.parse_special, |fragment| match fragment {
            Fragment::Token(id) => {
                let doubled = out.len() == 1 && bos == Some(id) && out.first() == Some(&id);
                if !doubled {
                    out.push(id);
                }
                after_special = true;
                Ok(())
            }
            Fragment::Text(part) => {
                let result = plain(self, part, after_special, work, &mut out);
                after_special = false;
                result
            }
        })?;
        if options.add_special {
            out.extend(self.ids.sep.filter(|_| self.add_sep));
            out.extend(self.ids.eos.filter(|_| self.add_eos));
        }
        Ok(out)
    }

    /// Appends the tokens of a text without special tokens in it.
    fn encode_plain(
        &self,
        text: &str,
        after_special: bool,
        work: &mut Work,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        match &self.model {
            Model::ByteBpe { merges, pre, byte_ids } => pre.split(&composed(text, pre.nfc), |word| {
                cached(work, word.as_bytes(), out, |work, out| {
                    if pre.ignore_merges {
                        work.spelled.clear();
                        byte_level::encode_into(word.as_bytes(), &mut work.spelled);
                        if let Some(id) = self.vocab.find_plain(&work.spelled) {
                            out.push(id);
                            return;
                        }
                    }
                    work.symbols.clear();
                    // A byte without a token is dropped, as byte-level models have no unknown token of their own: where a
                    // file names one it is a control token (SmolLM2), and text must not turn into that.
                    work.symbols.extend(word.bytes().filter_map(|byte| byte_ids[byte as usize]));
                    merges.apply(&mut work.symbols, &mut work.bpe);
                    out.extend_from_slice(&work.symbols);
                });
            }),
            Model::CharBpe { unk, merges, byte_ids, joined } => {
                let escaped = text.replace(' ', spm::SPACE);
                split_newlines(&escaped, |line| {
                    spm::split_words(line, joined, |word| {
                        cached(work, word.as_bytes(), out, |work, out| {
                            if word.starts_with('\n')
                                && let Some(id) = self.vocab.find_plain(word.as_bytes())
                            {
                                out.push(id);
                                return;
                            }
                            self.first_symbols(word, byte_ids, *unk, &mut work.symbols);
                            merges.apply(&mut work.symbols, &mut work.bpe);
                            out.extend_from_slice(&work.symbols);
                        });
                    });
                });
                Ok(())
            }
            Model::Spm { spm, joined } => {
                let escaped = self.spm_text(text, after_special);
                spm::split_words(&escaped, joined, |word| {
                    cached(work, word.as_bytes(), out, |work, out| {
                        spm.encode(&self.vocab, word, &mut work.spm, out);
                    });
                });
                Ok(())
            }
            Model::WordPiece(wordpiece) => {
                wordpiece.encode(&self.vocab, text, out);
                Ok(())
            }
        }
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
        if self.remove_extra_whitespaces && escaped.len() > spm::SPACE.len() && escaped.ends_with(spm::SPACE)
        {
            escaped.truncate(escaped.len() - spm::SPACE.len());
        }
        escaped
    }

    /// The characters of `word` as tokens; a character that is none as its bytes, or as unknown.
    fn first_symbols(
        &self,
        word: &str,
        byte_ids: &[Option<u32>; 256],
        unk: Option<u32>,
        symbols: &mut Vec<u32>,
    ) {
        symbols.clear();
        let mut buffer = [0u8; 4];
        for c in word.chars() {
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            match self.vocab.find_plain(bytes) {
                Some(id) => symbols.push(id),
                None if bytes.iter().all(|&b| byte_ids[b as usize].is_some()) => {
                    symbols.extend(bytes.iter().filter_map(|&b| byte_ids[b as usize]));
                }
                None => symbols.extend(unk),
            }
        }
    }

    /// Appends the bytes for which a token stands: for a control token its spelling.
    pub fn token_bytes(&self, id: u32, out: &mut Vec<u8>) -> Result<(), TextError> {
        self.check(id)?;
        let text = self.vocab.text(id);
        match (self.vocab.kind(id), &self.model) {
            (TokenKind::Byte, _) if self.vocab.byte_of(id).is_some() => out.extend(self.vocab.byte_of(id)),
            (TokenKind::Control | TokenKind::Unknown, _)
            | (TokenKind::UserDefined, Model::ByteBpe { .. }) => {
                out.extend_from_slice(text);
            }
            (_, Model::ByteBpe { .. }) => byte_level::decode_into(text, out),
            _ => unescape_spaces(text, out),
        }
        Ok(())
    }

    /// The bytes that `ids` stand for. They need not be UTF-8: a model may stop within a character.
    pub fn decode_bytes(&self, ids: &[u32], options: DecodeOptions) -> Result<Vec<u8>, TextError> {
        let mut out = Vec::with_capacity(ids.len() * 4);
        let mut strip = options.strip_space_prefix && self.has_space_prefix();
        for &id in ids {
            self.check(id)?;
            if options.skip_special && self.is_control(id) {
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

    /// Whether a text's first token carries a space that is not the text's own.
    pub(crate) fn has_space_prefix(&self) -> bool {
        self.add_space_prefix || matches!(self.model, Model::WordPiece(_))
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
        self.add_bos
    }

    /// Whether a text gets EOS after it.
    pub fn adds_eos(&self) -> bool {
        self.add_eos
    }

    pub(crate) fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    pub(crate) fn special(&self) -> &Special {
        &self.special
    }
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

/// Appends the tokens of a word: from memory, or by `encode`, which appends to the list it is given.
#[inline]
fn cached(work: &mut Work, word: &[u8], out: &mut Vec<u32>, encode: impl FnOnce(&mut Work, &mut Vec<u32>)) {
    let Some(key) = WordCache::key(word) else {
        encode(work, out);
        return;
    };
    if let Some(ids) = work.cache.get(&key) {
        out.extend_from_slice(ids);
        return;
    }
    let start = out.len();
    encode(work, out);
    work.cache.put(&key, &out[start..]);
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
