//! Shapes that several APIs share: errors, and values of many forms that handlers read by hand.
#![expect(dead_code, reason = "these types describe JSON; none is ever made")]

use serde_json::Value;
use utoipa::ToSchema;

/// An error, as Ollama writes it. In a stream that has begun it is the last line.
#[derive(ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody {
    /// What is wrong, and what to do.
    error: String,
    /// Tokens of a prompt that is longer than the context.
    n_prompt_tokens: Option<usize>,
    /// Tokens of that context.
    n_ctx: Option<usize>,
}

/// An error, as OpenAI writes it. In a stream that has begun it is the last event.
#[derive(ToSchema)]
pub(crate) struct OpenAiError {
    error: OpenAiErrorBody,
}

#[derive(ToSchema)]
pub(crate) struct OpenAiErrorBody {
    /// What is wrong, and what to do.
    message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `not_found_error` or `api_error`.
    r#type: String,
    param: Option<String>,
    /// `model_not_found`, `context_length_exceeded`, `invalid_api_key`, or null.
    code: Option<String>,
}

/// An error, as Anthropic writes it. In a stream that has begun it is the last event.
#[derive(ToSchema)]
pub(crate) struct AnthropicError {
    /// `error`.
    r#type: String,
    error: AnthropicErrorBody,
    /// The same as in the header `request-id`.
    request_id: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct AnthropicErrorBody {
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `not_found_error`, `request_too_large`,
    /// `overloaded_error` or `api_error`.
    r#type: String,
    /// What is wrong, and what to do.
    message: String,
}

/// An OpenAPI document.
#[derive(ToSchema)]
pub(crate) struct Document {
    /// The version of OpenAPI.
    openapi: String,
    #[schema(value_type = Object)]
    info: Value,
    #[schema(value_type = Object)]
    paths: Value,
    #[schema(value_type = Object)]
    components: Value,
}

/// How long the model stays loaded after its last request: seconds, or a duration such as `10m`. Negative is for ever.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Time {
    Seconds(f64),
    Duration(String),
}

/// A text, or several.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

/// A function that the model may call.
#[derive(ToSchema)]
pub(crate) struct Tool {
    /// `function`.
    #[schema(example = "function")]
    r#type: Option<String>,
    function: Function,
}

#[derive(ToSchema)]
pub(crate) struct Function {
    name: String,
    /// What it does, for the model.
    description: Option<String>,
    /// A JSON schema of its arguments.
    #[schema(value_type = Option<Object>)]
    parameters: Value,
}

/// What was left out because the context was full. It is there only if something was.
#[derive(ToSchema)]
pub(crate) struct Dropped {
    messages: usize,
    tokens: usize,
}

/// What an answer must be: JSON of any kind, or JSON of a schema. Empty text is no demand.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Format {
    Name(FormatName),
    /// A JSON schema.
    #[schema(value_type = Object)]
    Schema(Value),
}

#[derive(ToSchema)]
pub(crate) enum FormatName {
    #[serde(rename = "json")]
    Json,
    #[serde(rename = "")]
    None,
}

/// Whether the model thinks before it answers; default: if it can. A level is the same as true.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Think {
    Whether(bool),
    Level(ThinkLevel),
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ThinkLevel {
    None,
    Low,
    Medium,
    High,
    Max,
}
