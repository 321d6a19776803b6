//! `/api/create` and `/api/blobs`: a model out of another one or an uploaded GGUF file, with a system message, a template
//! and parameters of its own. Left out: quantizing and adapters, each refused by name.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use whit_engine::Message;
use whit_hub::Extras;

use super::describe::ModelOptions;
use super::options::Options;
use crate::error::ApiError;
use crate::library::{Library, hex};
use crate::openapi::Texts;
use crate::own::blocking;
use crate::state::AppState;
use crate::{body, stall};

#[derive(Deserialize, ToSchema)]
pub(super) struct CreateRequest {
    /// The name of the new model.
    #[serde(default, alias = "name")]
    #[schema(required)]
    model: String,
    /// The name of the model that it is made from.
    from: Option<String>,
    /// Or the file: its name to the digest under which it was uploaded. One GGUF file.
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    files: Option<Map<String, Value>>,
    /// Not taken yet: must be empty.
    #[schema(value_type = Option<Object>)]
    adapters: Option<Map<String, Value>>,
    /// Not done yet: must be empty.
    #[serde(alias = "quantization")]
    #[schema(max_length = 0)]
    quantize: Option<String>,
    /// No longer understood: must not be there.
    #[schema(deprecated)]
    modelfile: Option<String>,
    /// Jinja. One in the language of Go is kept and shown, but not used.
    template: Option<String>,
    /// The system message.
    system: Option<String>,
    #[schema(value_type = Option<Texts>)]
    license: Option<Value>,
    #[schema(value_type = Option<ModelOptions>)]
    parameters: Option<Map<String, Value>>,
    /// Said before every conversation.
    #[schema(value_type = Option<Vec<Object>>)]
    messages: Option<Vec<Message>>,
    /// Answer in lines.
    #[schema(default = true)]
    stream: Option<bool>,
}

pub(super) async fn create(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: CreateRequest = body::parse(&body)?;
        let streaming = request.stream.unwrap_or(true);
        let statuses = blocking(move || make(&state, request)).await?;
        Ok::<_, ApiError>((streaming, statuses))
    };
    match work.await {
        Ok((true, statuses)) => {
            let line = |status: &String| format!("{}\n", json!({"status": status}));
            let lines: String = statuses.iter().map(line).collect();
            ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
        }
        Ok((false, _)) => Json(json!({"status": "success"})).into_response(),
        Err(error) => error.ollama(),
    }
}

/// Writes the recipe; gives what there is to say about it.
fn make(state: &AppState, request: CreateRequest) -> Result<Vec<String>, ApiError> {
    let bad = |text: &str| Err(ApiError::BadRequest(text.to_owned()));
    if request.modelfile.is_some() {
        return bad(
            "`modelfile` is no longer understood; send `from` or `files`, `template`, `system` and `parameters`",
        );
    }
    if request.quantize.is_some_and(|format| !format.is_empty()) {
        return bad("this server does not quantize; upload a quantized GGUF file");
    }
    if request.adapters.is_some_and(|adapters| !adapters.is_empty()) {
        return bad("this server does not take adapters");
    }
    let parameters = request.parameters.unwrap_or_default();
    // What is wrong with them is said now, not with the first request.
    Options::read(&[&parameters], state.config.strict)?;
    let files = request.files.unwrap_or_default();
    // What is told: a path of this machine is no client's affair.
    let (told, (from, base)) = match (request.from.filter(|from| !from.is_empty()), files.len()) {
        (Some(from), 0) => {
            let foundation = state.library.foundation(&from)?;
            (from, foundation)
        }
        (None, 1) => {
            let digest = files.values().next().and_then(Value::as_str).unwrap_or_default();
            let digest = Library::digest(digest)?;
            check(&state.library.store().blob(&digest))?;
            (digest.to_string(), (digest.to_string(), Extras::default()))
        }
        (None, 0) => return bad("neither 'from' or 'files' was specified"),
        _ => return bad("give either `from`, or one GGUF file in `files`"),
    };
    let licenses = match request.license {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => {
            texts.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        }
        Some(_) => return bad("license must be a text or a list of texts"),
    };
    let messages = request.messages.unwrap_or_default().iter().map(|message| json!(message)).collect();
    let mut own = Extras { system: request.system, parameters, messages, licenses, ..Extras::default() };
    if let Some(template) = request.template.filter(|text| !text.is_empty()) {
        own.set_template(template);
    }
    let mut statuses = vec![format!("using existing layer {told}")];
    if own.go_template.is_some() {
        statuses.push("the template is in the language of Go: kept, but the model's own is used".to_owned());
    }
    state.library.store().create(&request.model, from, base.with(own))?;
    statuses.extend(["writing manifest".to_owned(), "success".to_owned()]);
    Ok(statuses)
}

/// Whether an uploaded file is a model that can be run.
fn check(path: &Path) -> Result<(), ApiError> {
    if !path.is_file() {
        return Err(ApiError::BadRequest(
            "a file was not uploaded: POST it to /api/blobs/sha256:…".to_owned(),
        ));
    }
    whit_engine::Model::open(path).map(drop).map_err(|error| {
        tracing::warn!(%error, "an uploaded file is no model");
        ApiError::BadRequest("the uploaded file is not a GGUF model that this server can run".to_owned())
    })
}

/// The path of an uploaded file, there or not.
fn blob(state: &AppState, digest: &str) -> Result<PathBuf, ApiError> {
    Ok(state.library.store().blob(&Library::digest(digest)?))
}

pub(super) async fn probe(
    State(state): State<AppState>,
    digest: Result<UrlPath<String>, PathRejection>,
) -> Response {
    match digest.map_err(ApiError::from).and_then(|UrlPath(digest)| blob(&state, &digest)) {
        Ok(path) if path.is_file() => StatusCode::OK.into_response(),
        Ok(_) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => error.ollama(),
    }
}

pub(super) async fn upload(
    State(state): State<AppState>,
    digest: Result<UrlPath<String>, PathRejection>,
    body: Body,
) -> Response {
    let work = async {
        let UrlPath(digest) = digest?;
        take(&state, &digest, body).await
    };
    work.await.map_err(|error| error.ollama()).into_response()
}

/// Writes an upload beside its place, and puts it there when its digest is right.
async fn take(state: &AppState, digest: &str, body: Body) -> Result<StatusCode, ApiError> {
    let path = blob(state, digest)?;
    if path.is_file() {
        return Ok(StatusCode::OK);
    }
    let fail = |error: std::io::Error| ApiError::internal(&error);
    let folder = state.library.store().blobs();
    std::fs::create_dir_all(&folder).map_err(fail)?;
    let limit = state.config.max_blob;
    // Removed when dropped: half an upload leaves nothing.
    let mut partial = Partial::new(&folder)?;
    let (mut hasher, mut size) = (Sha256::new(), 0u64);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| stall::failure(&error))?;
        size += chunk.len() as u64;
        if size > limit {
            return Err(ApiError::TooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX) });
        }
        (partial, hasher) = blocking(move || {
            partial.file.write_all(&chunk).map_err(fail)?;
            hasher.update(&chunk);
            Ok((partial, hasher))
        })
        .await?;
    }
    let wanted = digest.strip_prefix("sha256:").unwrap_or(digest).to_owned();
    if hex(&hasher.finalize()) != wanted {
        return Err(ApiError::BadRequest(
            "digest mismatch: the file is not the one that its name says".to_owned(),
        ));
    }
    blocking(move || {
        partial.file.sync_all().map_err(fail)?;
        std::fs::rename(&partial.path, &path).map_err(fail)
    })
    .await?;
    Ok(StatusCode::CREATED)
}

/// A file on its way.
struct Partial {
    file: std::fs::File,
    path: std::path::PathBuf,
}

impl Partial {
    fn new(folder: &Path) -> Result<Partial, ApiError> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.join(format!("partial-{}-{number}", std::process::id()));
        let file = std::fs::File::create(&path).map_err(|error| ApiError::internal(&error))?;
        Ok(Partial { file, path })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it has been put in its place.
        let _ = std::fs::remove_file(&self.path);
    }
}
