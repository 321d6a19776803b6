//! `/api/create` and `/api/blobs`: a model out of another one or an uploaded GGUF file, with a system message, a template
//! and parameters of its own. Left out: quantizing and adapters, each refused by name.

use std::io::Write as _;
use std::path::Path;

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

use super::ask::jinja;
use super::describe::ModelOptions;
use super::options::Options;
use crate::error::ApiError;
use crate::library::{Recipe, hex};
use crate::openapi::Texts;
use crate::own::blocking;
use crate::state::AppState;
use crate::{body, clock, stall};

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
    /// Jinja.
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
        let from = blocking(move || make(&state, request)).await?;
        Ok::<_, ApiError>((streaming, from))
    };
    match work.await {
        Ok((true, from)) => {
            let statuses =
                [format!("using existing layer {from}"), "writing manifest".into(), "success".into()];
            let lines = statuses.map(|status| format!("{}\n", json!({"status": status})));
            ([(header::CONTENT_TYPE, "application/x-ndjson")], lines.concat()).into_response()
        }
        Ok((false, _)) => Json(json!({"status": "success"})).into_response(),
        Err(error) => error.ollama(),
    }
}

/// Writes the recipe; gives what it is made from.
fn make(state: &AppState, request: CreateRequest) -> Result<String, ApiError> {
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
    let (from, base) = match (request.from.filter(|from| !from.is_empty()), files.len()) {
        (Some(from), 0) => {
            let entry = state.library.find(&from)?;
            let base = entry.recipe.as_deref().cloned();
            let from = base.as_ref().map_or_else(|| entry.name.clone(), |recipe| recipe.from.clone());
            (from, base.unwrap_or_default())
        }
        (None, 1) => {
            let digest = files.values().next().and_then(Value::as_str).unwrap_or_default();
            let path = state.library.blob(digest)?;
            check(&path)?;
            let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
            (format!("sha256:{hex}"), Recipe::default())
        }
        (None, 0) => return bad("neither 'from' or 'files' was specified"),
        _ => return bad("give either `from`, or one GGUF file in `files`"),
    };
    let license = match request.license {
        None | Some(Value::Null) => base.license,
        Some(Value::String(text)) => Some(text),
        Some(Value::Array(texts)) => {
            Some(texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n\n"))
        }
        Some(_) => return bad("license must be a text or a list of texts"),
    };
    let mut merged = base.parameters;
    merged.extend(parameters);
    let recipe = Recipe {
        from: from.clone(),
        system: request.system.or(base.system),
        template: jinja(request.template.filter(|text| !text.is_empty()))?.or(base.template),
        license,
        parameters: merged,
        messages: request.messages.unwrap_or(base.messages),
        created: clock::unix_now(),
    };
    state.library.put(&request.model, recipe)?;
    Ok(from)
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

pub(super) async fn probe(
    State(state): State<AppState>,
    digest: Result<UrlPath<String>, PathRejection>,
) -> Response {
    match digest.map_err(ApiError::from).and_then(|UrlPath(digest)| state.library.blob(&digest)) {
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
    let path = state.library.blob(digest)?;
    if path.is_file() {
        return Ok(StatusCode::OK);
    }
    let fail = |error: std::io::Error| ApiError::internal(&error);
    let folder = state.library.blobs();
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
