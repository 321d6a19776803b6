//! `/v1/embeddings`: not yet answered; the engine runs models that generate.

use axum::response::Response;

use crate::error::ApiError;

pub(super) async fn create() -> Response {
    let text = "this server gives no embeddings yet; ask a server with an embedding model";
    ApiError::NotSupported(text.to_owned()).openai()
}
