//! Keys that callers show, and what each opens. Only digests are kept.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::ConfigError;

/// What a key opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Asking models.
    Inference,
    /// That, and pulling, making and deleting them.
    #[default]
    Admin,
}

/// A key, of which only the digest is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// SHA-256.
    pub(crate) digest: [u8; 32],
    pub(crate) scope: Scope,
}

impl ApiKey {
    /// The key that reads `secret`.
    pub fn new(secret: &str, scope: Scope) -> ApiKey {
        ApiKey { digest: Sha256::digest(secret.as_bytes()).into(), scope }
    }

    /// The key whose SHA-256 reads `hex`, as a settings file holds it.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if it is not 64 hexadecimal digits.
    pub fn from_digest(hex: &str, scope: Scope) -> Result<ApiKey, ConfigError> {
        let bad = || ConfigError::Value {
            name: "keys.sha256".to_owned(),
            got: hex.to_owned(),
            wanted: "64 hexadecimal digits: the output of `printf %s KEY | sha256sum`",
        };
        let mut digest = [0u8; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(bad());
        }
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).map_err(|_| bad())?;
        }
        Ok(ApiKey { digest, scope })
    }
}
