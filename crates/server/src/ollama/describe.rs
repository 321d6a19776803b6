//! What `/openapi.json` says of these endpoints: one line or few for each route, and the shapes of answers.
#![expect(dead_code, reason = "the types here describe JSON; none is ever made")]

use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{ask, create, embed, manage, pull, push, show};
use crate::openapi::{Dropped, Endpoint, Texts};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let digest = |endpoint: Endpoint| {
        let schema = json!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"});
        endpoint.in_path("digest", "The SHA-256 of the file: `sha256:` and 64 digits.", schema)
    };
    vec![
        Endpoint::get("/api/version", "The version").gives::<Version>("What of Ollama this is like."),
        Endpoint::post("/api/generate", "Go on from a prompt")
            .takes::<ask::GenerateRequest>()
            .gives_lines::<Generated>(
                "Parts of the answer as they come; the last has `done` and the timings.",
            )
            .gives::<Generated>("With `stream` false, the whole answer.")
            .errors(&[404, 503]),
        Endpoint::post("/api/chat", "Answer in a conversation")
            .takes::<ask::ChatRequest>()
            .gives_lines::<Chatted>("Parts of the answer as they come; the last has `done` and the timings.")
            .gives::<Chatted>("With `stream` false, the whole answer.")
            .errors(&[404, 503]),
        Endpoint::get("/api/tags", "The models that are here").gives::<Tags>("All of them."),
        Endpoint::get("/api/ps", "The models that are loaded").gives::<Running>("All of them."),
        Endpoint::post("/api/show", "What a model is")
            .takes::<show::ShowRequest>()
            .gives::<Shown>("All that is known of it.")
            .errors(&[404]),
        Endpoint::post("/api/copy", "Give a model another name")
            .takes::<manage::CopyRequest>()
            .gives_status(200, "It has the name now.")
            .errors(&[404]),
        Endpoint::delete("/api/delete", "Remove a model")
            .takes::<manage::DeleteRequest>()
            .gives_status(200, "It is gone.")
            .errors(&[404]),
        Endpoint::post("/api/pull", "Get a model from where models come from")
            .takes::<pull::PullRequest>()
            .gives_lines::<Progress>("How far it is; the last says `success`, or has an `error`.")
            .gives::<Progress>("With `stream` false, the end.")
            .errors(&[404, 502, 503]),
        Endpoint::post("/api/push", "Send a model to a registry")
            .takes::<push::PushRequest>()
            .gives_lines::<Progress>("How far it is; the last says `success`, or has an `error`.")
            .gives::<Progress>("With `stream` false, the end.")
            .errors(&[404, 502, 503]),
        Endpoint::post("/api/create", "Make a model from another, or from an uploaded file")
            .takes::<create::CreateRequest>()
            .gives_lines::<Progress>("What was done; the last says `success`.")
            .gives::<Progress>("With `stream` false, the end.")
            .errors(&[404]),
        digest(Endpoint::head("/api/blobs/{digest}", "Whether a file was uploaded"))
            .gives_status(200, "It was.")
            .errors(&[400, 404]),
        digest(Endpoint::post("/api/blobs/{digest}", "Upload a file for /api/create"))
            .takes_bytes("A GGUF file.")
            .gives_status(200, "It is here already.")
            .gives_status(201, "It is here now."),
        Endpoint::post("/api/embed", "Embeddings of texts")
            .takes::<embed::EmbedRequest>()
            .gives::<embed::Embedded>("A vector for each text.")
            .errors(&[404, 503]),
        Endpoint::post("/api/embeddings", "Embedding of a text")
            .takes::<embed::EmbeddingRequest>()
            .gives::<embed::EmbeddedOne>("Its vector.")
            .errors(&[404, 503]),
    ]
}

#[derive(ToSchema)]
struct Version {
    /// The version of Ollama that clients may take this for.
    version: String,
    /// Our own.
    whit: String,
}

/// What all answers say.
#[derive(ToSchema)]
struct Answered {
    /// As the request named it.
    model: String,
    /// RFC 3339.
    #[schema(format = "date-time")]
    created_at: String,
    /// Whether this is the end.
    done: bool,
    /// `stop`, `length`, `load` or `unload`. This and what follows come with the end.
    done_reason: Option<String>,
    logprobs: Option<Vec<Logprob>>,
    /// Nanoseconds since the request came.
    total_duration: Option<u64>,
    /// Nanoseconds until the model was there.
    load_duration: Option<u64>,
    /// Tokens of the prompt.
    prompt_eval_count: Option<usize>,
    /// Nanoseconds that it took.
    prompt_eval_duration: Option<u64>,
    /// Tokens of the answer.
    eval_count: Option<usize>,
    /// Nanoseconds that they took.
    eval_duration: Option<u64>,
    dropped: Option<Dropped>,
}

/// An answer of `/api/generate`, or a part of it.
#[derive(ToSchema)]
struct Generated {
    #[serde(flatten)]
    common: Answered,
    response: String,
    /// What the model thought before it answered.
    thinking: Option<String>,
    /// Prompt and answer as token ids, for the next request's `context`.
    context: Option<Vec<u32>>,
}

/// An answer of `/api/chat`, or a part of it.
#[derive(ToSchema)]
struct Chatted {
    #[serde(flatten)]
    common: Answered,
    message: Said,
}

#[derive(ToSchema)]
struct Said {
    /// `assistant`.
    role: String,
    content: String,
    /// What the model thought before it answered.
    thinking: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

/// A call that the model makes.
#[derive(ToSchema)]
#[schema(as = OllamaToolCall)]
struct Call {
    id: String,
    function: Called,
}

#[derive(ToSchema)]
#[schema(as = OllamaCalledFunction)]
struct Called {
    index: usize,
    name: String,
    #[schema(value_type = Object)]
    arguments: Value,
}

/// A token, how likely it was, and what was as likely.
#[derive(ToSchema)]
#[schema(as = OllamaLogprob)]
struct Logprob {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
    top_logprobs: Option<Vec<TopLogprob>>,
}

#[derive(ToSchema)]
#[schema(as = OllamaTopLogprob)]
struct TopLogprob {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

#[derive(ToSchema)]
struct Tags {
    models: Vec<Listed>,
}

/// A model that is here.
#[derive(ToSchema)]
struct Listed {
    name: String,
    model: String,
    #[schema(format = "date-time")]
    modified_at: String,
    /// Bytes.
    size: u64,
    digest: String,
    details: Details,
    /// Such as `completion`, `tools`, `insert`, `thinking`, `embedding`.
    capabilities: Vec<String>,
}

#[derive(ToSchema)]
struct Running {
    models: Vec<RunningModel>,
}

/// A model that is loaded.
#[derive(ToSchema)]
struct RunningModel {
    name: String,
    model: String,
    /// Bytes of memory.
    size: u64,
    digest: String,
    details: Details,
    /// When it will be unloaded if nobody asks it.
    #[schema(format = "date-time")]
    expires_at: String,
    /// Always 0.
    size_vram: u64,
    /// Tokens.
    context_length: usize,
}

/// A model in short.
#[derive(ToSchema)]
struct Details {
    /// What it was made from with /api/create.
    parent_model: String,
    /// `gguf`.
    format: String,
    /// The architecture.
    family: String,
    families: Vec<String>,
    /// Such as `1.5B`.
    parameter_size: String,
    /// Such as `Q4_K_M`.
    quantization_level: String,
    /// Tokens that it was trained for.
    context_length: usize,
    embedding_length: usize,
}

#[derive(ToSchema)]
struct Shown {
    license: Option<String>,
    modelfile: String,
    /// Lines as in a Modelfile.
    parameters: Option<String>,
    /// Jinja.
    template: String,
    system: Option<String>,
    #[schema(value_type = Option<Vec<Object>>)]
    messages: Value,
    details: Details,
    /// The file's metadata. Arrays are null unless `verbose`.
    #[schema(value_type = Object)]
    model_info: Value,
    /// With `verbose`: name, type and shape of each.
    #[schema(value_type = Option<Vec<Object>>)]
    tensors: Value,
    capabilities: Vec<String>,
    #[schema(format = "date-time")]
    modified_at: String,
}

/// How far something is.
#[derive(ToSchema)]
struct Progress {
    /// In a stream that has begun, a last line may have `error` instead.
    status: String,
    /// Of what is coming, where it is known.
    digest: Option<String>,
    /// Bytes.
    total: Option<u64>,
    /// Bytes.
    completed: Option<u64>,
}

/// Settings of sampling and length. Those of loading, such as `num_gpu`, are accepted and have no effect.
#[derive(ToSchema)]
pub(super) struct ModelOptions {
    /// 0: always the likeliest token.
    #[schema(minimum = 0, default = 0.8)]
    temperature: Option<f32>,
    /// Keep this many of the likeliest tokens; 0: all.
    #[schema(default = 40)]
    top_k: Option<i64>,
    /// Keep the likeliest tokens that together have this probability.
    #[schema(minimum = 0, maximum = 1, default = 0.9)]
    top_p: Option<f32>,
    /// Keep tokens at least this likely, measured against the likeliest.
    #[schema(minimum = 0, maximum = 1, default = 0.0)]
    min_p: Option<f32>,
    #[schema(minimum = 0, maximum = 1, default = 1.0)]
    typical_p: Option<f32>,
    /// Tokens back that penalties look at; -1: all.
    #[schema(default = 64)]
    repeat_last_n: Option<i64>,
    #[schema(default = 1.0)]
    repeat_penalty: Option<f32>,
    #[schema(default = 0.0)]
    presence_penalty: Option<f32>,
    #[schema(default = 0.0)]
    frequency_penalty: Option<f32>,
    /// The same seed gives the same answer. Negative: another each time.
    seed: Option<i64>,
    /// Most tokens of the answer; 0 and less: no limit.
    #[schema(default = -1)]
    num_predict: Option<i64>,
    /// Tokens at the beginning that stay when the context shifts.
    num_keep: Option<i64>,
    /// Tokens of context, at most the server's.
    num_ctx: Option<i64>,
    /// Most tokens drafted for one step; 0: none. It changes how long the answer takes, not what it is.
    #[schema(minimum = 0, maximum = 7)]
    draft_num_predict: Option<i64>,
    /// Where the answer ends.
    #[schema(value_type = Option<Texts>)]
    stop: Value,
    /// What happens when the context is full.
    overflow: Option<crate::config::OverflowPolicy>,
}
