//! `/api/show`: everything about one model.

use std::fmt::Write as _;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use whit_files::Gguf;

use super::manage::details;
use crate::error::ApiError;
use crate::library::Entry;
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
    let gguf = Gguf::open(&entry.path).map_err(|error| ApiError::internal(&error))?;
    let recipe = entry.recipe.as_deref();
    let template = recipe.and_then(|recipe| recipe.template.clone()).or_else(|| facts.template.clone());
    let parameters = recipe.map(|recipe| parameters(&recipe.parameters)).unwrap_or_default();
    let system = recipe.and_then(|recipe| recipe.system.clone()).unwrap_or_default();
    let license = recipe.and_then(|recipe| recipe.license.clone()).or_else(|| facts.info.licence.clone());
    let template = template.unwrap_or_default();

    let mut shown = Map::new();
    let mut set = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    if let Some(license) = license {
        set("license", license.into());
    }
    set("modelfile", modelfile(&entry, &template, &system, &parameters).into());
    if !parameters.is_empty() {
        set("parameters", parameters.into());
    }
    set("template", template.into());
    if !system.is_empty() {
        set("system", system.into());
    }
    if let Some(recipe) = recipe.filter(|recipe| !recipe.messages.is_empty()) {
        set("messages", json!(recipe.messages));
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

/// Lines as in a Modelfile, without the word PARAMETER.
fn parameters(parameters: &Map<String, Value>) -> String {
    let mut lines = String::new();
    for (name, value) in parameters {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{name:<30} {value}");
        }
    }
    lines.trim_end().to_owned()
}

/// A Modelfile that says the same. Paths of this machine are no client's affair.
fn modelfile(entry: &Entry, template: &str, system: &str, parameters: &str) -> String {
    let mut text = format!("FROM {}\n", entry.parent.as_deref().unwrap_or(&entry.name));
    if !template.is_empty() {
        let _ = writeln!(text, "TEMPLATE \"\"\"{template}\"\"\"");
    }
    if !system.is_empty() {
        let _ = writeln!(text, "SYSTEM \"\"\"{system}\"\"\"");
    }
    for line in parameters.lines() {
        let _ = writeln!(text, "PARAMETER {line}");
    }
    text
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
