//! A position in untrusted bytes that cannot run past their end.

use std::path::Path;

use crate::FileError;

/// What is wrong, before the file and the place are known.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// Fewer bytes are left than are needed.
    Short { offset: usize, need: u64, have: usize },
    /// A value that the format forbids.
    Bad { offset: usize, expected: String, got: String },
}

impl Flaw {
    pub(crate) fn bad(offset: usize, expected: impl Into<String>, got: impl ToString) -> Flaw {
        Flaw::Bad { offset, expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn at(self, path: &Path, place: impl Into<String>) -> FileError {
        let (path, place) = (path.to_owned(), place.into());
        match self {
            Flaw::Short { offset, need, have } => {
                FileError::Truncated { path, place, offset: offset as u64, need, have: have as u64 }
            }
            Flaw::Bad { offset, expected, got } => {
                FileError::Malformed { path, place, offset: offset as u64, expected, got }
            }
        }
    }
}

/// Reads little-endian values front to back.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Up to `n` next bytes, without passing them.
    pub(crate) fn peek(&self, n: usize) -> &'a [u8] {
        let left = self.bytes.get(self.position..).unwrap_or_default();
        left.get(..n.min(left.len())).unwrap_or_default()
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `n` bytes.
    #[inline]
    pub(crate) fn take(&mut self, n: u64) -> Result<&'a [u8], Flaw> {
        let left = self.bytes.get(self.position..).unwrap_or_default();
        let taken = usize::try_from(n).ok().and_then(|n| left.get(..n));
        let taken = taken.ok_or(Flaw::Short { offset: self.position, need: n, have: left.len() })?;
        self.position += taken.len();
        Ok(taken)
    }

    /// The next `N` bytes.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let left = self.bytes.get(self.position..).unwrap_or_default();
        let taken = left.first_chunk::<N>();
        let taken = taken.ok_or(Flaw::Short { offset: self.position, need: N as u64, have: left.len() })?;
        self.position += N;
        Ok(*taken)
    }

    /// The bytes that `walk` passes over.
    pub(crate) fn span(
        &mut self,
        walk: impl FnOnce(&mut Self) -> Result<(), Flaw>,
    ) -> Result<&'a [u8], Flaw> {
        let start = self.position;
        walk(self)?;
        Ok(self.bytes.get(start..self.position).unwrap_or_default())
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Flaw> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Flaw> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things of at least `min_bytes` each: refused at once when the rest of the file cannot hold them,
    /// so that a lying count costs neither time nor memory.
    pub(crate) fn count(&mut self, min_bytes: u64, most: u64) -> Result<usize, Flaw> {
        let offset = self.position;
        let n = self.u64()?;
        let need = n.saturating_mul(min_bytes);
        if need > self.left() as u64 {
            return Err(Flaw::Short { offset: self.position, need, have: self.left() });
        }
        match usize::try_from(n) {
            Ok(count) if n <= most => Ok(count),
            _ => Err(Flaw::bad(offset, format!("a count of at most {most}"), n)),
        }
    }

    /// A length-prefixed string of at most `most` bytes.
    #[inline]
    pub(crate) fn string(&mut self, most: u64) -> Result<&'a [u8], Flaw> {
        let offset = self.position;
        let n = self.u64()?;
        if n > most && n <= self.left() as u64 {
            return Err(Flaw::bad(offset, format!("a string of at most {most} bytes"), format!("{n} bytes")));
        }
        self.take(n)
    }

    /// A string that must be UTF-8: names of keys and tensors.
    pub(crate) fn name(&mut self, most: u64) -> Result<&'a str, Flaw> {
        let offset = self.position;
        let bytes = self.string(most)?;
        std::str::from_utf8(bytes)
            .map_err(|_| Flaw::bad(offset, "a UTF-8 name", format!("\"{}\"", bytes.escape_ascii())))
    }
}
