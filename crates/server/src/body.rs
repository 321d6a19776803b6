//! Reading a request's body as JSON. Its size is limited by the router, its depth by serde_json (128). The content type
//! is not looked at, for `curl -d` names a wrong one; what that check would keep out, the Origin check does.

use axum::body::Bytes;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::error::ApiError;

/// The body as a `T`, or a 400 that says where it is wrong. `ToSchema`, so that `/openapi.json` has its fields.
pub(crate) fn parse<T: DeserializeOwned + ToSchema>(body: &Bytes) -> Result<T, ApiError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Err(ApiError::BadRequest("missing request body".to_owned())),
        Some(b'{') => {}
        // serde would take a list for the fields in their order.
        Some(_) => return Err(ApiError::BadRequest("the request body must be a JSON object".to_owned())),
    }
    serde_json::from_slice(body).map_err(|error| ApiError::BadRequest(format!("invalid JSON: {error}")))
}
