//! The chat template of a folder: `chat_template.jinja`, else `chat_template.json`, else what `tokenizer_config.json` says.

use std::path::Path;

use super::folder::{MAX_TEXT, bounded};
use crate::ModelError;

/// The template, where the folder has one.
pub(super) fn chat_template(folder: &Path) -> Result<Option<String>, ModelError> {
    let jinja = folder.join("chat_template.jinja");
    if jinja.is_file() {
        return match String::from_utf8(bounded(&jinja, MAX_TEXT)?) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(ModelError::Folder {
                path: jinja,
                problem: "it is no text in UTF-8; download it again".to_owned(),
            }),
        };
    }
    for name in ["chat_template.json", "tokenizer_config.json"] {
        let path = folder.join(name);
        if path.is_file()
            && let Some(template) = whit_text::chat_template_in(&bounded(&path, MAX_TEXT)?)?
        {
            return Ok(Some(template));
        }
    }
    Ok(None)
}
