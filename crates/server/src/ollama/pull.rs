//! `/api/pull`: gets a model into the store, and says how far it is.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use whit_hub::{Phase, Progress, Reference, Source, catalog};

use super::progress::{self, Reports};
use crate::body;
use crate::error::ApiError;
use crate::library;
use crate::state::AppState;

#[derive(Deserialize, ToSchema)]
pub(super) struct PullRequest {
    /// A name of the catalog, one of Ollama's registry (`name`, `owner/name:tag`, `host/owner/name:tag`), or a source such as
    /// `hf:…`.
    #[serde(default, alias = "name")]
    #[schema(required)]
    model: String,
    /// Without encryption, from a registry that the server was told of as one such.
    #[schema(default = false)]
    insecure: Option<bool>,
    /// Answer in lines.
    #[schema(default = true)]
    stream: Option<bool>,
}

pub(super) async fn pull(State(state): State<AppState>, body: Bytes) -> Response {
    let started = body::parse(&body).and_then(|request: PullRequest| {
        let reference = reference(&state, &request)?;
        Ok((request.stream.unwrap_or(true), reference))
    });
    let (streaming, reference) = match started {
        Ok(started) => started,
        Err(error) => return error.ollama(),
    };
    let digest = digest(&reference);
    let pull = move |reports: &Reports| {
        reports.lasting("pulling manifest");
        let mut report = |progress| reports.passing(status(&progress, digest.as_deref()));
        state.library.store().pull(&reference, &mut report)?;
        reports.lasting("verifying sha256 digest");
        reports.lasting("writing manifest");
        Ok(())
    };
    progress::respond(streaming, pull).await
}

/// What is to be pulled. A registry that is to be asked without encryption must be one that the server was told of.
fn reference(state: &AppState, request: &PullRequest) -> Result<Reference, ApiError> {
    let name = request.model.trim();
    let reference = library::reference(name)?;
    let wants_plain = request.insecure == Some(true);
    if name.starts_with("http://") && !wants_plain {
        return Err(ApiError::BadRequest("insecure protocol http".to_owned()));
    }
    if let Reference::Source(Source::Registry(registry)) = &reference
        && let Some(host) = registry.host().filter(|_| wants_plain)
        && !state.library.store().asks_plainly(registry)
    {
        return Err(ApiError::BadRequest(format!(
            "`insecure` is for registries that this server knows as such: start it with \
             WHIT_REGISTRIES=http://{host}, or pull without `insecure`"
        )));
    }
    Ok(reference)
}

/// The digest of what is coming, where the catalog knows it.
fn digest(reference: &Reference) -> Option<String> {
    let Reference::Name(name, tag) = reference else { return None };
    let is_meant = |entry: &&catalog::Entry| {
        entry.name == name && tag.as_deref().map_or(entry.default, |tag| entry.tag == tag)
    };
    catalog::CATALOG.iter().find(is_meant).and_then(|entry| entry.sha256).map(str::to_owned)
}

fn status(progress: &Progress, digest: Option<&str>) -> Value {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    match progress.phase {
        Phase::Waiting => set("status", "waiting for another pull of this model".into()),
        Phase::Copying => set("status", "copying".into()),
        Phase::Checking => set("status", "checking what is here".into()),
        Phase::Finishing => set("status", "verifying sha256 digest".into()),
        Phase::Downloading => {
            let short = digest.and_then(|digest| digest.get(..12)).unwrap_or("model");
            set("status", format!("pulling {short}").into())
        }
    };
    if progress.phase == Phase::Downloading {
        // Clients key their bars on it.
        set("digest", format!("sha256:{}", digest.unwrap_or_default()).into());
        if let Some(total) = progress.total {
            set("total", total.into());
        }
        set("completed", progress.done.into());
    }
    object.into()
}
