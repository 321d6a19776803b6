//! What `/openapi.json` says of these endpoints: one line or few for each route, and the shapes of answers.
#![expect(dead_code, reason = "the types here describe JSON; none is ever made")]

use serde_json::Value;
use utoipa::ToSchema;

use super::request::Request;
use crate::openapi::{Dropped, Endpoint};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("/v1/messages", "Answer in a conversation")
            .takes::<Request>()
            .gives::<Answer>("The whole answer.")
            .gives_events::<AnswerEvent>("With `stream`, named events.")
            .errors(&[404, 503]),
        Endpoint::post("/v1/messages/count_tokens", "How many tokens a conversation has")
            .takes::<Request>()
            .gives::<TokenCount>("As the model would read it.")
            .errors(&[404]),
    ]
}

#[derive(ToSchema)]
#[schema(as = AnthropicAnswer)]
struct Answer {
    id: String,
    /// `message`.
    r#type: String,
    /// `assistant`.
    role: String,
    model: String,
    content: Vec<Block>,
    /// `end_turn`, `max_tokens`, `stop_sequence`, `tool_use` or `model_context_window_exceeded`.
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    usage: Usage,
    dropped: Option<Dropped>,
}

/// A piece of the answer: a text, a thought or a call.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = AnthropicBlock)]
enum Block {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
        /// Always empty.
        signature: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[schema(value_type = Object)]
        input: Value,
    },
}

#[derive(ToSchema)]
#[schema(as = AnthropicUsage)]
struct Usage {
    /// Tokens of the prompt that were computed.
    input_tokens: usize,
    output_tokens: usize,
    /// Tokens of the prompt that were known.
    cache_read_input_tokens: usize,
    /// Always 0.
    cache_creation_input_tokens: usize,
}

/// An event; what else it has depends on its type.
#[derive(ToSchema)]
#[schema(as = AnthropicEvent)]
struct AnswerEvent {
    /// `message_start`, `ping`, `content_block_start`, `content_block_delta`, `content_block_stop`, `message_delta`,
    /// `message_stop` or `error`; also the event's name.
    r#type: String,
}

#[derive(ToSchema)]
struct TokenCount {
    input_tokens: usize,
}

/// What the answer has to look like.
#[derive(ToSchema)]
#[schema(as = AnthropicOutputConfig)]
pub(super) struct OutputConfig {
    /// `{"type": "json_schema", "schema": {..}}`: the answer is an instance of the schema.
    #[schema(value_type = Option<Object>)]
    format: Value,
}

/// Text, or blocks of type `text`.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = AnthropicText)]
pub(super) enum Text {
    Text(String),
    Blocks(Vec<TextBlock>),
}

#[derive(ToSchema)]
pub(super) struct TextBlock {
    /// `text`.
    #[schema(pattern = "^text$")]
    r#type: String,
    text: String,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AnthropicRole)]
pub(super) enum Role {
    User,
    Assistant,
    System,
}

/// Text, or blocks.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = AnthropicContent)]
pub(super) enum Content {
    Text(String),
    Blocks(Vec<Said>),
}

/// A piece of a conversation: a text, a thought, a call or its result.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = AnthropicContentBlock)]
pub(super) enum Said {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
    },
    /// Read over.
    RedactedThinking {},
    ToolUse {
        id: String,
        name: String,
        #[schema(value_type = Object)]
        input: Value,
    },
    ToolResult {
        /// Of the call.
        tool_use_id: String,
        content: Option<Text>,
    },
}

#[derive(ToSchema)]
#[schema(as = AnthropicTool)]
pub(super) struct Tool {
    name: String,
    /// What it does, for the model.
    description: Option<String>,
    /// A JSON schema of its arguments.
    #[schema(value_type = Object)]
    input_schema: Value,
}

/// Whether the model has to call a tool.
#[derive(ToSchema)]
#[schema(as = AnthropicToolChoice)]
pub(super) struct Choice {
    r#type: ChoiceType,
    /// With `tool`: which.
    name: Option<String>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AnthropicToolChoiceType)]
pub(super) enum ChoiceType {
    Auto,
    Any,
    Tool,
    None,
}

/// Whether the model thinks before it answers.
#[derive(ToSchema)]
#[schema(as = AnthropicThinking)]
pub(super) struct Thinking {
    /// `disabled`, or another word for yes.
    r#type: Option<String>,
}
