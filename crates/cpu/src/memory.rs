//! Zeroed, cache-line-aligned memory that threads of a pass share by disjoint parts.

use std::alloc::{Layout, alloc_zeroed, dealloc};

use whit_base::BackendError;

/// Alignment of every block: one cache line, one widest register.
const ALIGN: usize = 64;

/// A block of zeroed memory. Untouched pages cost nothing: large blocks come straight from the system.
pub(crate) struct Memory {
    /// What was allocated.
    base: *mut u8,
    layout: Layout,
    /// The first aligned byte.
    ptr: *mut u8,
    len: usize,
}

// SAFETY: the block is plain memory; who may touch which part of it is decided by the executor's phases.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` of zeros.
    pub(crate) fn new(bytes: usize, what: &'static str) -> Result<Memory, BackendError> {
        let error = || BackendError::OutOfMemory { what, bytes };
        let len = bytes.max(ALIGN);
        // Aligned by hand: asked for more than its natural alignment, the system's allocator clears memory by writing
        // to it, and every page of an empty cache would become resident.
        let layout = len
            .checked_add(ALIGN)
            .and_then(|size| Layout::from_size_align(size, 1).ok())
            .ok_or_else(error)?;
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            return Err(error());
        }
        // SAFETY: at most ALIGN - 1 bytes on, within the ALIGN bytes that were asked for beyond `len`.
        let ptr = unsafe { base.add(base.align_offset(ALIGN)) };
        Ok(Memory { base, layout, ptr, len })
    }

    /// `bytes` of zeros on pages as large as the system has, for what is read from end to end: the fewer the pages, the
    /// fewer the detours over their tables. What is touched becomes resident a large page at a time.
    pub(crate) fn large(bytes: usize, what: &'static str) -> Result<Memory, BackendError> {
        let memory = Memory::new(bytes, what)?;
        #[cfg(target_os = "linux")]
        {
            const PAGE: usize = 4096;
            let start = memory.base.addr().next_multiple_of(PAGE);
            let end = (memory.base.addr() + memory.layout.size()) / PAGE * PAGE;
            if end > start {
                // SAFETY: whole pages of the block. The advice changes no contents; a system that does not know it
                // refuses it, which costs nothing but speed.
                unsafe {
                    let start = memory.base.with_addr(start);
                    libc::madvise(start.cast(), end - start.addr(), libc::MADV_HUGEPAGE);
                }
            }
        }
        Ok(memory)
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
        self.len
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.base, self.layout) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn blocks_are_aligned_and_zero() {
        for bytes in [1, 63, 64, 65, 4096, 1 << 22] {
            let memory = Memory::new(bytes, "a test").unwrap();
            assert!(memory.len() >= bytes && memory.ptr::<u8>().addr().is_multiple_of(ALIGN));
            // SAFETY: the block has at least `bytes` bytes.
            let block = unsafe { std::slice::from_raw_parts(memory.ptr::<u8>(), bytes) };
            assert!(block.iter().all(|&byte| byte == 0));
        }
        assert!(matches!(Memory::of::<f32>(usize::MAX / 2, "a test"), Err(BackendError::OutOfMemory { .. })));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn untouched_pages_are_not_resident() {
        let resident = || {
            let pages: usize = std::fs::read_to_string("/proc/self/statm")
                .unwrap()
                .split(' ')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            pages * 4096
        };
        let before = resident();
        let memory = Memory::new(1 << 28, "a test").unwrap();
        assert!(memory.len() >= 1 << 28);
        assert!(resident() < before + (1 << 27), "256 MiB that nobody touched became resident");
    }
}
