//! Reading a request's body as JSON. Its size is limited by the router, its depth by serde_json (128). The content type
//! is not looked at, for `curl -d` names a wrong one; what that check would keep out, the Origin check does.

use axum::body::Bytes;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The body as a `T`, or a 400 that says where it is wrong.
pub(crate) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::BadRequest("missing request body".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::BadRequest(format!("invalid JSON: {error}")))
}
