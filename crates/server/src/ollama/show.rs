//! `/api/show`: everything about one model.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use whit_files::Gguf;
use whit_hub::{Modelfile, parameter_lines};

use super::manage::details;
use crate::error::ApiError;
use crate::own::blocking;
use crate::state::AppState;
use crate::{body, clock};

#[derive(Deserialize, ToSchema)]
pub(super) struct ShowRequest {
    /// The name of a model that is here.
    #[serde(default, alias = "name")]
    #[schema(required)]
    model: String,
    /// With vocabularies and all tensors.
    verbose: Option<bool>,
}

pub(super) async fn show(State(state): State<AppState>, body: Bytes) -> Response {
    let work = async {
        let request: ShowRequest = body::parse(&body)?;
        blocking(move || describe(&state, &request)).await
    };
    work.await.map_err(|error| error.ollama()).into_response()
}

fn describe(state: &AppState, request: &ShowRequest) -> Result<Json<Value>, ApiError> {
    let verbose = request.verbose == Some(true);
    let entry = state.library.find(&request.model)?;
    let facts = state.library.facts(&entry)?;
    let gguf = whit_models::open(&entry.path).map_err(|error| ApiError::internal(&error))?;
    let mut extras = entry.recipe.as_ref().map(|recipe| recipe.extras.clone()).unwrap_or_default();
    let template = extras.template.clone().or_else(|| facts.template.clone());
    // One in Go is written down as it came, though the file's own is used.
    if extras.go_template.is_none() {
        extras.template.clone_from(&template);
    }
    // Paths of this machine are no client's affair.
    let from = entry.parent.as_deref().unwrap_or(&entry.name);
    let modelfile = Modelfile::write(from, &extras);
    let license = match extras.licenses.join("\n\n") {
        none if none.is_empty() => facts.info.licence.clone(),
        licenses => Some(licenses),
    };

    let mut shown = Map::new();
    let mut set = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    if let Some(license) = license {
        set("license", license.into());
    }
    set("modelfile", modelfile.into());
    if !extras.parameters.is_empty() {
        set("parameters", parameter_lines(&extras.parameters).into());
    }
    set("template", template.unwrap_or_default().into());
    if let Some(system) = extras.system {
        set("system", system.into());
    }
    if !extras.messages.is_empty() {
        set("messages", extras.messages.into());
    }
    set("details", details(&entry, &facts));
    set("model_info", metadata(&gguf, facts.info.n_params, verbose));
    if verbose {
        let tensors = gguf.tensors().iter().map(
            |tensor| json!({"name": &*tensor.name, "type": tensor.dtype.to_string(), "shape": tensor.shape}),
        );
        set("tensors", tensors.collect());
    }
    set("capabilities", json!(facts.capabilities));
    set("modified_at", clock::rfc3339(entry.modified).into());
    Ok(Json(shown.into()))
}

/// The file's metadata. Arrays are null unless `verbose`.
fn metadata(gguf: &Gguf, n_params: u64, verbose: bool) -> Value {
    let mut object = Map::new();
    for (key, value) in gguf.metadata().iter() {
        object.insert(key.to_owned(), json_of(value, verbose));
    }
    object.entry("general.parameter_count").or_insert_with(|| n_params.into());
    object.into()
}

fn json_of(value: whit_files::Value<'_>, verbose: bool) -> Value {
    use whit_files::Value as V;
    match value {
        V::Bool(yes) => yes.into(),
        V::F32(number) => json!(number),
        V::F64(number) => json!(number),
        V::U64(number) => number.into(),
        V::Str(bytes) => String::from_utf8_lossy(bytes).into(),
        V::Array(array) if verbose => array.values().map(|value| json_of(value, true)).collect(),
        V::Array(_) => Value::Null,
        number => number.as_integer().and_then(|number| i64::try_from(number).ok()).into(),
    }
}
