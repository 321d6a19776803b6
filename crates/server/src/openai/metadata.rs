//! Notes of a client on an object, kept with it: at most 16 pairs of short texts, as with OpenAI.

use std::collections::BTreeMap;

use crate::error::ApiError;

/// Names and values.
pub(crate) type Metadata = BTreeMap<String, String>;

const N_PAIRS: usize = 16;
const KEY_LENGTH: usize = 64;
const VALUE_LENGTH: usize = 512;

/// Whether there is not too much of it.
pub(super) fn check(metadata: &Metadata) -> Result<(), ApiError> {
    let fits = |(key, value): (&String, &String)| {
        key.chars().count() <= KEY_LENGTH && value.chars().count() <= VALUE_LENGTH
    };
    if metadata.len() <= N_PAIRS && metadata.iter().all(fits) {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!(
        "metadata may have at most {N_PAIRS} pairs, of keys of {KEY_LENGTH} and values of {VALUE_LENGTH} characters"
    )))
}
