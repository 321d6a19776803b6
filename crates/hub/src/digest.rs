//! The name of a blob: the SHA-256 of its content. This type is the only way from a digest that a stranger wrote to a
//! file name or a part of an address, so a digest can never lead out of a folder.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::HubError;

/// A SHA-256, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(hex(&Sha256::digest(bytes)))
    }

    /// The digest of what was hashed.
    pub(crate) fn finished(hasher: Sha256) -> Digest {
        Digest(hex(&hasher.finalize()))
    }

    /// The digest of what is in a file.
    pub fn of_file(path: &Path) -> Result<Digest, HubError> {
        let read = || -> io::Result<Digest> {
            let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
            let mut buffer = vec![0; 1 << 20];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(Digest(hex(&hasher.finalize()))),
                    n => hasher.update(&buffer[..n]),
                }
            }
        };
        read().map_err(|error| HubError::io(path, "read", error))
    }

    /// From 64 lower case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        let is_digest = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_digest.then(|| Digest(hex.to_owned()))
    }

    /// The 64 digits.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl FromStr for Digest {
    type Err = String;

    /// `sha256:` and 64 digits, nothing else: no other algorithm, no upper case, no spaces.
    fn from_str(text: &str) -> Result<Digest, String> {
        let digest = text.strip_prefix("sha256:").and_then(Digest::from_hex);
        digest.ok_or_else(|| format!("`{}` is not a SHA-256 digest", text.escape_debug()))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Lower case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_digests_are_digests() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        // FIPS 180-2, appendix B.1.
        assert_eq!(Digest::of(b"abc").to_string(), format!("sha256:{hex}"));
        for (text, is_digest) in [
            (format!("sha256:{hex}"), true),
            (hex.to_owned(), false),
            (format!("sha256-{hex}"), false),
            (format!("sha512:{hex}"), false),
            (format!("sha256:{}", hex.to_uppercase()), false),
            (format!("sha256:{hex}0"), false),
            (format!("sha256:{}", &hex[1..]), false),
            (format!("sha256:{hex}\n"), false),
            (format!("sha256:../../../../{}", &hex[12..]), false),
            (String::new(), false),
        ] {
            assert_eq!(text.parse::<Digest>().is_ok(), is_digest, "{text}");
        }
    }
}
