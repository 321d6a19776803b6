//! Zeroed, cache-line-aligned memory that threads of a pass share by disjoint parts.

use std::alloc::{Layout, alloc_zeroed, dealloc};

use whit_base::BackendError;

/// Alignment of every block: one cache line, one widest register.
const ALIGN: usize = 64;

/// A block of zeroed memory. Untouched pages cost nothing: large blocks come straight from the system.
pub(crate) struct Memory {
    ptr: *mut u8,
    layout: Layout,
}

// SAFETY: the block is plain memory; who may touch which part of it is decided by the executor's phases.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` of zeros.
    pub(crate) fn new(bytes: usize, what: &'static str) -> Result<Memory, BackendError> {
        let error = || BackendError::OutOfMemory { what, bytes };
        let layout = Layout::from_size_align(bytes.max(ALIGN), ALIGN).map_err(|_| error())?;
        // SAFETY: the layout's size is not zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        if ptr.is_null() { Err(error()) } else { Ok(Memory { ptr, layout }) }
    }

    /// `n` values of `T`, as zeros.
    pub(crate) fn of<T>(n: usize, what: &'static str) -> Result<Memory, BackendError> {
        let bytes =
            n.checked_mul(size_of::<T>()).ok_or(BackendError::OutOfMemory { what, bytes: usize::MAX })?;
        Memory::new(bytes, what)
    }

    /// The first byte. Valid for [`Memory::len`] bytes as long as `self` lives.
    pub(crate) fn ptr<T>(&self) -> *mut T {
        self.ptr.cast()
    }

    /// Bytes in the block.
    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.ptr, self.layout) }
    }
}
