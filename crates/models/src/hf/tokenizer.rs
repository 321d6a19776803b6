//! The tokenizer of a folder: `tokenizer.json`, `tokenizer_config.json`, and what the configurations of the model and of its
//! makers' sampling say about the tokens that begin and end texts.

use std::path::Path;

use whit_files::GgufWriter;
use whit_text::{SpecialIds, Tokenizer, TokenizerJson};

use super::folder::{MAX_TEXT, bounded, object};
use super::settings::Settings;
use crate::{ModelError, vocab};

/// The tokenizer, by the file's own rules.
pub(crate) fn tokenizer(folder: &Path) -> Result<Tokenizer, ModelError> {
    let file = read(folder)?;
    let mut spec = file.spec();
    complete(folder, &mut spec.special)?;
    Ok(Tokenizer::new(spec)?)
}

/// Writes the tokenizer in GGUF's keys, for a model with `n_vocab` rows of embeddings.
///
/// # Errors
/// A tokenizer that is missing or broken, or that GGUF has no words for.
pub fn set_tokenizer(folder: &Path, n_vocab: usize, out: &mut GgufWriter) -> Result<(), ModelError> {
    let file = read(folder)?;
    let mut spec = file.gguf_spec()?;
    complete(folder, &mut spec.special)?;
    vocab::write(spec, n_vocab, out);
    if let Some(template) = super::template::chat_template(folder)? {
        out.set("tokenizer.chat_template", &template);
    }
    Ok(())
}

fn read(folder: &Path) -> Result<TokenizerJson, ModelError> {
    let path = folder.join("tokenizer.json");
    if !path.is_file() {
        let problem = "it has no `tokenizer.json`; `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of \
                       `transformers` makes one of what else it may have";
        return Err(ModelError::Folder { path: folder.to_owned(), problem: problem.to_owned() });
    }
    let config = folder.join("tokenizer_config.json");
    let config = if config.is_file() { Some(bounded(&config, MAX_TEXT)?) } else { None };
    Ok(TokenizerJson::read(&bounded(&path, MAX_TEXT)?, config.as_deref())?)
}

/// Adds what other files say: which tokens end an answer, and which begins a text or fills one up where the tokenizer does
/// not say.
fn complete(folder: &Path, special: &mut SpecialIds) -> Result<(), ModelError> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let settings = Settings::new(&path, object(&path)?);
        let text = settings.object("text_config")?;
        for settings in [Some(settings), text].into_iter().flatten() {
            special.bos = special.bos.or(settings.ids("bos_token_id")?.first().copied());
            special.pad = special.pad.or(settings.ids("pad_token_id")?.first().copied());
            for id in settings.ids("eos_token_id")? {
                let eos = *special.eos.get_or_insert(id);
                if id != eos && !special.end_of_generation.contains(&id) {
                    special.end_of_generation.push(id);
                }
            }
        }
    }
    Ok(())
}
