//! What `/openapi.json` says of what is kept: files, batches, and responses that were given.
#![expect(dead_code, reason = "the types here describe JSON; none is ever made")]

use serde_json::{Value, json};
use utoipa::ToSchema;

use super::batches::{Batch, CreateBatch};
use super::describe::Answer;
use super::files::FileObject;
use crate::openapi::Endpoint;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let id =
        |endpoint: Endpoint| endpoint.in_path("id", "Its id.", json!({"type": "string", "minLength": 1}));
    vec![
        Endpoint::post("/v1/files", "Upload the requests of a batch")
            .takes_form::<FileForm>()
            .gives::<FileObject>("It is kept."),
        page(Endpoint::get("/v1/files", "The files that are kept"), 10_000)
            .in_query_of("purpose", "Of this purpose alone.", json!({"enum": ["batch", "batch_output"]}))
            .gives::<FileList>("A page of them."),
        id(Endpoint::get("/v1/files/{id}", "One file"))
            .gives::<FileObject>("It is here.")
            .errors(&[400, 404]),
        id(Endpoint::delete("/v1/files/{id}", "Delete a file"))
            .gives::<Deleted>("It is gone.")
            .errors(&[400, 404]),
        id(Endpoint::get("/v1/files/{id}/content", "What is in a file"))
            .gives_bytes("As it was uploaded or written.")
            .errors(&[400, 404]),
        Endpoint::post("/v1/batches", "Answer the requests of a file, one after another")
            .takes::<CreateBatch>()
            .gives::<Batch>("It was taken; ask for it again to see how far it is.")
            .errors(&[404, 409]),
        page(Endpoint::get("/v1/batches", "The batches"), 100).gives::<BatchList>("A page of them."),
        id(Endpoint::get("/v1/batches/{id}", "One batch")).gives::<Batch>("It is here.").errors(&[400, 404]),
        id(Endpoint::post("/v1/batches/{id}/cancel", "Cancel a batch"))
            .gives::<Batch>("What runs is given up; what was answered is kept.")
            .errors(&[400, 404, 409]),
        id(Endpoint::get("/v1/responses/{id}", "A response that was kept"))
            .gives::<Answer>("It is here.")
            .errors(&[400, 404]),
        id(Endpoint::delete("/v1/responses/{id}", "Delete a response"))
            .gives::<Deleted>("It is gone.")
            .errors(&[400, 404]),
        id(page(Endpoint::get("/v1/responses/{id}/input_items", "What was said to a response"), 100))
            .gives::<ItemList>("A page of it.")
            .errors(&[404]),
    ]
}

/// Gives a list a page at a time.
fn page(endpoint: Endpoint, most: usize) -> Endpoint {
    endpoint
        .in_query("after", "The last id of the page before.")
        .in_query_of(
            "limit",
            "Most objects of a page.",
            json!({"type": "integer", "minimum": 1, "maximum": most}),
        )
        .in_query_of("order", "By age; the newest first by default.", json!({"enum": ["asc", "desc"]}))
        .errors(&[400])
}

/// A form with a file.
#[derive(ToSchema)]
struct FileForm {
    /// `batch`.
    #[schema(example = "batch")]
    purpose: String,
    /// One request a line.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

#[derive(ToSchema)]
struct FileList {
    /// `list`.
    object: String,
    data: Vec<FileObject>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

#[derive(ToSchema)]
struct BatchList {
    /// `list`.
    object: String,
    data: Vec<Batch>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

#[derive(ToSchema)]
struct ItemList {
    /// `list`.
    object: String,
    #[schema(value_type = Vec<Object>)]
    data: Vec<Value>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

#[derive(ToSchema)]
struct Deleted {
    id: String,
    /// `file` or `response`.
    object: String,
    deleted: bool,
}
