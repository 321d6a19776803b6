//! `/api/push`: sends a model to the registry that its name says, and says how far it is.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use whit_hub::{Digest, Extras, Manifest, ModelFacts, Package, PushEvent, RegistryName};

use super::manage::details;
use super::progress::{self, Reports};
use crate::body;
use crate::error::ApiError;
use crate::library::Entry;
use crate::own::blocking;
use crate::state::AppState;

#[derive(Deserialize, ToSchema)]
pub(super) struct PushRequest {
    /// The model, by a name that says where to: `owner/name:tag`, `host/owner/name:tag`.
    #[serde(default, alias = "name")]
    #[schema(required)]
    model: String,
    /// Without encryption.
    #[schema(default = false)]
    insecure: Option<bool>,
    /// Answer in lines.
    #[schema(default = true)]
    stream: Option<bool>,
}

pub(super) async fn push(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: PushRequest = body::parse(&body)?;
        let (name, is_plain) = RegistryName::from_client(request.model.trim())
            .map_err(|problem| ApiError::BadRequest(format!("invalid model name: {problem}")))?;
        let insecure = request.insecure == Some(true);
        if is_plain && !insecure {
            return Err(ApiError::BadRequest("insecure protocol http".to_owned()));
        }
        let model =
            request.model.trim().trim_start_matches("https://").trim_start_matches("http://").to_owned();
        let reading = state.clone();
        let package = blocking(move || package(&reading, &model)).await?;
        Ok::<_, ApiError>((request.stream.unwrap_or(true), insecure, name, package))
    };
    let (streaming, insecure, name, package) = match work.await {
        Ok(started) => started,
        Err(error) => return error.ollama(),
    };
    let push = move |reports: &Reports| {
        let mut report = |event: PushEvent| match event {
            PushEvent::Preparing => reports.lasting("retrieving manifest"),
            PushEvent::Blob { digest, done, total } => reports.passing(json!({
                "status": format!("pushing {}", digest.short()),
                "digest": digest.to_string(),
                "total": total,
                "completed": done,
            })),
            PushEvent::Manifest => reports.lasting("pushing manifest"),
        };
        state.library.store().push(&package, &name, insecure, &mut report)
    };
    progress::respond(streaming, push).await
}

/// A model as a registry takes it.
fn package(state: &AppState, model: &str) -> Result<Package, ApiError> {
    let entry = state.library.find(model)?;
    let facts = state.library.facts(&entry)?;
    let details = details(&entry, &facts);
    let text = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
    let stored = stored(state, &entry);
    Ok(Package {
        file: entry.path.clone(),
        digest: digest(&entry, stored.as_ref()),
        facts: ModelFacts {
            family: text("family"),
            parameters: text("parameter_size"),
            quantization: text("quantization_level"),
        },
        extras: extras(&entry, stored),
    })
}

/// The digest of the weights, where it was written down: a recipe has one of its own.
fn digest(entry: &Entry, stored: Option<&Manifest>) -> Option<Digest> {
    let uploaded = entry.recipe.as_ref().and_then(|recipe| recipe.from.parse().ok());
    uploaded.or_else(|| Digest::from_hex(&stored?.sha256))
}

/// The store's word on the file of a model.
fn stored(state: &AppState, entry: &Entry) -> Option<Manifest> {
    let name = entry.parent.as_ref().unwrap_or(&entry.name);
    let found = state.library.store().resolve(&name.parse().ok()?).ok()??;
    found.manifest.filter(|_| found.path == entry.path)
}

fn extras(entry: &Entry, stored: Option<Manifest>) -> Extras {
    // What was pulled goes on as it came.
    if let Some(manifest) = stored.filter(|manifest| manifest.name == entry.name) {
        return manifest.extras;
    }
    entry.recipe.as_ref().map(|recipe| recipe.extras.clone()).unwrap_or_default()
}
