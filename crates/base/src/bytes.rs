//! A shared, read-only span of bytes: the storage behind a weight, whoever owns the memory.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A range of a shared byte owner (a memory map, a vector). Cloning shares; nothing is copied.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// The span `range` of `owner`, or `None` if the owner is shorter than the range's end.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Bytes> {
        if range.start > range.end || range.end > (*owner).as_ref().len() {
            return None;
        }
        Some(Bytes { owner, range })
    }

    /// A part of the span, or `None` if the span is shorter than the range's end.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let range = self.range.start + range.start..self.range.start + range.end;
        Some(Bytes { owner: self.owner.clone(), range })
    }

    /// Owned bytes.
    pub fn from_vec(bytes: Vec<u8>) -> Bytes {
        let range = 0..bytes.len();
        Bytes { owner: Arc::new(bytes), range }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.range.len())
    }
}
