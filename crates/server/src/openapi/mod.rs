//! The OpenAPI 3.1 document of this server, at `/openapi.json`.
//!
//! Request bodies are the types that handlers parse (`body::parse` takes no others), so no field is missing; answers are
//! types beside them, held against the server by tests. Each API lists its endpoints next to its routes. Left out: the
//! pages of the web chat.

mod endpoint;
mod shapes;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema as _, ToSchema as _};

pub(crate) use endpoint::{Api, Endpoint};
pub(crate) use shapes::*;

use crate::state::AppState;
use crate::{anthropic, conversations, ollama, openai, own};

pub(crate) fn router() -> Router<AppState> {
    Router::new().route(
        "/openapi.json",
        get(|State(state): State<AppState>| async move { Json(document(!state.config.keys.is_empty())) }),
    )
}

/// Every endpoint, with whose it is.
fn endpoints() -> Vec<(Api, Endpoint)> {
    let own_document = Endpoint::get("/openapi.json", "This document")
        .gives::<Document>("What this server can be asked, as OpenAPI 3.1.");
    let of = |api: Api, endpoints: Vec<Endpoint>| endpoints.into_iter().map(move |endpoint| (api, endpoint));
    of(Api::Ollama, ollama::endpoints())
        .chain(of(Api::OpenAi, openai::endpoints()))
        .chain(of(Api::Anthropic, anthropic::endpoints()))
        .chain(of(Api::Own, own::endpoints()))
        .chain(of(Api::Own, conversations::endpoints()))
        .chain(of(Api::Own, vec![own_document]))
        .collect()
}

/// The document. `has_keys`: the server asks for keys.
fn document(has_keys: bool) -> Value {
    let mut paths = Map::new();
    let mut schemas: BTreeMap<String, RefOr<Schema>> = BTreeMap::from([
        (ErrorBody::name().into_owned(), ErrorBody::schema()),
        (OpenAiError::name().into_owned(), OpenAiError::schema()),
        (OpenAiErrorBody::name().into_owned(), OpenAiErrorBody::schema()),
        (AnthropicError::name().into_owned(), AnthropicError::schema()),
        (AnthropicErrorBody::name().into_owned(), AnthropicErrorBody::schema()),
    ]);
    for (api, endpoint) in endpoints() {
        let operation = endpoint.operation(api, has_keys);
        paths.entry(endpoint.path).or_insert_with(|| json!({}))[endpoint.method] = operation;
        schemas.extend(endpoint.schemas);
    }
    let tags: Vec<Value> = [
        (Api::Ollama, "As clients of Ollama speak it."),
        (Api::OpenAi, "As clients of OpenAI speak it."),
        (Api::Anthropic, "As clients of Anthropic speak it."),
        (Api::Own, "What no other API has: tokens, conversations of the web chat, health and metrics."),
    ]
    .map(|(api, text)| json!({"name": api.tag(), "description": text}))
    .into();
    let mut components = json!({"schemas": schemas});
    if has_keys {
        components["securitySchemes"] = json!({
            "bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        });
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Whit",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Small language models over HTTP. Fields that an API does not know are ignored, unless the \
                server runs with --strict; `null` is the same as a field that is not there.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "tags": tags,
        "paths": paths,
        "components": components,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{listen, ui};

    /// Method and path of every route. A router does not tell of its routes but to those who debug it.
    fn routes(router: &Router<AppState>) -> BTreeSet<String> {
        let text = format!("{router:?}");
        let (routes, paths) = text.split_once("node: Node { paths: {").unwrap();
        let paths = paths.split_once('}').map_or(paths, |_| paths.split_once("} }").unwrap().0);
        let mut found = BTreeSet::new();
        for path in paths.split(", ") {
            let (id, path) = path.split_once(": ").unwrap();
            let route = routes.split_once(&format!("{id}: MethodRouter")).unwrap().1;
            let methods = route.split_once("allow_header: Bytes(b\"").unwrap().1.split_once('"').unwrap().0;
            let methods: Vec<&str> = methods.split(',').collect();
            // Whoever may GET may also ask for the head alone.
            let is_implied = |method: &str| method == "HEAD" && methods.contains(&"GET");
            for method in methods.iter().filter(|method| !is_implied(method)) {
                found.insert(format!("{method} {}", path.trim_matches('"').replace("{*", "{")));
            }
        }
        found
    }

    #[test]
    fn every_route_is_in_the_document_and_every_path_of_the_document_is_a_route() {
        let pages = routes(&ui::router());
        let routes: BTreeSet<String> = routes(&listen::routes()).difference(&pages).cloned().collect();
        let mut described = BTreeSet::new();
        for (path, methods) in document(false)["paths"].as_object().unwrap() {
            let methods = methods.as_object().unwrap().keys();
            described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let missing: Vec<&String> = routes.difference(&described).collect();
        assert!(missing.is_empty(), "add to `endpoints()` of the API, beside its routes: {missing:?}");
        let gone: Vec<&String> = described.difference(&routes).collect();
        assert!(gone.is_empty(), "no such route: {gone:?}");
    }

    #[test]
    fn a_name_means_one_schema() {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        for (name, schema) in endpoints().into_iter().flat_map(|(_, endpoint)| endpoint.schemas) {
            let schema = serde_json::to_value(schema).unwrap();
            let before = known.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*before, schema, "two types are called {name}: give one `#[schema(as = ..)]`");
        }
    }

    #[test]
    fn references_lead_somewhere_and_operations_have_names_of_their_own() {
        let document = document(true);
        let text = document.to_string();
        let references: Vec<&str> =
            text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(references.len() > 50);
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        let operations = document["paths"].as_object().unwrap().values();
        let ids: Vec<&Value> = operations
            .flat_map(|methods| methods.as_object().unwrap().values())
            .map(|operation| &operation["operationId"])
            .collect();
        assert_eq!(ids.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>().len(), ids.len());
    }

    #[test]
    fn keys_are_asked_for_where_the_guard_asks() {
        let document = document(true);
        for (pointer, expected) in [
            ("/paths/~1api~1chat/post", json!([{"bearer": ["inference"]}, {"apiKey": ["inference"]}])),
            ("/paths/~1api~1pull/post", json!([{"bearer": ["admin"]}, {"apiKey": ["admin"]}])),
            ("/paths/~1api~1version/get", json!([])),
        ] {
            assert_eq!(document.pointer(pointer).unwrap()["security"], expected, "{pointer}");
        }
    }
}
