//! `/v1/embeddings`. Vectors have length 1. A text longer than the context is an error, as with OpenAI.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::prompts::{self, Prompt};
use crate::body;
use crate::embed::{self, Job};
use crate::error::ApiError;
use crate::state::AppState;

#[derive(Deserialize, ToSchema)]
#[schema(as = EmbeddingsRequest)]
pub(super) struct Request {
    /// The name of a model that is here.
    model: String,
    #[schema(value_type = super::describe::Prompt)]
    input: Value,
    encoding_format: Option<Encoding>,
    /// Keep so many values of each vector, brought to length 1 again.
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
}

/// How a vector is written.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Little-endian 32-bit floats in base64: what OpenAI's own clients ask for.
    Base64,
}

pub(super) async fn create(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: Request = body::parse(&body)?;
        let inputs = prompts::read(&request.input, "input")?;
        let is_empty = |input: &Prompt| match input {
            Prompt::Text(text) => text.is_empty(),
            Prompt::Tokens(tokens) => tokens.is_empty(),
        };
        if inputs.iter().any(is_empty) {
            return Err(ApiError::BadRequest("input must not be empty".to_owned()));
        }
        let inputs = inputs.into_iter().map(|input| match input {
            Prompt::Text(text) => whit_engine::Prompt::Text(text),
            Prompt::Tokens(tokens) => whit_engine::Prompt::Tokens(tokens),
        });
        let job = Job { dimensions: request.dimensions, ..Job::new(&request.model, inputs.collect()) };
        let made = embed::run(&state, job).await?;
        let data: Vec<Value> = made
            .vectors
            .iter()
            .enumerate()
            .map(|(index, vector)| {
                let vector = match request.encoding_format.unwrap_or_default() {
                    Encoding::Float => json!(vector),
                    Encoding::Base64 => base64(vector.iter().flat_map(|value| value.to_le_bytes())).into(),
                };
                json!({"object": "embedding", "index": index, "embedding": vector})
            })
            .collect();
        Ok(Json(json!({
            "object": "list", "data": data, "model": request.model,
            "usage": {"prompt_tokens": made.n_tokens, "total_tokens": made.n_tokens},
        })))
    };
    work.await.map_err(|error| error.openai()).into_response()
}

/// RFC 4648, with padding.
fn base64(bytes: impl Iterator<Item = u8>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.size_hint().0.div_ceil(3) * 4);
    let mut bytes = bytes.peekable();
    while bytes.peek().is_some() {
        let group: Vec<u8> = bytes.by_ref().take(3).collect();
        let number =
            group.iter().chain(&[0, 0]).take(3).fold(0, |number, &byte| number << 8 | usize::from(byte));
        for digit in 0..4 {
            let digit = (digit <= group.len()).then(|| DIGITS[number >> (18 - 6 * digit) & 63]);
            out.push(char::from(digit.unwrap_or(b'=')));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{7ff}>?", "378+Pw=="),
        ] {
            assert_eq!(base64(text.bytes()), expected, "{text}");
        }
    }
}
