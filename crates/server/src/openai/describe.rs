//! What `/openapi.json` says of these endpoints: one line or few for each route, and the shapes of answers.
#![expect(dead_code, reason = "the types here describe JSON; none is ever made")]

use std::collections::HashMap;

use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{chat, completions, embeddings, responses};
use crate::openapi::{Dropped, Endpoint};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/v1/models", "The models that are here").gives::<Models>("All of them."),
        Endpoint::get("/v1/models/{id}", "One model")
            .in_path("id", "Its name.", json!({"type": "string", "minLength": 1}))
            .gives::<Model>("It is here.")
            .errors(&[400, 404]),
        Endpoint::post("/v1/chat/completions", "Answer in a conversation")
            .takes::<chat::Request>()
            .gives::<ChatCompletion>("The whole answer.")
            .gives_events::<ChatChunk>("With `stream`, parts as they come, and `[DONE]` at the end.")
            .errors(&[404, 503]),
        Endpoint::post("/v1/completions", "Go on from a prompt")
            .takes::<completions::Request>()
            .gives::<Completion>("The whole answer.")
            .gives_events::<Completion>("With `stream`, parts as they come, and `[DONE]` at the end.")
            .errors(&[404, 503]),
        Endpoint::post("/v1/embeddings", "Embeddings of texts")
            .takes::<embeddings::Request>()
            .gives::<Embeddings>("A vector for each text.")
            .errors(&[404, 503]),
        Endpoint::post("/v1/responses", "Answer in a conversation, as the newer API has it")
            .takes::<responses::CreateResponse>()
            .gives::<Answer>("The whole answer.")
            .gives_events::<AnswerEvent>("With `stream`, named events.")
            .errors(&[404, 503]),
    ]
    .into_iter()
    .chain(super::describe_kept::endpoints())
    .collect()
}

#[derive(ToSchema)]
#[schema(as = ModelList)]
struct Models {
    /// `list`.
    object: String,
    data: Vec<Model>,
}

/// A model, as clients of OpenAI and of Anthropic both read it.
#[derive(ToSchema)]
struct Model {
    id: String,
    /// `model`.
    object: String,
    /// Seconds since 1970.
    created: u64,
    owned_by: String,
    /// `model`.
    r#type: String,
    display_name: String,
    #[schema(format = "date-time")]
    created_at: String,
}

#[derive(ToSchema)]
struct ChatCompletion {
    id: String,
    /// `chat.completion`.
    object: String,
    /// Seconds since 1970.
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
    dropped: Option<Dropped>,
}

#[derive(ToSchema)]
struct ChatChoice {
    index: usize,
    message: Answered,
    logprobs: Option<ChatLogprobs>,
    finish_reason: FinishReason,
}

/// Why an answer ended: by itself or at a stop text, at its limit, or with calls.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
enum FinishReason {
    Stop,
    Length,
    ToolCalls,
}

#[derive(ToSchema)]
#[schema(as = ChatAnswer)]
struct Answered {
    /// `assistant`.
    role: String,
    content: Option<String>,
    refusal: Option<String>,
    /// What the model thought before it answered.
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(ToSchema)]
struct ToolCall {
    id: String,
    /// `function`.
    r#type: String,
    function: CalledFunction,
}

#[derive(ToSchema)]
struct CalledFunction {
    name: String,
    /// JSON as text, as the model wrote it.
    arguments: String,
}

#[derive(ToSchema)]
struct ChatLogprobs {
    content: Vec<TokenLogprob>,
    refusal: Option<Vec<TokenLogprob>>,
}

/// A token, how likely it was, and what was as likely.
#[derive(ToSchema)]
struct TokenLogprob {
    token: String,
    /// -9999 for what cannot be.
    logprob: f64,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogprob>,
}

#[derive(ToSchema)]
struct TopLogprob {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

#[derive(ToSchema)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokens,
}

#[derive(ToSchema)]
struct PromptTokens {
    /// Tokens that were not computed again.
    cached_tokens: usize,
}

/// A part of an answer.
#[derive(ToSchema)]
#[schema(as = ChatCompletionChunk)]
struct ChatChunk {
    id: String,
    /// `chat.completion.chunk`.
    object: String,
    created: u64,
    model: String,
    system_fingerprint: String,
    /// Empty in the last, if that has the usage.
    choices: Vec<ChunkChoice>,
    usage: Option<Usage>,
    dropped: Option<Dropped>,
}

#[derive(ToSchema)]
#[schema(as = ChatChunkChoice)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<FinishReason>,
}

/// What is new.
#[derive(ToSchema)]
#[schema(as = ChatDelta)]
struct Delta {
    role: Option<String>,
    content: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(ToSchema)]
#[schema(as = ToolCallDelta)]
struct CallDelta {
    index: usize,
    id: Option<String>,
    r#type: Option<String>,
    function: FunctionDelta,
}

#[derive(ToSchema)]
struct FunctionDelta {
    name: Option<String>,
    /// More of the text.
    arguments: String,
}

/// An answer of `/v1/completions`, or a part of it.
#[derive(ToSchema)]
struct Completion {
    id: String,
    /// `text_completion`.
    object: String,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<CompletionChoice>,
    usage: Option<Usage>,
    dropped: Option<Dropped>,
}

#[derive(ToSchema)]
struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<FinishReason>,
}

/// One entry for each token.
#[derive(ToSchema)]
struct CompletionLogprobs {
    tokens: Vec<String>,
    /// Null for the first token of a prompt.
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Vec<Option<HashMap<String, f64>>>,
    /// Characters before it.
    text_offset: Vec<usize>,
}

#[derive(ToSchema)]
struct Embeddings {
    /// `list`.
    object: String,
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingsUsage,
}

#[derive(ToSchema)]
struct Embedding {
    /// `embedding`.
    object: String,
    index: usize,
    embedding: Vector,
}

/// A vector of length 1.
#[derive(ToSchema)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    /// Little-endian 32-bit floats in base64.
    Base64(String),
}

#[derive(ToSchema)]
struct EmbeddingsUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(ToSchema)]
#[schema(as = Response)]
pub(super) struct Answer {
    id: String,
    /// `response`.
    object: String,
    /// Seconds since 1970.
    created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    status: String,
    model: String,
    instructions: Option<String>,
    #[schema(value_type = Option<Object>)]
    error: Value,
    #[schema(value_type = Option<Object>)]
    incomplete_details: Value,
    /// Messages, calls and thoughts.
    #[schema(value_type = Vec<Object>)]
    output: Value,
    usage: Option<ResponseUsage>,
    #[schema(value_type = Object)]
    metadata: Value,
    previous_response_id: Option<String>,
    /// Whether it was kept.
    store: bool,
    dropped: Option<Dropped>,
}

#[derive(ToSchema)]
struct ResponseUsage {
    input_tokens: usize,
    output_tokens: usize,
    total_tokens: usize,
    input_tokens_details: PromptTokens,
    #[schema(value_type = Object)]
    output_tokens_details: Value,
}

/// An event; what else it has depends on its type.
#[derive(ToSchema)]
#[schema(as = ResponseEvent)]
struct AnswerEvent {
    /// Such as `response.output_text.delta`; also the event's name.
    r#type: String,
    sequence_number: u64,
}

/// A text, token ids, or several of either.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = CompletionPrompt)]
pub(super) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    Several(Vec<Vec<u32>>),
}

/// Whether the model has to call a function, which one, or which it may call (`allowed_tools`).
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum ResponseToolChoice {
    Word(ChoiceWord),
    #[schema(value_type = Object)]
    Function(Value),
}

/// A function that the model may call.
#[derive(ToSchema)]
pub(super) struct ResponseTool {
    /// `function`.
    #[schema(example = "function")]
    r#type: String,
    name: String,
    /// What it does, for the model.
    description: Option<String>,
    /// A JSON schema of its arguments.
    #[schema(value_type = Option<Object>)]
    parameters: Value,
}

/// Whether the model has to call a tool: `none`, `auto`, `required`, or which.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = ToolChoice)]
pub(super) enum ToolChoiceShape {
    Word(ChoiceWord),
    Named(NamedChoice),
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ToolChoiceWord)]
pub(super) enum ChoiceWord {
    None,
    Auto,
    Required,
    Any,
}

#[derive(ToSchema)]
#[schema(as = ToolChoiceNamed)]
pub(super) struct NamedChoice {
    /// `function`.
    r#type: Option<String>,
    function: FunctionName,
}

#[derive(ToSchema)]
pub(super) struct FunctionName {
    name: String,
}

/// What the answer must be.
#[derive(ToSchema)]
pub(super) struct ResponseFormat {
    r#type: ResponseFormatType,
    /// With `json_schema`.
    json_schema: Option<NamedSchema>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResponseFormatType {
    Text,
    JsonObject,
    JsonSchema,
}

#[derive(ToSchema)]
pub(super) struct NamedSchema {
    name: Option<String>,
    /// The JSON schema.
    #[schema(value_type = Object)]
    schema: Value,
}

/// Text, or parts of which each has one: `{"type": "text", "text": ".."}`.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(ToSchema)]
pub(crate) struct ContentPart {
    /// `text`, or as the newer API has it `input_text` or `output_text`.
    r#type: Option<String>,
    text: Option<String>,
}

/// A text, or the messages of a conversation.
#[derive(ToSchema)]
#[serde(untagged)]
pub(super) enum ResponseInput {
    Text(String),
    #[schema(value_type = Vec<Object>)]
    Items(Vec<Value>),
}

/// What the answer must be.
#[derive(ToSchema)]
pub(super) struct ResponseTextFormat {
    r#type: Option<ResponseFormatType>,
    name: Option<String>,
    /// With `json_schema`.
    #[schema(value_type = Option<Object>)]
    schema: Value,
}

/// Whose message it is; `developer` is the same as `system`, `function` the same as `tool`.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

/// A call that the assistant made.
#[derive(ToSchema)]
pub(super) struct PastCall {
    id: Option<String>,
    /// `function`.
    r#type: Option<String>,
    function: PastCalled,
}

#[derive(ToSchema)]
pub(super) struct PastCalled {
    name: String,
    /// JSON as text, as the model wrote it.
    arguments: Option<String>,
}
