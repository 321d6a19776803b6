//! GGUF metadata to a tokenizer: which `tokenizer.ggml.*` key means what.
//!
//! Key names are those of the GGUF specification and of llama.cpp's `llama-arch.cpp`. Algorithms live in `whit-text`.

use whit_files::{Array, Gguf, GgufWriter, Metadata};
use whit_text::{ChatTemplate, SpecialIds, TextError, TokenKind, Tokenizer, VocabSpec};

use crate::{ModelError, hf};

/// Spellings that Phi-3 files keep clear of the rule that special tokens swallow the white space after them.
const PHI3_KEEPS_SPACE: [&[u8]; 3] = [b"<unk>", b"<s>", b"<|endoftext|>"];

/// Builds the tokenizer that a GGUF carries; of a model folder, that of its `tokenizer.json`.
///
/// # Errors
/// Metadata of a wrong type, a missing vocabulary, and whatever [`Tokenizer::new`] refuses.
pub fn tokenizer(gguf: &Gguf) -> Result<Tokenizer, ModelError> {
    if gguf.path().is_dir() {
        return hf::tokenizer(gguf.path());
    }
    Ok(Tokenizer::new(spec(gguf.metadata())?)?)
}

/// The chat template that a GGUF carries.
///
/// # Errors
/// [`TextError::NoChatTemplate`] if it has none, and a template that is no string or not valid Jinja.
pub fn chat_template(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<ChatTemplate, ModelError> {
    let source = gguf.metadata().opt_str("tokenizer.chat_template")?.ok_or(TextError::NoChatTemplate)?;
    Ok(ChatTemplate::new(source, tokenizer.template_tokens())?)
}

/// The vocabulary that a GGUF's metadata describes.
///
/// # Errors
/// Metadata of a wrong type, or no vocabulary.
pub fn spec(metadata: &Metadata) -> Result<VocabSpec<'_>, ModelError> {
    let model = metadata.str("tokenizer.ggml.model")?;
    let tokens = metadata.strings("tokenizer.ggml.tokens")?;
    let mut spec = VocabSpec::new(model, tokens.clone());
    spec.pre = metadata.opt_str("tokenizer.ggml.pre")?;
    if let Some(scores) = metadata.opt_array("tokenizer.ggml.scores")? {
        spec.scores =
            scores_of(&scores).ok_or_else(|| broken("`tokenizer.ggml.scores` does not hold numbers"))?;
    }
    if let Some(kinds) = metadata.opt_integers("tokenizer.ggml.token_type")? {
        spec.kinds = kinds.map(|kind| i32::try_from(kind).unwrap_or(0)).collect();
    }
    if let Some(merges) = metadata.opt_strings("tokenizer.ggml.merges")? {
        spec.merges = Box::new(merges.map(split_merge));
    } else if model == "gpt2" || model == "gemma4" {
        return Err(metadata.missing("tokenizer.ggml.merges").into());
    }
    let id = |name: &str| metadata.opt_u32(&format!("tokenizer.ggml.{name}_token_id"));
    spec.special = SpecialIds {
        // An encoder opens its input with what BERT calls the class token.
        bos: id("bos")?.or(id("cls")?),
        eos: id("eos")?,
        eot: id("eot")?,
        eom: id("eom")?,
        unk: id("unknown")?,
        // The key has carried both names.
        sep: id("seperator")?.or(id("separator")?),
        pad: id("padding")?,
        mask: id("mask")?,
        end_of_generation: [id("fim_pad")?, id("fim_rep")?, id("fim_sep")?].into_iter().flatten().collect(),
    };
    let flag = |name: &str| metadata.opt_bool(&format!("tokenizer.ggml.{name}"));
    spec.add_bos = flag("add_bos_token")?;
    spec.add_eos = flag("add_eos_token")?;
    spec.add_sep = flag("add_sep_token")?;
    spec.add_space_prefix = flag("add_space_prefix")?;
    spec.remove_extra_whitespaces = flag("remove_extra_whitespaces")?;
    spec.lowercase = flag("normalizer.lowercase")?;
    spec.strip_accents = flag("normalizer.strip_accents")?;
    if let Some(map) = metadata.opt_integers("tokenizer.ggml.precompiled_charsmap")? {
        // Converters have written signed bytes and unsigned ones.
        spec.charsmap = Some(map.map(|byte| byte as u8).collect());
    }
    (spec.strips_left, spec.strips_right) = stripping(metadata, &spec.kinds, tokens)?;
    Ok(spec)
}

/// Sets the keys from which [`spec`] makes the same vocabulary again. A model with more rows of embeddings than there are
/// tokens gets unused ones for the rest, as the converters do it.
pub(crate) fn write(spec: VocabSpec<'_>, n_vocab: usize, out: &mut GgufWriter) {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    out.set(&key("model"), spec.model);
    if let Some(pre) = spec.pre {
        out.set(&key("pre"), pre);
    }
    let unused = |id: usize| format!("[PAD{id}]").into_bytes();
    let mut tokens: Vec<Vec<u8>> = spec.tokens.map(<[u8]>::to_vec).collect();
    let (mut scores, mut kinds) = (spec.scores, spec.kinds);
    kinds.resize(tokens.len(), TokenKind::Normal as i32);
    for (id, token) in tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
        *token = unused(id);
        kinds[id] = TokenKind::Unused as i32;
    }
    tokens.extend((tokens.len()..n_vocab).map(unused));
    kinds.resize(tokens.len(), TokenKind::Unused as i32);
    if !scores.is_empty() {
        scores.resize(tokens.len(), UNUSED_SCORE);
        out.set_numbers(&key("scores"), &scores);
    }
    out.set_strings(&key("tokens"), &tokens);
    out.set_numbers(&key("token_type"), &kinds);
    let merges: Vec<Vec<u8>> = spec.merges.map(|(left, right)| [left, b" ", right].concat()).collect();
    if !merges.is_empty() && spec.model != "llama" {
        out.set_strings(&key("merges"), &merges);
    }
    let special = &spec.special;
    // One more token that ends an answer has a name; others are known by their texts.
    let eot = special.eot.or(special.end_of_generation.first().copied());
    for (name, id) in [
        ("bos", special.bos),
        ("eos", special.eos),
        ("eot", eot),
        ("eom", special.eom),
        ("unknown", special.unk),
        // So spelled by all who write it.
        ("seperator", special.sep),
        ("padding", special.pad),
        ("mask", special.mask),
    ] {
        if let Some(id) = id {
            out.set(&key(&format!("{name}_token_id")), id);
        }
    }
    for (name, flag) in [
        ("add_bos_token", spec.add_bos),
        ("add_eos_token", spec.add_eos),
        ("add_sep_token", spec.add_sep),
        ("add_space_prefix", spec.add_space_prefix),
        ("remove_extra_whitespaces", spec.remove_extra_whitespaces),
        ("normalizer.lowercase", spec.lowercase),
        ("normalizer.strip_accents", spec.strip_accents),
    ] {
        if let Some(flag) = flag {
            out.set(&key(name), flag);
        }
    }
    if let Some(map) = &spec.charsmap {
        out.set_numbers(&key("precompiled_charsmap"), map);
    }
}

/// The score of a token that nothing is ever made of.
const UNUSED_SCORE: f32 = -10_000.0;

/// Which special tokens swallow white space. GGUF files do not say; the families that need it are known by name.
fn stripping<'a>(
    metadata: &Metadata,
    kinds: &[i32],
    tokens: impl Iterator<Item = &'a [u8]>,
) -> Result<(Vec<u32>, Vec<u32>), ModelError> {
    let pre = metadata.opt_str("tokenizer.ggml.pre")?.unwrap_or_default();
    let architecture = metadata.opt_str("general.architecture")?.unwrap_or_default();
    let name = metadata.opt_str("general.name")?.unwrap_or_default().to_lowercase();
    let with_spelling =
        |spelling: &'static [u8]| move |(id, text): (u32, &[u8])| (text == spelling).then_some(id);
    let numbered = (0u32..).zip(tokens);
    Ok(
        if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].contains(&pre)
            || ["nomic-bert-moe", "jina-bert-v3"].contains(&architecture)
        {
            (numbered.filter_map(with_spelling(b"<mask>")).collect(), vec![])
        } else if name.contains("modern-bert") {
            (numbered.filter_map(with_spelling(b"[MASK]")).collect(), vec![])
        } else if name.contains("phi-3") || name.contains("phi3") {
            let swallows = |&(id, text): &(u32, &[u8])| {
                let kind =
                    kinds.get(id as usize).map_or(TokenKind::Normal, |&kind| TokenKind::from_gguf(kind));
                let special =
                    matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown);
                text == b"</s>" || (special && !PHI3_KEEPS_SPACE.contains(&text))
            };
            (vec![], numbered.filter(swallows).map(|(id, _)| id).collect())
        } else {
            (vec![], vec![])
        },
    )
}

fn scores_of(scores: &Array<'_>) -> Option<Vec<f32>> {
    if let Some(floats) = scores.floats() {
        return Some(floats.collect());
    }
    Some(scores.integers()?.map(|score| score as f32).collect())
}

/// `left right`: the first space after the first byte divides them, so that a part may begin with a space.
fn split_merge(merge: &[u8]) -> (&[u8], &[u8]) {
    match merge.iter().skip(1).position(|&byte| byte == b' ') {
        Some(at) => (&merge[..at + 1], &merge[at + 2..]),
        None => (merge, &[]),
    }
}

fn broken(what: &str) -> ModelError {
    TextError::BrokenVocabulary { what: what.to_owned() }.into()
}
