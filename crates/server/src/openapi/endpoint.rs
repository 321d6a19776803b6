//! One endpoint of the document: what it takes and what it answers, said in a few calls beside the routes of its API.
//!
//! Bodies are named by their Rust types, so that the document has the fields that the code has. What every endpoint of
//! an API can answer (a refused key, a body that is too large) is added here, not said for each.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::error::ErrorShape;
use crate::guard;

/// Whose an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Ollama,
    OpenAi,
    Anthropic,
    Own,
}

impl Api {
    /// The name under which its endpoints stand together.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Api::Ollama => "Ollama",
            Api::OpenAi => "OpenAI",
            Api::Anthropic => "Anthropic",
            Api::Own => "Whit",
        }
    }
}

/// The schema of the errors of `path`.
fn error_schema(path: &str) -> Value {
    let name = match ErrorShape::of(path) {
        ErrorShape::Ollama => "Error",
        ErrorShape::OpenAi => "OpenAiError",
        ErrorShape::Anthropic => "AnthropicError",
    };
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A schema and the name under which others refer to it.
pub(super) type Named = (String, RefOr<Schema>);

/// An endpoint.
pub(crate) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
    /// Statuses of errors beside those that all endpoints have.
    errors: Vec<u16>,
    pub(super) schemas: Vec<Named>,
}

impl Endpoint {
    fn new(method: &'static str, path: &'static str, summary: &'static str) -> Endpoint {
        Endpoint {
            method,
            path,
            summary,
            parameters: Vec::new(),
            body: None,
            responses: Map::new(),
            errors: Vec::new(),
            schemas: Vec::new(),
        }
    }

    pub(crate) fn get(path: &'static str, summary: &'static str) -> Endpoint {
        Endpoint::new("get", path, summary)
    }

    pub(crate) fn head(path: &'static str, summary: &'static str) -> Endpoint {
        Endpoint::new("head", path, summary)
    }

    pub(crate) fn post(path: &'static str, summary: &'static str) -> Endpoint {
        Endpoint::new("post", path, summary)
    }

    pub(crate) fn put(path: &'static str, summary: &'static str) -> Endpoint {
        Endpoint::new("put", path, summary)
    }

    pub(crate) fn delete(path: &'static str, summary: &'static str) -> Endpoint {
        Endpoint::new("delete", path, summary)
    }

    /// A part of the path.
    pub(crate) fn in_path(mut self, name: &str, text: &str, schema: Value) -> Endpoint {
        self.parameters.push(
            json!({"name": name, "in": "path", "required": true, "description": text, "schema": schema}),
        );
        self
    }

    /// A text that may stand in the query.
    pub(crate) fn in_query(self, name: &str, text: &str) -> Endpoint {
        self.optional("query", name, text, json!({"type": "string"}))
    }

    /// Something that may stand in the query.
    pub(crate) fn in_query_of(self, name: &str, text: &str, schema: Value) -> Endpoint {
        self.optional("query", name, text, schema)
    }

    /// A header that may be there.
    pub(crate) fn in_header(self, name: &str, text: &str) -> Endpoint {
        self.optional("header", name, text, json!({"type": "string"}))
    }

    fn optional(mut self, place: &str, name: &str, text: &str, schema: Value) -> Endpoint {
        self.parameters.push(json!({"name": name, "in": place, "description": text, "schema": schema}));
        self
    }

    /// Takes a form with the fields of this type.
    pub(crate) fn takes_form<T: ToSchema>(mut self) -> Endpoint {
        let schema = self.schema::<T>();
        self.body = Some(json!({"required": true, "content": {"multipart/form-data": {"schema": schema}}}));
        self
    }

    /// Takes JSON of this type.
    pub(crate) fn takes<T: ToSchema>(mut self) -> Endpoint {
        let schema = self.schema::<T>();
        self.body = Some(json!({"required": true, "content": {"application/json": {"schema": schema}}}));
        self
    }

    /// Takes bytes as they are.
    pub(crate) fn takes_bytes(mut self, text: &str) -> Endpoint {
        let content = json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}});
        self.body = Some(json!({"required": true, "description": text, "content": content}));
        self
    }

    /// Answers with JSON of this type.
    pub(crate) fn gives<T: ToSchema>(mut self, text: &str) -> Endpoint {
        let schema = self.schema::<T>();
        self.answer("200", text, Some(("application/json", schema)))
    }

    /// Answers with lines, each JSON of this type.
    pub(crate) fn gives_lines<T: ToSchema>(mut self, text: &str) -> Endpoint {
        let schema = self.schema::<T>();
        self.answer("200", text, Some(("application/x-ndjson", schema)))
    }

    /// Answers with server-sent events; the data of each is JSON of this type.
    pub(crate) fn gives_events<T: ToSchema>(mut self, text: &str) -> Endpoint {
        let schema = self.schema::<T>();
        let data = json!({"type": "string", "contentMediaType": "application/json", "contentSchema": schema});
        let event = json!({
            "type": "object",
            "properties": {"event": {"type": "string"}, "data": data},
            "required": ["data"],
        });
        self.answer("200", text, Some(("text/event-stream", event)))
    }

    /// Answers with text.
    pub(crate) fn gives_text(self, text: &str) -> Endpoint {
        self.answer("200", text, Some(("text/plain", json!({"type": "string"}))))
    }

    /// Answers with bytes as they are.
    pub(crate) fn gives_bytes(self, text: &str) -> Endpoint {
        let schema = json!({"type": "string", "format": "binary"});
        self.answer("200", text, Some(("application/octet-stream", schema)))
    }

    /// Answers with a status alone.
    pub(crate) fn gives_status(self, status: u16, text: &str) -> Endpoint {
        self.answer(&status.to_string(), text, None)
    }

    /// Answers with errors of these statuses too.
    pub(crate) fn errors(mut self, statuses: &[u16]) -> Endpoint {
        self.errors.extend(statuses);
        self
    }

    fn answer(mut self, status: &str, text: &str, content: Option<(&str, Value)>) -> Endpoint {
        let response = self.responses.entry(status).or_insert_with(|| json!({"description": ""}));
        let before = response["description"].as_str().unwrap_or_default();
        response["description"] = [before, text].join(" ").trim().into();
        if let Some((media, schema)) = content {
            response["content"][media] = json!({"schema": schema});
        }
        self
    }

    /// A reference to the schema of `T`, which is kept with all that it refers to.
    fn schema<T: ToSchema>(&mut self) -> Value {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        json!({"$ref": format!("#/components/schemas/{}", T::name())})
    }

    /// The name of the operation: method and path in one word.
    fn id(&self) -> String {
        let words = self.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.fold(self.method.to_owned(), |id, word| format!("{id}_{word}"))
    }

    /// The operation as the document has it. `has_keys`: the server asks for keys.
    pub(super) fn operation(&self, api: Api, has_keys: bool) -> Value {
        let mut operation = json!({
            "operationId": self.id(),
            "summary": self.summary,
            "tags": [api.tag()],
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.clone().into();
        }
        if let Some(body) = &self.body {
            operation["requestBody"] = body.clone();
        }
        let mut responses = self.responses.clone();
        let mut statuses = self.errors.clone();
        statuses.extend([403, 500]);
        if self.body.is_some() {
            statuses.extend([400, 408, 413]);
        }
        let is_locked = has_keys && !guard::is_open(self.path);
        if is_locked {
            statuses.push(401);
        }
        statuses.sort_unstable();
        statuses.dedup();
        for status in statuses {
            let error = json!({"application/json": {"schema": error_schema(self.path)}});
            let mut response = json!({"description": reason(status), "content": error});
            if self.method == "head" {
                response = json!({"description": reason(status)});
            }
            if status == 503 {
                response["headers"]["Retry-After"] =
                    json!({"description": "Seconds to wait.", "schema": {"type": "integer"}});
            }
            responses.insert(status.to_string(), response);
        }
        operation["responses"] = responses.into();
        let role = if guard::is_admin(self.path) { "admin" } else { "inference" };
        operation["security"] =
            if is_locked { json!([{"bearer": [role]}, {"apiKey": [role]}]) } else { json!([]) };
        operation
    }
}

/// What an error of this status means, whichever the API.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "The request makes no sense; the message says where.",
        401 => "No key, or one that the server does not know.",
        403 => "Not from this Host or Origin, or not with this key.",
        404 => "There is no such thing, or no such model here.",
        408 => "The body did not arrive in time.",
        409 => "It is not in a state for that.",
        412 => "What the request builds on was changed meanwhile.",
        413 => "The body is too large.",
        429 => "Too many of these at a time.",
        501 => "This server cannot do that.",
        502 => "Another server, from which this was to come, did not give it.",
        503 => {
            "Too many requests wait, no memory for this model beside those in use, or the server is going down."
        }
        507 => "No room is left on the disk.",
        _ => "Something failed that should not; the server's log says more.",
    }
}
