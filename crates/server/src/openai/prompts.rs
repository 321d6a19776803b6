//! Texts and token ids as completions and embeddings take them.

use serde_json::Value;

use crate::error::ApiError;

/// A prompt as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// The value of the field `name`: a text, a list of token ids, or a list of either.
pub(super) fn read(value: &Value, name: &str) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || {
        let text = format!("{name} must be a string, a list of token ids, or a list of either");
        ApiError::BadRequest(text)
    };
    let tokens = |items: &[Value]| -> Option<Vec<u32>> {
        items.iter().map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
    };
    match value {
        Value::String(text) => Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(items) if items.is_empty() => Err(wrong()),
        Value::Array(items) if items[0].is_number() => {
            Ok(vec![Prompt::Tokens(tokens(items).ok_or_else(wrong)?)])
        }
        Value::Array(items) => {
            let read = |item: &Value| match item {
                Value::String(text) => Some(Prompt::Text(text.clone())),
                Value::Array(items) => tokens(items).map(Prompt::Tokens),
                _ => None,
            };
            items.iter().map(|item| read(item).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shapes_of_prompts() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        for (value, expected) in [
            (json!("a"), Some(vec![text("a")])),
            (json!(["a", "b"]), Some(vec![text("a"), text("b")])),
            (json!([1, 2]), Some(vec![Prompt::Tokens(vec![1, 2])])),
            (json!([[1], "b"]), Some(vec![Prompt::Tokens(vec![1]), text("b")])),
            (json!(null), None),
            (json!([]), None),
            (json!([1, "a"]), None),
            (json!([1.5]), None),
            (json!([-1]), None),
            (json!({}), None),
        ] {
            assert_eq!(read(&value, "prompt").ok(), expected, "{value}");
        }
    }
}
