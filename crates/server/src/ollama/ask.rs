//! `/api/generate` and `/api/chat`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use whit_engine::Message;
use whit_sample::Grammar;

use super::answer::{Answer, Shape};
use super::describe::ModelOptions;
use super::options::Options;
use crate::config::{KeepAlive, OverflowPolicy};
use crate::error::ApiError;
use crate::generate::{self, Job};
use crate::library::{Entry, Facts};
use crate::openai::answer::{Manner, ToolChoice};
use crate::openapi::{Format, Think, Time, Tool};
use crate::own::blocking;
use crate::prompt::{Chat, Gap, Input};
use crate::state::AppState;
use crate::{body, clock};

/// What both endpoints take.
#[derive(Deserialize, ToSchema)]
#[schema(as = OllamaCommon)]
struct Common {
    /// The name of a model that is here.
    #[serde(default)]
    #[schema(required)]
    model: String,
    /// Answer in lines as tokens come.
    #[schema(default = true)]
    stream: Option<bool>,
    /// What the answer must be.
    #[schema(value_type = Option<Format>)]
    format: Option<Value>,
    #[schema(value_type = Option<Time>)]
    keep_alive: Option<Value>,
    #[schema(value_type = Option<ModelOptions>)]
    options: Option<Map<String, Value>>,
    #[schema(value_type = Option<Think>)]
    think: Option<Value>,
    /// Say how likely each token was.
    #[schema(default = false)]
    logprobs: Option<bool>,
    /// How many of the likeliest tokens to tell of.
    #[schema(minimum = 0, maximum = 20, default = 0)]
    top_logprobs: Option<i64>,
    /// False: refuse a conversation that is longer than the context, as `overflow` `error` does.
    truncate: Option<bool>,
    /// False: the same for an answer that outgrows it.
    shift: Option<bool>,
    /// What happens when the context is full. Default: as the server is set.
    overflow: Option<OverflowPolicy>,
}

impl Common {
    /// How many of the likeliest tokens to tell of.
    fn n_top(&self) -> Result<usize, ApiError> {
        match self.top_logprobs.unwrap_or(0) {
            n @ 0..=20 => Ok(n as usize),
            _ => Err(ApiError::BadRequest("top_logprobs must be between 0 and 20".to_owned())),
        }
    }
}

#[derive(Deserialize, ToSchema)]
pub(super) struct GenerateRequest {
    #[serde(flatten)]
    common: Common,
    /// Empty: only load the model, or with `keep_alive` 0 unload it.
    prompt: Option<String>,
    /// What comes after the answer, for models that fill in.
    suffix: Option<String>,
    /// In place of the model's own system message.
    system: Option<String>,
    /// In place of the model's own template (Jinja).
    template: Option<String>,
    /// Token ids of an earlier answer, to go on from.
    context: Option<Vec<u32>>,
    /// Take the prompt as it is, without a template.
    #[schema(default = false)]
    raw: Option<bool>,
    /// Must be empty: no model here reads images.
    #[schema(max_items = 0)]
    images: Option<Vec<Value>>,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct ChatRequest {
    #[serde(flatten)]
    common: Common,
    /// None: only load the model, or with `keep_alive` 0 unload it.
    messages: Option<Vec<WireMessage>>,
    #[schema(value_type = Option<Vec<Tool>>)]
    tools: Option<Vec<Value>>,
}

/// One message of a conversation.
#[derive(Deserialize, ToSchema)]
#[schema(as = OllamaMessage)]
struct WireMessage {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    #[serde(default)]
    #[schema(required, min_length = 1)]
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    /// Must be empty: no model here reads images.
    #[schema(max_items = 0)]
    images: Option<Vec<Value>>,
    /// Calls that the assistant made, as answers have them.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<Vec<Value>>,
    /// Whose result this is.
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

impl WireMessage {
    /// As templates know it.
    fn read(self, model: &str) -> Result<Message, ApiError> {
        if self.role.is_empty() {
            return Err(ApiError::BadRequest(
                "a message needs a role: system, user, assistant or tool".to_owned(),
            ));
        }
        no_images(self.images, model)?;
        let mut message = Message::new(self.role, self.content.unwrap_or_default());
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                message.extra.insert(name.to_owned(), value);
            }
        };
        set("reasoning_content", self.thinking.map(Value::from));
        set("name", self.tool_name.map(Value::from));
        set("tool_call_id", self.tool_call_id.map(Value::from));
        let calls = self.tool_calls.filter(|calls| !calls.is_empty()).map(|mut calls| {
            for call in calls.iter_mut().filter_map(Value::as_object_mut) {
                call.entry("type").or_insert_with(|| "function".into());
            }
            Value::from(calls)
        });
        set("tool_calls", calls);
        Ok(message)
    }
}

pub(super) async fn generate(State(state): State<AppState>, body: Bytes) -> Response {
    generate_inner(state, body).await.unwrap_or_else(|error| error.ollama())
}

async fn generate_inner(state: AppState, body: Bytes) -> Result<Response, ApiError> {
    let request: GenerateRequest = body::parse(&body)?;
    let entry = state.find(&request.common.model)?;
    no_images(request.images, &entry.name)?;
    let prompt = request.prompt.unwrap_or_default();
    let suffix = request.suffix.unwrap_or_default();
    if prompt.is_empty() && suffix.is_empty() {
        return load(&state, &entry, &request.common, Shape::Generate).await;
    }
    let (system, template) = (present(request.system), present(request.template));
    let context = request.context.unwrap_or_default();
    let input = if request.raw == Some(true) {
        if system.is_some() || template.is_some() || !context.is_empty() {
            return Err(ApiError::BadRequest(
                "raw mode does not support template, system, or context".to_owned(),
            ));
        }
        Input::Raw(prompt)
    } else if !suffix.is_empty() {
        let facts = facts(&state, &entry).await?;
        if !facts.can("insert") {
            let text = format!("registry model \"{}\" does not support insert", entry.name);
            return Err(ApiError::BadRequest(text));
        }
        Input::Infill(Gap { prefix: prompt, suffix, files: Vec::new() })
    } else {
        let mut messages: Vec<Message> = system.map(Message::system).into_iter().collect();
        messages.push(Message::user(prompt));
        Input::Chat(Chat { messages, template: jinja(template)?, before: context, ..Chat::default() })
    };
    answer(state, entry, request.common, input, Shape::Generate).await
}

pub(super) async fn chat(State(state): State<AppState>, body: Bytes) -> Response {
    chat_inner(state, body).await.unwrap_or_else(|error| error.ollama())
}

async fn chat_inner(state: AppState, body: Bytes) -> Result<Response, ApiError> {
    let request: ChatRequest = body::parse(&body)?;
    let entry = state.find(&request.common.model)?;
    let messages = request.messages.unwrap_or_default();
    if messages.is_empty() {
        return load(&state, &entry, &request.common, Shape::Chat).await;
    }
    let messages =
        messages.into_iter().map(|message| message.read(&entry.name)).collect::<Result<Vec<_>, _>>()?;
    let tools = request.tools.unwrap_or_default();
    if !tools.is_empty() && !facts(&state, &entry).await?.can("tools") {
        return Err(ApiError::BadRequest(format!("{} does not support tools", entry.name)));
    }
    let input = Input::Chat(Chat { messages, tools, ..Chat::default() });
    answer(state, entry, request.common, input, Shape::Chat).await
}

/// Begins an answer.
async fn answer(
    state: AppState,
    entry: Entry,
    mut common: Common,
    mut input: Input,
    shape: Shape,
) -> Result<Response, ApiError> {
    let mut options = Options::of(&state, &entry, common.options.as_ref())?;
    let wants_logprobs = common.logprobs == Some(true);
    options.sampling.logprobs = wants_logprobs.then_some(common.n_top()?);

    let facts = facts(&state, &entry).await?;
    let think = thinking(&common.think, &facts, &entry.name)?;
    let mut manner = Manner::of(&state, &common.model).await?;
    let mut tools = Vec::new();
    if let Input::Chat(chat) = &mut input {
        match &common.think {
            Some(Value::String(level)) => manner.effort(chat, level)?,
            _ => manner.think(chat, think),
        }
        tools = std::mem::take(&mut chat.tools);
        manner.offer(chat, &tools);
    }
    if !think || !matches!(input, Input::Chat(_)) {
        manner.forget_thoughts();
    }
    let grammar = match common.format.take() {
        None => None,
        Some(format) => blocking(move || grammar(&format)).await?,
    };
    let mut job = Job {
        sampling: options.sampling,
        stop: options.stop,
        max_tokens: options.max_tokens,
        n_keep: options.n_keep,
        n_ctx: options.n_ctx,
        max_draft: options.max_draft,
        overflow: overflow(&common, options.overflow),
        keep_alive: common.keep_alive.as_ref().map(KeepAlive::from_json).transpose()?,
        grammar,
        ..Job::new(&common.model, input)
    };
    manner.bind(&mut job, &ToolChoice::Auto, &tools, true)?;
    let stream = generate::start(&state, job).await?;
    // An object in this API: calls come whole.
    let reader = manner.reader(&stream, &tools, false);
    let answer = Answer {
        shape,
        model: common.model,
        stream,
        reader,
        wants_logprobs,
        ids: Vec::new(),
        call: None,
        n_calls: 0,
    };
    Ok(answer.respond(common.stream.unwrap_or(true)).await)
}

/// What to do when the context is full: our own field says it outright; of Ollama's two, each can only forbid.
fn overflow(common: &Common, option: Option<OverflowPolicy>) -> Option<OverflowPolicy> {
    let forbidden = common.truncate == Some(false) || common.shift == Some(false);
    common.overflow.or(option).or(forbidden.then_some(OverflowPolicy::Error))
}

/// Whether the model shall think.
fn thinking(think: &Option<Value>, facts: &Facts, name: &str) -> Result<bool, ApiError> {
    let wanted = match think {
        None | Some(Value::Null) => return Ok(facts.can("thinking")),
        Some(Value::Bool(wanted)) => *wanted,
        Some(Value::String(level)) if ["low", "medium", "high", "max"].contains(&level.as_str()) => true,
        Some(Value::String(level)) if level == "none" => false,
        Some(other) => {
            let text = format!(
                "invalid think value: {other} (must be \"high\", \"medium\", \"low\", true, or false)"
            );
            return Err(ApiError::BadRequest(text));
        }
    };
    if wanted && !facts.can("thinking") {
        return Err(ApiError::BadRequest(format!("\"{name}\" does not support thinking")));
    }
    Ok(wanted)
}

/// `format`: `"json"`, a schema, or nothing.
fn grammar(format: &Value) -> Result<Option<Grammar>, ApiError> {
    match format {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) if text == "json" => Ok(Some(Grammar::json()?)),
        Value::Object(_) => Ok(Some(Grammar::json_schema(format)?)),
        other => Err(ApiError::BadRequest(format!(
            "invalid format: {other}; expected \"json\" or a valid JSON Schema object"
        ))),
    }
}

/// An empty prompt: loads the model, or with `keep_alive` 0 drops it.
async fn load(state: &AppState, entry: &Entry, common: &Common, shape: Shape) -> Result<Response, ApiError> {
    common.n_top()?;
    Options::of(state, entry, common.options.as_ref())?;
    let facts = facts(state, entry).await?;
    thinking(&common.think, &facts, &entry.name)?;
    let keep_alive = common.keep_alive.as_ref().map(KeepAlive::from_json).transpose()?;
    let reason = if keep_alive == Some(KeepAlive::For(std::time::Duration::ZERO)) {
        state.manager.unload(entry);
        "unload"
    } else {
        drop(state.manager.lease(entry, keep_alive).await?);
        "load"
    };
    let text = match shape {
        Shape::Generate => ("response", json!("")),
        Shape::Chat => ("message", json!({"role": "assistant", "content": ""})),
    };
    let (model, now) = (&common.model, clock::now());
    Ok(Json(json!({"model": model, "created_at": now, text.0: text.1, "done": true, "done_reason": reason}))
        .into_response())
}

async fn facts(state: &AppState, entry: &Entry) -> Result<std::sync::Arc<Facts>, ApiError> {
    let (state, entry) = (state.clone(), entry.clone());
    blocking(move || state.library.facts(&entry)).await
}

fn no_images(images: Option<Vec<Value>>, model: &str) -> Result<(), ApiError> {
    match images {
        Some(images) if !images.is_empty() => {
            Err(ApiError::BadRequest(format!("\"{model}\" does not support image input")))
        }
        _ => Ok(()),
    }
}

fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// A template of the request's own.
fn jinja(template: Option<String>) -> Result<Option<String>, ApiError> {
    if template.as_deref().is_some_and(whit_hub::is_go_template) {
        let text = "this template is written for Go; templates here are Jinja, as model files hold them";
        return Err(ApiError::BadRequest(text.to_owned()));
    }
    Ok(template)
}
