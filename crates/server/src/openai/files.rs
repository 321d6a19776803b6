//! `/v1/files`: what batches read, uploaded by clients, and what they give. An upload is written to the disk as it comes.
//!
//! Left out: purposes other than `batch`, and files that expire (`expires_after`); they stay until they are deleted.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Multipart, Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use utoipa::ToSchema;

use super::page::PageQuery;
use crate::clock;
use crate::error::ApiError;
use crate::keep::{self, Keep, Limits, New, WhenFull};
use crate::own::blocking;
use crate::state::AppState;

/// Bytes of an upload, as with OpenAI for batches. What a batch gives may be more.
const UPLOAD_BYTES: u64 = 200 << 20;
/// Bytes of a form's field that is no file.
const FIELD_BYTES: usize = 1 << 10;
/// Bytes that a download reads at once.
const READ_BYTES: usize = 64 << 10;
/// Files on a page: when the client does not say, and at most.
const PAGE: (usize, usize) = (10_000, 10_000);

/// What is kept.
pub(crate) const LIMITS: Limits = Limits {
    n_documents: 10_000,
    one: 16 << 30,
    total: 16 << 30,
    when_full: WhenFull::Refuse,
    durable: true,
};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// The requests of a batch.
    Batch,
    /// The answers of a batch.
    BatchOutput,
}

/// A file as the API describes it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = File)]
pub(crate) struct FileObject {
    id: String,
    object: String,
    bytes: u64,
    created_at: u64,
    expires_at: Option<u64>,
    filename: String,
    pub(super) purpose: Purpose,
    status: String,
    status_details: Option<String>,
}

/// Puts a file in its place, and describes it.
pub(super) fn add(keep: &Keep, new: New, filename: String, purpose: Purpose) -> Result<FileObject, ApiError> {
    let object = FileObject {
        id: new.id().to_owned(),
        object: "file".to_owned(),
        bytes: new.n_written(),
        created_at: clock::unix_now(),
        expires_at: None,
        filename,
        purpose,
        status: "processed".to_owned(),
        status_details: None,
    };
    keep.finish(new)?;
    keep.put(&object.id, &object)?;
    Ok(object)
}

/// A file's description.
pub(super) fn find(keep: &Keep, id: &str) -> Result<FileObject, ApiError> {
    keep.get(id)?.ok_or_else(|| ApiError::NotFound(format!("there is no file `{id}`")))
}

pub(crate) async fn upload(
    State(state): State<AppState>,
    form: Result<Multipart, MultipartRejection>,
) -> Response {
    let work = async {
        let form = form.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
        Ok::<_, ApiError>(Json(take(&state, form).await?))
    };
    work.await.map_err(|error| error.openai()).into_response()
}

async fn take(state: &AppState, mut form: Multipart) -> Result<FileObject, ApiError> {
    let bad = |text: &str| ApiError::BadRequest(text.to_owned());
    let (mut purpose, mut file) = (None, None);
    while let Some(mut field) = form.next_field().await.map_err(|error| broken(&error))? {
        match field.name() {
            Some("purpose") => purpose = Some(short(&mut field).await?),
            Some("file") if file.is_none() => {
                let name = field.file_name().filter(|name| !name.is_empty()).unwrap_or("upload");
                let name = name.chars().take(256).collect::<String>();
                file = Some((write(state, &mut field).await?, name));
            }
            Some("file") => return Err(bad("only one `file` can be uploaded at a time")),
            // Whatever else clients send is read past.
            _ => {}
        }
    }
    match purpose.as_deref() {
        Some("batch") => {}
        Some(other) => {
            return Err(ApiError::BadRequest(format!(
                "purpose is `{other}`, but only `batch` files are kept"
            )));
        }
        None => return Err(bad("the form has no field `purpose`")),
    }
    let (new, name) = file.ok_or_else(|| bad("the form has no field `file`"))?;
    let state = state.clone();
    blocking(move || add(&state.files, new, name, Purpose::Batch)).await
}

/// A short text.
async fn short(field: &mut Field<'_>) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        text.extend_from_slice(&piece);
        if text.len() > FIELD_BYTES {
            return Err(ApiError::BadRequest(format!(
                "a field of the form is longer than {FIELD_BYTES} bytes"
            )));
        }
    }
    String::from_utf8(text).map_err(|_| ApiError::BadRequest("a field of the form is not UTF-8".to_owned()))
}

/// A file, to the disk.
async fn write(state: &AppState, field: &mut Field<'_>) -> Result<New, ApiError> {
    let begin = state.clone();
    let mut new = blocking(move || begin.files.create(&keep::new_id("file-"))).await?;
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        if new.n_written() + piece.len() as u64 > UPLOAD_BYTES {
            return Err(ApiError::TooLarge { limit: usize::try_from(UPLOAD_BYTES).unwrap_or(usize::MAX) });
        }
        new = blocking(move || {
            new.append(&piece)?;
            Ok(new)
        })
        .await?;
    }
    Ok(new)
}

/// A form that broke off, or that is none.
fn broken(error: &MultipartError) -> ApiError {
    ApiError::BadRequest(error.body_text())
}

/// Which files are wanted.
#[derive(Debug, Deserialize)]
pub(crate) struct FilesQuery {
    purpose: Option<Purpose>,
}

pub(crate) async fn list(
    State(state): State<AppState>,
    query: Result<Query<FilesQuery>, QueryRejection>,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Response {
    let work = async {
        let bad = |rejection: QueryRejection| ApiError::BadRequest(rejection.body_text());
        let (Query(query), Query(page)) = (query.map_err(bad)?, page.map_err(bad)?);
        let page = blocking(move || {
            page.page(state.files.ids(), PAGE, |id| {
                let object: Option<FileObject> = state.files.get(id)?;
                Ok(object.filter(|object| query.purpose.is_none_or(|purpose| object.purpose == purpose)))
            })
        });
        Ok::<_, ApiError>(Json(page.await?))
    };
    work.await.map_err(|error| error.openai()).into_response()
}

pub(crate) async fn show(State(state): State<AppState>, Path(id): Path<String>) -> Response {
    let object = blocking(move || find(&state.files, &id)).await;
    object.map(Json).map_err(|error| error.openai()).into_response()
}

pub(crate) async fn delete(State(state): State<AppState>, Path(id): Path<String>) -> Response {
    let work = async {
        let name = id.clone();
        if !blocking(move || state.files.delete(&name)).await? {
            return Err(ApiError::NotFound(format!("there is no file `{id}`")));
        }
        Ok(Json(json!({"id": id, "object": "file", "deleted": true})))
    };
    work.await.map_err(|error| error.openai()).into_response()
}

pub(crate) async fn content(State(state): State<AppState>, Path(id): Path<String>) -> Response {
    let work = async {
        let (object, file) = blocking(move || {
            let object = find(&state.files, &id)?;
            let missing = || ApiError::NotFound(format!("the content of `{id}` is gone"));
            Ok((object, state.files.data(&id)?.ok_or_else(missing)?))
        })
        .await?;
        let pieces = stream::try_unfold(tokio::fs::File::from_std(file), |mut file| async move {
            let mut piece = vec![0; READ_BYTES];
            let n = file.read(&mut piece).await?;
            piece.truncate(n);
            Ok::<_, std::io::Error>((n > 0).then(|| (Bytes::from(piece), file)))
        });
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, object.bytes.to_string()),
        ];
        Ok::<_, ApiError>((headers, Body::from_stream(pieces)))
    };
    work.await.map_err(|error| error.openai()).into_response()
}
